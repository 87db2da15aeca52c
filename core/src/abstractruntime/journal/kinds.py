"""The kinds of records of format 1, and what each does to the state. Closed: other kinds are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from ..codec import apply_ops, encode, set_dotted, thaw
from ..codec.delta import resolve_refs
from ..errors import LedgerCorrupt
from ..models import Instant, JsonDict, JsonValue, Recovery, RunStatus, WaitReason
from .state import Decision, Folded, Wait

Header: TypeAlias = dict[str, Any]
Values: TypeAlias = Sequence[JsonValue]
Fold: TypeAlias = Callable[[Folded, Header, Values], None]


def _created(state: Folded, header: Header, values: Values) -> None:
    state.workflow_id = header["workflow"]
    state.workflow_version = header.get("version", "")
    state.node = header["node"]
    state.actor_id = header.get("actor")
    state.session_id = header.get("session")
    state.parent_run_id = header.get("parent")
    state.root_run_id = header.get("root", state.run_id)
    state.queue = header.get("queue", "default")
    state.priority = header.get("priority", 0)
    state.partition_key = header.get("partition")
    state.tags = list(header.get("tags", ()))
    state.created_at = state.since = header["at"]


def _visited(state: Folded, header: Header) -> None:
    """What all records share that end the visit of a node."""
    node = header["node"]
    state.step = header["step"]
    state.visits[node] = state.visits.get(node, 0) + 1
    state.attempts = 0
    state.node = node


def apply_delta(state: Folded, header: Header, values: Values) -> None:
    """The delta of a record, the same for every kind; what its kind does to the other registers comes after it.

    What operands leave out is filled in from the state before the delta. A payload refers to the state after the delta
    of its own record; an open one is filled in before a later delta changes what it refers to.
    """
    refs = header.get("refs")
    if refs:
        payload = header.get("payload")
        resolve_refs(state.vars, [ref for ref in refs if ref[0] != payload], values)
    ops = header.get("ops")
    if ops:
        if state.decision is not None and header["kind"] not in _CLOSING:
            settle_payload(state)
        apply_ops(state.vars, ops, values)


_CLOSING = frozenset(("completed", "failed", "cancelled"))
"""Kinds after which nobody asks for the open decision's payload."""


def settle_payload(state: Folded) -> None:
    """An open decision's payload refers to ``vars``: fill it in before they change."""
    decision = state.decision
    if decision is not None and decision.refs:
        decision.payload, decision.refs = whole_payload(state, decision), []


def whole_payload(state: Folded, decision: Decision) -> dict[str, Any]:
    """A copy of the open decision's payload with all that it refers to. The state stays as its records made it."""
    whole: list[JsonValue] = [cast(JsonDict, thaw(decision.payload))]
    resolve_refs(state.vars, [[0, *ref[1:]] for ref in decision.refs], whole)
    return cast(JsonDict, whole[0])


_RECOVERIES = {recovery.value: recovery for recovery in Recovery}


def _stepped(state: Folded, header: Header, values: Values) -> None:
    _visited(state, header)
    state.node = header["next"]


def _decided(state: Folded, header: Header, values: Values) -> None:
    _visited(state, header)
    payload = header.get("payload")
    state.decision = Decision(
        step=header["step"],
        node=header["node"],
        effect=header["effect"],
        payload={} if payload is None else cast(JsonDict, values[payload]),
        refs=[ref for ref in header["refs"] if ref[0] == payload] if "refs" in header else [],
        result_key=header.get("result_key"),
        next_node=header.get("next"),
        recovery=_RECOVERIES[header["recovery"]],
        costly=header.get("costly", False),
        timeout_us=header["timeout_us"],
        at=header["at"],
        key=header.get("key"),
    )


def _completed(state: Folded, header: Header, values: Values) -> None:
    decision = _open_decision(state, header)
    state.decision = None
    if decision.result_key is not None:
        set_dotted(state.vars, decision.result_key, values[header["outcome"]])
    _go_on(state, decision.next_node, header["at"])


def _go_on(state: Folded, node: str | None, at: Instant) -> None:
    state.attempts = 0
    state.waits = []
    state.node = node or state.node
    _enter(state, RunStatus.RUNNING, at)


def _failed(state: Folded, header: Header, values: Values) -> None:
    """A node raised (``node`` stands in the header), or an effect failed for good."""
    if "node" in header:
        _visited(state, header)
    else:
        state.node = _open_decision(state, header).node
    _end(state, RunStatus.FAILED, header["at"])
    error = values[header["error"]]
    message = error.get("message") if isinstance(error, dict) else None
    state.error = message if isinstance(message, str) else _said(error)


def _interrupted(state: Folded, header: Header, values: Values) -> None:
    _open_decision(state, header).idle = True
    state.attempts = header.get("attempt", state.attempts + 1)


def _waiting(state: Folded, header: Header, values: Values) -> None:
    """The outcome of an effect is a wait. What the wait does not say itself stands in the payload."""
    decision = _open_decision(state, header)
    own = cast(JsonDict, values[header["wait"]]) if "wait" in header else whole_payload(state, decision)
    wait = Wait(
        wait_id=header["id"],
        reason=WaitReason(header["reason"]),
        wait_key=header.get("wait_key", ""),
        until=header.get("until"),
        resume_to_node=header.get("next", decision.next_node),
        result_key=header.get("result_key", decision.result_key),
        prompt=_text(own.get("prompt")),
        choices=_texts(own.get("choices")),
        allow_free_text=bool(own.get("allow_free_text", True)),
        details=cast("JsonDict | None", thaw(own.get("details"))) if isinstance(own.get("details"), dict) else None,
    )
    state.decision = None
    state.waits = [wait]
    _enter(state, RunStatus.WAITING, header["at"])


def _said(value: JsonValue) -> str:
    """Text as it is, anything else (a marker) as its JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: JsonValue) -> list[str] | None:
    if not isinstance(value, list):
        return None
    return [_said(item) for item in value]


def _parked(state: Folded, header: Header, values: Values) -> None:
    """The engine cannot go on by itself; the decision stays open."""
    _open_decision(state, header).idle = True
    state.attempts = header.get("attempt", state.attempts + 1)
    wait = Wait(
        wait_id=header["id"],
        reason=WaitReason.JOB,
        wait_key=header["wait_key"],
        details=cast(JsonDict, values[header["evidence"]]),
        parked=header["why"],
    )
    state.waits = [wait]
    _enter(state, RunStatus.WAITING, header["at"])


def _resumed(state: Folded, header: Header, values: Values) -> None:
    wait = _open_wait(state, header)
    if wait.result_key is not None:
        set_dotted(state.vars, wait.result_key, values[header["answer"]])
    _go_on(state, wait.resume_to_node, header["at"])


def _fired(state: Folded, header: Header, values: Values) -> None:
    _resumed(state, header, values)


def _reopened(state: Folded, header: Header, values: Values) -> None:
    """What was in doubt is known not to have been done. ``acting``: the writer of this record does it now."""
    decision = _open_decision(state, header)
    acting = header.get("acting", False)
    decision.at = header["at"]
    decision.idle = decision.cleared = not acting
    state.attempts = header["attempt"] - 1
    state.waits = []
    _enter(state, RunStatus.RUNNING, header["at"])


def _finished(state: Folded, header: Header, values: Values) -> None:
    _visited(state, header)
    _end(state, RunStatus.COMPLETED, header["at"])
    state.output = cast(JsonDict, values[header["output"]])


def _cancelled(state: Folded, header: Header, values: Values) -> None:
    _end(state, RunStatus.CANCELLED, header["at"])
    if "cause" in header:
        state.error = _said(values[header["cause"]])


def _retried(state: Folded, header: Header, values: Values) -> None:
    state.error = None
    _enter(state, RunStatus.RUNNING, header["at"])


def _edited(state: Folded, header: Header, values: Values) -> None:
    """Somebody changed the run by hand: the delta, and where the record names them, node, status and error."""
    state.node = header.get("node", state.node)
    if "status" in header:
        _end(state, RunStatus(header["status"]), header["at"])
    if "cause" in header:
        state.error = _text(values[header["cause"]])


def _migrated(state: Folded, header: Header, values: Values) -> None:
    state.workflow_version = header["version"]
    state.node = header.get("node", state.node)


def _forked(state: Folded, header: Header, values: Values) -> None:
    """The first record of a fork: the origin's state under the fork's own id, its ``vars`` as the delta."""
    origin = msgspec.convert({**cast(JsonDict, values[header["state"]]), "run_id": state.run_id}, Folded)
    for field in Folded.__struct_fields__:
        if field not in ("run_id", "vars", "format", "length", "head_hash"):
            setattr(state, field, getattr(origin, field))
    state.root_run_id = header.get("root", state.run_id)
    state.parent_run_id = header.get("parent")
    state.created_at = state.since = header["at"]


def _nothing(state: Folded, header: Header, values: Values) -> None:
    """Changes no register beyond its delta."""


def _end(state: Folded, status: RunStatus, at: Instant) -> None:
    state.decision = None
    state.waits = []
    state.attempts = 0
    _enter(state, status, at)


def _enter(state: Folded, status: RunStatus, at: Instant) -> None:
    if state.status is not status:
        state.status = status
        state.since = at


def _open_decision(state: Folded, header: Header) -> Decision:
    decision = state.decision
    if decision is None or decision.step != header["step"]:
        raise LedgerCorrupt(f"record {header['seq']} of run {state.run_id} is an outcome of no open decision")
    return decision


def _open_wait(state: Folded, header: Header) -> Wait:
    for wait in state.waits:
        if wait.wait_id == header["id"]:
            return wait
    raise LedgerCorrupt(
        f"record {header['seq']} of run {state.run_id} answers wait {header['id']!r}, which is not open"
    )


FOLDS: dict[str, Fold] = {
    "created": _created,
    "stepped": _stepped,
    "decided": _decided,
    "completed": _completed,
    "failed": _failed,
    "interrupted": _interrupted,
    "waiting": _waiting,
    "parked": _parked,
    "resumed": _resumed,
    "fired": _fired,
    "reopened": _reopened,
    "finished": _finished,
    "cancelled": _cancelled,
    "retried": _retried,
    "limited": _nothing,
    "edited": _edited,
    "migrated": _migrated,
    "forked": _forked,
    "paused": _nothing,
    "unpaused": _nothing,
    "moved": _nothing,
    "erased": _nothing,
    "noted": _nothing,
    "checkpoint": _nothing,
}
"""The kinds of format 1 and what each does to the state. Closed: a kind that is not here is refused."""
