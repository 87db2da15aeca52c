"""The proof, from the ledgers and the payments file: each accepted invoice was paid exactly once, no other at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from payments import Payment
from workflow import RECORD_PAYMENT

from abstractruntime import RunState, RunStatus, Runtime, verify_ledger_chain
from abstractruntime.models import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """What the ledger of one run says, and the payments that stand in the file under its id.

    `decided`, `completed`: idempotency keys of its payment effects, one per record. `reconciled`: those whose outcome a
    take-over found in the file. `work_ms`: time between decision and outcome, waiting for a person left out.
    """

    state: RunState
    decided: tuple[str, ...]
    completed: tuple[str, ...]
    reconciled: tuple[str, ...]
    paid: tuple[Payment, ...]
    chain_ok: bool
    records: int
    work_ms: float

    @property
    def file(self) -> str:
        return str(self._context["file"])

    @property
    def finished(self) -> bool:
        return self.state.status is RunStatus.COMPLETED

    @property
    def accepted(self) -> bool:
        return self._context.get("accepted") is True

    @property
    def decided_by(self) -> str:
        return str(self._context.get("decided_by") or "–")

    @property
    def invoice(self) -> Mapping[str, object]:
        return cast("JsonDict", self._context.get("invoice") or {})

    @property
    def _context(self) -> JsonDict:
        return cast("JsonDict", self.state.vars["context"])


def gather(runtime: Runtime, run_ids: Sequence[str], payments: Sequence[Payment]) -> list[RunEvidence]:
    """Return the evidence of every run, in the order of `run_ids`."""
    return [_evidence(runtime, run_id, payments) for run_id in run_ids]


def contradictions(evidence: Sequence[RunEvidence], payments: Sequence[Payment]) -> list[str]:
    """Return what speaks against the claim. An empty list is the proof, once every run is finished."""
    found = [f"{one.file}: {reason}" for one in evidence for reason in _objections(one)]
    known = {one.state.run_id for one in evidence}
    strangers = [payment.key for payment in payments if payment.run_id not in known]
    found += [f"payment {key} belongs to no run of this batch" for key in strangers]
    counts = Counter(payment.key for payment in payments)
    return found + [f"payment {key} stands {count} times in the file" for key, count in counts.items() if count > 1]


def _objections(one: RunEvidence) -> list[str]:
    if not one.finished and not one.paid:
        return []
    wanted = 1 if one.accepted else 0
    objections = []
    if len(one.completed) != wanted:
        objections.append(f"its ledger has {len(one.completed)} completed payments, not {wanted}")
    if len(one.paid) != wanted:
        objections.append(f"the payments file has {len(one.paid)} payments of it, not {wanted}")
    if [payment.key for payment in one.paid] != list(one.completed):
        objections.append("ledger and payments file name different keys")
    if any(_terms(payment) != one.invoice for payment in one.paid):
        objections.append("what was paid is not what was approved")
    if not one.chain_ok:
        objections.append("the hash chain of its ledger is broken")
    return objections


def _terms(payment: Payment) -> dict[str, object]:
    return {
        "vendor": payment.vendor,
        "total": payment.total,
        "currency": payment.currency,
        "due_date": payment.due_date,
    }


def _evidence(runtime: Runtime, run_id: str, payments: Sequence[Payment]) -> RunEvidence:
    rows = runtime.get_ledger(run_id)
    outcomes = [row for row in rows if row["kind"] == "completed"]
    of_payment = [row for row in rows if _effect_type(row) == RECORD_PAYMENT]
    completed = [row for row in of_payment if row["kind"] == "completed"]
    return RunEvidence(
        state=runtime.get_state(run_id),
        decided=tuple(_key(row) for row in of_payment if row["kind"] == "decided"),
        completed=tuple(_key(row) for row in completed),
        reconciled=tuple(_key(row) for row in completed if json.loads(str(row["header"])).get("reconciled")),
        paid=tuple(payment for payment in payments if payment.run_id == run_id),
        chain_ok=bool(verify_ledger_chain(rows)["ok"]),
        records=len(rows),
        work_ms=sum(_elapsed_ms(row) for row in outcomes),
    )


def _effect_type(row: JsonDict) -> str | None:
    effect = row["effect"]
    return str(effect["type"]) if isinstance(effect, dict) else None


def _key(row: JsonDict) -> str:
    return str(row["idempotency_key"])


def _elapsed_ms(row: JsonDict) -> float:
    begun, ended = (datetime.fromisoformat(str(row[name])) for name in ("started_at", "ended_at"))
    return (ended - begun).total_seconds() * 1000
