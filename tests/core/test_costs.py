"""What a run costs, in numbers that no machine changes: commits per piece of a workflow, bytes per step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from abstractruntime import (
    Effect,
    EffectOutcome,
    EffectSpec,
    Recovery,
    RunState,
    RunStatus,
    Runtime,
    StepPlan,
    WorkflowSpec,
)
from abstractruntime.effects import EffectContext
from abstractruntime.store.contract import Commit, CommitResult
from abstractruntime.store.memory import MemoryStore

EFFECTS = 7


class CountingStore:
    """The memory store, keeping what it is asked to commit."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.commits: list[Commit] = []

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self.commits.extend(commits)
        return self._store.commit(commits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def take(self) -> list[Commit]:
        """The commits since the last call."""
        taken, self.commits = self.commits, []
        return taken


def kinds(commit: Commit) -> list[str]:
    return [record.split(b'"kind":"', 1)[1].split(b'"', 1)[0].decode() for record in commit.records]


def add_one(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    return EffectOutcome.completed(effect.payload["n"] + 1)


def count(run: RunState, ctx: object) -> StepPlan:
    n = run.vars["n"]
    if n == run.vars["goal"]:
        return StepPlan("count", complete_output={"n": n})
    return StepPlan("count", effect=Effect("add_one", {"n": n}, result_key="n"), next_node="count")


def ask(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("ask", effect=Effect("wait_event", {"wait_key": "go"}, result_key="answer"), next_node="finish")


def finish(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("finish", complete_output={"answer": run.vars["answer"]})


def move(run: RunState, ctx: object) -> StepPlan:
    run.vars["n"] += 1
    return StepPlan("move", next_node="move" if run.vars["n"] < run.vars["goal"] else "end")


def end(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("end", complete_output={})


CHAIN = WorkflowSpec("chain", "count", {"count": count})
QUESTION = WorkflowSpec("question", "ask", {"ask": ask, "finish": finish})
TRANSITIONS = WorkflowSpec("transitions", "move", {"move": move, "end": end})


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def runtime_on(store: CountingStore, recovery: Recovery = Recovery.PURE, *, costly: bool = False) -> Runtime:
    return Runtime(store=store, effect_handlers={"add_one": EffectSpec(handler=add_one, recovery=recovery, costly=costly)})


# -- commits -----------------------------------------------------------------------------------------------------------


def test_a_start_is_one_commit(store: CountingStore):
    with runtime_on(store) as runtime:
        runtime.start(workflow=CHAIN, vars={"n": 0, "goal": EFFECTS})
    assert list(map(kinds, store.take())) == [["created"]]


def test_a_drive_commits_its_first_decision_and_then_each_outcome_with_the_next_decision(store: CountingStore):
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=CHAIN, vars={"n": 0, "goal": EFFECTS})
        store.take()
        assert runtime.tick(workflow=CHAIN, run_id=run_id, max_steps=100).status is RunStatus.COMPLETED
    expected = [["decided"], *[["completed", "decided"]] * (EFFECTS - 1), ["completed", "finished"]]
    assert list(map(kinds, store.take())) == expected


@pytest.mark.parametrize(("recovery", "costly"), [(Recovery.ASK, False), (Recovery.IDEMPOTENT, True)])
def test_what_must_not_be_lost_has_its_outcome_committed_at_once(
    store: CountingStore, recovery: Recovery, costly: bool
):
    with runtime_on(store, recovery, costly=costly) as runtime:
        run_id = runtime.start(workflow=CHAIN, vars={"n": 0, "goal": EFFECTS})
        store.take()
        assert runtime.tick(workflow=CHAIN, run_id=run_id).status is RunStatus.COMPLETED
    assert list(map(kinds, store.take())) == [*[["decided"], ["completed"]] * EFFECTS, ["finished"]]


def test_a_run_that_parks_costs_one_commit_to_start_and_one_to_park(store: CountingStore):
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=QUESTION)
        assert runtime.tick(workflow=QUESTION, run_id=run_id).status is RunStatus.WAITING
    assert list(map(kinds, store.take())) == [["created"], ["decided", "waiting"]]


def test_an_answer_that_ends_the_run_is_one_commit(store: CountingStore):
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=QUESTION)
        runtime.tick(workflow=QUESTION, run_id=run_id)
        store.take()
        state = runtime.resume(workflow=QUESTION, run_id=run_id, wait_key="go", payload=1)
        assert state.status is RunStatus.COMPLETED
    assert list(map(kinds, store.take())) == [["resumed", "finished"]]


def test_pure_transitions_ride_in_the_next_commit_a_hundred_at_most(store: CountingStore):
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=TRANSITIONS, vars={"n": 0, "goal": 250})
        store.take()
        assert runtime.tick(workflow=TRANSITIONS, run_id=run_id, max_steps=1000).status is RunStatus.COMPLETED
    assert [len(commit.records) for commit in store.take()] == [100, 100, 51]


def test_a_step_in_the_middle_of_a_drive_touches_nothing_that_is_indexed(store: CountingStore):
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=CHAIN, vars={"n": 0, "goal": EFFECTS})
        store.take()
        runtime.tick(workflow=CHAIN, run_id=run_id)
    first, *middle, _ = store.take()
    assert first.take
    steps = [(c.take, c.projection, c.lease_s, c.wake_at, c.inbox_mark, c.messages, c.consumed) for c in middle]
    plain = Commit(run_id=run_id, owner="anybody", expect=first.expect)
    untouched = (False, None, None, plain.wake_at, None, (), ())
    assert steps == [untouched] * (EFFECTS - 1)


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_a_step_beside_an_unchanged_100_kb_costs_less_than_2_kb(store: CountingStore):
    unchanged = [{"line": number, "text": "x" * 80} for number in range(1000)]
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=CHAIN, vars={"n": 0, "goal": 1000, "unchanged": unchanged})
        store.take()
        assert runtime.tick(workflow=CHAIN, run_id=run_id, max_steps=2000).status is RunStatus.COMPLETED
    commits = store.take()
    records = sum(len(record) for commit in commits for record in commit.records)
    checkpoints = sum(len(commit.checkpoint.state) for commit in commits if commit.checkpoint is not None)
    assert max(len(b"".join(commit.records)) for commit in commits) <= 2_000
    assert checkpoints > 0
    assert records + checkpoints <= 1000 * 2_000
    print(records, checkpoints)
