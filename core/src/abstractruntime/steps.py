"""The ledger as rows of steps: what `get_ledger` gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from msgspec import Struct

from .codec import OpenedRecord, open_record, thaw
from .codec.record import header_line
from .journal import Decision, Folded, fold_record, whole_payload
from .models import Instant, JsonDict, JsonValue, StepStatus, instant_text
from .retry import step_key

OUTCOMES = {
    "completed": StepStatus.COMPLETED,
    "finished": StepStatus.COMPLETED,
    "stepped": StepStatus.COMPLETED,
    "failed": StepStatus.FAILED,
    "waiting": StepStatus.WAITING,
}
"""Kinds that end a step or park it, and the status of their row."""


def ledger_rows(records: Iterable[bytes], state: Folded | None = None) -> list[JsonDict]:
    """A `StepRecord` dict per decision (``started``) and per outcome, and one for every other record, in order.

    Rows carry ``kind``, ``seq`` and ``header`` (the hashed text) beside the fields of `StepRecord`; ``status`` is None
    for records that are no step. The ledger is folded on the way, so damage raises `LedgerCorrupt`. ``state``: what the
    records follow, folded further in place; None where they begin the ledger.
    """
    rows: list[JsonDict] = []
    asked = _Asked.of(state) if state is not None else None
    for data in records:
        record = open_record(data)
        state = state or Folded(run_id=cast(str, record.header.get("run")), workflow_id="")
        fold_record(state, record)
        if record.header["kind"] == "decided":
            asked = _Asked.of(state)
        concerned = asked if asked is not None and asked.decision.step == record.header.get("step") else None
        rows.append(_row(state, concerned, record, header_line(data)))
    return rows


class _Asked(Struct):
    """A decision and its payload as it was when it was decided: later records change what it refers to."""

    decision: Decision
    effect: JsonDict

    @classmethod
    def of(cls, state: Folded) -> _Asked | None:
        decision = state.decision
        if decision is None:
            return None
        payload = whole_payload(state, decision)
        return cls(decision, {"type": decision.effect, "payload": payload, "result_key": decision.result_key})


def _row(state: Folded, asked: _Asked | None, record: OpenedRecord, header_text: str) -> JsonDict:
    header: dict[str, Any] = record.header
    kind, step = header["kind"], header.get("step")
    decision = asked.decision if asked is not None else None
    at = instant_text(Instant(header["at"]))
    started = kind == "decided"
    return {
        "run_id": state.run_id,
        "step_id": f"{state.run_id}:{step}" if step is not None else None,
        "node_id": header.get("node", decision.node if decision else state.node),
        "status": StepStatus.STARTED.value if started else _status(kind),
        "effect": cast(JsonDict, thaw(asked.effect)) if asked is not None else None,
        "result": _result(state, kind, record),
        "error": _error(kind, record),
        "error_details": _error_details(record),
        "started_at": instant_text(decision.at) if decision else at,
        "ended_at": None if started else at,
        "actor_id": header.get("by", state.actor_id),
        "session_id": state.session_id,
        "attempt": header.get("attempt", 1),
        "idempotency_key": (decision.key or step_key(state.run_id, decision.step)) if decision else None,
        "prev_hash": header["prev"] or None,
        "record_hash": record.record_hash,
        "signature": record.signature,
        "kind": kind,
        "seq": header["seq"],
        "header": header_text,
    }


def _status(kind: str) -> str | None:
    status = OUTCOMES.get(kind)
    return status.value if status else None


def _result(state: Folded, kind: str, record: OpenedRecord) -> JsonValue:
    header: dict[str, Any] = record.header
    for field in ("outcome", "output", "answer", "evidence", "value"):
        if field in header:
            return thaw(record.values[header[field]])
    if kind == "waiting" and state.waits:
        wait = state.waits[0]
        return {
            "wait": {
                "reason": wait.reason.value,
                "wait_key": wait.wait_key,
                "until": None if wait.until is None else instant_text(wait.until),
                "resume_to_node": wait.resume_to_node,
                "result_key": wait.result_key,
                "prompt": wait.prompt,
                "choices": cast(JsonValue, wait.choices),
                "allow_free_text": wait.allow_free_text,
                "details": thaw(wait.details),
            }
        }
    return None


def _error_details(record: OpenedRecord) -> JsonValue:
    """The whole of what went wrong: code, type, message, hint and traceback; None where nothing did."""
    index = record.header.get("error")
    return thaw(record.values[index]) if isinstance(index, int) else None


def _error(kind: str, record: OpenedRecord) -> JsonValue:
    """The text of what went wrong; the whole of it, traceback included, stands in the record."""
    header: dict[str, Any] = record.header
    for field in ("error", "cause"):
        if field in header:
            error = record.values[header[field]]
            return error.get("message") if isinstance(error, dict) else error
    return None
