"""The runtime: what a user sees of runs, on the in-memory store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from abstractruntime import (
    Effect,
    EffectOutcome,
    EffectSpec,
    EffectType,
    Recovery,
    RunState,
    RunStatus,
    StepPlan,
    WorkflowRegistry,
    WorkflowSpec,
)
from abstractruntime.codec import encode, open_record
from abstractruntime.config import RuntimeSettings
from abstractruntime.effects import EffectContext
from abstractruntime.errors import (
    Conflict,
    DuplicateRun,
    InvalidHandler,
    InvalidId,
    InvalidValue,
    Leased,
    NotWaiting,
    StoreClosed,
    UnknownNode,
    UnknownRun,
    UnknownWait,
    UnknownWorkflow,
    UsageError,
    WorkflowMismatch,
    WrongStatus,
)
from abstractruntime.journal import fold
from abstractruntime.models import Instant, WaitState, instant_text
from abstractruntime.runtime import Runtime
from abstractruntime.store.memory import MemoryStore

SECOND = 1_000_000


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.instant = 1_700_000_000 * SECOND

    def __call__(self) -> Instant:
        return Instant(self.instant)

    def advance(self, seconds: float) -> None:
        self.instant += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


def runtime_on(store: MemoryStore, handlers: dict[str, Any] | None = None, **settings: Any) -> Runtime:
    rules = RuntimeSettings(**{"lease_wait_s": 0.0, **settings})
    return Runtime(store=store, effect_handlers=handlers, settings=rules)


def flow(*nodes: Callable[[RunState, Any], Any], version: str = "") -> WorkflowSpec:
    """A workflow of these functions; it begins with the first."""
    return WorkflowSpec("flow", nodes[0].__name__, {node.__name__: node for node in nodes}, version)


def end(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("end", complete_output={"vars": dict(run.vars)})


def asking(run: RunState, ctx: object) -> StepPlan:
    return StepPlan(
        "asking", effect=Effect("ask_user", {"prompt": "ok?", "choices": ["y", "n"]}, "answer"), next_node="end"
    )


def acting(recovery: Recovery = Recovery.PURE, **fields: Any) -> Any:
    def acting(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("acting", effect=Effect("act", {"a": 1}, "result", recovery), next_node="end")

    return acting


def run_once(
    store: MemoryStore, workflow: WorkflowSpec, handlers: dict[str, Any] | None = None, **vars: Any
) -> RunState:
    with runtime_on(store, handlers) as runtime:
        run_id = runtime.start(workflow=workflow, vars=vars)
        return runtime.tick(workflow=workflow, run_id=run_id)


def kinds(store: MemoryStore, run_id: str) -> list[str]:
    return [str(open_record(record).header["kind"]) for record in store.ledger(run_id)]


def proved(store: MemoryStore, state: RunState) -> None:
    """The ledger folds to what the caller was shown."""
    assert encode(fold(state.run_id, store.ledger(state.run_id)).vars) == encode(state.vars)


# -- what 0.2 got wrong ------------------------------------------------------------------------------------------------


def test_a_node_visited_ten_times_with_the_same_payload_acts_ten_times(store: MemoryStore) -> None:
    calls: list[str] = []

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        calls.append(ctx.key)
        return EffectOutcome.completed(len(calls))

    def loop(run: RunState, ctx: object) -> StepPlan:
        run.vars["n"] = run.vars.get("n", 0) + 1
        if run.vars["n"] > 10:
            return StepPlan("loop", complete_output={"last": run.vars["r"]})
        return StepPlan("loop", effect=Effect("act", {"same": True}, "r"), next_node="loop")

    state = run_once(store, flow(loop), {"act": EffectSpec(handler=act, recovery=Recovery.PURE)})
    assert state.output == {"last": 10}
    assert len(set(calls)) == 10


def test_a_cancelled_run_stays_cancelled_and_does_nothing_more(store: MemoryStore) -> None:
    acted: list[int] = []
    handlers = {"act": lambda run, effect: acted.append(1) or EffectOutcome.completed()}
    workflow = flow(acting(), end)
    with runtime_on(store, handlers) as runtime:
        run_id = runtime.start(workflow=workflow)
        assert runtime.cancel_run(run_id, reason="not needed").status is RunStatus.CANCELLED
        state = runtime.tick(workflow=workflow, run_id=run_id)
        assert (state.status, state.error, acted) == (RunStatus.CANCELLED, "not needed", [])
        assert runtime.cancel_run(run_id).status is RunStatus.CANCELLED
        assert kinds(store, run_id) == ["created", "cancelled"]
        with pytest.raises(KeyError):
            runtime.cancel_run("unknown")


def test_of_two_answers_to_one_question_one_wins_and_the_other_is_told(store: MemoryStore) -> None:
    acted: list[object] = []
    both_loaded = threading.Barrier(2)

    class Together(MemoryStore):
        """Lets both answers load the run before either commits."""

        def commit(self, commits: Any) -> Any:
            if any(message.kind == "resume" for commit in commits for message in commit.messages):
                both_loaded.wait(timeout=10)
            return super().commit(commits)

    def after(run: RunState, ctx: object) -> StepPlan:
        acted.append(run.vars["answer"])
        return StepPlan("after", complete_output={"answer": run.vars["answer"]})

    def question(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("question", effect=Effect("ask_user", {"prompt": "?"}, "answer"), next_node="after")

    shared, workflow, outcomes = Together(), flow(question, after), []
    with runtime_on(shared, lease_wait_s=5.0) as runtime:
        run_id = runtime.start(workflow=workflow)
        key = runtime.tick(workflow=workflow, run_id=run_id).waiting.wait_key

        def answer(text: str) -> None:
            try:
                outcomes.append(runtime.resume(workflow=workflow, run_id=run_id, wait_key=key, payload=text).output)
            except Conflict as error:
                outcomes.append(error)

        threads = [threading.Thread(target=answer, args=(text,)) for text in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        winner = runtime.get_state(run_id).output
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "dict"]
        assert winner in outcomes
        assert kinds(shared, run_id).count("resumed") == 1


def test_a_timer_in_the_past_of_another_time_zone_has_gone_off(store: MemoryStore, clock: Clock) -> None:
    past = "2023-11-15T06:00:00+09:00"  # 21:00 UTC on the 14th; the clock stands at 22:13 UTC

    def timer(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("timer", effect=Effect("wait_until", {"until": past}, "woke"), next_node="end")

    state = run_once(store, flow(timer, end))
    assert state.status is RunStatus.COMPLETED
    assert state.vars["woke"] == {"until": "2023-11-14T21:00:00.000000+00:00", "ready": True}


def test_a_node_that_raises_fails_the_run_with_its_traceback_in_the_ledger_and_can_be_retried(
    store: MemoryStore,
) -> None:
    broken = [True]

    def fragile(run: RunState, ctx: object) -> StepPlan:
        run.vars["touched"] = True
        if broken[0]:
            raise ZeroDivisionError("no luck")
        return StepPlan("fragile", next_node="end")

    workflow = flow(fragile, end)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow, vars={"a": 1})
        state = runtime.tick(workflow=workflow, run_id=run_id)
        assert (state.status, state.error) == (RunStatus.FAILED, "ZeroDivisionError: no luck")
        assert "touched" not in state.vars, "an exception throws the draft away"
        row = runtime.get_ledger(run_id)[-1]
        assert (row["node_id"], row["status"]) == ("fragile", "failed")
        record = open_record(list(store.ledger(run_id))[-1])
        assert 'raise ZeroDivisionError("no luck")' in str(record.values[0]["traceback"])
        with pytest.raises(WrongStatus, match="not in doubt"):
            runtime.resolve(run_id, "retry")
        broken[0] = False
        assert runtime.retry(run_id).status is RunStatus.RUNNING
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED
        with pytest.raises(WrongStatus, match="nothing to retry"):
            runtime.retry(run_id)


def test_a_retried_step_acts_under_another_key(store: MemoryStore) -> None:
    keys: list[str] = []

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        keys.append(ctx.key)
        return EffectOutcome.completed() if len(keys) > 1 else EffectOutcome.failed("the service said no")

    workflow = flow(acting(), end)
    with runtime_on(store, {"act": EffectSpec(handler=act, recovery=Recovery.PURE)}) as runtime:
        run_id = runtime.start(workflow=workflow)
        assert runtime.tick(workflow=workflow, run_id=run_id).error == "the service said no"
        runtime.retry(run_id)
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED
    assert len(set(keys)) == 2


def test_states_handed_out_are_copies(store: MemoryStore) -> None:
    def node(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("node", complete_output={"list": [1]})

    given = {"deep": {"list": [1, 2]}}
    workflow = flow(node)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow, vars=given)
        given["deep"]["list"].append(3)
        runtime.get_state(run_id).vars["deep"]["list"].append(4)
        state = runtime.tick(workflow=workflow, run_id=run_id)
        assert state.vars["deep"]["list"] == [1, 2]
        state.output["list"].append(2)
        assert runtime.get_state(run_id).output == {"list": [1]}


# -- steps -------------------------------------------------------------------------------------------------------------


def test_max_steps_is_said_and_the_next_tick_goes_on(store: MemoryStore) -> None:
    acted: list[int] = []

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        acted.append(1)
        return EffectOutcome.completed()

    workflow = flow(acting(), end)
    with runtime_on(store, {"act": EffectSpec(handler=act, recovery=Recovery.PURE)}) as runtime:
        run_id = runtime.start(workflow=workflow)
        state = runtime.tick(workflow=workflow, run_id=run_id, max_steps=1)
        assert (state.status, state.stopped, state.current_node, acted) == (RunStatus.RUNNING, "max_steps", "end", [1])
        assert kinds(store, run_id) == ["created", "decided", "completed"], "nothing is decided ahead"
        assert store.load(run_id).head.owner is None, "the last step releases the run"
        state = runtime.tick(workflow=workflow, run_id=run_id, max_steps=1)
        assert (state.status, state.stopped) == (RunStatus.COMPLETED, None)
        with pytest.raises(UsageError, match="max_steps"):
            runtime.tick(workflow=workflow, run_id=run_id, max_steps=0)


def test_a_long_row_of_pure_transitions_is_committed_in_pieces(store: MemoryStore) -> None:
    def count(run: RunState, ctx: object) -> StepPlan:
        run.vars["n"] = run.vars.get("n", 0) + 1
        return StepPlan("count", next_node="end" if run.vars["n"] == 250 else "count")

    workflow = flow(count, end)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow)
        state = runtime.tick(workflow=workflow, run_id=run_id, max_steps=1000)
    assert (state.status, state.step) == (RunStatus.COMPLETED, 251)
    proved(store, state)


def test_a_handlers_changes_to_vars_are_recorded_with_its_outcome_and_dropped_if_it_raises(store: MemoryStore) -> None:
    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        run.vars["counted"] = run.vars.get("counted", 0) + 1
        effect.payload["a"] = "changed"
        if run.vars.get("raise"):
            raise RuntimeError("after all")
        return EffectOutcome.completed({"a": 1})

    handlers = {"act": EffectSpec(handler=act, recovery=Recovery.PURE)}
    state = run_once(store, flow(acting(), end), handlers)
    assert (state.vars["counted"], state.vars["result"]) == (1, {"a": 1})
    proved(store, state)
    assert store.load(state.run_id) is not None
    failed = run_once(store, flow(acting(), end), handlers, **{"raise": True})
    assert failed.status is RunStatus.FAILED
    assert "counted" not in failed.vars


def test_handlers_of_0_2_get_the_next_node_or_nothing(store: MemoryStore) -> None:
    seen: list[object] = []

    def three(run: RunState, effect: Effect, default_next_node: str | None) -> EffectOutcome:
        seen.append(default_next_node)
        return EffectOutcome.completed()

    run_once(store, flow(acting(), end), {"act": three})
    run_once(store, flow(acting(), end), {"act": lambda run, effect: EffectOutcome.completed()})
    assert seen == ["end"]
    with pytest.raises(InvalidHandler, match="takes 1"):
        runtime_on(store, {"act": lambda run: None})


def test_an_async_handler_is_awaited(store: MemoryStore) -> None:
    async def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        return EffectOutcome.completed("awaited")

    state = run_once(store, flow(acting(), end), {"act": EffectSpec(handler=act, recovery=Recovery.PURE)})
    assert state.vars["result"] == "awaited"


def test_the_second_visit_of_a_question_has_another_key_so_an_old_answer_cannot_answer_it(store: MemoryStore) -> None:
    def question(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("question", effect=Effect("ask_user", {"prompt": "?"}, "answer"), next_node="question")

    workflow = flow(question)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow)
        first = runtime.tick(workflow=workflow, run_id=run_id).waiting.wait_key
        assert first == f"user:{run_id}:question"
        second = runtime.resume(workflow=workflow, run_id=run_id, wait_key=first, payload=1).waiting.wait_key
        assert second == f"user:{run_id}:question:2"
        with pytest.raises(UnknownWait, match=second):
            runtime.resume(workflow=workflow, run_id=run_id, wait_key=first, payload=2)


def test_a_timer_of_thirty_days_goes_off_when_its_time_has_come(store: MemoryStore, clock: Clock) -> None:
    def timer(run: RunState, ctx: object) -> StepPlan:
        until = instant_text(Instant(clock() + 30 * 86_400 * SECOND))
        return StepPlan("timer", effect=Effect(EffectType.WAIT_UNTIL, {"until": until}, "woke"), next_node="end")

    workflow = flow(timer, end)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow)
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.WAITING
        length = store.load(run_id).head.length
        assert runtime.tick(workflow=workflow, run_id=run_id).length == length, "a tick too early writes nothing"
        assert runtime.find(due=True).items == ()
        clock.advance(30 * 86_400)
        assert [head.run_id for head in runtime.find(due=True).items] == [run_id]
        state = runtime.tick(workflow=workflow, run_id=run_id)
    assert state.status is RunStatus.COMPLETED
    assert state.vars["woke"]["ready"] is True


def test_a_handler_may_park_the_run_itself(store: MemoryStore) -> None:
    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        wait = WaitState(reason="job", wait_key="job:7", details={"ticket": 7}, prompt="when done")
        return EffectOutcome.waiting(wait)

    workflow = flow(acting(), end)
    with runtime_on(store, {"act": EffectSpec(handler=act, recovery=Recovery.ASK)}) as runtime:
        run_id = runtime.start(workflow=workflow)
        waiting = runtime.tick(workflow=workflow, run_id=run_id).waiting
        assert (waiting.wait_key, waiting.details, waiting.prompt) == ("job:7", {"ticket": 7}, "when done")
        state = runtime.resume(workflow=workflow, run_id=run_id, wait_key="job:7", payload={"done": True})
        assert state.vars["result"] == {"done": True}


def test_limits_are_seeded_counted_warned_about_and_changed_by_a_record(store: MemoryStore) -> None:
    def spend(run: RunState, ctx: object) -> StepPlan:
        run.vars["_limits"]["current_iteration"] = 24
        return StepPlan("spend", effect=Effect("ask_user", {"prompt": "?"}), next_node="end")

    workflow = flow(spend, end)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow)
        assert runtime.check_limits(run_id) == []
        runtime.tick(workflow=workflow, run_id=run_id)
        [warning] = runtime.check_limits(run_id)
        assert (warning.limit_type, warning.status, warning.current, warning.maximum) == (
            "iterations",
            "warning",
            24,
            25,
        )
        runtime.update_limits(run_id, {"max_iterations": 100, "unknown": 1}, actor_id="operator")
        assert runtime.check_limits(run_id) == []
        assert runtime.get_limit_status(run_id)["iterations"]["max"] == 100
        assert kinds(store, run_id)[-1] == "limited"
        assert runtime.get_state(run_id).status is RunStatus.WAITING
        proved(store, runtime.get_state(run_id))


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_run_that_somebody_holds_is_not_driven_by_another(store: MemoryStore, clock: Clock) -> None:
    workflow = flow(end)
    with runtime_on(store) as mine, runtime_on(store) as other:
        run_id = mine.start(workflow=workflow)
        with pytest.raises(Leased, match="held by"):
            other.tick(workflow=workflow, run_id=run_id)
        clock.advance(11)  # the starter's grace has passed
        assert other.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED
        assert mine.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED


def test_cancel_of_a_run_whose_effect_is_at_work_takes_effect_when_that_has_an_outcome(store: MemoryStore) -> None:
    seen: list[Any] = []

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        seen.append(runtime.cancel_run(run.run_id, reason="from inside").status)
        return EffectOutcome.completed("done all the same")

    workflow = flow(acting(), end)
    with runtime_on(store, {"act": EffectSpec(handler=act, recovery=Recovery.ASK)}) as runtime:
        run_id = runtime.start(workflow=workflow)
        state = runtime.tick(workflow=workflow, run_id=run_id)
        assert seen == [RunStatus.RUNNING]
        assert (state.status, state.error) == (RunStatus.CANCELLED, "from inside")
        assert kinds(store, run_id) == ["created", "decided", "completed", "cancelled"]
        assert state.vars["result"] == "done all the same"


def test_an_owner_that_was_fenced_off_does_not_lose_the_outcome_it_holds(store: MemoryStore, clock: Clock) -> None:
    """A stops for longer than its lease inside a payment; B finds the run in doubt; A comes back with the truth."""

    def pay(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        clock.advance(1000)  # past the lease and the time limit
        waiting = second.tick(workflow=workflow, run_id=run_id).waiting
        assert waiting.wait_key.startswith("doubt:")
        return EffectOutcome.completed("paid")

    handlers = {"act": EffectSpec(handler=pay, recovery=Recovery.ASK)}
    workflow = flow(acting(Recovery.ASK), end)
    with runtime_on(store, handlers) as payer, runtime_on(store, handlers) as second:
        run_id = payer.start(workflow=workflow)
        with pytest.raises(Conflict):
            payer.tick(workflow=workflow, run_id=run_id)
        state = second.tick(workflow=workflow, run_id=run_id)
    assert (state.status, state.vars["result"]) == (RunStatus.COMPLETED, "paid")
    assert kinds(store, run_id) == ["created", "decided", "parked", "completed", "finished"]


def test_a_step_that_kills_every_owner_is_parked_as_poison(store: MemoryStore, clock: Clock) -> None:
    workflow = flow(acting(Recovery.PURE), end)

    def die(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        attempts.append(ctx.attempt)
        raise AssertionError("unreachable: the claim below stands for the death")

    attempts: list[int] = []
    handlers = {"act": EffectSpec(handler=die, recovery=Recovery.PURE)}
    with runtime_on(store, handlers, max_claims=3) as runtime:
        run_id = runtime.start(workflow=workflow)
        _decide_and_die(runtime, store, workflow, run_id)
        for _ in range(3):
            clock.advance(31)
            assert store.claim(owner="doomed", lease_s=30, can_run=_anything(), run_id=run_id)
        clock.advance(31)
        state = runtime.tick(workflow=workflow, run_id=run_id)
        assert attempts == []
        assert state.waiting.wait_key == f"poison:{run_id}:1"
        assert state.waiting.details["claims"] == 4
        assert [head.run_id for head in runtime.find(wait_reason="job").items] == [run_id]


def _anything() -> Any:
    from abstractruntime.store.contract import Runnable

    return Runnable()


def _decide_and_die(runtime: Runtime, store: MemoryStore, workflow: WorkflowSpec, run_id: str) -> None:
    """Commit the first decision and stop there, as a process would that dies before acting."""
    _die_at_the_first_commit(store, lambda: runtime.tick(workflow=workflow, run_id=run_id))


def _die_at_the_first_commit(store: MemoryStore, call: Callable[[], object]) -> None:
    """Make a call whose process dies when its first commit has landed: nothing after that, not even a release."""
    real = store.commit

    class Died(BaseException):
        pass

    def commit_then_die(commits: Any) -> Any:
        if not commits[0].records:
            raise Died  # the dead do not give their lease back
        real(commits)
        raise Died

    store.commit = commit_then_die  # type: ignore[method-assign]
    with pytest.raises(Died):
        call()
    store.commit = real  # type: ignore[method-assign]


def test_a_run_whose_driver_dies_after_an_answer_is_due_when_its_lease_has_run_out(
    store: MemoryStore, clock: Clock
) -> None:
    """A parked run wakes nobody: the commit that takes it must make it due, for the case that its holder dies."""

    def answered(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("answered", effect=Effect("act", {"a": 1}, "result"), next_node="end")

    def question(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("question", effect=Effect("ask_user", {"prompt": "?"}), next_node="answered")

    acted: list[int] = []

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        acted.append(ctx.attempt)
        return EffectOutcome.completed()

    workflow = flow(question, answered, end)
    with runtime_on(store, {"act": EffectSpec(handler=act, recovery=Recovery.PURE)}) as runtime:
        run_id = runtime.start(workflow=workflow)
        key = runtime.tick(workflow=workflow, run_id=run_id).waiting.wait_key
        assert runtime.find(due=True).items == ()
        _die_at_the_first_commit(
            store, lambda: runtime.resume(workflow=workflow, run_id=run_id, wait_key=key, payload=1)
        )
        assert kinds(store, run_id)[-2:] == ["resumed", "decided"]
        assert runtime.find(due=True).items == (), "its holder may still live"
        clock.advance(31)
        assert [head.run_id for head in runtime.find(due=True).items] == [run_id]
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED
    assert acted == [2]


def test_ctrl_c_in_a_handler_gives_the_run_back_and_the_next_tick_goes_on(store: MemoryStore) -> None:
    attempts: list[int] = []

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            raise KeyboardInterrupt
        return EffectOutcome.completed()

    workflow = flow(acting(), end)
    with runtime_on(store, {"act": EffectSpec(handler=act, recovery=Recovery.IDEMPOTENT)}) as runtime:
        run_id = runtime.start(workflow=workflow)
        with pytest.raises(KeyboardInterrupt):
            runtime.tick(workflow=workflow, run_id=run_id)
        assert store.load(run_id).head.owner is None
        assert kinds(store, run_id) == ["created", "decided", "interrupted"]
        assert runtime.tick(workflow=workflow, run_id=run_id).status is RunStatus.COMPLETED
    assert attempts == [1, 2]


def test_ctrl_c_in_an_effect_that_must_not_be_repeated_parks_it_in_doubt_without_waiting(store: MemoryStore) -> None:
    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        raise KeyboardInterrupt

    workflow = flow(acting(Recovery.ASK), end)
    with runtime_on(store, {"act": act}) as runtime:
        run_id = runtime.start(workflow=workflow)
        with pytest.raises(KeyboardInterrupt):
            runtime.tick(workflow=workflow, run_id=run_id)
        state = runtime.tick(workflow=workflow, run_id=run_id)
        assert state.waiting.wait_key == f"doubt:{run_id}:1"
        with pytest.raises(WrongStatus, match="resolve it"):
            runtime.resume(workflow=workflow, run_id=run_id, wait_key=state.waiting.wait_key, payload="x")
        runtime.resolve(run_id, EffectOutcome.failed("it never arrived"), actor_id="operator")
        state = runtime.get_state(run_id)
        assert (state.status, state.error) == (RunStatus.FAILED, "it never arrived")


def test_ctrl_c_in_a_node_gives_the_run_back(store: MemoryStore) -> None:
    def node(run: RunState, ctx: object) -> StepPlan:
        raise KeyboardInterrupt

    workflow = flow(node)
    for grace_s in (0.0, 10.0):
        with runtime_on(store, start_grace_s=grace_s) as runtime:
            run_id = runtime.start(workflow=workflow)
            with pytest.raises(KeyboardInterrupt):
                runtime.tick(workflow=workflow, run_id=run_id)
            assert store.load(run_id).head.owner is None


# -- bad input ---------------------------------------------------------------------------------------------------------


def returns_nothing(run: RunState, ctx: object) -> None:
    return None


def nowhere(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("nowhere", next_node="nirvana")


def no_next(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("no_next")


def effect_without_next(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("effect_without_next", effect=Effect("ask_user", {"prompt": "?"}))


def no_prompt(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("no_prompt", effect=Effect("ask_user", {}), next_node="end")


def naive_time(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("naive_time", effect=Effect("wait_until", {"until": "2030-01-01T00:00:00"}), next_node="end")


def no_handler(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("no_handler", effect=Effect("levitate", {}), next_node="end")


def bad_payload(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("bad_payload", effect=Effect("ask_user", {"prompt": "?", "x": [{1}]}), next_node="end")


def not_a_number(run: RunState, ctx: object) -> StepPlan:
    run.vars["deep"] = {"list": [0, float("nan")]}
    return StepPlan("not_a_number", next_node="end")


def odd_key(run: RunState, ctx: object) -> StepPlan:
    run.vars["table"] = {1: "one"}
    return StepPlan("odd_key", next_node="end")


def list_output(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("list_output", complete_output=[1])  # type: ignore[arg-type]


def blocked_key(run: RunState, ctx: object) -> StepPlan:
    run.vars["a"] = "text"
    return StepPlan("blocked_key", effect=Effect("ask_user", {"prompt": "?"}, "a.b"), next_node="end")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (returns_nothing, "node 'returns_nothing' of workflow 'flow' returned NoneType, not a StepPlan"),
        (nowhere, "leads to node 'nirvana', which the workflow does not have. Hint: its nodes: end, nowhere"),
        (no_next, "returned no effect and no next_node"),
        (effect_without_next, "asks for effect 'ask_user' and gives no next_node"),
        (no_prompt, "needs 'prompt' in its payload"),
        (naive_time, "2030-01-01T00:00:00 has no offset"),
        (no_handler, "asks for effect 'levitate', which has no handler here"),
        (bad_payload, r"payload.x[0] is a set"),
        (not_a_number, "vars.deep.list[1] is nan"),
        (odd_key, "vars.table.1 is a key of type int"),
        (list_output, "completes with list"),
        (blocked_key, "vars.a is no dict"),
    ],
)
def test_a_node_that_decides_nonsense_fails_the_run_with_a_record_that_says_so(
    store: MemoryStore, node: Any, message: str
) -> None:
    state = run_once(store, flow(node, end), kept="as it was")
    assert state.status is RunStatus.FAILED
    assert message in state.error
    assert {name: value for name, value in state.vars.items() if name != "_limits"} == {"kept": "as it was"}
    assert kinds(store, state.run_id) == ["created", "failed"]
    proved(store, state)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned NoneType, not an EffectOutcome"),
        ({"a": 1}, "returned dict, not an EffectOutcome"),
        (EffectOutcome.completed({"x": float("nan")}), "outcome.x is nan"),
        (EffectOutcome.completed(object()), "outcome is a object"),  # type: ignore[arg-type]
        (EffectOutcome.failed("because"), "because"),
    ],
)
def test_a_handler_that_returns_nonsense_fails_the_run_with_a_record(
    store: MemoryStore, returned: Any, message: str
) -> None:
    handlers = {"act": EffectSpec(handler=lambda run, effect, ctx: returned, recovery=Recovery.ASK)}
    state = run_once(store, flow(acting(), end), handlers)
    assert state.status is RunStatus.FAILED
    assert message in state.error
    assert kinds(store, state.run_id) == ["created", "decided", "failed"]


@pytest.mark.parametrize("value", [float("nan"), b"bytes", {1, 2}, {3: 4}, object()])
def test_vars_that_are_no_json_are_refused_at_the_start_and_nothing_is_written(store: MemoryStore, value: Any) -> None:
    with runtime_on(store) as runtime:
        with pytest.raises(InvalidValue, match=r"vars\.a\[1\]"):
            runtime.start(workflow=flow(end), vars={"a": [0, value]})
        assert runtime.find().items == ()


def test_an_answer_that_is_no_json_is_refused_and_the_question_stays_open(store: MemoryStore) -> None:
    workflow = flow(asking, end)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow)
        waiting = runtime.tick(workflow=workflow, run_id=run_id).waiting
        with pytest.raises(InvalidValue, match=r"payload\.when is a datetime|payload\.when is a object"):
            runtime.resume(workflow=workflow, run_id=run_id, wait_key=waiting.wait_key, payload={"when": object()})
        assert runtime.get_state(run_id).status is RunStatus.WAITING


def test_unknown_runs_nodes_workflows_and_waits_are_named(store: MemoryStore) -> None:
    workflow = flow(asking, end)
    with runtime_on(store) as runtime:
        for call in (
            lambda: runtime.tick(workflow=workflow, run_id="none"),
            lambda: runtime.get_state("none"),
            lambda: runtime.resume(workflow=workflow, run_id="none", wait_key="k", payload=1),
        ):
            with pytest.raises(UnknownRun, match="no run 'none'"):
                call()
        run_id = runtime.start(workflow=workflow)
        with pytest.raises(NotWaiting, match="waits for nothing"):
            runtime.resume(workflow=workflow, run_id=run_id, wait_key="k", payload=1)
        runtime.tick(workflow=workflow, run_id=run_id)
        with pytest.raises(UnknownWait, match="does not wait for 'wrong'"):
            runtime.resume(workflow=workflow, run_id=run_id, wait_key="wrong", payload=1)
        with pytest.raises(ValueError, match="does not wait"):
            runtime.resume(workflow=workflow, run_id=run_id, wait_key="wrong", payload=1)
        runtime.resume(workflow=workflow, run_id=run_id, wait_key=f"user:{run_id}:asking", payload=1)
        with pytest.raises(NotWaiting, match="is completed"):
            runtime.resume(workflow=workflow, run_id=run_id, wait_key=f"user:{run_id}:asking", payload=1)


def test_another_workflows_code_is_refused(store: MemoryStore) -> None:
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=flow(asking, end))
        with pytest.raises(WorkflowMismatch, match="belongs to workflow 'flow'"):
            runtime.tick(workflow=WorkflowSpec("other", "end", {"end": end}), run_id=run_id)
        with pytest.raises(WorkflowMismatch, match="version '2'"):
            runtime.tick(workflow=flow(asking, end, version="2"), run_id=run_id)
        with pytest.raises(UnknownWorkflow, match="no workflow 'flow'"):
            runtime.tick(run_id=run_id)
        runtime.workflow_registry = WorkflowRegistry([flow(asking, end)])
        assert runtime.tick(run_id=run_id).status is RunStatus.WAITING


def test_code_that_lost_the_node_of_a_run_is_an_error_and_the_run_is_unharmed(store: MemoryStore) -> None:
    full, part = flow(asking, end), flow(asking)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=full)
        key = runtime.tick(workflow=full, run_id=run_id).waiting.wait_key
        with pytest.raises(UnknownNode, match="no node 'end'"):
            runtime.resume(workflow=part, run_id=run_id, wait_key=key, payload="y")
        assert runtime.get_state(run_id).status is RunStatus.WAITING
        assert runtime.resume(workflow=full, run_id=run_id, wait_key=key, payload="y").status is RunStatus.COMPLETED


def test_ids_that_no_store_can_keep_are_refused(store: MemoryStore) -> None:
    with runtime_on(store) as runtime:
        for bad in ("", "x" * 1025, "a\0b"):
            with pytest.raises(InvalidId):
                runtime.start(workflow=flow(end), run_id=bad)
        with pytest.raises(InvalidValue, match="lone surrogate"):
            runtime.start(workflow=flow(end), run_id="\ud800")
        runtime.start(workflow=flow(end), run_id="../../x")
        with pytest.raises(DuplicateRun):
            runtime.start(workflow=flow(end), run_id="../../x")


def test_a_closed_runtime_says_so(store: MemoryStore) -> None:
    runtime = runtime_on(store)
    runtime.close()
    runtime.close()
    with pytest.raises(StoreClosed, match="was closed"):
        runtime.start(workflow=flow(end))


def test_a_node_may_read_and_copy_everything_without_changing_the_run(store: MemoryStore) -> None:
    def reader(run: RunState, ctx: object) -> StepPlan:
        import copy
        import json

        loose = [
            copy.deepcopy(run.vars),
            json.loads(json.dumps(run.vars)),
            {**run.vars},
            run.vars.copy(),
            dict(run.vars),
        ]
        loose[0]["deep"]["list"].append("deep copy")
        loose[1]["deep"]["list"].append("round trip")
        assert run.vars == {"deep": {"list": [1]}, "_limits": run.vars["_limits"]}
        return StepPlan("reader", complete_output={"deep": run.vars["deep"]})

    state = run_once(store, flow(reader), deep={"list": [1]})
    assert state.output == {"deep": {"list": [1]}}, state.error
    assert len(list(store.ledger(state.run_id))) == 2


# -- observers and checkpoints -----------------------------------------------------------------------------------------


def test_observers_are_told_in_order_after_each_commit_and_one_that_fails_harms_nothing(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[int, tuple[str, ...]]] = []

    def watch(event: Any) -> None:
        assert store.load(event.run_id).head.length == event.length, "told after the commit"
        told.append((event.length, event.kinds))

    def fail(event: Any) -> None:
        raise RuntimeError("observer down")

    workflow = flow(asking, end)
    with Runtime(store=store, observers=lambda: [fail, watch]) as runtime:
        run_id = runtime.start(workflow=workflow)
        key = runtime.tick(workflow=workflow, run_id=run_id).waiting.wait_key
        state = runtime.resume(workflow=workflow, run_id=run_id, wait_key=key, payload="y")
    assert state.status is RunStatus.COMPLETED
    assert told == [(1, ("created",)), (3, ("decided", "waiting")), (5, ("resumed", "finished"))]
    assert "observer down" in caplog.text


def test_a_run_goes_on_from_its_checkpoint_and_a_changed_checkpoint_is_not_believed(store: MemoryStore) -> None:
    from abstractruntime.errors import LedgerCorrupt
    from abstractruntime.store.contract import Checkpoint

    def grow(run: RunState, ctx: object) -> StepPlan:
        run.vars["n"] = run.vars.get("n", 0) + 1
        return StepPlan("grow", next_node="grow" if run.vars["n"] % 1100 else "asking")

    workflow = flow(grow, asking, end)
    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=workflow)
        state = runtime.tick(workflow=workflow, run_id=run_id, max_steps=2000)
    stored = store.load(run_id)
    assert stored.checkpoint is not None
    assert len(stored.records) < stored.head.length / 2, "only what follows the checkpoint is read"
    with runtime_on(store) as runtime:
        assert encode(runtime.get_state(run_id).vars) == encode(state.vars)
    proved(store, state)

    class Changed(MemoryStore):
        def load(self, run_id: str, *, after: int = 0) -> Any:
            import msgspec

            real = store.load(run_id, after=after)
            forged = real.checkpoint.state.replace(b'"n":6', b'"n":7')
            assert forged != real.checkpoint.state
            return msgspec.structs.replace(real, checkpoint=Checkpoint(length=real.checkpoint.length, state=forged))

    with runtime_on(Changed()) as runtime, pytest.raises(LedgerCorrupt, match="not the one that its ledger names"):
        runtime.get_state(run_id)


def test_a_record_of_a_kind_or_format_from_the_future_is_refused_by_name() -> None:
    import os

    from abstractruntime.codec import seal
    from abstractruntime.errors import FormatTooNew
    from abstractruntime.journal import Folded, Journal

    journal = Journal(Folded(run_id="r", workflow_id=""), os.urandom)
    journal.write_delta("created", Instant(1), {"workflow": "w", "node": "n"}, {})
    header = {"at": 2, "kind": "levitated", "prev": journal.state.head_hash, "run": "r", "seq": 2, "v": 1}
    unknown_kind, _ = seal(dict(header), [], [], b"")
    with pytest.raises(FormatTooNew, match="'levitated', which this version does not know"):
        fold("r", [*journal.pending, unknown_kind])
    newer, _ = seal({**header, "v": 2}, [], [], b"")
    with pytest.raises(FormatTooNew, match="format 2; this version reads up to 1"):
        fold("r", [*journal.pending, newer])
    extra, _ = seal({**header, "kind": "noted", "new_field": [1]}, [], [], b"")
    assert fold("r", [*journal.pending, extra]).length == 2, "unknown fields are kept and do no harm"


def test_attempts_are_numbered_on_through_deaths_and_interruptions(store: MemoryStore, clock: Clock) -> None:
    attempts: list[int] = []

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        attempts.append(ctx.attempt)
        if len(attempts) in (1, 2):
            raise KeyboardInterrupt
        return EffectOutcome.completed()

    workflow = flow(acting(Recovery.IDEMPOTENT), end)
    with runtime_on(store, {"act": EffectSpec(handler=act, recovery=Recovery.IDEMPOTENT)}) as runtime:
        run_id = runtime.start(workflow=workflow)
        _decide_and_die(runtime, store, workflow, run_id)  # attempt 1: its owner died
        for _ in range(3):  # attempts 2 and 3 are interrupted
            clock.advance(31)
            try:
                runtime.tick(workflow=workflow, run_id=run_id)
            except KeyboardInterrupt:
                continue
    assert attempts == [2, 3, 4]


@pytest.mark.parametrize("key", [(1, 2), 7, None, True, 1.5, b"x", "\ud800"])
def test_a_key_that_is_no_text_is_refused_by_its_path_wherever_it_is_set(store: MemoryStore, key: Any) -> None:
    def top(run: RunState, ctx: object) -> StepPlan:
        run.vars[key] = 1
        return StepPlan("top", next_node="end")

    def nested(run: RunState, ctx: object) -> StepPlan:
        run.vars["d"][key] = 1
        return StepPlan("nested", next_node="end")

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        run.vars["d"][key] = 1
        return EffectOutcome.completed()

    with runtime_on(store) as runtime, pytest.raises(InvalidValue, match=r"vars\."):
        runtime.start(workflow=flow(end), vars={key: 1})
    for node in (top, nested, acting()):
        state = run_once(store, flow(node, end), {"act": act}, d={})
        assert state.status is RunStatus.FAILED
        assert "vars." in state.error
        assert state.vars["d"] == {}
        proved(store, state)


def test_a_failure_can_be_read_with_its_traceback(store: MemoryStore) -> None:
    def broken(run: RunState, ctx: object) -> StepPlan:
        raise KeyError("total")

    with runtime_on(store) as runtime:
        run_id = runtime.start(workflow=flow(broken))
        runtime.tick(workflow=flow(broken), run_id=run_id)
        row = runtime.get_ledger(run_id)[-1]
    assert row["error"] == "KeyError: 'total'"
    assert 'raise KeyError("total")' in row["error_details"]["traceback"]


def test_a_bare_handler_whose_third_parameter_is_ctx_gets_the_context(store: MemoryStore) -> None:
    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        return EffectOutcome.completed(ctx.key)

    state = run_once(store, flow(acting(), end), {"act": act})
    assert len(state.vars["result"]) == 32
