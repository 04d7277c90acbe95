"""The two themes of our own: Okabe and Ito's colours, which colour-blind people can tell apart."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="mutitask",
    primary="#56B4E9",
    secondary="#0072B2",
    accent="#56B4E9",
    success="#2DB58C",
    warning="#E69F00",
    error="#E8743B",
    foreground="#D8DEE4",
    background="#0E1116",
    surface="#151A21",
    panel="#1E252E",
    dark=True,
    variables={"border": "#3A4654", "border-blurred": "#2A333D", "footer-key-foreground": "#56B4E9"},
)

LIGHT = Theme(
    name="mutitask-light",
    primary="#0072B2",
    secondary="#56B4E9",
    accent="#0072B2",
    success="#00795A",
    warning="#8F5F00",
    error="#B54200",
    foreground="#1B232B",
    background="#FBFBF9",
    surface="#F3F3EF",
    panel="#E7E7E1",
    dark=False,
    variables={"border": "#A9B0B6", "border-blurred": "#CACDCF", "footer-key-foreground": "#0072B2"},
)

THEMES = (DARK, LIGHT)
