import copy
import hashlib
import json

import pytest

from abstractruntime import (
    Effect,
    HashChainedLedgerStore,
    InMemoryLedgerStore,
    InMemoryRunStore,
    RunState,
    Runtime,
    StepPlan,
    WorkflowSpec,
    verify_ledger_chain,
)
from abstractruntime.legacy.chain import compute_record_hash
from abstractruntime.legacy.records import StepRecord

SEED_HASH = "07a27c15cb5017b04e0eaf34dbfa3b9e2e6fb24b12bbe837220e0b8dca1993a0"  # computed by 0.2.0


def chained(count=3):
    store = HashChainedLedgerStore(InMemoryLedgerStore())
    run = RunState.new(workflow_id="w", entry_node="n")
    for number in range(count):
        effect = Effect("llm_call", {"prompt": "é", "n": number}, "answer")
        store.append(StepRecord.start(run=run, node_id="n", effect=effect).finish_success({"number": number}))
    return store.list(run.run_id)


def native():
    workflow = WorkflowSpec(
        "w",
        "a",
        {
            "a": lambda run, ctx: StepPlan("a", effect=Effect("ask_user", {"prompt": "é?"}), next_node="b"),
            "b": lambda run, ctx: StepPlan("b", complete_output={}),
        },
    )
    with Runtime(InMemoryRunStore(), InMemoryLedgerStore()) as runtime:
        run_id = runtime.start(workflow=workflow)
        state = runtime.tick(workflow=workflow, run_id=run_id)
        runtime.resume(workflow=workflow, run_id=run_id, wait_key=state.waiting.wait_key, payload="yes")
        return runtime.get_ledger(run_id)


def errors(rows, **anchors):
    return [(error["index"], error["type"]) for error in verify_ledger_chain(rows, **anchors)["errors"]]


def changed(rows, index, **fields):
    rows = copy.deepcopy(rows)
    rows[index].update(fields)
    return rows


def test_the_hash_is_over_the_canonical_json_of_0_2():
    row = chained(1)[0]
    hashed = {key: value for key, value in row.items() if key not in ("record_hash", "signature")}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert row["record_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert row["prev_hash"] is None


def test_a_row_that_was_hashed_by_0_2_still_has_its_hash():
    row = {
        "run_id": "r", "step_id": "s", "node_id": "n", "status": "completed",
        "effect": {"type": "llm_call", "payload": {"prompt": "é"}, "result_key": None},
        "result": {"n": 1.5}, "error": None, "started_at": "2025-01-01T00:00:00+00:00",
        "ended_at": "2025-01-01T00:00:01+00:00", "actor_id": None, "session_id": None, "attempt": 1,
        "idempotency_key": "k", "prev_hash": None, "signature": None,
    }  # fmt: skip
    assert compute_record_hash(record=row, prev_hash=None) == SEED_HASH


@pytest.mark.parametrize("rows", [chained(), native()], ids=["0.2", "native"])
class TestChain:
    def test_an_honest_chain_is_in_order(self, rows):
        assert verify_ledger_chain(rows) == {
            "ok": True,
            "count": len(rows),
            "errors": [],
            "first_bad_index": None,
            "head_hash": rows[-1]["record_hash"],
            "computed_head_hash": rows[-1]["record_hash"],
        }

    def test_a_missing_hash_ends_what_can_be_checked(self, rows):
        report = verify_ledger_chain(changed(rows, 1, record_hash=None))
        assert report["errors"] == [{"index": 1, "type": "missing_record_hash"}]
        assert report["computed_head_hash"] == rows[0]["record_hash"]

    def test_another_hash_breaks_its_row_and_the_next(self, rows):
        forged = "f" * 64
        report = verify_ledger_chain(changed(rows, 1, record_hash=forged))
        assert report["errors"] == [
            {"index": 1, "type": "record_hash_mismatch", "stored": forged, "computed": rows[1]["record_hash"]},
            {
                "index": 2,
                "type": "prev_hash_mismatch",
                "expected_prev_hash": forged,
                "actual_prev_hash": rows[1]["record_hash"],
            },
        ]
        assert report["first_bad_index"] == 1

    def test_the_first_bad_row_may_be_the_very_first(self, rows):
        bad = changed(changed(rows, 0, record_hash="f" * 64), 2, record_hash="e" * 64)
        assert verify_ledger_chain(bad)["first_bad_index"] == 0

    def test_a_row_taken_out_of_the_middle_is_seen(self, rows):
        assert errors([rows[0], *rows[2:]]) == [(1, "prev_hash_mismatch")]

    def test_a_missing_beginning_is_seen(self, rows):
        assert errors(rows[1:])[0] == (0, "prev_hash_mismatch")

    def test_a_cut_tail_is_seen_against_a_known_head_or_count(self, rows):
        head, count = rows[-1]["record_hash"], len(rows)
        assert errors(rows[:-1]) == []
        assert errors(rows[:-1], expected_head=head) == [(count - 2, "head_hash_missing")]
        assert errors(rows[:-1], expected_count=count) == [(count - 1, "rows_missing")]
        assert errors(rows, expected_head=head, expected_count=count) == []

    def test_a_head_that_was_known_earlier_need_not_be_the_last(self, rows):
        assert errors(rows, expected_head=rows[0]["record_hash"], expected_count=1) == []

    def test_a_ledger_that_was_taken_away_is_seen_against_a_known_head(self, rows):
        assert errors([], expected_head=rows[-1]["record_hash"]) == [(0, "head_hash_missing")]


def test_no_rows_are_an_honest_chain():
    assert verify_ledger_chain([]) == {
        "ok": True,
        "count": 0,
        "errors": [],
        "first_bad_index": None,
        "head_hash": None,
        "computed_head_hash": None,
    }


def test_a_changed_value_of_a_0_2_row_is_seen():
    assert errors(changed(chained(), 2, result={"number": 9})) == [(2, "record_hash_mismatch")]


def test_a_changed_header_is_seen():
    rows = native()
    header = rows[1]["header"].replace('"kind"', '"Kind"')
    assert errors(changed(rows, 1, header=header)) == [(1, "record_hash_mismatch")]


def test_a_ledger_written_anew_is_seen_against_a_known_head():
    rows, forged = chained(), chained()
    assert errors(forged) == []
    assert errors(forged, expected_head=rows[-1]["record_hash"]) == [(2, "head_hash_missing")]
