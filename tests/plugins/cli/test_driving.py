"""`run`, `resume`, `retry`, `cancel`: what they say, what they leave in the store, and their exit codes."""

import json
import re
import shlex

import pytest

from abstractruntime import open_runtime
from abstractruntime_cli.workflows import load_workflow


def test_a_run_that_completes_shows_its_output_and_ends_with_0(folder):
    result = folder.art("run", "demo:greet", "--var", "name=Ada")
    assert result.exit_code == 0
    assert "completed" in result.stdout
    assert '"greeting": "hello Ada"' in result.stdout
    assert (folder.path / "abstractruntime.db").exists()


def test_the_state_is_printed_as_json_for_programs(folder):
    result = folder.art(
        "run", "demo:greet", "--json", "--tag", "b", "--tag", "a", "--session", "s1", "--run-id", "first"
    )
    state = json.loads(result.stdout)
    assert (state["run_id"], state["status"], state["session_id"]) == ("first", "completed", "s1")
    assert state["tags"] == ["a", "b"]
    assert state["output"] == {"greeting": "hello nobody"}


def test_vars_come_from_json_and_single_values_go_on_top(folder, write):
    write("vars.json", '{"name": "Bob", "context": {"copies": 1}}')
    result = folder.art(
        "run", "demo:greet", "--vars", "@vars.json", "--var", "context.copies=2", "--var", "name=Eve", "--json"
    )
    state = json.loads(result.stdout)
    assert state["vars"]["context"] == {"copies": 2}
    assert state["vars"]["name"] == "Eve"


def test_vars_are_read_from_standard_input(folder):
    result = folder.art("run", "demo:greet", "--vars", "-", stdin='{"name": "Zoë"}')
    assert "hello Zoë" in result.stdout


def test_a_run_that_waits_says_what_for_and_how_to_answer_and_ends_with_3(folder):
    result = folder.art("run", "demo:review")
    run_id = folder.run_id(result)
    assert result.exit_code == 3
    assert "waits for a person" in result.stdout
    assert "Pay 120 EUR to ACME?" in result.stdout
    assert "yes | no" in result.stdout
    assert f"art resume {run_id} --json '\"yes\"' --workflow demo:review\n" in result.stdout


def test_the_offered_command_answers_and_finishes_the_run(folder):
    waiting = folder.art("run", "demo:review")
    (offered,) = (line for line in waiting.stdout.splitlines() if line.startswith("  answer: art "))
    result = folder.art(*shlex.split(offered.removeprefix("  answer: art ")))
    assert result.exit_code == 0
    assert '"yes"' in result.stdout, "the choice itself, as a workflow compares it"


def test_a_store_that_was_named_is_part_of_the_offered_command(folder):
    result = folder.art("run", "demo:review", "--store", "sqlite:///other.db")
    assert "--store sqlite:///other.db\n" in result.stdout
    assert not (folder.path / "abstractruntime.db").exists()


def test_the_store_may_be_named_before_the_command_too(folder):
    assert folder.art("--store", "sqlite:///other.db", "run", "demo:greet").exit_code == 0
    assert (folder.path / "other.db").exists()


def test_an_event_is_answered_with_json_under_its_key(folder):
    run_id = folder.run_id(folder.art("run", "demo:event"))
    result = folder.art("resume", run_id, "--key", "payment", "--json", '{"amount": 120}', "-w", "demo:event")
    assert result.exit_code == 0
    assert '"amount": 120' in result.stdout


def test_a_run_is_named_by_its_first_characters(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    assert folder.art("resume", run_id[:8], "--text", "no", "-w", "demo:review").exit_code == 0


def test_a_wrong_key_is_an_error_that_names_the_right_one_and_changes_nothing(folder):
    run_id = folder.run_id(folder.art("run", "demo:event"))
    before = folder.art("ledger", run_id, "--json").stdout
    result = folder.art("resume", run_id, "--key", "paiment", "--text", "x", "-w", "demo:event")
    assert result.exit_code == 4
    assert result.stderr.startswith("error[unknown_wait]: ")
    assert "'payment'" in result.stderr
    assert folder.art("ledger", run_id, "--json").stdout == before


def test_an_ended_run_cannot_be_answered(folder):
    run_id = folder.run_id(folder.art("run", "demo:greet"))
    result = folder.art("resume", run_id, "--text", "x", "-w", "demo:greet")
    assert result.exit_code == 5
    assert result.stderr.startswith("error[not_waiting]: ")


def test_another_workflows_code_is_refused_and_both_are_named(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    result = folder.art("resume", run_id, "--text", "x", "-w", "demo:event")
    assert result.exit_code == 2
    assert result.stderr.startswith("error[workflow_mismatch]: ")
    assert "'review'" in result.stderr
    assert "'event'" in result.stderr


@pytest.mark.parametrize("command", [["resume", "--text", "x"], ["retry"]])
def test_without_the_code_the_error_names_workflow_and_version_and_says_how_to_pass_it(folder, command):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    result = folder.art(command[0], run_id, *command[1:])
    assert result.exit_code == 2
    assert result.stderr.startswith("error[unknown_workflow]: ")
    assert "'review' version 2" in result.stderr
    assert "hint: say where it is: --workflow MODULE:WORKFLOW" in result.stderr


def test_an_answer_has_to_be_given_and_only_once(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    for words in ([], ["--text", "a", "--json", "1"]):
        result = folder.art("resume", run_id, *words, "-w", "demo:review")
        assert result.exit_code == 2
        assert "hint: give --json PAYLOAD or --text TEXT" in result.stderr


def test_an_unknown_run_is_not_found(folder):
    folder.art("run", "demo:greet")
    for command in (["show"], ["ledger"], ["cancel"], ["resume", "--text", "x"], ["retry"], ["resolve", "--retry"]):
        result = folder.art(command[0], "0000-none", *command[1:])
        assert result.exit_code == 4, command
        assert result.stderr.startswith("error[unknown_run]: no run '0000-none'"), command
        assert result.stdout == ""


def test_a_failed_run_ends_with_1_and_can_be_retried_once_the_cause_is_gone(folder, write):
    failed = folder.art("run", "demo:flaky")
    run_id = folder.run_id(failed)
    assert failed.exit_code == 1
    assert "error: ValueError: the card has expired" in failed.stdout
    assert f"art retry {run_id} --workflow demo:flaky" in failed.stdout
    write("card", "new")
    retried = folder.art("retry", run_id, "--workflow", "demo:flaky")
    assert retried.exit_code == 0
    assert '"charged": true' in retried.stdout


def test_a_run_that_has_not_failed_cannot_be_retried(folder):
    run_id = folder.run_id(folder.art("run", "demo:greet"))
    result = folder.art("retry", run_id, "-w", "demo:greet")
    assert result.exit_code == 5
    assert result.stderr.startswith("error[wrong_status]: ")


def test_max_steps_stops_a_run_that_can_be_continued(folder):
    stopped = folder.art("run", "demo:five", "--max-steps", "3")
    run_id = folder.run_id(stopped)
    assert stopped.exit_code == 3
    assert "stopped after --max-steps" in stopped.stdout
    assert "3 steps" in stopped.stdout
    assert f"go on: art run demo:five --continue {run_id}" in stopped.stdout
    gone_on = folder.art("run", "demo:five", "--continue", run_id[:6])
    assert gone_on.exit_code == 0
    assert '"n": 5' in gone_on.stdout


def test_continuing_starts_no_new_run(folder):
    run_id = folder.run_id(folder.art("run", "demo:five", "--max-steps", "1"))
    folder.art("run", "demo:five", "--continue", run_id)
    assert len(json.loads(folder.art("runs", "--json").stdout)) == 1
    refused = folder.art("run", "demo:five", "--continue", run_id, "--var", "n=7")
    assert refused.exit_code == 2
    assert "--var is for a new run" in refused.stderr


def test_continuing_a_run_that_waits_says_again_what_for(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    result = folder.art("run", "demo:review", "--continue", run_id)
    assert result.exit_code == 3
    assert "Pay 120 EUR to ACME?" in result.stdout


def test_a_cancelled_run_stays_cancelled(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    result = folder.art("cancel", run_id, "--reason", "sent twice")
    assert result.exit_code == 0
    assert result.stdout == f"run {run_id} is cancelled\n"
    after = folder.art("resume", run_id, "--text", "yes", "-w", "demo:review")
    assert after.exit_code == 5
    assert "sent twice" in folder.art("show", run_id).stdout


def test_cancelling_a_run_that_has_ended_says_that_it_has(folder):
    run_id = folder.run_id(folder.art("run", "demo:greet"))
    result = folder.art("cancel", run_id)
    assert result.exit_code == 0
    assert "completed already" in result.stdout


def test_a_run_id_is_given_once(folder):
    assert folder.art("run", "demo:greet", "--run-id", "first").exit_code == 0
    result = folder.art("run", "demo:greet", "--run-id", "first")
    assert result.exit_code == 5
    assert result.stderr.startswith("error[duplicate_run]: ")


def test_a_run_not_in_doubt_has_nothing_to_resolve(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    result = folder.art("resolve", run_id, "--retry")
    assert result.exit_code == 5
    assert result.stderr.startswith("error[wrong_status]: ")


def test_resolving_needs_exactly_one_verdict(folder):
    run_id = folder.run_id(folder.art("run", "demo:review"))
    for words in ([], ["--retry", "--failed", "no"], ["--done", "1", "--retry"]):
        result = folder.art("resolve", run_id, *words)
        assert result.exit_code == 2
        assert "--done JSON, --failed TEXT and --retry" in result.stderr


def test_a_run_in_doubt_shows_the_evidence_and_how_to_settle_it(folder):
    run_id = folder.run_in_doubt()
    shown = folder.art("show", run_id)
    assert "in doubt since" in shown.stdout
    assert '"recovery": "ask"' in shown.stdout
    assert f"settle: art resolve {run_id} --retry --workflow MODULE:WORKFLOW" in shown.stdout
    assert run_id in folder.art("runs", "--in-doubt").stdout


def test_without_the_code_a_verdict_is_recorded_and_the_run_goes_on_later(folder):
    run_id = folder.run_in_doubt()
    settled = folder.art("resolve", run_id, "--done", "{}")
    assert settled.exit_code == 0
    assert f"run {run_id} is settled; it is running" in settled.stdout
    assert f"go on: art run MODULE:WORKFLOW --continue {run_id}" in settled.stdout
    assert folder.art("run", "demo:slow", "--continue", run_id).exit_code == 0


def test_a_verdict_of_failure_fails_the_run_with_that_reason(folder):
    run_id = folder.run_in_doubt()
    settled = folder.art("resolve", run_id, "--failed", "the bank says no", "-w", "demo:slow")
    assert settled.exit_code == 1
    assert "error: the bank says no" in settled.stdout


def test_a_timer_says_when_it_ends_and_a_past_one_does_not_wait(folder):
    waiting = folder.art("run", "demo:timer", "--var", "until=2999-01-01T00:00:00Z")
    assert waiting.exit_code == 3
    assert "waits for a time" in waiting.stdout
    assert "until: 2999-01-01T00:00:00" in waiting.stdout
    assert f"then: art run demo:timer --continue {folder.run_id(waiting)}" in waiting.stdout
    assert folder.art("run", "demo:timer", "--var", "until=2020-01-01T00:00:00Z").exit_code == 0


def test_a_workflow_that_a_plugin_registers_need_not_be_named(folder, plugin):
    environment = plugin(
        "billing",
        "from abstractruntime.hookspecs import hookimpl\n"
        "abstractruntime_plugin_api = 1\n"
        "@hookimpl\n"
        "def abstractruntime_workflows():\n"
        "    import demo\n"
        "    return [demo.review]\n",
    )
    run_id = folder.run_id(folder.art("run", "demo:review"))
    again = folder.ended("run", "demo:review", "--continue", run_id, environment=environment)
    assert again.returncode == 3
    resumed = folder.ended("resume", run_id, "--text", "yes", environment=environment)
    assert resumed.returncode == 0, resumed.stderr
    assert '"text": "yes"' in resumed.stdout


def test_a_full_disk_ends_with_6_and_leaves_a_run_that_can_be_continued(folder):
    words = ["run", "demo:slow", "--vars", '{"times": 1, "seconds": 0, "effect": "fill"}']
    full = folder.ended(*words, "--run-id", "full")
    assert full.returncode == 6
    assert re.search(r"^error\[(store_\w+|outcome_unknown)\]: ", full.stderr, flags=re.MULTILINE)
    assert "go on: art run demo:slow --continue full" in full.stderr
    assert "run full is as its last commit left it" in full.stderr
    assert folder.art("show", "full", "--json").exit_code == 0


def test_a_run_that_somebody_holds_is_cancelled_by_its_holder(folder):
    greet = load_workflow("demo:greet").workflow
    with open_runtime("sqlite:///abstractruntime.db") as other:
        run_id = other.start(workflow=greet)
        result = folder.art("cancel", run_id)
        assert result.exit_code == 0
        assert "running and held by somebody" in result.stdout
        assert other.tick(workflow=greet, run_id=run_id).status == "cancelled"
