"""`runs`, `show`, `ledger`: for people and, as JSON, for programs; looking changes nothing."""

import json

import pytest


@pytest.fixture
def several(folder):
    """Four runs: one done, one waiting for a person, one waiting for an event, one failed."""
    folder.art("run", "demo:greet", "--run-id", "done-1", "--tag", "a")
    folder.art("run", "demo:review", "--run-id", "asks-1", "--tag", "a", "--tag", "b", "--session", "s1")
    folder.art("run", "demo:event", "--run-id", "hears-1")
    folder.art("run", "demo:flaky", "--run-id", "broken-1")
    return folder


def ids(folder, *words: str) -> list[str]:
    result = folder.art("runs", "--json", *words)
    assert result.exit_code == 0, result.stderr
    return [run["run_id"] for run in json.loads(result.stdout)]


def test_runs_come_newest_first(several):
    assert ids(several) == ["broken-1", "hears-1", "asks-1", "done-1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--status", "failed"], ["broken-1"]),
        (["--status", "failed", "--status", "completed"], ["broken-1", "done-1"]),
        (["--waiting"], ["hears-1", "asks-1"]),
        (["--workflow", "greet"], ["done-1"]),
        (["--tag", "a"], ["asks-1", "done-1"]),
        (["--tag", "a", "--tag", "b"], ["asks-1"]),
        (["--session", "s1"], ["asks-1"]),
        (["--key", "payment"], ["hears-1"]),
        (["--in-doubt"], []),
        (["--limit", "2"], ["broken-1", "hears-1"]),
        (["--tag", "nobody-has-it"], []),
    ],
)
def test_runs_are_filtered(several, words, expected):
    assert ids(several, *words) == expected


def test_the_table_has_a_line_per_run_and_is_not_cut_without_a_terminal(several):
    lines = several.art("runs").stdout.splitlines()
    assert lines[0].split() == ["run", "workflow", "status", "since", "waits", "for", "records"]
    assert [line.split()[0] for line in lines[1:]] == ["broken-1", "hears-1", "asks-1", "done-1"]
    assert "event payment" in lines[2]
    assert "user:asks-1:ask" in lines[3]


def test_a_list_that_is_cut_says_so(several):
    assert "only the first 2 are shown" in several.art("runs", "--limit", "2").stderr
    assert several.art("runs", "--limit", "4").stderr == ""


def test_an_unknown_status_is_refused_with_those_there_are(several):
    result = several.art("runs", "--status", "done")
    assert result.exit_code == 2
    assert result.stderr.startswith("error[usage]: ")
    assert "completed" in result.stderr


def test_looking_makes_no_store(folder):
    listed = folder.art("runs")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "abstractruntime.db does not exist yet" in listed.stderr
    assert folder.art("runs", "--json").stdout == "[]\n"
    for command in ("show", "ledger", "cancel"):
        result = folder.art(command, "abcd")
        assert result.exit_code == 6
        assert result.stderr.startswith("error[store_missing]: ")
    assert not (folder.path / "abstractruntime.db").exists()


def test_show_tells_where_a_run_stands_and_what_it_asks(several):
    result = several.art("show", "asks-1")
    assert result.exit_code == 0
    for expected in ("asks-1", "review (version 2)", "waiting", "Pay 120 EUR to ACME?", "a, b", "s1", "nobody (epoch"):
        assert expected in result.stdout
    assert "art resume asks-1 --json '\"yes\"' --workflow MODULE:WORKFLOW" in result.stdout


def test_show_as_json_is_the_whole_state_with_head_and_limits(several):
    shown = json.loads(several.art("show", "asks-1", "--json").stdout)
    assert shown["status"] == "waiting"
    assert shown["waiting"]["choices"] == ["yes", "no"]
    assert shown["head"]["epoch"] >= 1
    assert shown["head"]["length"] == shown["length"]
    assert shown["limits"]["iterations"]["max"] == 25


def test_show_cuts_long_values_and_json_does_not(folder):
    folder.art("run", "demo:greet", "--run-id", "long", "--vars", json.dumps({"text": "x" * 5000}))
    assert "more characters" in folder.art("show", "long").stdout
    assert "x" * 5000 not in folder.art("show", "long").stdout
    assert json.loads(folder.art("show", "long", "--json").stdout)["vars"]["text"] == "x" * 5000


def test_the_ledger_has_a_line_per_record(several):
    several.art("resume", "asks-1", "--text", "yes", "-w", "demo:review")
    lines = several.art("ledger", "asks-1").stdout.splitlines()
    assert lines[0].split() == ["seq", "time", "kind", "step", "node", "effect", "attempt", "status", "ms", "error"]
    kinds = [line.split()[2] for line in lines[1:]]
    assert kinds[0] == "created"
    assert "decided" in kinds
    assert kinds[-1] == "finished"
    assert [int(line.split()[0]) for line in lines[1:]] == list(range(1, len(lines)))


def test_the_ledger_says_why_a_step_failed(several):
    assert several.art("ledger", "broken-1").stdout.splitlines()[-1].endswith("ValueError: the card has expired")


def test_the_ledger_as_json_is_one_whole_record_a_line(several):
    rows = [json.loads(line) for line in several.art("ledger", "broken-1", "--json").stdout.splitlines()]
    assert [row["kind"] for row in rows] == ["created", "failed"]
    assert rows[1]["error"] == "ValueError: the card has expired"
    assert all(row["header"] and row["record_hash"] for row in rows)


def test_a_run_is_found_by_its_first_characters(several):
    assert "asks-1" in several.art("show", "asks").stdout


def test_first_characters_that_several_runs_share_are_refused_with_the_ids(several):
    several.art("run", "demo:greet", "--run-id", "done-2")
    result = several.art("show", "done")
    assert result.exit_code == 2
    assert "is the beginning of several runs: done-1, done-2" in result.stderr


def test_a_whole_id_is_found_though_it_is_the_beginning_of_another(several):
    several.art("run", "demo:greet", "--run-id", "done-11")
    assert several.art("show", "done-1").exit_code == 0


def test_fewer_than_four_characters_name_no_run_but_a_whole_id(several):
    result = several.art("show", "ask")
    assert result.exit_code == 4
    assert "first 4 characters or more" in result.stderr
    several.art("run", "demo:greet", "--run-id", "ask")
    assert several.art("show", "ask").exit_code == 0


def test_looking_leaves_the_store_as_it_is(several):
    before = several.art("show", "asks-1", "--json").stdout
    for words in (["runs"], ["show", "asks-1"], ["ledger", "asks-1"]):
        several.art(*words)
    assert several.art("show", "asks-1", "--json").stdout == before
