"""The engine under bad input, interference and death: nothing it is told or returned may leave a run stuck, and no
history of calls, crashes and passing time may break what is promised of effects."""

from __future__ import annotations

import datetime as dt
import enum
import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from abstractruntime import (
    Effect,
    EffectOutcome,
    EffectSpec,
    Reconciled,
    Recovery,
    RunState,
    RunStatus,
    StepPlan,
    WaitState,
    WorkflowSpec,
)
from abstractruntime.codec import encode, open_record
from abstractruntime.config import RuntimeSettings
from abstractruntime.effects import EffectContext
from abstractruntime.errors import (
    AbstractRuntimeError,
    Conflict,
    InvalidId,
    InvalidValue,
    Leased,
    OutcomeUnknown,
    UnknownWorkflow,
    WrongStatus,
)
from abstractruntime.handlers import Handlers
from abstractruntime.journal import fold
from abstractruntime.leases import Lease, Renewer
from abstractruntime.loading import Loader
from abstractruntime.models import Instant, instant_text, parse_instant
from abstractruntime.runtime import Runtime
from abstractruntime.store.contract import Commit, CommitResult, Message
from abstractruntime.store.memory import MemoryStore
from abstractruntime.testing import VirtualClock
from abstractruntime.workflow import RunContext

RULES = RuntimeSettings(lease_wait_s=0.0)


class Between:
    """A store with a word to say before and after each commit of others."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.before: Callable[[Commit], None] = lambda commit: None
        self.after: Callable[[Commit, CommitResult], CommitResult] = lambda commit, result: result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commits: Any) -> list[CommitResult]:
        self.before(commits[0])
        return [self.after(commits[0], result) for result in self._store.commit(commits)]


def flow(*nodes: Callable[[RunState, Any], Any]) -> WorkflowSpec:
    return WorkflowSpec("flow", nodes[0].__name__, {node.__name__: node for node in nodes})


def end(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("end", complete_output={})


def act(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("act", effect=Effect("act", {"said": 1}, "result"), next_node="end")


def question(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("question", effect=Effect("ask_user", {"prompt": "?"}, "answer"), next_node="act")


def runtime_on(store: Any, handler: Any = None, **spec: Any) -> Runtime:
    handlers = {"act": EffectSpec(handler=handler, **spec)} if handler is not None else None
    return Runtime(store=store, effect_handlers=handlers, settings=RULES)


def kinds(store: Any, run_id: str) -> list[str]:
    return [str(open_record(record).header["kind"]) for record in store.ledger(run_id)]


def driven(store: Any, workflow: WorkflowSpec, handler: Any = None, **spec: Any) -> RunState:
    with runtime_on(store, handler, **spec) as runtime:
        run_id = runtime.start(workflow=workflow)
        state = runtime.tick(workflow=workflow, run_id=run_id, max_steps=10_000)
        assert runtime.get_ledger(run_id), "a ledger that was written can be read"
        assert encode(fold(run_id, store.ledger(run_id)).vars) == encode(state.vars)
        return state


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


# -- what handlers and nodes may do wrong ------------------------------------------------------------------------------


def _leaves_a_list(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    run.vars = ["no", "dict"]  # type: ignore[assignment]
    return EffectOutcome.completed(1)


def _changes_vars_and_returns_a_date(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    run.vars["seen"] = {"a": 1}
    return EffectOutcome.completed(dt.date(2026, 1, 1))  # type: ignore[arg-type]


def _waits(**fields: Any) -> Callable[..., EffectOutcome]:
    return lambda run, effect, ctx: EffectOutcome.waiting(WaitState(**{"reason": "event", "wait_key": "k", **fields}))


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (_leaves_a_list, "left run.vars as list"),
        (_changes_vars_and_returns_a_date, "datetime|date"),
        (lambda run, effect, ctx: EffectOutcome.failed(ValueError("out of paper")), "ValueError: out of paper"),
        (lambda run, effect, ctx: EffectOutcome.failed("\ud800"), "ud800"),
        (lambda run, effect, ctx: EffectOutcome.waiting({"reason": "event"}), "waits with a dict"),
        (_waits(reason="luck"), "reason 'luck'"),
        (_waits(wait_key=5), "wait key must be text"),
        (_waits(wait_key="k" * 2_000), "wait key"),
        (_waits(result_key=7), "result_key 7"),
        (_waits(resume_to_node=7), "resume_to_node 7"),
        (lambda run, effect, ctx: EffectOutcome.completed("x" * 2_000_000), "larger than"),
        (lambda run, effect, ctx: EffectOutcome.completed(10**2_000), "1,233 digits"),
    ],
)
def test_what_a_handler_does_wrong_fails_the_run_with_a_record_instead_of_leaving_it_stuck(
    store: MemoryStore, handler: Any, said: str
) -> None:
    state = driven(store, flow(act, end), handler, recovery=Recovery.ASK)
    assert state.status is RunStatus.FAILED
    assert any(word in (state.error or "") for word in said.split("|"))
    header = open_record(list(store.ledger(state.run_id))[-1]).header
    assert header["kind"] == "failed"
    assert "outcome" not in header, "the failure names no value of the outcome that was refused"


def _asks(effect: Effect) -> Callable[..., StepPlan]:
    def act(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("act", effect=effect, next_node="end")

    return act


@pytest.mark.parametrize(
    "effect",
    [
        Effect("act", {}, "r", "luck"),  # type: ignore[arg-type]
        Effect("act", {}, "r", timeout_s=float("inf")),
        Effect("act", {}, ".".join("a" * 5_000)),
        Effect("wait_event", {"wait_key": "k" * 2_000}),
        Effect("wait_event", {"wait_key": "a\0b"}),
        Effect("act", {"text": "x" * 2_000_000}),
    ],
    ids=["recovery", "timeout", "result_key", "long wait_key", "NUL in wait_key", "large payload"],
)
def test_a_decision_that_no_store_could_keep_fails_the_run_with_a_record(store: MemoryStore, effect: Effect) -> None:
    state = driven(store, flow(_asks(effect), end), lambda run, effect, ctx: EffectOutcome.completed(1))
    assert state.status is RunStatus.FAILED
    assert kinds(store, state.run_id) == ["created", "failed"]


def test_a_recovery_rule_that_raises_fails_the_run_with_a_record(store: MemoryStore) -> None:
    def rule(effect: Effect) -> Recovery:
        raise KeyError("said")

    state = driven(store, flow(act, end), lambda run, effect, ctx: EffectOutcome.completed(1), recovery=rule)
    assert (state.status, state.error) == (RunStatus.FAILED, "KeyError: 'said'")


def test_members_of_a_text_enum_are_their_text_everywhere(store: MemoryStore) -> None:
    class Word(str, enum.Enum):  # noqa: UP042  # the form that programs of 0.2 use: its str() is "Word.ACT"
        ACT = "act"
        END = "end"
        RESULT = "result"

    def act(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("act", effect=Effect(Word.ACT, {}, Word.RESULT), next_node=Word.END)

    handler = EffectSpec(handler=lambda run, effect, ctx: EffectOutcome.completed(effect.type), recovery=Recovery.PURE)
    for key in (Word.ACT, "act"):
        with Runtime(store=store, effect_handlers={key: handler}, settings=RULES) as runtime:
            run_id = runtime.start(workflow=flow(act, end))
            state = runtime.tick(workflow=flow(act, end), run_id=run_id)
        assert (state.status, state.vars["result"]) == (RunStatus.COMPLETED, "act")


@pytest.mark.parametrize("wrapping", [True, False])
def test_vars_that_grow_one_level_a_step_are_refused_before_nobody_can_read_them(
    store: MemoryStore, wrapping: bool
) -> None:
    def deeper(run: RunState, ctx: object) -> StepPlan:
        if wrapping:
            run.vars["tree"] = [run.vars.get("tree", "x" * 100)]
        else:
            place = run.vars
            while "below" in place:
                place = place["below"]
            place["below"] = {}
        return StepPlan("deeper", next_node="deeper")

    state = driven(store, flow(deeper))
    assert state.status is RunStatus.FAILED
    assert "nests deeper than 100" in (state.error or "")
    assert len(kinds(store, state.run_id)) == 102


def test_hundreds_of_timers_of_the_past_in_one_tick_are_committed_in_pieces(store: MemoryStore) -> None:
    def timer(run: RunState, ctx: object) -> StepPlan:
        run.vars["n"] = run.vars.get("n", 0) + 1
        effect = Effect("wait_until", {"until": "2020-01-01T00:00:00Z"}, "fired")
        return StepPlan("timer", effect=effect, next_node="timer" if run.vars["n"] < 600 else "end")

    assert driven(store, flow(timer, end)).status is RunStatus.COMPLETED


def test_an_old_draft_changed_in_a_later_node_changes_nothing(store: MemoryStore) -> None:
    kept: list[Any] = []

    def first(run: RunState, ctx: object) -> StepPlan:
        run.vars["chat"] = {"messages": [{"text": "a"}]}
        return StepPlan("first", next_node="second")

    def second(run: RunState, ctx: object) -> StepPlan:
        kept.append(run.vars["chat"]["messages"])
        run.vars["chat"]["messages"].append({"text": "b"})
        return StepPlan("second", next_node="third")

    def third(run: RunState, ctx: object) -> StepPlan:
        kept[0].append({"text": "stale"})
        kept[0][0]["text"] = "stale"
        return StepPlan("third", complete_output={"seen": run.vars["chat"]})

    state = driven(store, flow(first, second, third))
    assert state.output == {"seen": {"messages": [{"text": "a"}, {"text": "b"}]}}
    assert state.vars["chat"] == state.output["seen"]


# -- messages ----------------------------------------------------------------------------------------------------------


def _message(run_id: str, number: int, kind: str = "limits", payload: bytes = b"{}") -> Message:
    return Message(
        run_id=run_id, id=f"{kind}:{number}", nonce=f"{number:032x}", sender="s", seq=number, kind=kind, payload=payload
    )


def test_more_messages_than_one_commit_can_record_are_all_taken_in_once(store: MemoryStore) -> None:
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=flow(end))
        for start in (1, 801, 1_601):
            said = [
                _message(run_id, number, payload=b'{"max_iterations":%d}' % number)
                for number in range(start, start + 800)
            ]
            store.deliver(said)
        state = runtime.tick(workflow=flow(end), run_id=run_id)
    assert state.status is RunStatus.COMPLETED
    assert state.vars["_limits"]["max_iterations"] == 2_400
    assert Counter(kinds(store, run_id))["limited"] == 2_400
    assert not store.load(run_id).messages
    assert store.load(run_id).head.wake_at is None


def test_a_message_that_cannot_be_recorded_is_noted_and_the_run_goes_on(store: MemoryStore) -> None:
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=flow(end))
        store.deliver([_message(run_id, 1, payload=b'{"max_iterations":"many"}')])
        assert runtime.tick(workflow=flow(end), run_id=run_id).status is RunStatus.COMPLETED
    assert kinds(store, run_id) == ["created", "noted", "finished"]


def test_limits_that_cannot_be_are_refused_to_the_caller_also_while_somebody_holds_the_run(store: MemoryStore) -> None:
    refused: list[Exception] = []

    def handler(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        with runtime_on(store) as other, pytest.raises(InvalidValue) as caught:
            other.update_limits(run.run_id, {"max_iterations": "many"})
        refused.append(caught.value)
        return EffectOutcome.completed(1)

    assert driven(store, flow(act, end), handler).status is RunStatus.COMPLETED
    assert refused


def test_limits_of_a_run_whose_limits_are_no_dict_are_refused_and_the_run_goes_on(store: MemoryStore) -> None:
    def spoil(run: RunState, ctx: object) -> StepPlan:
        run.vars["_limits"] = 5
        return StepPlan("spoil", effect=Effect("ask_user", {"prompt": "?"}), next_node="end")

    workflow = flow(spoil, end)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow)
        runtime.tick(workflow=workflow, run_id=run_id)
        with pytest.raises(WrongStatus, match="no dict"):
            runtime.update_limits(run_id, {"max_iterations": 3})
        state = runtime.resume(workflow=workflow, run_id=run_id, wait_key=None, payload=1)
    assert state.status is RunStatus.COMPLETED


def test_a_message_taken_in_is_not_taken_in_again_before_its_commit(store: MemoryStore) -> None:
    """A lease that may be lost makes the drive look into its inbox at each turn, pure transitions included."""
    turns = 0

    def turn(run: RunState, ctx: object) -> StepPlan:
        nonlocal turns
        turns += 1
        if turns == 1:
            store.deliver([_message(run.run_id, 1, payload=b'{"max_iterations":3}')])
            next(iter(runtime._driver._leases.values())).cancelled = True  # as after a failed renewal
        return StepPlan("turn", next_node="turn" if turns < 5 else "end")

    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=flow(turn, end))
        assert runtime.tick(workflow=flow(turn, end), run_id=run_id).status is RunStatus.COMPLETED
    assert Counter(kinds(store, run_id))["limited"] == 1


def _parks(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    return EffectOutcome.waiting(WaitState(reason="event", wait_key="k"))


def test_an_answer_that_counted_is_not_called_a_conflict_because_a_message_came_with_it(store: MemoryStore) -> None:
    between = Between(store)
    told: list[str] = []

    def tell(commit: Commit) -> None:
        if commit.lease_s == 0 and commit.records and not told:
            told.append(commit.run_id)
            store.deliver([_message(commit.run_id, 1, payload=b'{"max_iterations":3}')])

    workflow = flow(question, act, end)
    with runtime_on(between, _parks) as runtime:
        run_id = runtime.start(workflow=workflow)
        runtime.tick(workflow=workflow, run_id=run_id)
        between.before = tell
        state = runtime.resume(workflow=workflow, run_id=run_id, wait_key=None, payload="yes")
    assert told
    assert state.status is RunStatus.WAITING
    assert state.vars["answer"] == "yes"
    assert Counter(kinds(store, run_id))["resumed"] == 1
    assert state.vars["_limits"]["max_iterations"] == 3


def test_max_steps_counts_for_the_whole_call_also_when_messages_come_in(store: MemoryStore) -> None:
    between = Between(store)
    numbers = iter(range(1, 100))

    def tell(commit: Commit) -> None:
        if commit.lease_s == 0 and commit.records:
            store.deliver([_message(commit.run_id, next(numbers))])

    def turn(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("turn", next_node="turn")

    with runtime_on(between) as runtime:
        run_id = runtime.start(workflow=flow(turn))
        between.before = tell
        for count in (1, 2, 3):
            state = runtime.tick(workflow=flow(turn), run_id=run_id, max_steps=1)
            assert (state.step, state.stopped) == (count, "max_steps")


def test_of_two_cancels_of_a_run_whose_owner_died_the_second_finds_it_cancelled(
    store: MemoryStore, clock: VirtualClock
) -> None:
    with runtime_on(store) as dead, runtime_on(store) as first:
        run_id = dead.start(workflow=flow(end))
        first.cancel_run(run_id)
        clock.advance(60)
        assert first.cancel_run(run_id).status is RunStatus.CANCELLED
    assert kinds(store, run_id).count("cancelled") == 1


def test_a_cancel_that_comes_with_the_commit_of_a_take_over_ends_it_there(
    store: MemoryStore, clock: VirtualClock
) -> None:
    """An effect is open, its owner dead; a limits message lies in the inbox, the cancel comes a moment later."""
    between = Between(store)

    def die(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        between.before = lambda commit: (_ for _ in ()).throw(SystemExit)
        raise SystemExit

    workflow = flow(act, end)
    with runtime_on(between, die) as dead:
        run_id = dead.start(workflow=workflow)
        with pytest.raises(SystemExit):
            dead.tick(workflow=workflow, run_id=run_id)
    clock.advance(1_000)
    between = Between(store)
    told: list[str] = []

    def cancel(commit: Commit) -> None:
        if not told:
            told.append(commit.run_id)
            store.deliver([_message(run_id, 2, "cancel", b'{"reason":"enough"}')])

    between.before = cancel
    store.deliver([_message(run_id, 1)])
    with runtime_on(between, die) as runtime:
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.CANCELLED
    assert kinds(store, run_id)[-2:] == ["limited", "cancelled"]


# -- doubt -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verdict",
    [
        Reconciled.unknown(dt.date(2026, 1, 1)),  # type: ignore[arg-type]
        Reconciled.unknown("x" * 2_000_000),
        Reconciled.done({1, 2}),  # type: ignore[arg-type]
    ],
    ids=["evidence that is no JSON", "large evidence", "result that is no JSON"],
)
def test_what_a_reconcile_hook_says_and_no_record_can_hold_parks_the_run_in_doubt(
    store: MemoryStore, verdict: Reconciled
) -> None:
    def interrupted(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        raise KeyboardInterrupt

    workflow = flow(act, end)
    spec = {"recovery": Recovery.RECONCILE, "reconcile": lambda run, effect, ctx: verdict}
    with runtime_on(store, interrupted, **spec) as runtime:
        run_id = runtime.start(workflow=workflow)
        with pytest.raises(KeyboardInterrupt):
            runtime.tick(workflow=workflow, run_id=run_id)
        state = runtime.tick(workflow=workflow, run_id=run_id)
        assert state.status is RunStatus.WAITING
        assert state.waiting.details["reconcile"]["code"] == "invalid_value"
        runtime.resolve(run_id, EffectOutcome.completed("by hand"))
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED


@pytest.mark.parametrize("taken", [True, False])
def test_a_machine_that_slept_between_decision_and_act_asks_the_fence_before_it_acts(
    store: MemoryStore, clock: VirtualClock, taken: bool
) -> None:
    between = Between(store)
    acts: list[int] = []

    def handler(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        acts.append(ctx.attempt)
        return EffectOutcome.completed(1)

    spec = {"recovery": Recovery.RECONCILE, "reconcile": lambda run, effect, ctx: Reconciled.not_done()}
    workflow = flow(act, end)

    def sleep(commit: Commit, result: CommitResult) -> CommitResult:
        between.after = lambda commit, result: result
        clock.advance(1_000)  # past lease and time limit
        if taken:
            with runtime_on(store, handler, **spec) as other:
                assert other.tick(workflow=workflow, run_id=commit.run_id).status is RunStatus.COMPLETED
        return result

    with runtime_on(between, handler, **spec) as sleeper:
        run_id = sleeper.start(workflow=workflow)
        between.after = sleep
        if taken:
            with pytest.raises(Conflict):
                sleeper.tick(workflow=workflow, run_id=run_id)
        else:
            assert sleeper.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED
    assert len(acts) == 1


def test_a_commit_whose_reply_was_lost_and_that_landed_is_gone_on_from(store: MemoryStore) -> None:
    between = Between(store)
    lost = iter([False, True, True, True, True, True])

    def lose(commit: Commit, result: CommitResult) -> CommitResult:
        return CommitResult(run_id=commit.run_id, error=OutcomeUnknown("the reply was lost")) if next(lost) else result

    acts: list[int] = []

    def handler(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        acts.append(ctx.attempt)
        return EffectOutcome.completed(1)

    workflow = flow(act, end)
    with runtime_on(between, handler) as runtime:
        between.after = lose
        run_id = runtime.start(workflow=workflow)
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED
    assert acts == [1]
    assert store.load(run_id).head.owner is None


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_due_timer_of_a_workflow_that_nobody_knows_is_an_error_and_not_silence(
    store: MemoryStore, clock: VirtualClock
) -> None:
    def timer(run: RunState, ctx: object) -> StepPlan:
        until = instant_text(Instant(clock() + 10_000_000))
        return StepPlan("timer", effect=Effect("wait_until", {"until": until}), next_node="end")

    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=flow(timer, end))
        runtime.tick(workflow=flow(timer, end), run_id=run_id)
        clock.advance(20)
        with pytest.raises(UnknownWorkflow):
            runtime.tick(run_id=run_id)
        assert runtime.tick(workflow=flow(timer, end), run_id=run_id).status is RunStatus.COMPLETED


def test_a_run_that_waits_for_an_event_is_not_due_at_a_time_that_fires_nothing(
    store: MemoryStore, clock: VirtualClock
) -> None:
    until = instant_text(Instant(clock() + 1_000_000))
    state = driven(store, flow(act, end), _waits(until=until))
    clock.advance(10)
    assert state.status is RunStatus.WAITING
    assert not store.find(_due()).items


def _due() -> Any:
    from abstractruntime.store.contract import RunQuery

    return RunQuery(due=True)


# -- many threads, and forks -------------------------------------------------------------------------------------------


def test_plugins_are_asked_for_handlers_once_by_threads_that_come_together() -> None:
    asked: list[int] = []
    together = threading.Barrier(8)
    missed: list[Exception] = []

    def of_plugins(given: Any) -> dict[str, EffectSpec]:
        asked.append(1)
        return {"act": EffectSpec(handler=_parks)}

    handlers = Handlers({}, of_plugins)

    def look() -> None:
        together.wait()
        try:
            assert handlers["act"].handler is _parks
        except Exception as error:  # noqa: BLE001  # told to the test
            missed.append(error)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (asked, missed) == ([1], [])


def test_observers_that_cannot_be_opened_harm_no_run(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise LookupError("no such observer")

    with Runtime(store=store, settings=RULES, observers=broken) as runtime:
        run_id = runtime.start(workflow=flow(end))
        assert runtime.tick(workflow=flow(end), run_id=run_id).status is RunStatus.COMPLETED
    assert "observers could not be opened" in caplog.text


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_after_a_fork_is_another_owner_and_renews_nothing_of_its_parents(store: MemoryStore) -> None:
    renewer = Renewer(store, 30.0)
    renewer.keep(Lease("parent/1", "run"))
    with runtime_on(store) as runtime:
        name = runtime._driver.name  # what stands in every lease
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            renewer.keep(Lease("child/1", "run"))
            alone = list(renewer._kept) == ["child/1"]
            os.write(writing, b"%d%d" % (alone, runtime._driver.name != name))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 2) == b"11"
        assert runtime._driver.name == name
    os.close(reading)
    os.close(writing)
    renewer.close()


@pytest.mark.parametrize("field", ["actor_id", "session_id"])
@pytest.mark.parametrize("value", ["\ud800", "", "a\0b", 5])
def test_ids_of_people_and_sessions_that_no_store_can_keep_are_refused_by_name(
    store: MemoryStore, field: str, value: Any
) -> None:
    with runtime_on(store) as runtime:
        with pytest.raises((InvalidId, InvalidValue)):
            runtime.start(workflow=flow(end), **{field: value})
        run_id = runtime.start(workflow=flow(end))
        if field == "actor_id":
            with pytest.raises((InvalidId, InvalidValue)):
                runtime.cancel_run(run_id, actor_id=value)
    assert kinds(store, run_id) == ["created"]


# -- any history -------------------------------------------------------------------------------------------------------

OPS = ["pure", "idempotent", "ask", "reconcile", "costly", "question", "timer", "flaky", "interfered"]
TERMINAL = {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


class Dead(BaseException):
    """The plug was pulled."""


class MortalStore(Between):
    """The store as one process sees it. At ``dies_at`` (its n-th commit, before or after it) the process is dead: no
    further call of it reaches the store."""

    def __init__(self, store: MemoryStore, dies_at: int | None, late: bool) -> None:
        super().__init__(store)
        self.dead = False
        self._commits_left = dies_at
        self._late = late

    def __getattribute__(self, name: str) -> Any:
        if name in ("load", "ledger", "find", "claim", "renew", "deliver", "commit") and self.dead:
            raise Dead
        return super().__getattribute__(name)

    def commit(self, commits: Any) -> list[CommitResult]:
        dies = self._commits_left == 0
        if self._commits_left is not None:
            self._commits_left -= 1
        if dies and not self._late:
            self._die()
        results = self._store.commit(commits)
        if dies:
            self._die()
        return results

    def _die(self) -> None:
        self.dead = True
        raise Dead


def step_through(run: RunState, ctx: RunContext) -> StepPlan:
    ops, place = run.vars["ops"], run.vars["place"]
    if place == len(ops):
        return StepPlan("step_through", complete_output={"results": dict(run.vars["results"])})
    op = ops[place]
    run.vars["place"] = place + 1
    key = f"results.s{place}"
    if op == "pure":
        return StepPlan("step_through", next_node="step_through")
    if op == "question":
        effect = Effect("ask_user", {"prompt": "?", "context": run.vars["results"]}, key)
    elif op == "timer":
        until = instant_text(Instant(parse_instant(ctx.now_iso()) + 45_000_000))
        effect = Effect("wait_until", {"until": until}, key)
    else:
        effect = Effect(op, {"place": place, "results": run.vars["results"]}, key)
    return StepPlan("step_through", effect=effect, next_node="step_through")


HISTORY = WorkflowSpec("history", "step_through", {"step_through": step_through})


class Histories(RuleBasedStateMachine):
    """Processes come, act, die; time passes; people answer, cancel, retry, resolve."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.store = MemoryStore(clock=self.clock)
        self.runs: list[str] = []
        self.acts: Counter[tuple[str, int]] = Counter()
        self.classes: dict[tuple[str, int], str] = {}
        self.ended: dict[str, tuple[RunStatus, int]] = {}
        self.mortal: MortalStore | None = None
        self.depth = 0

    # the world

    def _handlers(self, store: MortalStore, dies_in: str | None) -> dict[str, EffectSpec]:
        def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
            if dies_in == "before":
                store.dead = True
                raise Dead
            self.acts[ctx.run_id, ctx.step] += 1
            self.classes[ctx.run_id, ctx.step] = str(effect.type)
            run.vars["acted"] = run.vars.get("acted", 0) + 1
            effect.payload["results"]["mutated"] = True  # a copy: must not be seen anywhere
            if dies_in == "after":
                store.dead = True
                raise Dead
            if effect.type == "interfered":
                self._interfere(ctx.run_id)
            if effect.type == "flaky" and ctx.step % 2:
                return EffectOutcome.failed("odd")
            return EffectOutcome.completed({"step": ctx.step})

        def reconcile(run: RunState, effect: Effect, ctx: EffectContext) -> Reconciled:
            done = self.acts[ctx.run_id, ctx.step]
            return Reconciled.done({"step": ctx.step}) if done else Reconciled.not_done()

        return {
            "idempotent": EffectSpec(handler=act, recovery=Recovery.IDEMPOTENT),
            "costly": EffectSpec(handler=act, recovery=Recovery.IDEMPOTENT, costly=True),
            "ask": EffectSpec(handler=act, recovery=Recovery.ASK, timeout_s=60),
            "flaky": EffectSpec(handler=act, recovery=Recovery.ASK, timeout_s=60),
            "interfered": EffectSpec(handler=act, recovery=Recovery.ASK, timeout_s=60),
            "reconcile": EffectSpec(handler=act, recovery=Recovery.RECONCILE, timeout_s=60, reconcile=reconcile),
        }

    def _interfere(self, run_id: str) -> None:
        """While the effect is at work its owner stops so long that another takes the run over."""
        if self.depth:
            return
        self.depth += 1
        self.clock.advance(100)
        for call in ("update_limits", "tick"):
            self._process(lambda runtime, call=call: self._call(runtime, call, run_id), None, False, None)
        self.depth -= 1

    def _process(self, use: Callable[[Runtime], Any], dies_at: int | None, late: bool, dies_in: str | None) -> Any:
        store = MortalStore(self.store, dies_at, late)
        runtime = Runtime(store=store, effect_handlers=self._handlers(store, dies_in), settings=RULES)
        try:
            return use(runtime)
        except Dead:
            return None
        except (Conflict, Leased, WrongStatus) as error:
            return error
        except AbstractRuntimeError as error:
            if error.code in ("not_waiting", "unknown_wait"):
                return error
            raise
        finally:
            runtime.close()

    def _call(self, runtime: Runtime, call: str, run_id: str, max_steps: int = 100) -> Any:
        if call == "tick":
            return runtime.tick(workflow=HISTORY, run_id=run_id, max_steps=max_steps)
        if call == "resume":
            return runtime.resume(
                workflow=HISTORY, run_id=run_id, wait_key=None, payload={"said": "yes"}, max_steps=max_steps
            )
        if call == "resolve":
            decision = Loader(self.store).open(run_id).state.decision
            done = decision is not None and self.acts[run_id, decision.step]
            return runtime.resolve(run_id, EffectOutcome.completed({"by": "hand"}) if done else "retry")
        if call == "update_limits":
            return runtime.update_limits(run_id, {"max_iterations": 7})
        return getattr(runtime, call)(run_id)

    # what happens

    @initialize(ops=st.lists(st.lists(st.sampled_from(OPS), max_size=5), min_size=1, max_size=2))
    def begin(self, ops: list[list[str]]) -> None:
        for plan in ops:
            self.start(plan, None)

    @rule(ops=st.lists(st.sampled_from(OPS), max_size=5), dies_at=st.none() | st.just(0))
    def start(self, ops: list[str], dies_at: int | None) -> None:
        started = {"ops": ops, "place": 0, "results": {}}
        run_id = self._process(lambda runtime: runtime.start(workflow=HISTORY, vars=started), dies_at, True, None)
        if run_id is not None:
            self.runs.append(run_id)

    @precondition(lambda self: self.runs)
    @rule(
        pick=st.integers(0, 5),
        call=st.sampled_from(["tick"] * 4 + ["resume", "cancel_run", "retry", "resolve", "update_limits"]),
        max_steps=st.sampled_from([1, 2, 100]),
        dies_at=st.none() | st.integers(0, 4),
        late=st.booleans(),
        dies_in=st.sampled_from([None, None, "before", "after"]),
    )
    def somebody_calls(  # noqa: PLR0917  # hypothesis gives them by name
        self, pick: int, call: str, max_steps: int, dies_at: int | None, late: bool, dies_in: str | None
    ) -> None:
        run_id = self.runs[pick % len(self.runs)]
        self._process(lambda runtime: self._call(runtime, call, run_id, max_steps), dies_at, late, dies_in)

    @rule(seconds=st.sampled_from([1, 11, 31, 61, 400]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # what holds

    @invariant()
    def the_state_is_the_fold_of_the_ledger(self) -> None:
        for run_id in self.runs:
            stored = self.store.load(run_id)
            folded = fold(run_id, self.store.ledger(run_id))
            assert encode(Loader(self.store).open(run_id).state) == encode(folded)
            assert (stored.head.length, stored.head.head_hash) == (folded.length, folded.head_hash)
            assert stored.head.projection == folded.projection()
            assert "mutated" not in folded.vars["results"]

    @invariant()
    def nobody_sleeps_for_ever(self) -> None:
        for run_id in self.runs:
            stored = self.store.load(run_id)
            state, wake_at = fold(run_id, self.store.ledger(run_id)), stored.head.wake_at
            if stored.messages:
                assert wake_at is not None
                assert wake_at <= self.clock()
            if state.status is RunStatus.RUNNING:
                assert wake_at is not None
                decision = state.decision
                if decision is None or decision.recovery.repeatable:
                    assert wake_at <= self.clock()
                else:
                    assert wake_at <= max(self.clock(), decision.at + decision.timeout_us)
            if state.status is RunStatus.WAITING:
                until = [wait.until for wait in state.waits if wait.until is not None]
                assert not until or (wake_at is not None and wake_at <= min(until))

    @invariant()
    def an_end_is_an_end_unless_somebody_retries(self) -> None:
        for run_id in self.runs:
            state = fold(run_id, self.store.ledger(run_id))
            if run_id in self.ended:
                status, length = self.ended[run_id]
                after = kinds(self.store, run_id)[length:]
                assert set(after) <= {"noted", "limited", "checkpoint"} or (
                    status is RunStatus.FAILED and "retried" in after
                )
            if state.status in TERMINAL:
                self.ended[run_id] = (state.status, state.length)
            else:
                self.ended.pop(run_id, None)

    @invariant()
    def what_must_not_be_repeated_is_not(self) -> None:
        for place, count in self.acts.items():
            if self.classes[place] not in ("idempotent", "costly"):
                assert count == 1, f"{self.classes[place]} acted {count} times in one step"

    def teardown(self) -> None:
        """Whatever happened: with living processes and patient people each run comes to its end."""
        for run_id in self.runs:
            for _ in range(40):
                state = fold(run_id, self.store.ledger(run_id))
                if state.status in TERMINAL:
                    break
                parked = any(wait.parked for wait in state.waits)
                asked = any(wait.reason.value == "user" for wait in state.waits)
                call = "resolve" if parked else "resume" if asked else "tick"
                self.clock.advance(61)
                self._process(
                    lambda runtime, call=call, run_id=run_id: self._call(runtime, call, run_id), None, False, None
                )
            else:
                raise AssertionError(f"run {run_id} does not end: {kinds(self.store, run_id)}")
            assert self.store.load(run_id).head.owner is None or self.store.load(run_id).head.lease_until
        self.the_state_is_the_fold_of_the_ledger()
        self.what_must_not_be_repeated_is_not()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
