"""`plugins`, `config`, `doctor`: what is installed, what is in force, and what is wrong."""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from abstractruntime_cli.doctor import examine
from abstractruntime_cli.invocation import Invocation


def states(result) -> dict[str, str]:
    return {info["name"]: info["state"] for info in json.loads(result.stdout)}


def test_plugins_are_listed_with_distribution_version_hooks_and_state(folder):
    result = folder.art("plugins")
    assert result.exit_code == 0
    (line,) = (line.split() for line in result.stdout.splitlines() if line.startswith("sqlite "))
    assert line[1] == "abstractruntime-sqlite"
    assert line[3:] == ["loaded", "stores"]
    assert states(folder.art("plugins", "--json"))["cli"] == "loaded"


def test_a_broken_plugin_is_listed_and_why_says_what_is_wrong(folder, plugin):
    environment = plugin("odd", "import surely_not_installed\n")
    listed = folder.ended("plugins", environment=environment)
    assert listed.returncode == 0
    assert "1 not in use: art plugins --why" in listed.stdout
    why = folder.ended("plugins", "--why", environment=environment)
    assert "odd: " in why.stdout
    assert "surely_not_installed" in why.stdout
    assert folder.ended("run", "demo:greet", environment=environment).returncode == 0


def test_without_a_broken_plugin_why_says_that_all_work(folder):
    assert "all of them work" in folder.art("plugins", "--why").stdout


def test_a_disabled_plugin_is_listed_with_where_that_was_said(folder, write):
    write("abstractruntime.toml", '[plugins]\ndisabled = ["abstractcore"]\n')
    assert states(folder.art("plugins", "--json"))["abstractcore"] == "disabled"
    assert "abstractruntime.toml" in folder.art("plugins", "--why").stdout


COMMANDS = """
import typer
from abstractruntime.hookspecs import CommandSpec, hookimpl

abstractruntime_plugin_api = 1
paint = typer.Typer(help="Paint the runs.")


@paint.command()
def red(copies: int = 1):
    print("red", copies)


@paint.command()
def fail():
    raise typer.Exit(7)


def wash():
    print("clean")


@hookimpl
def abstractruntime_commands():
    return [
        CommandSpec(name="paint", add=lambda app: app.add_typer(paint, name="paint"), summary="Paint."),
        CommandSpec(name="wash", add=lambda app: app.command("wash")(wash), summary="Wash the runs."),
        CommandSpec(name="runs", add=lambda app: app.command("runs")(wash), summary="Not this one."),
        CommandSpec(name="lost", add=lambda app: None, summary="Never added."),
        CommandSpec(name="bad", add=lambda app: 1 / 0, summary="Raises."),
    ]
"""


def test_a_plugins_commands_stand_beside_ours(folder, plugin):
    environment = plugin("paint", COMMANDS)
    assert folder.ended("paint", "red", "--copies", "3", environment=environment).stdout == "red 3\n"
    assert folder.ended("wash", environment=environment).stdout == "clean\n"
    assert folder.ended("paint", "fail", environment=environment).returncode == 7
    shown = folder.ended("--help", environment=environment)
    assert "Paint the runs." in shown.stdout
    assert "Wash the runs." in shown.stdout


def test_a_plugin_cannot_replace_our_commands_and_its_faults_are_warnings(folder, plugin):
    environment = plugin("paint", COMMANDS)
    shown = folder.ended("--help", environment=environment)
    assert shown.returncode == 0
    assert "the command 'runs' of a plugin is not used: there is one of that name" in shown.stderr
    assert "a plugin promised the command 'lost' and added others: none" in shown.stderr
    assert "the command 'bad' of a plugin cannot be added: ZeroDivisionError" in shown.stderr
    assert "does not exist yet" in folder.ended("runs", environment=environment).stderr


def test_our_own_commands_load_no_other_plugin(folder, plugin):
    environment = plugin("loud", "print('loaded')\nabstractruntime_plugin_api = 1\n")
    folder.art("run", "demo:greet", "--run-id", "first")
    for words in (["runs"], ["show", "first"], ["ledger", "first"], ["--version"]):
        assert "loaded" not in folder.ended(*words, environment=environment).stdout
    assert "loaded" in folder.ended("plugins", environment=environment).stdout


def test_config_says_where_each_value_comes_from(folder, write, monkeypatch):
    write("abstractruntime.toml", "[runtime]\nlease_s = 7\nmax_claims = 9\n")
    monkeypatch.setenv("ABSTRACTRUNTIME_RUNTIME__MAX_CLAIMS", "3")
    result = folder.art("config", "--json", "--store", "memory:")
    entries = {entry["key"]: (entry["value"], entry["origin"]) for entry in json.loads(result.stdout)}
    assert entries["store"] == ("'memory:'", "option --store")
    assert entries["runtime.lease_s"][0] == "7.0"
    assert entries["runtime.lease_s"][1].endswith("abstractruntime.toml: runtime.lease_s")
    assert entries["runtime.max_claims"] == ("3", "environment variable ABSTRACTRUNTIME_RUNTIME__MAX_CLAIMS")
    assert entries["runtime.start_grace_s"][1] == "default"
    assert "runtime.lease_s" in folder.art("config").stdout


def test_config_never_shows_a_secret(folder, write):
    write("abstractruntime.toml", '[plugin.abstractcore]\napi_key = "hunter2"\n')
    for words in (["config"], ["config", "--json"], ["--store", "memory:?password=hunter2", "config"]):
        result = folder.art(*words)
        assert result.exit_code == 0
        assert "hunter2" not in result.stdout + result.stderr


def test_a_misspelled_setting_is_an_error_with_the_nearest_one(folder, monkeypatch):
    monkeypatch.setenv("ABSTRACTRUNTIME_STROE", "sqlite:///x.db")
    for command in ("config", "runs", "plugins"):
        result = folder.art(command)
        assert result.exit_code == 2
        assert result.stderr.startswith("error[unknown_setting]: ")
        assert "ABSTRACTRUNTIME_STORE" in result.stderr
    assert folder.art("doctor").exit_code == 1
    assert folder.art("--help").exit_code == 0


def findings(folder, *words: str) -> dict[str, str]:
    return {
        finding["about"]: finding["verdict"] for finding in json.loads(folder.art("doctor", "--json", *words).stdout)
    }


def test_the_doctor_finds_nothing_where_all_is_well_and_makes_nothing(folder):
    result = folder.art("doctor")
    assert result.exit_code == 0, result.stdout
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok"}
    assert "not there yet; the first run makes it" in result.stdout
    assert not (folder.path / "abstractruntime.db").exists()


def test_the_doctor_opens_a_store_that_is_there_and_leaves_no_trace(folder):
    folder.art("run", "demo:greet")
    database = sqlite3.connect(folder.path / "abstractruntime.db")
    before = list(database.iterdump())
    assert set(findings(folder).values()) == {"ok"}
    assert {"store", "writing", "store clock"} <= findings(folder).keys()
    assert list(database.iterdump()) == before
    database.close()


def test_the_doctor_fails_on_a_folder_that_is_not_there(folder):
    result = folder.art("doctor", "--store", "sqlite:///none/runs.db")
    assert result.exit_code == 1
    assert "mkdir -p" in result.stdout


def test_the_doctor_fails_on_a_file_that_is_no_store(folder, write):
    write("runs.db", "this is a letter\n" * 100)
    result = folder.art("doctor", "--store", "sqlite:///runs.db")
    assert result.exit_code == 1
    assert findings(folder, "--store", "sqlite:///runs.db")["store"] == "fail"
    assert (folder.path / "runs.db").read_text().startswith("this is a letter")


def test_the_doctor_fails_on_a_store_without_a_plugin(folder):
    result = folder.art("doctor", "--store", "sqlight:///runs.db")
    assert result.exit_code == 1
    assert "did you mean 'sqlite'?" in result.stdout


def test_the_doctor_warns_of_a_broken_plugin_and_fails_where_it_is_the_stores(folder, plugin):
    environment = plugin("odd", "1 / 0\n")
    warned = folder.ended("doctor", environment=environment)
    assert warned.returncode == 0
    assert "warn  plugins" in warned.stdout
    needed = folder.ended("doctor", "--store", "odd:x", environment=environment)
    assert needed.returncode == 1
    assert "fail  plugins" in needed.stdout


def test_the_doctor_warns_of_a_clock_that_differs_from_the_stores(folder):
    folder.art("run", "demo:greet")
    invocation = Invocation()
    late = {finding.about: finding for finding in examine(invocation, clock=lambda: 1_700_000_000.0)}
    assert late["clock"].verdict == "fail"
    assert late["store clock"].verdict == "warn"
    assert "ahead of" in late["store clock"].says


def test_the_doctor_tells_of_runs_in_doubt(folder):
    folder.run_in_doubt()
    result = folder.art("doctor")
    assert result.exit_code == 0
    assert "1 in doubt" in result.stdout
    assert "art runs --in-doubt" in result.stdout


AS_NOBODY = """
import os, sys
from typer.testing import CliRunner
from abstractruntime_cli.app import app

# Imports everything, as long as this user may read it; once the backport is there, metadata is read by other code.
for _ in range(2):
    CliRunner().invoke(app, ["doctor"])
if os.geteuid() == 0:  # root may write everywhere
    os.setuid(65534)
result = CliRunner().invoke(app, ["doctor", "--json"])
print(result.stdout)
sys.exit(result.exit_code)
"""


def test_the_doctor_fails_on_a_folder_that_may_not_be_written():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        result = subprocess.run(
            [sys.executable, "-c", AS_NOBODY],
            cwd=name, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        Path(name).chmod(0o755)
    assert result.returncode == 1, result.stderr
    assert {finding["about"]: finding["verdict"] for finding in json.loads(result.stdout)}["folder"] == "fail"
