"""Four processes at work on the same runs of one database; one is killed, one is stopped for longer than its lease."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from abstractruntime import RunStatus
from abstractruntime.codec import encode, open_record
from abstractruntime.journal import fold
from abstractruntime.loading import Loader
from abstractruntime.runtime import Runtime
from abstractruntime_sqlite.store import SqliteStore

sys.path.insert(0, str(Path(__file__).parent))
import contending_child as child  # the child's own description of the runs

SECONDS = 15.0
"""How long a process works at most; alone on a machine they need about three."""


def begin(folder: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, child.__file__, str(folder / "runs.db"), str(folder / "acts"), str(seed), str(SECONDS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class World:
    """What is left when all have ended."""

    def __init__(self, folder: Path, told: list[dict[str, Any]], killed: int) -> None:
        self.acts = child.acts_of(folder / "acts")
        self.told = told
        self.killed = killed
        with SqliteStore(str(folder / "runs.db")) as store:
            self.runs = [child.name_of(number) for number in range(child.RUNS)]
            self.ledgers = {run_id: list(store.ledger(run_id)) for run_id in self.runs}
            self.opened = {run_id: Loader(store).open(run_id) for run_id in self.runs}

    def headers(self, run_id: str, *kinds: str) -> list[dict[str, Any]]:
        headers = [open_record(record).header for record in self.ledgers[run_id]]
        return [header for header in headers if header["kind"] in kinds]

    def times_done(self, *types: str) -> Counter[tuple[str, int]]:
        return Counter((act["run"], act["step"]) for act in self.acts if act["type"] in types)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("contended")
    with SqliteStore(str(folder / "runs.db")) as store, Runtime(store=store, settings=child.RULES) as runtime:
        for number in range(child.RUNS):
            started = {"visited": [], "results": {}, "fails_before": 2 if number % 7 == 0 else 0}
            runtime.start(workflow=child.workflow(), run_id=child.name_of(number), vars=started)
    processes = [begin(folder, seed) for seed in range(4)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "working\n", process.stderr.read() if process.stderr else ""
        dice = random.Random(7)
        time.sleep(0.2 + dice.random() * 0.2)
        processes[0].kill()
        os.kill(processes[1].pid, signal.SIGSTOP)
        time.sleep(child.LEASE_S * 2.5)
        os.kill(processes[1].pid, signal.SIGCONT)
        outputs = [process.communicate(timeout=SECONDS + 5) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    for process, (_, errors) in zip(processes[1:], outputs[1:], strict=True):
        assert process.returncode == 0, errors
    assert processes[0].returncode == -signal.SIGKILL
    return World(folder, [json.loads(out) for out, _ in outputs[1:]], processes[0].pid)


def test_every_run_comes_to_its_end_and_is_held_by_nobody(world: World) -> None:
    assert [told["left"] for told in world.told] == [[], [], []]
    ends = Counter(opened.state.status for opened in world.opened.values())
    assert set(ends) <= {RunStatus.COMPLETED, RunStatus.CANCELLED}
    assert ends[RunStatus.COMPLETED] >= child.RUNS * 9 // 10
    for run_id, opened in world.opened.items():
        assert opened.head.owner is None, run_id
        assert opened.head.wake_at is None, run_id
        assert not opened.stored.messages, run_id


def test_all_four_took_part(world: World) -> None:
    assert len({act["pid"] for act in world.acts}) == 4


def test_what_must_not_be_repeated_was_done_once_a_step(world: World) -> None:
    assert {place: count for place, count in world.times_done("ask", "reconcile").items() if count > 1} == {}


def test_each_decision_has_one_outcome_and_was_decided_once(world: World) -> None:
    for run_id in world.runs:
        decided = Counter(header["step"] for header in world.headers(run_id, "decided"))
        assert set(decided.values()) <= {1}, run_id
        outcomes = Counter(header["step"] for header in world.headers(run_id, "completed", "failed", "waiting"))
        assert set(outcomes.values()) <= {1}, run_id
        if world.opened[run_id].state.status is RunStatus.COMPLETED:
            assert decided.keys() == outcomes.keys(), run_id
            done = {step for run, step in world.times_done("ask", "reconcile", "idempotent") if run == run_id}
            assert done == {header["step"] for header in world.headers(run_id, "decided")} - {
                header["step"] for header in world.headers(run_id, "waiting")
            }, run_id


def test_each_answer_counted_once_and_whoever_was_told_so_gave_it(world: World) -> None:
    counted: Counter[str] = Counter()
    for run_id in world.runs:
        answers = [
            open_record(record).values[open_record(record).header["answer"]]
            for record in world.ledgers[run_id]
            if open_record(record).header["kind"] == "resumed"
        ]
        assert len(answers) <= 1, run_id
        counted.update(str(answer) for answer in answers)
        if answers:
            assert world.opened[run_id].state.vars["results"]["answer"] == answers[0]
    assert set(counted.values()) <= {1}
    told = [answer for process in world.told for answer in process["answers"]]
    assert len(told) == len(set(told))
    assert set(told) <= set(counted)


def test_the_ledgers_are_whole_and_fold_to_the_states(world: World) -> None:
    for run_id in world.runs:
        folded = fold(run_id, world.ledgers[run_id])
        opened = world.opened[run_id]
        assert encode(folded) == encode(opened.state), run_id
        assert (opened.head.length, opened.head.head_hash) == (folded.length, folded.head_hash), run_id
        assert opened.head.projection == folded.projection(), run_id
