"""Messages taken in: what the word of somebody who does not hold the run becomes in its ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec.json import decode

from .codec import draft_of
from .errors import UsageError
from .journal import Header, Journal, Wait
from .limits import limits_update
from .models import Instant, RunStatus
from .store.contract import Message
from .views import clean_text

Recorder: TypeAlias = Callable[[Journal, Instant, Message, Any], str | None]


def record_message(journal: Journal, now: Instant, message: Message) -> str | None:
    """Write what the message says. None, or why it is not possible (any more); that is noted in the ledger.

    A message that cannot be recorded at all is noted too: raising, it would keep the run from ever going on.
    """
    try:
        why = TAKEN_IN[message.kind](journal, now, message, decode(message.payload))
    except UsageError as refused:
        why = clean_text(str(refused))
    if why is not None:
        journal.write_delta("noted", now, {"note": "refused", "why": why, **_from(message)}, None)
    return why


def _from(message: Message) -> Header:
    return {"message": message.id, "by": message.actor_id} if message.actor_id else {"message": message.id}


def _wait(journal: Journal, wait_id: str) -> Wait | None:
    return next((wait for wait in journal.state.waits if wait.wait_id == wait_id), None)


def _cancel(journal: Journal, now: Instant, message: Message, said: Any) -> str | None:
    if journal.state.status.is_terminal:
        return f"the run is {journal.state.status} already"
    reason = said.get("reason")
    operands = [("cause", reason)] if reason is not None else []
    journal.write_delta("cancelled", now, _from(message), None, operands=operands)
    return None


def _resume(journal: Journal, now: Instant, message: Message, said: Any) -> str | None:
    wait = _wait(journal, said["wait_id"])
    if wait is None:
        return f"wait {said['wait_id']} is not open"
    if wait.parked:
        return f"wait {wait.wait_id} is no question: the run is parked ({wait.parked}); resolve it"
    fields: Header = {"id": wait.wait_id, **_from(message)}
    journal.write_delta("resumed", now, fields, None, operands=[("answer", said["payload"])])
    return None


def _resolve(journal: Journal, now: Instant, message: Message, said: Any) -> str | None:
    wait, decision = _wait(journal, said["wait_id"]), journal.state.decision
    if wait is None or not wait.parked or decision is None:
        return f"wait {said['wait_id']} is not in doubt"
    fields: Header = {"step": decision.step, "resolves": wait.wait_id, **_from(message)}
    if said["verdict"] == "completed":
        journal.write_delta("completed", now, fields, None, operands=[("outcome", said.get("result"))])
    elif said["verdict"] == "failed":
        error = {"code": "resolved", "message": said.get("error")}
        journal.write_delta("failed", now, fields, None, operands=[("error", error)])
    else:
        journal.write_delta("reopened", now, {**fields, "attempt": journal.state.attempts + 1}, None)
    return None


def _outcome(journal: Journal, now: Instant, message: Message, said: Any) -> str | None:
    """The outcome that a fenced-off owner still held."""
    decision = journal.state.decision
    if decision is None or decision.step != said["step"]:
        journal.write_delta("noted", now, {"note": "late_outcome", **_from(message)}, None, operands=[("value", said)])
        return None
    kind, field = ("failed", "error") if "error" in said else ("completed", "outcome")
    fields: Header = {"step": decision.step, "late": True, **_from(message)}
    journal.write_delta(kind, now, fields, None, operands=[(field, said[field])])
    return None


def _limit(journal: Journal, now: Instant, message: Message, said: Any) -> str | None:
    draft = draft_of(journal.state.vars)
    limits = draft.setdefault("_limits", {})
    if not isinstance(limits, dict):
        return f"vars._limits is no dict but {type(limits).__name__}"
    limits.update(limits_update(limits, said))
    journal.write_delta("limited", now, _from(message), draft)
    return None


def _retry(journal: Journal, now: Instant, message: Message, said: Any) -> str | None:
    if journal.state.status is not RunStatus.FAILED:
        return f"the run is {journal.state.status}, not failed"
    journal.write_delta("retried", now, _from(message), None)
    return None


TAKEN_IN: dict[str, Recorder] = {
    "cancel": _cancel,
    "resume": _resume,
    "resolve": _resolve,
    "outcome": _outcome,
    "limits": _limit,
    "retry": _retry,
}
"""The kinds of messages that the engine takes in. Others stay in the inbox."""
