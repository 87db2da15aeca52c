"""The two stores of 0.2 as one store: what survives in them, what a crash leaves, what an edit becomes."""

import dataclasses
import logging
import threading

import pytest

from abstractruntime import (
    Effect,
    EffectOutcome,
    EffectSpec,
    EffectType,
    HashChainedLedgerStore,
    InMemoryLedgerStore,
    InMemoryRunStore,
    Recovery,
    RunState,
    RunStatus,
    Runtime,
    StepPlan,
    WaitReason,
    WaitState,
    WorkflowSpec,
    verify_ledger_chain,
)
from abstractruntime.codec import encode
from abstractruntime.config import RuntimeSettings
from abstractruntime.errors import Conflict, InvalidId, Leased, NotWaiting, StoreError, UsageError
from abstractruntime.journal import fold
from abstractruntime.legacy.adapter import RECORDS_SUFFIX, PairStore, pair_store
from abstractruntime.store.memory import MemoryStore
from abstractruntime.views import copy_view


def call(run, ctx):
    return StepPlan("call", effect=Effect(EffectType.LLM_CALL, {"prompt": "p"}, "context.answer"), next_node="ask")


WORKFLOW = WorkflowSpec(
    "w",
    "begin",
    {
        "begin": lambda run, ctx: StepPlan("begin", next_node="call"),
        "call": call,
        "ask": lambda run, ctx: StepPlan(
            "ask", effect=Effect(EffectType.ASK_USER, {"prompt": "?"}, "said"), next_node="end"
        ),
        "end": lambda run, ctx: StepPlan("end", complete_output={"said": run.vars["said"]}),
    },
)


class Pair:
    """Two stores, and runtimes over them that come and go."""

    def __init__(self, run_store=None, ledger_store=None):
        self.runs = run_store or InMemoryRunStore()
        self.ledger = ledger_store or InMemoryLedgerStore()
        self.calls = []
        self.runtime = None
        self.open()

    def open(self):
        """What a new process does: nothing is left of the old one but the two stores."""
        if self.runtime is not None:
            self.runtime.store.close()
        handlers = {EffectType.LLM_CALL: EffectSpec(handler=self._answer, recovery=Recovery.IDEMPOTENT)}
        self.runtime = Runtime(run_store=self.runs, ledger_store=self.ledger, effect_handlers=handlers)
        return self.runtime

    def _answer(self, run, effect, ctx):
        self.calls.append(ctx.key)
        return EffectOutcome.completed({"n": len(self.calls)})

    def start(self, **options):
        return self.runtime.start(workflow=WORKFLOW, vars={"context": {}}, **options)

    def tick(self, run_id):
        return self.runtime.tick(workflow=WORKFLOW, run_id=run_id)

    def parked(self):
        run_id = self.start()
        assert self.tick(run_id).status is RunStatus.WAITING
        return run_id

    def answer(self, run_id, payload="yes"):
        return self.runtime.resume(workflow=WORKFLOW, run_id=run_id, wait_key=None, payload=payload)

    def rows(self, run_id):
        return [(str(row["status"]), row["node_id"]) for row in self.ledger.list(run_id)]

    def kinds(self, run_id):
        return [row["kind"] for row in self.runtime.get_ledger(run_id)]

    def kept_records(self, run_id):
        rows = self.ledger.list(run_id + RECORDS_SUFFIX)
        return [text.encode() for row in rows for text in row["result"]["records"]]

    def is_whole(self, run_id):
        """The records in the pair fold to the state in the pair, and are those that the runtime shows."""
        records = self.kept_records(run_id)
        assert records == list(self.runtime.store.ledger(run_id))
        folded, saved = copy_view(fold(run_id, records)), self.runs.load(run_id)
        assert (folded.status, folded.current_node) == (saved.status, saved.current_node)
        assert encode(folded.vars) == encode(saved.vars)
        return True


@pytest.fixture
def pair():
    return Pair()


ALL_ROWS = [
    ("started", "call"),
    ("completed", "call"),
    ("started", "ask"),
    ("waiting", "ask"),
    ("completed", "end"),
]


class TestARun:
    def test_it_runs_from_start_to_end_and_both_stores_show_it(self, pair):
        run_id = pair.start(actor_id="a", session_id="s")
        assert pair.runs.load(run_id).status is RunStatus.RUNNING
        assert pair.ledger.list(run_id) == []
        waiting = pair.tick(run_id)
        assert waiting.status is RunStatus.WAITING
        assert pair.runs.load(run_id).waiting.wait_key == waiting.waiting.wait_key == f"user:{run_id}:ask"
        done = pair.answer(run_id)
        saved = pair.runs.load(run_id)
        assert done.status is saved.status is RunStatus.COMPLETED
        assert saved.output == {"said": "yes"}
        assert saved.vars["context"] == {"answer": {"n": 1}}
        assert (saved.actor_id, saved.session_id) == ("a", "s")
        assert pair.rows(run_id) == ALL_ROWS
        assert pair.is_whole(run_id)

    def test_the_rows_are_those_of_0_2(self, pair):
        run_id = pair.parked()
        started, completed, _, waiting = pair.ledger.list(run_id)
        assert started["effect"] == {"type": "llm_call", "payload": {"prompt": "p"}, "result_key": "context.answer"}
        assert (started["result"], started["ended_at"], started["attempt"]) == (None, None, 1)
        assert completed["result"] == {"n": 1}
        assert completed["step_id"] == started["step_id"]
        assert completed["idempotency_key"] == started["idempotency_key"] == pair.calls[0]
        assert waiting["result"]["wait"]["prompt"] == "?"
        assert set(started) == {field.name for field in dataclasses.fields(_step_record_type())}

    def test_a_cancelled_run_stays_cancelled(self, pair):
        run_id = pair.parked()
        pair.runtime.cancel_run(run_id, reason="why")
        assert pair.tick(run_id).status is RunStatus.CANCELLED
        assert (pair.runs.load(run_id).status, pair.runs.load(run_id).error) == (RunStatus.CANCELLED, "why")

    def test_two_answers_at_once_are_one_answer(self, pair):
        run_id = pair.parked()
        outcomes, gate = [], threading.Barrier(2)

        def answer(word):
            gate.wait()
            try:
                outcomes.append(pair.answer(run_id, word).status)
            except (Conflict, NotWaiting) as error:
                outcomes.append(error)

        threads = [threading.Thread(target=answer, args=(word,)) for word in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert [outcome for outcome in outcomes if outcome is RunStatus.COMPLETED] == [RunStatus.COMPLETED]
        assert len(outcomes) == 2
        assert pair.is_whole(run_id)

    def test_a_chained_ledger_store_chains_the_rows(self):
        pair = Pair(ledger_store=HashChainedLedgerStore(InMemoryLedgerStore()))
        run_id = pair.parked()
        pair.open()
        pair.answer(run_id)
        for ledger_id in (run_id, run_id + RECORDS_SUFFIX):
            assert verify_ledger_chain(pair.ledger.list(ledger_id))["ok"]
        assert verify_ledger_chain(pair.runtime.get_ledger(run_id))["ok"]


def _step_record_type():
    from abstractruntime.legacy.records import StepRecord

    return StepRecord


class TestTheStore:
    def test_it_promises_nothing_beyond_the_required_part(self, pair):
        assert pair.runtime.store.capabilities == frozenset()

    def test_it_refuses_to_delete(self, pair):
        run_id = pair.parked()
        with pytest.raises(UsageError, match="cannot delete"):
            pair.runtime.store.delete(run_id)
        assert pair.runs.load(run_id) is not None

    def test_a_run_id_that_looks_like_a_ledger_of_records_is_refused(self, pair):
        with pytest.raises(InvalidId, match=r"x\.records"):
            pair.start(run_id="x.records")
        assert pair.runs.load("x.records") is None

    def test_an_unknown_run_is_unknown(self, pair):
        assert pair.runtime.store.load("nobody") is None
        with pytest.raises(KeyError, match="nobody"):
            pair.runtime.get_state("nobody")

    def test_a_run_id_that_stands_in_the_pair_cannot_be_started_again(self, pair):
        run_id = pair.parked()
        pair.open()
        with pytest.raises(ValueError, match=run_id):
            pair.start(run_id=run_id)
        assert pair.runtime.get_state(run_id).status is RunStatus.WAITING

    def test_runtimes_on_the_same_two_objects_share_it(self, pair):
        other = Runtime(run_store=pair.runs, ledger_store=pair.ledger)
        assert other.store is pair.runtime.store
        assert pair_store(InMemoryRunStore(), pair.ledger) is not other.store

    def test_a_closed_one_is_not_handed_out_again(self, pair):
        first = pair.runtime.store
        first.close()
        assert pair_store(pair.runs, pair.ledger) is not first

    def test_what_another_process_drove_on_is_followed_and_not_taken_for_an_edit(self, pair):
        run_id = pair.parked()
        elsewhere = Runtime(store=PairStore(pair.runs, pair.ledger))
        elsewhere.resume(workflow=WORKFLOW, run_id=run_id, wait_key=None, payload="there")
        assert pair.runtime.get_state(run_id).output == {"said": "there"}
        assert "edited" not in pair.kinds(run_id)
        assert pair.is_whole(run_id)

    def test_a_run_is_driven_by_one_of_two_runtimes_at_a_time(self, pair):
        run_id = pair.start()
        seen = []

        def look(run, effect, ctx):
            settings = RuntimeSettings(lease_wait_s=0)
            with Runtime(run_store=pair.runs, ledger_store=pair.ledger, settings=settings) as other:
                try:
                    other.tick(workflow=WORKFLOW, run_id=run_id)
                except Leased as error:
                    seen.append(error.run_id)
            return EffectOutcome.completed(1)

        handlers = {EffectType.LLM_CALL: EffectSpec(handler=look, recovery=Recovery.IDEMPOTENT)}
        with Runtime(run_store=pair.runs, ledger_store=pair.ledger, effect_handlers=handlers) as runtime:
            runtime.tick(workflow=WORKFLOW, run_id=run_id)
        assert seen == [run_id]

    def test_the_runtime_gives_the_two_stores_back(self, pair):
        assert pair.runtime.run_store is pair.runs
        assert pair.runtime.ledger_store is pair.ledger


class TestARestart:
    def test_a_waiting_run_is_answered_by_the_next_process(self, pair):
        run_id = pair.parked()
        pair.open()
        assert pair.answer(run_id).output == {"said": "yes"}
        assert pair.rows(run_id) == ALL_ROWS
        assert pair.calls == pair.calls[:1]
        assert pair.is_whole(run_id)

    def test_a_run_that_was_only_started_goes_on_at_once(self, pair):
        run_id = pair.start(queue="slow", tags=("t",))
        pair.open()
        assert pair.tick(run_id).status is RunStatus.WAITING
        head = pair.runtime.find(tags=("t",)).items[0]
        assert (head.run_id, head.projection.queue) == (run_id, "slow")

    def test_runs_of_the_pair_are_found_without_having_been_asked_for(self, pair):
        run_id = pair.parked()
        pair.open()
        assert [head.run_id for head in pair.runtime.find(status="waiting").items] == [run_id]

    def test_the_ledger_goes_on_where_it_was(self, pair):
        run_id = pair.parked()
        before = pair.kept_records(run_id)
        pair.open()
        pair.answer(run_id)
        assert pair.kept_records(run_id)[: len(before)] == before
        assert pair.kinds(run_id) == [
            "created",
            "stepped",
            "decided",
            "completed",
            "decided",
            "waiting",
            "resumed",
            "finished",
        ]

    def test_what_had_an_outcome_is_not_done_again(self, pair):
        run_id = pair.start()
        pair.runtime.tick(workflow=WORKFLOW, run_id=run_id, max_steps=2)
        pair.open()
        pair.tick(run_id)
        assert len(pair.calls) == 1

    def test_a_ledger_that_does_not_hold_together_is_a_loud_error(self, pair):
        run_id = pair.parked()
        rows = pair.ledger.list(run_id + RECORDS_SUFFIX)
        pair.ledger = InMemoryLedgerStore()
        for row in rows[:1] + rows[2:]:
            pair.ledger.append(_step_record_type()(**row))
        pair.open()
        with pytest.raises(ValueError, match=run_id):
            pair.runtime.get_state(run_id)


class FailingRuns(InMemoryRunStore):
    """Fails to save while told so."""

    failing = False

    def save(self, run):
        if self.failing:
            raise OSError("disk full")
        super().save(run)


class FailingLedger(InMemoryLedgerStore):
    """Fails to append from the n-th append on, before it does its work or after it."""

    def __init__(self):
        super().__init__()
        self.left = None
        self.lose_answer = False
        self.unreadable = False

    def append(self, record):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                if self.lose_answer:
                    super().append(record)
                raise OSError("disk full")
        super().append(record)

    def list(self, run_id):
        if self.unreadable:
            raise OSError("disk gone")
        return super().list(run_id)


class TestACrash:
    def test_a_state_one_commit_behind_is_written_after_all_and_no_edit(self, pair):
        run_id = pair.start()
        before = pair.runs.load(run_id)
        pair.tick(run_id)
        pair.open()
        ahead = pair.runs.load(run_id)
        # The tick made two commits (decision; outcome and wait): what the first of them left is one commit behind.
        one_behind = copy_view(fold(run_id, pair.kept_records(run_id)[:3]))
        assert one_behind.current_node != ahead.current_node
        assert before.current_node != one_behind.current_node
        pair.runs.save(one_behind)
        pair.open()
        assert pair.runtime.get_state(run_id).status is RunStatus.WAITING
        assert pair.runs.load(run_id).status is RunStatus.WAITING
        assert "edited" not in pair.kinds(run_id)

    def test_rows_that_are_missing_are_written_after_all(self):
        pair = Pair(ledger_store=FailingLedger())
        run_id = pair.start()
        pair.ledger.left = 4  # of the two commits of a tick: records, a row; records, one row of three
        assert pair.tick(run_id).status is RunStatus.WAITING
        pair.ledger.left = None
        assert pair.rows(run_id) == ALL_ROWS[:2]
        pair.open()
        assert pair.runtime.get_state(run_id).status is RunStatus.WAITING
        assert pair.rows(run_id) == ALL_ROWS[:4]
        assert pair.is_whole(run_id)

    def test_reading_a_run_does_not_depend_on_what_can_be_shown_of_it(self):
        pair = Pair(ledger_store=FailingLedger())
        run_id = pair.start()
        pair.ledger.left = 4
        pair.tick(run_id)
        assert pair.runtime.get_state(run_id).status is RunStatus.WAITING
        with pytest.raises(StoreError, match="disk full"):
            pair.answer(run_id)

    @pytest.mark.parametrize("appends", range(12))
    def test_wherever_the_ledger_store_fails_a_later_process_finishes_the_run(self, appends):
        pair = Pair(ledger_store=FailingLedger())
        run_id = pair.start()
        pair.ledger.left = appends
        try:
            pair.tick(run_id)
            pair.answer(run_id)
        except StoreError:
            pass
        pair.ledger.left = None
        pair.open()
        if pair.runtime.get_state(run_id).status is RunStatus.RUNNING:
            pair.tick(run_id)
        if pair.runtime.get_state(run_id).status is RunStatus.WAITING:
            pair.answer(run_id)
        assert pair.runs.load(run_id).output == {"said": "yes"}
        assert pair.rows(run_id) == ALL_ROWS
        assert "edited" not in pair.kinds(run_id)
        assert len(set(pair.calls)) == 1
        assert pair.is_whole(run_id)

    def test_a_commit_whose_answer_was_lost_counts_once(self):
        pair = Pair(ledger_store=FailingLedger())
        run_id = pair.parked()
        pair.ledger.left, pair.ledger.lose_answer = 0, True
        done = pair.answer(run_id)
        assert done.status is RunStatus.COMPLETED
        pair.ledger.left = None
        pair.open()
        assert pair.runtime.get_state(run_id).status is RunStatus.COMPLETED
        assert pair.rows(run_id) == ALL_ROWS

    def test_an_append_that_failed_leaves_nothing(self):
        pair = Pair(ledger_store=FailingLedger())
        run_id = pair.parked()
        before = pair.kept_records(run_id)
        pair.ledger.left = 0
        with pytest.raises(StoreError, match="disk full"):
            pair.answer(run_id)
        assert pair.kept_records(run_id) == before
        pair.ledger.left = None
        assert pair.answer(run_id).status is RunStatus.COMPLETED

    def test_a_ledger_that_can_neither_be_written_nor_read_leaves_it_open_until_it_can_be_read(self):
        pair = Pair(ledger_store=FailingLedger())
        run_id = pair.parked()
        pair.ledger.left, pair.ledger.lose_answer, pair.ledger.unreadable = 0, True, True
        with pytest.raises(StoreError, match="disk gone"):
            pair.answer(run_id)
        pair.ledger.left, pair.ledger.unreadable = None, False
        state = pair.runtime.get_state(run_id)
        assert state.status is RunStatus.COMPLETED
        assert state.output == {"said": "yes"}

    def test_a_state_that_could_not_be_saved_is_saved_before_the_next_commit(self, caplog):
        pair = Pair(run_store=FailingRuns())
        run_id = pair.parked()
        pair.runs.failing = True
        with caplog.at_level(logging.WARNING):
            assert pair.answer(run_id).status is RunStatus.COMPLETED
        assert "its rows or its state could not be written" in caplog.text
        pair.runs.failing = False
        assert pair.runtime.get_state(run_id).status is RunStatus.COMPLETED
        assert pair.runs.load(run_id).status is RunStatus.COMPLETED

    def test_never_more_than_one_commit_is_ahead_of_the_saved_state(self):
        pair = Pair(run_store=FailingRuns())
        run_id = pair.start()
        pair.runs.failing = True
        with pytest.raises(StoreError, match="disk full"):
            pair.tick(run_id)
        commits = len(pair.ledger.list(run_id + RECORDS_SUFFIX))
        assert commits == 2
        pair.runs.failing = False
        pair.open()
        assert pair.tick(run_id).status is RunStatus.WAITING
        assert "edited" not in pair.kinds(run_id)


class TestAnEdit:
    def edit(self, pair, run_id, **fields):
        state = pair.runs.load(run_id)
        for name, value in fields.items():
            setattr(state, name, value)
        pair.runs.save(state)

    @pytest.mark.parametrize("restart", [False, True])
    def test_changed_vars_become_a_record(self, pair, restart):
        run_id = pair.parked()
        state = pair.runs.load(run_id)
        state.vars["context"]["answer"]["n"] = 99
        del state.vars["_limits"]
        pair.runs.save(state)
        if restart:
            pair.open()
        found = pair.runtime.get_state(run_id)
        assert found.vars == {"context": {"answer": {"n": 99}}}
        assert found.waiting == state.waiting
        assert pair.kinds(run_id)[-1] == "edited"
        assert pair.answer(run_id).output == {"said": "yes"}
        assert pair.is_whole(run_id)

    def test_saving_what_was_loaded_is_no_edit(self, pair):
        run_id = pair.parked()
        state = pair.runs.load(run_id)
        state.updated_at = "2031-01-01T00:00:00+00:00"
        state.vars = dict(reversed(state.vars.items()))
        pair.runs.save(state)
        pair.runtime.get_state(run_id)
        pair.open()
        pair.runtime.get_state(run_id)
        assert "edited" not in pair.kinds(run_id)

    def test_a_run_sent_back_to_a_node_goes_on_there(self, pair):
        run_id = pair.parked()
        self.edit(pair, run_id, status=RunStatus.RUNNING, current_node="call", waiting=None)
        assert pair.tick(run_id).status is RunStatus.WAITING
        assert len(set(pair.calls)) == 2
        assert pair.kinds(run_id)[-5:] == ["edited", "decided", "completed", "decided", "waiting"]

    def test_another_question_takes_the_place_of_the_open_one(self, pair):
        run_id = pair.parked()
        wait = WaitState(
            reason=WaitReason.EVENT, wait_key="go", resume_to_node="end", result_key="said", details={"by": "hand"}
        )
        self.edit(pair, run_id, waiting=wait)
        found = pair.runtime.get_state(run_id)
        assert dataclasses.replace(found.waiting, wait_id=None) == wait
        done = pair.runtime.resume(workflow=WORKFLOW, run_id=run_id, wait_key="go", payload="gone")
        assert done.output == {"said": "gone"}

    def test_a_timer_put_in_by_hand_goes_off(self, pair):
        run_id = pair.parked()
        past = "2020-01-01T09:00:00+09:00"
        wait = WaitState(reason=WaitReason.UNTIL, until=past, resume_to_node="end", result_key="said")
        self.edit(pair, run_id, waiting=wait)
        assert pair.tick(run_id).status is RunStatus.COMPLETED

    @pytest.mark.parametrize(
        ("status", "fields"),
        [
            (RunStatus.COMPLETED, {"output": {"by": "hand"}}),
            (RunStatus.FAILED, {"error": "by hand"}),
            (RunStatus.CANCELLED, {"error": "by hand"}),
        ],
    )
    def test_a_run_may_be_ended_by_hand(self, pair, status, fields):
        run_id = pair.parked()
        self.edit(pair, run_id, status=status, waiting=None, **fields)
        found = pair.tick(run_id)
        assert found.status is status
        assert {name: getattr(found, name) for name in fields} == fields
        assert found.waiting is None
        assert pair.is_whole(run_id)

    def test_an_edit_of_a_run_that_is_at_work_waits_for_no_one_and_is_said_to_be_lost(self, pair, caplog):
        run_id = pair.start()

        def meddle(run, effect, ctx):
            self.edit(pair, run.run_id, vars={"gone": True})
            pair.runtime.get_state(run.run_id)
            return EffectOutcome.completed(1)

        handlers = {EffectType.LLM_CALL: EffectSpec(handler=meddle, recovery=Recovery.IDEMPOTENT)}
        with Runtime(run_store=pair.runs, ledger_store=pair.ledger, effect_handlers=handlers) as runtime:
            state = runtime.tick(workflow=WORKFLOW, run_id=run_id)
        assert state.status is RunStatus.WAITING
        assert "gone" not in pair.runs.load(run_id).vars
        assert "edited while it is at work" in caplog.text


class TestARunOf02:
    """States that no ledger of records belongs to: 0.2 wrote them, or a program did by hand."""

    def test_a_running_one_goes_on(self, pair):
        state = RunState.new(workflow_id="w", entry_node="call", vars={"context": {}}, actor_id="a", session_id="s")
        pair.runs.save(state)
        assert pair.tick(state.run_id).status is RunStatus.WAITING
        assert pair.kinds(state.run_id)[0] == "created"
        found = pair.runtime.get_state(state.run_id)
        assert (found.actor_id, found.session_id, found.created_at) == ("a", "s", state.created_at)
        assert pair.is_whole(state.run_id)

    def test_a_waiting_one_is_answered_and_its_old_rows_stay(self, pair):
        state = RunState.new(workflow_id="w", entry_node="ask", vars={"context": {}})
        record = _step_record_type().start(run=state, node_id="ask", effect=Effect("ask_user", {"prompt": "?"}))
        pair.ledger.append(record)
        state.status = RunStatus.WAITING
        state.waiting = WaitState(
            reason=WaitReason.USER, wait_key="k", resume_to_node="end", result_key="said", prompt="?", choices=["a"]
        )
        pair.ledger.append(record.finish_waiting(state.waiting))
        pair.runs.save(state)
        done = pair.runtime.resume(workflow=WORKFLOW, run_id=state.run_id, wait_key="k", payload="a")
        assert done.output == {"said": "a"}
        pair.open()
        assert pair.runtime.get_state(state.run_id).status is RunStatus.COMPLETED
        assert pair.rows(state.run_id)[:2] == [("started", "ask"), ("waiting", "ask")]
        assert pair.rows(state.run_id)[-1] == ("completed", "end")

    def test_a_finished_one_stays_finished(self, pair):
        state = RunState.new(workflow_id="w", entry_node="end", vars={})
        state.status, state.output = RunStatus.COMPLETED, {"o": 1}
        pair.runs.save(state)
        assert pair.tick(state.run_id).output == {"o": 1}
        assert pair.calls == []


class TestViewsOfAnotherStore:
    """`Runtime.run_store` and `Runtime.ledger_store` where there is no pair."""

    @pytest.fixture
    def runtime(self):
        handlers = {EffectType.LLM_CALL: lambda run, effect: EffectOutcome.completed(1)}
        with Runtime(store=MemoryStore(), effect_handlers=handlers) as runtime:
            yield runtime

    def parked(self, runtime, **options):
        run_id = runtime.start(workflow=WORKFLOW, vars={"context": {}}, **options)
        runtime.tick(workflow=WORKFLOW, run_id=run_id)
        return run_id

    def test_a_saved_edit_is_a_record(self, runtime):
        run_id = self.parked(runtime)
        state = runtime.run_store.load(run_id)
        state.vars["edited"] = True
        runtime.run_store.save(state)
        assert runtime.get_state(run_id).vars["edited"] is True
        assert runtime.get_ledger(run_id)[-1]["kind"] == "edited"
        length = runtime.get_state(run_id).length
        runtime.run_store.save(runtime.run_store.load(run_id))
        assert runtime.get_state(run_id).length == length

    def test_a_saved_state_without_a_ledger_begins_one(self, runtime):
        state = RunState.new(workflow_id="w", entry_node="call", vars={"context": {}})
        runtime.run_store.save(state)
        assert runtime.tick(workflow=WORKFLOW, run_id=state.run_id).status is RunStatus.WAITING

    def test_a_run_that_somebody_holds_cannot_be_edited(self, runtime):
        run_id = runtime.start(workflow=WORKFLOW, vars={})
        state = runtime.run_store.load(run_id)
        state.vars["edited"] = True
        with pytest.raises(Leased, match="cannot be edited now"):
            runtime.run_store.save(state)

    def test_runs_are_found_as_in_0_2(self, runtime):
        run_id = self.parked(runtime)
        child = self.parked(runtime, parent_run_id=run_id)
        runtime.cancel_run(child)
        runs = runtime.run_store
        assert runs.load("nobody") is None
        assert [run.run_id for run in runs.list_runs()] == [child, run_id]
        assert [run.run_id for run in runs.list_runs(limit=1)] == [child]
        assert [run.run_id for run in runs.list_runs(wait_reason=WaitReason.USER, workflow_id="w")] == [run_id]
        assert [run.run_id for run in runs.list_children(parent_run_id=run_id)] == [child]
        assert runs.list_children(parent_run_id=run_id, status=RunStatus.RUNNING) == []

    def test_due_timers_are_found(self, runtime):
        timers = {}
        for word, until in (("late", "2200-01-01T00:00:00+00:00"), ("soon", "2100-01-01T00:00:00+00:00")):
            effect = Effect(EffectType.WAIT_UNTIL, {"until": until})
            nodes = {"a": lambda run, ctx, effect=effect: StepPlan("a", effect=effect, next_node="a")}
            workflow = WorkflowSpec(word, "a", nodes)
            timers[word] = runtime.start(workflow=workflow, vars={})
            runtime.tick(workflow=workflow, run_id=timers[word])
        runs = runtime.run_store
        assert runs.list_due_wait_until(now_iso="2099-01-01T00:00:00+00:00") == []
        due = runs.list_due_wait_until(now_iso="2300-01-01T00:00:00+00:00")
        assert [run.run_id for run in due] == [timers["soon"], timers["late"]]

    def test_the_ledger_is_shown_and_cannot_be_written(self, runtime):
        run_id = self.parked(runtime)
        assert runtime.ledger_store.list(run_id) == runtime.get_ledger(run_id)
        record = _step_record_type().start(run=runtime.get_state(run_id), node_id="n", effect=None)
        with pytest.raises(UsageError, match="written by its runtime"):
            runtime.ledger_store.append(record)


def test_a_pair_store_may_be_given_a_clock():
    store = PairStore(InMemoryRunStore(), InMemoryLedgerStore(), clock=lambda: 1_000_000)
    assert store.now() == 1_000_000
