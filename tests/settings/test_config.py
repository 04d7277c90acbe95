"""The config file: its settings, the error messages, and how a value is changed in it."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mutitask_tui.dashboard.model.channel_order import SORTS as CHANNEL_SORTS
from mutitask_tui.dashboard.model.device_order import SORTS
from mutitask_tui.settings.config_file import ConfigError, config_path, load, parse
from mutitask_tui.settings.edit import with_value, write_settings
from mutitask_tui.settings.options import SETTINGS, Config, Layout, theme_names
from mutitask_tui.settings.preferences import Preferences
from tests.cli.tools import mutitask

FULL = """\
# Mine.
theme = "nord"   # at night
sort = "-done"
refresh = 2

[layout]
density = "dense"
hide_offline = true
chart_minutes = 60
channel_density = "roomy"
channel_sort = "-failed"

[keys]
# tmux has ctrl+b
pause_all = "ctrl+p"
fails = "f8,f12"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path that the environment names. The file does not exist yet."""
    file = tmp_path / "config.toml"
    monkeypatch.setenv("MUTITASK_CONFIG_FILE", str(file))
    return file


def error_of(text: str, path: Path = Path("config.toml")) -> str:
    """Return the error message about a file with that text."""
    with pytest.raises(ConfigError) as raised:
        parse(text, path)
    assert raised.value.exit_status == 2
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_setting_is_read(path: Path) -> None:
    path.write_text(FULL)
    loaded = load()
    assert loaded.config == Config(
        "nord", "-done", 2.0, Layout("dense", True, 60, "roomy", "-failed"), {"pause_all": "ctrl+p", "fails": "f8,f12"}
    )  # fmt: skip
    assert loaded.lines == {
        "theme": 2, "sort": 3, "refresh": 4, "layout.density": 7, "layout.hide_offline": 8,
        "layout.chart_minutes": 9, "layout.channel_density": 10, "layout.channel_sort": 11, "keys.pause_all": 15,
        "keys.fails": 16,
    }  # fmt: skip


@pytest.mark.parametrize("text", [None, "", "# nothing but a comment\n", "[keys]\n"])
def test_a_missing_setting_has_its_default(text: str | None, path: Path) -> None:
    if text is not None:
        path.write_text(text)
    assert load().config == Config()
    assert load().exists is (text is not None)


def test_every_theme_is_allowed() -> None:
    for name in theme_names():
        assert parse(f'theme = "{name}"', Path("c"))[0].theme == name
    assert len(theme_names()) > 20


def test_every_column_of_the_grid_is_allowed() -> None:
    for column in SORTS:
        assert parse(f'sort = "-{column}"', Path("c"))[0].sort == f"-{column}"


def test_the_palette_gives_up_its_key_and_a_swap_is_no_conflict() -> None:
    parse('[keys]\npause_all = "ctrl+p"\n', Path("c"))
    swapped = parse('[keys]\npause_all = "p"\npause_one = "P"\n', Path("c"))[0]
    assert swapped.keys == {"pause_all": "p", "pause_one": "P"}


def test_a_default_key_can_stay_beside_another() -> None:
    """A screen of its own also uses `F`, but for the same purpose."""
    assert parse("[keys]\nfails = 'F,f8'\n", Path("c"))[0].keys == {"fails": "F,f8"}


def test_keys_are_characters_or_names() -> None:
    for written, key in (("?", "question_mark"), ("question_mark", "question_mark"), ("+", "plus"), ("alt+x", "alt+x"),
                       ("ctrl+R", "ctrl+shift+r"), ("f12", "f12"), ("ä", "ä"), (",", "comma")):  # fmt: skip
        moved = parse(f"[keys]\nstop_allot = '{written}'\nhelp = 'f7'\nadd_device = 'f8'", Path("c"))[0].keys
        assert moved["stop_allot"] == key


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('theme = "drakula"', 1, "did you mean dracula?"),
        ("theme = 3", 1, "theme is 3; it must be one of mutitask, mutitask-light, ansi-dark"),
        ('\n\nsort = "speed"', 3, "it must be one of device, state,"),
        ("refresh = 0", 1, "a number of seconds from 0.1 to 60"),
        ("refresh = true", 1, "refresh is true"),
        ("refresh = nan", 1, "refresh is nan"),
        ("refresh = []", 1, "refresh is a list"),
        ("colour = 1", 1, "there is no setting 'colour'; in the top part there are theme, sort, refresh"),
        ("[layouts]\na = 1", 1, "there is no section [layouts] (did you mean layout?); there are [layout], [keys]"),
        ("[layout]\ndensitty = 'dense'", 2, "did you mean density?"),
        ("[layout]\n\nhide_offline = 'yes'", 3, "layout.hide_offline is 'yes'; it must be true or false"),
        ("layout.chart_minutes = 7", 1, "it must be one of 1, 2, 5, 15, 60"),
        ("[layout]\nchart_minutes = true", 2, "chart_minutes is true"),
        ("keys = 1", 1, "keys is a section: write [keys]"),
        ("[keys]\npause_al = 'x'", 2, "no command is called 'pause_al' (did you mean pause_all?)"),
        ("[keys]\npause_all = 3", 2, 'the key of pause_all must be text, such as "ctrl+p"'),
        ("[keys]\npause_all = ''", 2, "must be text"),
        ("[keys]\npause_all = 'p'", 2, "p is the key of both pause_one and pause_all"),
        ("[keys]\nfails = 'f8'\nhelp = 'f8'", 3, "f8 is the key of both"),
        ("[keys]\nquit = 'Q'\nexit = 'W'", 3, "exit and quit are the same command"),
        ("[keys]\npause_all = 'ctrl+nothing'", 2, "'ctrl+nothing' is not a key"),
        ("[keys]\npause_all = 'hyperspace+x'", 2, "is not a key"),
        ("[keys]\npause_all = 'shift+p'", 2, "is never sent by a terminal: write the character itself, such as 'P'"),
        ("[keys]\npause_all = 'ctrl+i'", 2, "is the same as tab in a terminal"),
        ("[keys]\npause_all = 'escape'", 2, "escape is used by the view (Back)"),
        ("[keys]\npause_all = 'ctrl+q'", 2, "ctrl+q is used by the view (Leave)"),
        ("[keys]\npause_all = 'G'", 2, "G is used by the view (Groups)"),
        ("[keys]\nfails = 'f8'\npause_all = 'F'", 3, "F is used by the view (Fails)"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line_and_what_is_allowed(text: str, line: int, says: str) -> None:
    message = error_of(text)
    assert message.startswith(f"config.toml, line {line}: "), message
    assert says in message


def test_a_file_that_is_not_toml_is_reported_in_one_sentence(path: Path) -> None:
    assert error_of("theme = ").startswith("config.toml: not TOML: ")
    path.write_bytes(b'theme = "\xff"')
    with pytest.raises(ConfigError, match=r"line 1: not UTF-8"):
        load()
    path.write_text("#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than"):
        load()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load()


def test_an_error_message_shows_no_raw_text_of_a_hostile_file() -> None:
    for text in ('theme = "\\u001b[2J[red]\\u202e"', '"a\\u001b]0;x\\u0007" = 1', '["\\u001b[2J"]\na = 1',
                 "[keys]\n\"\\u001b[2J\" = 'x'", "[keys]\npause_all = \"\\u001b[2J\""):  # fmt: skip
        assert error_of(text).isprintable()


@given(st.text(max_size=200))
def test_no_text_causes_a_traceback(text: str) -> None:
    try:
        parse(text, Path("c"))
    except ConfigError as error:
        assert str(error)


def test_the_path_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MUTITASK_CONFIG_FILE")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert config_path() == tmp_path / ".config" / "mutitask" / "config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_path() == tmp_path / ".config" / "mutitask" / "config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config_path() == tmp_path / "xdg" / "mutitask" / "config.toml"
    monkeypatch.setenv("MUTITASK_CONFIG_FILE", "~/mine.toml")
    assert config_path() == tmp_path / "mine.toml"


def test_a_change_leaves_the_rest_of_the_file_unchanged(path: Path) -> None:
    path.write_text(FULL)
    path.chmod(0o600)
    write_settings(path, {"theme": "dracula", "layout.density": "roomy"})
    assert path.read_text() == FULL.replace('"nord"', '"dracula"').replace('"dense"', '"roomy"')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_setting_is_added_to_its_section(path: Path) -> None:
    path.write_text("# Mine.\n\n[keys]\npause_all = 'X'\n")
    write_settings(path, {"layout.hide_offline": True, "theme": "nord", "layout.chart_minutes": 60})
    assert path.read_text() == (
        "# Mine.\ntheme = \"nord\"\n\n[keys]\npause_all = 'X'\n\n[layout]\nhide_offline = true\nchart_minutes = 60\n"
    )


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        ("theme = 'nord'\n\n# Keys\n[keys]\n", "sort", "theme = 'nord'\nsort = \"done\"\n\n# Keys\n[keys]\n"),
        ("# Keys\n[keys]\n", "sort", "sort = \"done\"\n# Keys\n[keys]\n"),
        ("# Mine.\n", "sort", "# Mine.\nsort = \"done\"\n"),
        ("[layout]\nchart_minutes = 5  # short\n# Keys\n[keys]\n", "layout.hide_offline",
         "[layout]\nchart_minutes = 5  # short\nhide_offline = true\n# Keys\n[keys]\n"),
        ("layout.chart_minutes = 5\ntheme = 'nord'\n", "layout.hide_offline",
         "layout.chart_minutes = 5\nlayout.hide_offline = true\ntheme = 'nord'\n"),
        ("layout = { chart_minutes = 5 }  # short\n", "layout.chart_minutes",
         "layout = { chart_minutes = 60 }  # short\n"),
        ("theme = 'nord'  # night\r\n[layout]\r\n", "layout.chart_minutes",
         "theme = 'nord'  # night\r\n[layout]\r\nchart_minutes = 60\r\n"),
        ("theme = 'nord'\r\n", "sort", "theme = 'nord'\r\nsort = \"done\"\r\n"),
        ("theme = 'nord'", "layout.hide_offline", "theme = 'nord'\n\n[layout]\nhide_offline = true\n"),
    ],
)  # fmt: skip
def test_comments_order_and_line_ends_stay(before: str, name: str, after: str) -> None:
    value = {"sort": "done", "layout.hide_offline": True, "layout.chart_minutes": 60}[name]
    assert with_value(before, name, value) == after


def test_the_first_change_creates_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.toml"
    write_settings(path, {"theme": "nord"})
    assert load(path).config == Config(theme="nord")
    assert path.read_text().startswith("# ")


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "config.toml"
    real.write_text("theme = 'nord'\n")
    link.symlink_to(real)
    write_settings(link, {"theme": "dracula"})
    assert link.is_symlink() and real.read_text() == 'theme = "dracula"\n'


@pytest.mark.parametrize("broken", [b"theme = ", b"\xff\xfe", b'theme = "no such theme"\n'])
def test_a_file_that_cannot_be_read_is_not_changed(broken: bytes, path: Path) -> None:
    path.write_bytes(broken)
    with pytest.raises(ConfigError):
        write_settings(path, {"theme": "nord"})
    assert path.read_bytes() == broken


@pytest.mark.parametrize(
    "odd", ["layout = { density = 'auto' }\n", 'theme = """\nnord"""\n', "theme = '''nord'''\n"]
)
def test_an_unusual_form_is_never_damaged(odd: str, path: Path) -> None:
    path.write_text(odd)
    changes = {"layout.density": "dense"} if "layout" in odd else {"theme": "dracula"}
    try:
        write_settings(path, changes)
    except ConfigError as error:
        assert "edit the file by hand" in str(error)
        assert path.read_text() == odd
    else:
        assert Preferences(load(path)).value(next(iter(changes))) in changes.values()


def test_changes_by_others_stay(path: Path) -> None:
    path.write_text("theme = 'nord'\n")
    first, second = Preferences(load()), Preferences(load())
    assert first.set("layout.density", "dense") and second.set("sort", "-done")
    first.write()
    second.write()
    assert load().config == Config("nord", "-done", layout=Layout("dense"))
    assert not first.set("layout.density", "dense")


_VALUES = {
    "theme": st.sampled_from(theme_names()),
    "sort": st.sampled_from([sign + c for sign in ("", "-") for c in SORTS]),
    "refresh": st.floats(0.1, 60),
    "layout.density": st.sampled_from(["auto", "roomy", "dense"]),
    "layout.hide_offline": st.booleans(),
    "layout.chart_minutes": st.sampled_from([1, 2, 5, 15, 60]),
    "layout.channel_density": st.sampled_from(["auto", "roomy", "dense"]),
    "layout.channel_sort": st.sampled_from(
        ["auto", *(sign + c for sign in ("", "-") for c in CHANNEL_SORTS if c != "auto")]
    ),
}


@hypothesis_settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(_VALUES)).flatmap(lambda n: st.tuples(st.just(n), _VALUES[n]))))
def test_any_sequence_of_changes_reads_back(changes: list[tuple[str, object]]) -> None:
    text = FULL
    for name, value in changes:
        text = with_value(text, name, value)
    config, _ = parse(text, Path("c"))
    found = tomllib.loads(text)
    for name, value in dict(changes).items():
        section, _, key = name.rpartition(".")
        assert (found[section] if section else found)[key] == value
    assert text.count("# tmux has ctrl+b") == 1 and config.keys["pause_all"] == "ctrl+p"


def test_config_prints_every_setting_and_where_it_came_from(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    path.write_text("theme = 'nord'\n[keys]\nquit = 'Q'\npause_all = 'ctrl+p'\n")
    result = mutitask("config")
    assert result.status == 0
    assert result.stdout.splitlines()[0] == f"{path} (named by MUTITASK_CONFIG_FILE)"
    rows = {line.split()[0]: line.split(None, 2)[1:] for line in result.stdout.splitlines()[2:]}
    assert rows["theme"] == ['"nord"', "line 1"]
    assert rows["keys.exit"] == ['"Q"', "line 3"]
    assert rows["keys.palette"] == ['"ctrl+backslash"', "its default key is taken"]
    assert {setting.name for setting in SETTINGS} <= set(rows)
    assert rows["refresh"] == ["0.5", "default"]
    assert "NO_COLOR is set" in result.stdout


def test_config_reports_that_there_is_no_file_yet(path: Path) -> None:
    assert "does not exist yet" in mutitask("config").stdout


def test_a_file_with_a_mistake_causes_one_sentence_and_status_2(path: Path) -> None:
    path.write_text("[keys]\npause_al = 'x'\n")
    result = mutitask("config")
    assert result.status == 2 and result.stdout == ""
    assert result.stderr.startswith(f"mutitask: {path}, line 2: no command is called 'pause_al'")
    assert "Traceback" not in result.stderr and result.stderr.count("\n") == 1
