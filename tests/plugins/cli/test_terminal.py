"""What reaches a terminal: no control sequence of a run, no markup, and short enough to be read."""

import json

import pytest

from abstractruntime_cli.progress import clock_text
from abstractruntime_cli.terminal import escaped, shortened, styled
from abstractruntime_cli.views import ago


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb", "a\\rb"),
        ("a\x7fb\x00", "a\\x7fb\\x00"),
        ("invoice\u202efdp.exe", "invoice\\u202efdp.exe"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Zoë 漢字 🙂", "Zoë 漢字 🙂"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_and_not_sent(text, shown):
    assert escaped(text) == shown


def test_a_cell_of_a_table_stays_on_its_line():
    assert escaped("a\nb\tc", one_line=True) == "a\\nb\\tc"


def test_text_of_a_run_is_never_read_as_markup():
    assert styled("[bold red]x[/]").plain == "[bold red]x[/]"


def test_long_values_are_cut_and_say_by_how_much():
    cut = shortened({"text": "x" * 500, "list": list(range(25)), **{f"k{n}": n for n in range(30)}})
    assert cut["text"] == "x" * 400 + " ... 100 more characters"
    assert cut["list"][-1] == "... 5 more items"
    assert cut["..."] == "12 more keys"
    json.dumps(cut)


def test_deep_values_are_cut():
    deep = leaf = {}
    for _ in range(3000):
        leaf["in"] = {}
        leaf = leaf["in"]
    assert '"... 1 keys"' in json.dumps(shortened(deep))


def test_short_values_stay_as_they_are():
    value = {"a": [1, 2.5, None, True, "x"], "b": {}}
    assert shortened(value) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (1.25, "1.2 s"), (9.96, "10 s"), (59.4, "59 s"), (60, "1:00"), (3725, "1:02:05")],
)
def test_lengths_of_time_read_well(seconds, text):
    assert clock_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "now"), (5, "5 s ago"), (-90, "in 1 min"), (7300, "2 h ago"), (-200_000, "in 2 d")],
)
def test_moments_are_told_from_now(seconds, text):
    now = 1_800_000_000_000_000
    assert ago(now - seconds * 1_000_000, now) == text


def test_a_run_full_of_control_sequences_is_shown_without_them(folder):
    hostile = "\x1b[2J\x1b]0;owned\x07[bold]x[/bold]"
    result = folder.art("run", "demo:greet", "--vars", json.dumps({"name": hostile}), "--tag", "t\x1b[1m\nz")
    run_id = folder.run_id(result)
    for shown in (result, folder.art("show", run_id), folder.art("runs"), folder.art("ledger", run_id)):
        assert shown.exit_code == 0
        assert "\x1b" not in shown.stdout + shown.stderr
        assert "\x07" not in shown.stdout + shown.stderr
    assert "[bold]x[/bold]" in result.stdout
