"""The text that names the channels of an agent, as people type it and as Redis keeps it."""

from __future__ import annotations

import pytest

from worker_agent.protocol.keys import MAX_CHANNELS
from worker_agent.protocol.served_channels import Served, parse_served, served_numbers, served_text


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("all", None), (" all ", None), ("0", (0,)), ("0,2", (0, 2)), ("2, 0", (2, 0)), ("007", (7,)),
        (str(MAX_CHANNELS - 1), (MAX_CHANNELS - 1,)),
    ],
)  # fmt: skip
def test_all_and_numbers_are_read_in_their_order(text: str, served: Served) -> None:
    assert parse_served(text) == served
    assert parse_served(served_text(served)) == served


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not ''"), ("0,", "numbers such as"), ("-1", "numbers such as"), ("0 2", "numbers such as"),
        ("all,0", "numbers such as"), ("ALL", "numbers such as"), ("1.0", "numbers such as"),
        ("²", "numbers such as"), ("٣", "numbers such as"), ("9" * 5_000, "numbers such as"),
        ("\x1b[31m", r"not '\\x1b"), ("0,1,0", "named twice"), ("1,01", "named twice"),
        (str(MAX_CHANNELS), "never more than 100,000"),
    ],
)  # fmt: skip
def test_other_text_is_refused_with_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        parse_served(text)
    assert len(str(refused.value)) < 120


def test_only_channels_of_the_namespace_have_numbers() -> None:
    assert served_numbers(None, 3) == (0, 1, 2)
    assert served_numbers((2, 0), 3) == (2, 0)
    assert served_numbers((2, 0), 1) == (0,)
    assert served_numbers((5,), 0) == served_numbers(None, 0) == ()
