"""The two in-memory roles of 0.2, by themselves."""

import dataclasses

import pytest

from abstractruntime import (
    Effect,
    HashChainedLedgerStore,
    InMemoryLedgerStore,
    InMemoryRunStore,
    LedgerStore,
    QueryableRunStore,
    RunState,
    RunStatus,
    RunStore,
    WaitReason,
    WaitState,
    verify_ledger_chain,
)
from abstractruntime.errors import InvalidInstant, InvalidValue
from abstractruntime.legacy.records import DefaultRunContext, StepRecord, utc_now
from abstractruntime.models import StepStatus, parse_instant


def run(run_id="r", **fields):
    made = RunState.new(workflow_id="w", entry_node="n")
    for name, value in {"run_id": run_id, **fields}.items():
        setattr(made, name, value)
    return made


def at(hour, offset="+00:00"):
    return f"2026-01-01T{hour:02}:00:00{offset}"


def waiting_until(run_id, until):
    wait = WaitState(reason=WaitReason.UNTIL, until=until)
    return run(run_id, status=RunStatus.WAITING, waiting=wait)


def ids(runs):
    return [found.run_id for found in runs]


@pytest.fixture
def runs():
    return InMemoryRunStore()


class TestRunStore:
    def test_it_plays_both_roles(self, runs):
        assert isinstance(runs, RunStore)
        assert isinstance(runs, QueryableRunStore)

    def test_what_is_saved_and_what_is_loaded_are_copies(self, runs):
        given = run(vars={"context": {"n": 1}}, output={"o": []})
        runs.save(given)
        given.vars["context"]["n"] = 2
        given.output["o"].append(1)
        loaded = runs.load("r")
        assert (loaded.vars, loaded.output) == ({"context": {"n": 1}}, {"o": []})
        loaded.vars["context"]["n"] = 3
        assert runs.load("r").vars == {"context": {"n": 1}}

    def test_the_choices_and_details_of_a_wait_are_copies_too(self, runs):
        wait = WaitState(reason=WaitReason.USER, choices=["a"], details={"d": {}})
        runs.save(run(waiting=wait))
        wait.choices.append("b")
        runs.load("r").waiting.details["d"]["x"] = 1
        assert runs.load("r").waiting == WaitState(reason=WaitReason.USER, choices=["a"], details={"d": {}})

    def test_an_unknown_run_is_none(self, runs):
        assert runs.load("nobody") is None

    @pytest.mark.parametrize("value", [object(), float("nan"), {1: 2}, b"x"])
    def test_what_is_no_json_is_refused_by_its_path_and_nothing_is_saved(self, runs, value):
        runs.save(run(vars={"a": 1}))
        with pytest.raises(InvalidValue, match=r"vars\.a\[1\]"):
            runs.save(run(vars={"a": [0, value]}))
        assert runs.load("r").vars == {"a": 1}

    def test_a_time_without_an_offset_is_refused(self, runs):
        with pytest.raises(InvalidInstant):
            runs.save(waiting_until("r", "2026-01-01T00:00:00"))
        assert runs.load("r") is None

    def test_runs_are_listed_by_their_last_update_as_instants(self, runs):
        runs.save(run("early", updated_at=at(12, "+09:00")))  # 03:00 in UTC
        runs.save(run("late", updated_at=at(4)))
        assert ids(runs.list_runs()) == ["late", "early"]
        assert ids(runs.list_runs(limit=1)) == ["late"]
        assert ids(runs.list_runs(limit=0)) == []

    def test_listing_takes_all_conditions_together(self, runs):
        wait = WaitState(reason=WaitReason.USER, wait_key="k")
        runs.save(run("a", status=RunStatus.WAITING, waiting=wait))
        runs.save(run("b", status=RunStatus.WAITING, waiting=dataclasses.replace(wait, reason=WaitReason.EVENT)))
        runs.save(run("c", workflow_id="other"))
        assert ids(runs.list_runs(status=RunStatus.WAITING, wait_reason=WaitReason.USER, workflow_id="w")) == ["a"]
        assert ids(runs.list_runs(workflow_id="other")) == ["c"]
        assert ids(runs.list_runs(status=RunStatus.RUNNING, wait_reason=WaitReason.USER)) == []

    def test_due_timers_are_compared_as_instants_and_come_earliest_first(self, runs):
        runs.save(waiting_until("past", at(9, "+09:00")))  # midnight in UTC
        runs.save(waiting_until("now", at(5)))
        runs.save(waiting_until("future", at(3, "-09:00")))  # noon in UTC
        runs.save(run("running"))
        runs.save(run("event", status=RunStatus.WAITING, waiting=WaitState(reason=WaitReason.EVENT)))
        assert ids(runs.list_due_wait_until(now_iso=at(5))) == ["past", "now"]
        assert ids(runs.list_due_wait_until(now_iso=at(5), limit=1)) == ["past"]

    def test_children_are_found_by_their_parent(self, runs):
        runs.save(run("second", parent_run_id="p", created_at=at(2)))
        runs.save(run("first", parent_run_id="p", created_at=at(1), status=RunStatus.FAILED))
        runs.save(run("other", parent_run_id="q"))
        assert ids(runs.list_children(parent_run_id="p")) == ["first", "second"]
        assert ids(runs.list_children(parent_run_id="p", status=RunStatus.FAILED)) == ["first"]


class TestLedgerStore:
    def test_rows_are_copies_in_the_order_they_came(self):
        ledger = InMemoryLedgerStore()
        record = StepRecord.start(run=run(), node_id="n", effect=Effect("llm_call", {"p": [1]}, "k"), attempt=2)
        ledger.append(record)
        ledger.append(record.finish_success({"ok": True}))
        record.effect["payload"]["p"].append(2)
        rows = ledger.list("r")
        assert [row["status"] for row in rows] == ["started", "completed"]
        assert [row["status"] for row in rows] == [StepStatus.STARTED, StepStatus.COMPLETED]
        assert rows[0]["effect"] == {"type": "llm_call", "payload": {"p": [1]}, "result_key": "k"}
        rows[0]["effect"]["payload"]["p"].append(3)
        assert ledger.list("r")[0]["effect"]["payload"] == {"p": [1]}

    def test_a_row_has_the_fields_of_0_2(self):
        ledger = InMemoryLedgerStore()
        ledger.append(StepRecord.start(run=run(actor_id="a", session_id="s"), node_id="n", effect=None))
        (row,) = ledger.list("r")
        assert set(row) == {
            *("run_id", "step_id", "node_id", "status", "effect", "result", "error", "started_at", "ended_at"),
            *("actor_id", "session_id", "attempt", "idempotency_key", "prev_hash", "record_hash", "signature"),
        }
        assert (row["actor_id"], row["session_id"], row["attempt"], row["ended_at"]) == ("a", "s", 1, None)

    def test_an_unknown_run_has_no_rows(self):
        assert InMemoryLedgerStore().list("nobody") == []

    def test_a_row_that_is_no_json_is_refused(self):
        with pytest.raises(InvalidValue, match=r"record\.result\.x"):
            InMemoryLedgerStore().append(step().finish_success({"x": object()}))


def step():
    return StepRecord.start(run=run(), node_id="n", effect=None)


class TestStepRecord:
    def test_a_failure_keeps_its_reason(self):
        failed = step().finish_failure("no")
        assert (failed.status, failed.error) == (StepStatus.FAILED, "no")
        assert parse_instant(failed.started_at) <= parse_instant(failed.ended_at)

    def test_a_wait_is_described_in_the_result(self):
        waiting = step().finish_waiting(WaitState(reason=WaitReason.USER, wait_key="k", prompt="?", choices=["a"]))
        assert waiting.status == StepStatus.WAITING
        described = waiting.result["wait"]
        assert type(described["reason"]) is str
        assert (described["reason"], described["wait_key"], described["prompt"]) == ("user", "k", "?")
        assert (described["choices"], described["allow_free_text"], described["until"]) == (["a"], True, None)

    def test_each_step_has_an_id_of_its_own(self):
        assert step().step_id != step().step_id

    def test_the_clock_is_utc(self):
        assert utc_now().utcoffset().total_seconds() == 0
        parse_instant(DefaultRunContext().now_iso())


class TestChainedLedgerStore:
    def test_it_chains_without_changing_the_record_it_is_given(self):
        record = step()
        ledger = HashChainedLedgerStore(InMemoryLedgerStore())
        ledger.append(record)
        assert record.record_hash is None
        assert ledger.list("r")[0]["record_hash"]
        assert isinstance(ledger, LedgerStore)

    def test_each_run_has_a_chain_of_its_own(self):
        ledger = HashChainedLedgerStore(InMemoryLedgerStore())
        for run_id in ("a", "b", "a"):
            ledger.append(dataclasses.replace(step(), run_id=run_id))
        assert verify_ledger_chain(ledger.list("a"))["ok"]
        assert [row["prev_hash"] for row in ledger.list("b")] == [None]

    def test_two_chains_over_one_store_are_one_chain(self):
        inner = InMemoryLedgerStore()
        one, other = HashChainedLedgerStore(inner), HashChainedLedgerStore(inner)
        for ledger in (one, other, one, other):
            ledger.append(step())
        report = verify_ledger_chain(inner.list("r"))
        assert (report["ok"], report["count"]) == (True, 4)

    def test_a_chain_is_carried_on_where_an_earlier_process_left_it(self):
        inner = InMemoryLedgerStore()
        HashChainedLedgerStore(inner).append(step())
        later = InMemoryLedgerStore()
        for row in inner.list("r"):
            later.append(StepRecord(**row))
        HashChainedLedgerStore(later).append(step())
        assert verify_ledger_chain(later.list("r"))["ok"]
