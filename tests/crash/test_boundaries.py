"""A run killed with SIGKILL at every boundary goes on as its recovery classes promise, on SQLite."""

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

import pytest

from abstractruntime import RunState, RunStatus
from abstractruntime.codec import encode, open_record
from abstractruntime.journal import fold
from abstractruntime.loading import Loader
from abstractruntime.models import Instant
from abstractruntime.runtime import Runtime
from abstractruntime_sqlite.store import SqliteStore

sys.path.insert(0, str(Path(__file__).parent))
import boundary_child as child  # the child's own description of the run

HOUR_S = 3_600
REPEATABLE = {"pure", "read", "idempotent"}


def run_child(folder: Path, kill_at: int, ahead_s: int = 0) -> subprocess.CompletedProcess[str]:
    paths = [str(folder / "runs.db"), str(folder / "acts")]
    command = [sys.executable, child.__file__, *paths, str(kill_at), str(ahead_s)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def boundaries(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    finished = run_child(tmp_path_factory.mktemp("whole"), 0)
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["status"] == "completed"
    return told["boundaries"]


def drive_on(folder: Path, ahead_s: int = HOUR_S) -> tuple[RunState, list[RunState]]:
    """Another process's worth of runtime takes the run over, when the dead owner's lease and time have run out."""
    store = SqliteStore(str(folder / "runs.db"), clock=lambda: Instant(time.time_ns() // 1000 + ahead_s * 1_000_000))
    handlers = child.handlers(folder / "acts", lambda name: None)
    with store, Runtime(store=store, effect_handlers=handlers, settings=child.RULES) as runtime:
        return child.drive_to_the_end(runtime, folder / "acts")


def check_ledger(folder: Path, state: RunState) -> list[str]:
    """The ledger is whole, folds to the state, and has one outcome per step. Returns its kinds."""
    with SqliteStore(str(folder / "runs.db")) as store:
        records = list(store.ledger(child.RUN_ID))
        loaded = Loader(store).open(child.RUN_ID)
    folded = fold(child.RUN_ID, records)
    assert encode(folded) == encode(loaded.state)
    assert encode(folded.vars) == encode(state.vars)
    assert loaded.head.length == len(records) == folded.length
    assert loaded.head.head_hash == folded.head_hash
    assert loaded.head.owner is None, "a finished run is held by nobody"
    headers = [open_record(record).header for record in records]
    outcomes = Counter(header["step"] for header in headers if header["kind"] == "completed")
    assert set(outcomes) == {1, 2, 3, 4, 5}
    assert set(outcomes.values()) == {1}
    decisions = Counter(header["step"] for header in headers if header["kind"] == "decided")
    assert set(decisions.values()) == {1}, "a take-over performs the decision in the ledger, it does not ask the node"
    return [str(header["kind"]) for header in headers]


def test_the_run_has_a_boundary_before_and_after_each_decision_act_and_outcome(boundaries: list[str]) -> None:
    for recovery in child.CLASSES:
        assert f"{recovery.value}: before the act" in boundaries
        assert f"{recovery.value}: after the act" in boundaries
    assert boundaries[:2] == ["before commit of created", "after commit of created"]
    # pure, read and idempotent: an outcome rides with the next decision; reconcile and ask are committed at once
    assert "before commit of completed+decided" in boundaries
    assert boundaries.count("before commit of completed") == 2


def test_a_run_killed_at_any_boundary_is_taken_over_and_nothing_is_done_twice(
    boundaries: list[str], tmp_path: Path
) -> None:
    parked = 0
    for kill_at, boundary in enumerate(boundaries, 1):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        killed = run_child(folder, kill_at)
        assert killed.returncode == -signal.SIGKILL, f"{boundary}: {killed.stderr}"

        state, doubts = drive_on(folder)

        assert state.status is RunStatus.COMPLETED, boundary
        assert state.vars["visits"] == [recovery.value for recovery in child.CLASSES], boundary
        assert list(state.output["results"]) == state.vars["visits"], boundary
        kinds = check_ledger(folder, state)
        acts = Counter(line["type"] for line in child.acts_of(folder / "acts"))
        for recovery in child.CLASSES:
            count = acts[recovery.value]
            if recovery.value in REPEATABLE:
                assert 1 <= count <= 2, f"{boundary}: {recovery} acted {count} times"
            else:
                assert count == 1, f"{boundary}: {recovery} acted {count} times"
        keys = {line["type"]: line["key"] for line in child.acts_of(folder / "acts")}
        for line in child.acts_of(folder / "acts"):
            assert line["key"] == keys[line["type"]], f"{boundary}: another attempt has the same key"
        assert ("parked" in kinds) == bool(doubts), boundary
        parked += len(doubts)
        for doubt in doubts:
            assert doubt.waiting.wait_key == f"doubt:{child.RUN_ID}:5"
            evidence = doubt.waiting.details
            assert evidence["effect"] == "ask"
            assert evidence["recovery"] == "ask"
            assert evidence["claims"] == 1
            assert evidence["decided_at"]
    # between the commit of its decision and that of its outcome, an `ask` effect is in doubt: 4 boundaries
    assert parked == 4


def test_a_take_over_waits_out_the_time_that_the_dead_owner_had(boundaries: list[str], tmp_path: Path) -> None:
    run_child(tmp_path, boundaries.index("reconcile: after the act") + 1)
    handlers = child.handlers(tmp_path / "acts", lambda name: None)
    workflow = child.workflow()

    def tick(ahead_s: float) -> RunState:
        clock = lambda: Instant(time.time_ns() // 1000 + round(ahead_s * 1_000_000))  # noqa: E731
        store = SqliteStore(str(tmp_path / "runs.db"), clock=clock)
        with store, Runtime(store=store, effect_handlers=handlers, settings=child.RULES) as runtime:
            return runtime.tick(workflow=workflow, run_id=child.RUN_ID)

    early = tick(child.RULES.lease_s + 5)  # the lease has run out, the effect's 60 seconds have not
    assert (early.status, early.stopped) == (RunStatus.RUNNING, "in_doubt")
    assert tick(child.RULES.lease_s + 6).stopped == "in_doubt"
    assert tick(child.TIMEOUT_S + 35).status is RunStatus.COMPLETED
    assert Counter(line["type"] for line in child.acts_of(tmp_path / "acts"))["reconcile"] == 1


@pytest.mark.slow
def test_a_run_killed_at_random_moments_again_and_again_ends_with_each_effect_done_once(tmp_path: Path) -> None:
    """``CRASH_TRIALS`` runs (default 10), each killed up to five times at a random boundary of what is left of it."""
    trials = int(os.environ.get("CRASH_TRIALS", "10"))
    seed = int(os.environ.get("CRASH_SEED", str(time.time_ns())))
    print(f"CRASH_SEED={seed}")
    chance = random.Random(seed)
    for trial in range(trials):
        told = f"trial {trial}, CRASH_SEED={seed}"
        folder = tmp_path / str(trial)
        folder.mkdir()
        kills = 0
        for _ in range(chance.randint(1, 5)):
            finished = run_child(folder, chance.randint(1, 24), ahead_s=HOUR_S * kills)
            if finished.returncode == 0:
                break
            assert finished.returncode == -signal.SIGKILL, f"{told}: {finished.stderr}"
            kills += 1
        state, _ = drive_on(folder, HOUR_S * (kills + 1))
        assert state.status is RunStatus.COMPLETED, told
        check_ledger(folder, state)
        acts = Counter(line["type"] for line in child.acts_of(folder / "acts"))
        assert acts["ask"] == acts["reconcile"] == 1, told
        assert max(acts[name] for name in REPEATABLE) <= 1 + kills, told
