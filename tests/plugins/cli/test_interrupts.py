"""Ctrl-C, real signals to real processes: a run is left resumable, and the effect at work is not forgotten."""

import signal

import pytest


def run_id_of(stderr: str) -> str:
    return stderr.split()[1]


def test_ctrl_c_lets_the_effect_at_work_finish_and_says_how_to_go_on(folder):
    process = folder.process("run", "demo:slow", "--var", "times=2", "--var", "seconds=1.2")
    folder.wait_for_line("begin 1")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    run_id = run_id_of(err)
    assert process.returncode == 130
    assert "was interrupted between two steps" in out
    assert f"go on: art run demo:slow --continue {run_id}\n" in out
    assert "stopping after this step" in err
    assert (folder.path / "effects").read_text().splitlines() == ["begin 1", "end 1"]
    gone_on = folder.ended("run", "demo:slow", "--continue", run_id)
    assert gone_on.returncode == 0
    assert (folder.path / "effects").read_text().splitlines() == [
        f"{word} {number}" for number in (1, 2) for word in ("begin", "end")
    ]


def test_a_second_ctrl_c_leaves_an_effect_in_the_middle_and_a_repeatable_one_is_repeated(folder):
    process = folder.process("run", "demo:slow", "--var", "times=1", "--var", "seconds=30")
    folder.wait_for_line("begin 1")
    process.send_signal(signal.SIGINT)
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "was interrupted in the middle of a step" in out
    (offered,) = (line for line in out.splitlines() if "go on: art run" in line)
    again = folder.process(*offered.split("art ")[1].split())
    folder_log = folder.path / "effects"
    folder_log.unlink()
    folder.wait_for_line("begin 1")
    again.kill()
    again.communicate(timeout=20)


def test_an_effect_that_must_not_be_repeated_parks_in_doubt_and_is_resolved(folder):
    process = folder.process("run", "demo:slow", "--var", "times=1", "--var", "seconds=30", "--var", "effect=pay")
    folder.wait_for_line("begin 1")
    process.send_signal(signal.SIGINT)
    while "stopping" not in (line := process.stderr.readline()):
        run_id = line.split()[1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    doubt = folder.ended("run", "demo:slow", "--continue", run_id)
    assert doubt.returncode == 3
    assert "is in doubt" in doubt.stdout
    assert (
        f"settle: art resolve {run_id} --retry --workflow demo:slow   (or --done JSON, or --failed TEXT)"
        in doubt.stdout
    )
    assert run_id in folder.art("runs", "--in-doubt").stdout
    resolved = folder.ended("resolve", run_id, "--done", "{}", "--workflow", "demo:slow")
    assert resolved.returncode == 0, resolved.stderr
    assert (folder.path / "effects").read_text().splitlines() == ["begin 1"]
    assert "no runs match" in folder.art("runs", "--in-doubt").stderr


def test_a_process_told_to_ignore_ctrl_c_goes_on_ignoring_it(folder):
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = folder.process("run", "demo:slow", "--var", "times=1", "--var", "seconds=0.5")
    finally:
        signal.signal(signal.SIGINT, previous)
    folder.wait_for_line("begin 1")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    process.communicate()


def test_a_reader_that_goes_away_is_no_error(folder):
    for number in range(3):
        folder.art("run", "demo:greet", "--run-id", f"run-{number}")
    process = folder.process("ledger", "run-0", "--json")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 141
    process.stderr.close()


@pytest.mark.parametrize("word", ["run", "resume", "retry"])
def test_the_help_of_commands_that_drive_is_there_without_a_store(folder, word):
    assert folder.art(word, "--help").exit_code == 0
