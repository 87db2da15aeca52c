"""What a run costs, in numbers that no machine changes: commits per piece of a workflow, bytes per step."""

from __future__ import annotations

import json
import random
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
    open_runtime,
)
from abstractruntime.effects import EffectContext
from abstractruntime.integrations import build_effect_handlers
from abstractruntime.models import JsonDict
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
    return Runtime(
        store=store, effect_handlers={"add_one": EffectSpec(handler=add_one, recovery=recovery, costly=costly)}
    )


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


# -- a long chat -------------------------------------------------------------------------------------------------------


class Chatterbox:
    """An LLM that answers with about 2 KB of words, or as many as told; the same ones for the same chat."""

    def __init__(self, characters: int | None = None) -> None:
        self.characters = characters
        self.heard = 0

    def generate(
        self,
        *,
        prompt: str,
        messages: list[JsonDict] | None = None,
        system_prompt: str | None = None,
        tools: list[JsonDict] | None = None,
        params: JsonDict | None = None,
    ) -> JsonDict:
        self.heard = len(messages or ())
        return {"content": words(self.heard, self.characters)}


def words(seed: int, characters: int | None) -> str:
    """Text of so many characters, of 1,000–3,000 where it does not matter."""
    dice = random.Random(seed)
    text = " ".join(f"{dice.getrandbits(32):08x}" for _ in range(340))
    return text[: characters or dice.randrange(1000, 3001)]


def chat(run: RunState, ctx: object) -> StepPlan:
    """One call of the LLM per step, with the whole chat as its payload."""
    messages = run.vars["messages"]
    if "reply" in run.vars:
        messages.append({"role": "assistant", "content": run.vars["reply"]["content"]})
    if len(messages) >= run.vars["goal"]:
        return StepPlan("chat", complete_output={})
    if run.vars["user_speaks"] or not messages:
        messages.append({"role": "user", "content": words(-len(messages) - 1, run.vars.get("characters"))})
    return StepPlan("chat", effect=Effect("llm_call", {"messages": messages}, result_key="reply"), next_node="chat")


CHAT = WorkflowSpec("chat", "chat", {"chat": chat})


def json_bytes(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_chat_is_stored_as_it_grows_and_not_as_it_is_sent():
    handlers = build_effect_handlers(llm=Chatterbox())
    store = MemoryStore()
    with Runtime(store=store, effect_handlers=handlers) as runtime:
        run_id = runtime.start(workflow=CHAT, vars={"messages": [], "goal": 400, "user_speaks": True})
        state = runtime.tick(workflow=CHAT, run_id=run_id, max_steps=1000)
        assert state.status is RunStatus.COMPLETED
    ledger = sum(map(len, store.ledger(run_id)))
    assert ledger <= 1.2 * json_bytes(state.vars["messages"]) + 500 * 200


@pytest.mark.slow
def test_what_a_chat_of_2000_steps_stores_grows_with_its_messages(tmp_path: Path):
    def go_on(steps: int, run_id: str | None) -> tuple[str, RunState, int]:
        with open_runtime(f"sqlite:///{tmp_path}/chat.db", workflows=[CHAT], effect_handlers=handlers) as runtime:
            beginning: JsonDict = {"messages": [], "goal": 4000, "user_speaks": True}
            run_id = run_id or runtime.start(workflow=CHAT, vars=beginning)
            state = runtime.tick(run_id=run_id, max_steps=steps)
            return run_id, state, sum(map(len, runtime.store.ledger(run_id)))

    llm = Chatterbox()
    handlers = build_effect_handlers(llm=llm)
    run_id, half, _ = go_on(1000, None)
    stored_at_1000 = stored_bytes(tmp_path)
    assert half.stopped == "max_steps"

    _, whole, ledger = go_on(1001, run_id)
    assert whole.status is RunStatus.COMPLETED
    assert llm.heard == 3999  # the last call was sent all that had been said
    messages = json_bytes(whole.vars["messages"])
    assert messages == pytest.approx(4000 * 2000, rel=0.05)
    assert ledger <= 1.2 * messages + 500 * 2000
    assert stored_bytes(tmp_path) <= 2.2 * stored_at_1000
    assert stored_bytes(tmp_path) <= 2.5 * messages


@pytest.mark.parametrize("characters", [1500, 1900, 2000, 2048, 2500])
def test_messages_of_one_size_are_stored_as_tightly_as_others(tmp_path: Path, characters: int):
    """Rows of one size may happen to fill a page badly, every page of the file."""
    handlers = build_effect_handlers(llm=Chatterbox(characters))
    with open_runtime(f"sqlite:///{tmp_path}/chat.db", workflows=[CHAT], effect_handlers=handlers) as runtime:
        beginning: JsonDict = {"messages": [], "goal": 600, "user_speaks": True, "characters": characters}
        run_id = runtime.start(workflow=CHAT, vars=beginning)
        assert runtime.tick(run_id=run_id, max_steps=1000).status is RunStatus.COMPLETED
        ledger = sum(map(len, runtime.store.ledger(run_id)))
        stored = runtime.store.load(run_id)
    assert stored is not None
    checkpoint = len(stored.checkpoint.state) if stored.checkpoint else 0
    assert stored_bytes(tmp_path) <= 1.25 * (ledger + checkpoint)
