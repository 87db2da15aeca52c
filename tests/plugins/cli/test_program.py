"""The program as a whole: help, errors, exit codes, stores that cannot be used, and what the docs say of it."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from abstractruntime import errors, open_runtime
from abstractruntime_cli.app import app, command_word
from abstractruntime_cli.exits import ExitCode, exit_code_of_error
from abstractruntime_cli.workflows import load_workflow

ROOT = Path(__file__).parents[3]
# Where the wheels are tested, the plugin's sources are not there.
DOCS = [page for page in (ROOT / "docs/reference/cli.md", ROOT / "plugins/cli/README.md") if page.exists()]
PROGRAM = typer.main.get_group(app)


def test_the_help_has_examples_and_exit_codes(folder):
    result = folder.art("--help")
    assert result.exit_code == 0
    for expected in ("art run demo:review", "Exit codes", "doctor", "Drive runs"):
        assert expected in result.stdout


def test_without_a_command_the_help_is_shown_and_that_is_a_usage_error(folder):
    result = folder.art()
    assert result.exit_code == 2
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("name", sorted(PROGRAM.commands))
def test_every_command_has_help_for_itself_and_all_its_options(folder, name):
    result = folder.art(name, "--help")
    assert result.exit_code == 0
    command = PROGRAM.commands[name]
    assert command.help
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []


def test_the_versions_are_printed(folder):
    assert re.fullmatch(
        r"abstractruntime \d+\.\d+\.\d+ \(command line \d+\.\d+\.\d+\)\n", folder.art("--version").stdout
    )


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (["rnus"], "No such command 'rnus'. Did you mean 'runs'?", "`art --help` says how it is used"),
        (["show"], "Missing argument 'RUN'.", "`art show --help` says how it is used"),
        (["runs", "--limit", "x"], "Invalid value for '--limit'", "`art runs --help` says how it is used"),
        (["runs", "--stauts", "failed"], "No such option: --stauts", "`art runs --help` says how it is used"),
    ],
)
def test_a_usage_error_is_two_lines_like_any_other(folder, words, says, hint):
    result = folder.art(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("error[usage]: ")
    assert says in first
    assert second == f"hint: {hint}"


def test_an_error_has_no_traceback_unless_asked_for(folder):
    folder.art("run", "demo:greet")
    assert "Traceback" not in folder.art("show", "none-such").stderr
    for words in (["-v", "show", "none-such"], ["show", "none-such", "--verbose"]):
        assert "Traceback" in folder.art(*words).stderr


def test_verbose_tells_what_the_runtime_logs(folder):
    assert "opening the store" in folder.art("-v", "run", "demo:greet").stderr
    assert "opening the store" not in folder.art("run", "demo:greet").stderr


def test_the_entry_point_is_that_program(folder):
    assert folder.ended("--version").returncode == 0
    assert folder.ended("nothing").returncode == 2
    script = Path(sys.executable).with_name("art")
    if script.exists():
        assert subprocess.run([script, "--version"], check=True, capture_output=True, cwd=folder.path).stdout


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["runs"], "runs"),
        (["--store", "memory:", "runs"], "runs"),
        (["-v", "--store=memory:", "show", "x"], "show"),
        (["--help"], None),
        (["--store"], None),
        ([], None),
    ],
)
def test_the_command_is_found_behind_the_options(words, word):
    assert command_word(words) == word


def all_errors(kind: type[Exception] = errors.AbstractRuntimeError) -> list[type[Exception]]:
    return [kind, *(each for child in kind.__subclasses__() for each in all_errors(child))]


def test_every_error_of_the_hierarchy_has_an_exit_code_of_its_kind():
    codes = {
        kind.__name__: exit_code_of_error(kind("x")) for kind in all_errors() if kind.__module__ == errors.__name__
    }
    assert ExitCode.INTERNAL not in codes.values()
    expected = {
        "UnknownRun": ExitCode.NOT_FOUND,
        "Leased": ExitCode.CONFLICT,
        "Conflict": ExitCode.CONFLICT,
        "StoreCorrupt": ExitCode.STORE,
        "FormatTooNew": ExitCode.STORE,
        "InvalidUrl": ExitCode.USAGE,
        "PluginMissing": ExitCode.USAGE,
        "WorkflowMismatch": ExitCode.USAGE,
    }
    assert {name: codes[name] for name in expected} == expected
    assert exit_code_of_error(ZeroDivisionError()) is ExitCode.INTERNAL


def test_an_error_that_nobody_expected_is_two_lines_too(folder, monkeypatch):
    monkeypatch.setattr("abstractruntime_cli.commands.inspection.run_table", None)
    folder.art("run", "demo:greet")
    result = folder.art("runs")
    assert result.exit_code == 70
    assert result.stderr.startswith("error[internal]: TypeError: ")
    assert "please report it" in result.stderr


def test_a_store_without_a_plugin_names_those_there_are(folder):
    result = folder.art("runs", "--store", "s4://bucket")
    assert result.exit_code == 2
    assert result.stderr.startswith("error[plugin_missing]: no store named 's4'; installed: memory, sqlite")
    assert "pip install abstractruntime-s4" in result.stderr


def test_a_malformed_url_says_what_to_write_and_hides_the_secret(folder):
    result = folder.art("runs", "--store", "sqlite://user:hunter2@host/runs.db")
    assert result.exit_code == 2
    assert result.stderr.startswith("error[invalid_url]: ")
    assert "hunter2" not in result.stderr


def test_a_file_that_is_not_ours_is_a_store_error_and_left_alone(folder, write):
    write("runs.db", "this is a letter\n" * 100)
    for words in (["runs"], ["show", "abcd"], ["run", "demo:greet"]):
        result = folder.art(*words, "--store", "sqlite:///runs.db")
        assert result.exit_code == 6
        assert result.stderr.startswith("error[store_")
        assert "runs.db" in result.stderr
    assert (folder.path / "runs.db").read_text() == "this is a letter\n" * 100


def test_a_folder_that_is_not_there_is_a_store_error(folder):
    result = folder.art("run", "demo:greet", "--store", "sqlite:///none/runs.db")
    assert result.exit_code == 6
    assert result.stderr.startswith("error[store_missing]: ")


def test_a_run_that_another_process_holds_is_a_conflict_that_names_the_holder(folder, monkeypatch):
    monkeypatch.setenv("ABSTRACTRUNTIME_RUNTIME__LEASE_WAIT_S", "0")
    with open_runtime("sqlite:///abstractruntime.db") as other:
        run_id = other.start(workflow=load_workflow("demo:greet").workflow)
        result = folder.art("run", "demo:greet", "--continue", run_id)
    assert result.exit_code == 5
    assert result.stderr.startswith(f"error[leased]: run {run_id} is held by ")


def test_a_long_effect_is_told_of_without_a_terminal(folder):
    begun = time.monotonic()
    result = folder.ended("run", "demo:slow", "--var", "times=1", "--var", "seconds=3.2")
    assert time.monotonic() - begun > 3
    assert result.returncode == 0
    assert re.search(r"^step 1  work  slow  [23]\.\d s$", result.stderr, flags=re.MULTILINE)
    assert "step" not in result.stdout.splitlines()[1]


def test_a_quick_run_tells_no_progress(folder):
    assert len(folder.art("run", "demo:five").stderr.splitlines()) == 1


def test_a_terminal_sees_one_changing_line_and_colours(folder):
    code, seen = folder.on_terminal("run", "demo:slow", "--var", "times=2", "--var", "seconds=0.4", columns=60)
    assert code == 0
    assert "step 2" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "\x1b[2K" in seen
    assert "\x1b[32mcompleted" in seen


def test_a_command_offered_on_a_narrow_terminal_is_in_one_piece(folder):
    folder.art("run", "demo:review", "--run-id", "a-run-with-quite-a-long-name")
    code, seen = folder.on_terminal("show", "a-run", columns=40)
    assert code == 0
    assert "art resume a-run-with-quite-a-long-name --json '\"yes\"' --workflow MODULE:WORKFLOW" in seen


def test_the_documented_exit_codes_are_those_there_are():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCS[0].read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(code.value, code.name) for code in ExitCode]


def test_every_command_is_documented():
    for page in DOCS:
        missing = [name for name in PROGRAM.commands if f"`art {name}" not in page.read_text(encoding="utf-8")]
        assert missing == [], page.name


def documented() -> list[str]:
    pattern = re.compile(r"(?:`|\$ |: )(art [^`\n]+)")
    return [line for page in DOCS for line in pattern.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("line", documented())
def test_a_documented_command_line_has_only_options_that_exist(line):
    name, *words = [word for word in shlex.split(line)[1:] if word != "-v"]
    if name == "COMMAND":
        return
    known = {option for parameter in PROGRAM.commands[name].params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= known


def test_json_output_is_json_whatever_the_command(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    for words in (["runs"], ["show", run_id], ["plugins"], ["config"], ["doctor"]):
        json.loads(folder.art(*words, "--json").stdout)
    for line in folder.art("ledger", run_id, "--json").stdout.splitlines():
        json.loads(line)
