"""The ledger folded into a state: the only place where the state of a run is computed. Pure.

A run is its ledger: `fold` reads records one after the other into a `Folded` state. A `Journal` holds such a state and
writes further records: each is sealed under the hash of the one before and folded by the same code that reads it back,
so a run that lives and a run that is replayed cannot differ.

The kinds of records and their fields are specified in `docs/reference/record-format.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from .codec import (
    FORMAT,
    DraftDict,
    DraftList,
    OpenedRecord,
    Op,
    Ref,
    apply_ops,
    encode,
    open_record,
    plain,
    seal,
    set_dotted,
    thaw,
)
from .codec.delta import diff, resolve_refs
from .codec.operands import Finder
from .codec.record import SALT_BYTES, digest_of
from .errors import AbstractRuntimeError, FormatTooNew, InvalidValue, LedgerCorrupt
from .models import Instant, JsonDict, JsonValue, Recovery, RunStatus, WaitReason
from .store.contract import GENESIS, Checkpoint, Projection, WaitHead

PROVED_BYTES = 16_384
"""Top-level values up to this size are compared by their bytes after each step."""

CHECKPOINT_RECORDS = 1_000
CHECKPOINT_BYTES = 262_144


class Decision(Struct, kw_only=True, omit_defaults=True):
    """An effect that was decided and has no outcome yet. ``payload`` leaves out what ``refs`` name, until it is asked
    for (`Journal.payload`). ``at``: when its present attempt began. ``idle``: as of its last record nobody is at it.
    ``cleared``: it is known not to have been done."""

    step: int
    node: str
    effect: str
    payload: dict[str, Any]
    refs: list[Ref] = []
    result_key: str | None = None
    next_node: str | None = None
    recovery: Recovery = Recovery.ASK
    costly: bool = False
    timeout_us: int = 0
    at: Instant = Instant(0)
    key: str | None = None
    idle: bool = False
    cleared: bool = False


class Wait(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An open wait. ``parked``: why the engine itself parked the run ("doubt", "poison"), "" for a wait asked for."""

    wait_id: str
    reason: WaitReason
    wait_key: str
    until: Instant | None = None
    resume_to_node: str | None = None
    result_key: str | None = None
    prompt: str | None = None
    choices: list[str] | None = None
    allow_free_text: bool = True
    details: dict[str, Any] | None = None
    parked: str = ""


class Folded(Struct, kw_only=True, omit_defaults=True):
    """Where a run stands after ``length`` records: a pure function of them. Its bytes are the checkpoint.

    ``step``: visits of nodes so far. ``visits``: the same by node. ``attempts``: attempts at the open decision that
    ended without a result. ``failed_node``: where a `retry` goes on.
    """

    run_id: str
    workflow_id: str
    workflow_version: str = ""
    status: RunStatus = RunStatus.RUNNING
    node: str = ""
    vars: dict[str, Any] = {}
    output: dict[str, Any] | None = None
    error: str | None = None
    waits: list[Wait] = []
    decision: Decision | None = None
    step: int = 0
    attempts: int = 0
    visits: dict[str, int] = {}
    actor_id: str | None = None
    session_id: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    queue: str = "default"
    priority: int = 0
    partition_key: str | None = None
    tags: list[str] = []
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    since: Instant = Instant(0)
    format: int = FORMAT
    length: int = 0
    head_hash: str = GENESIS

    def projection(self) -> Projection:
        """What of this state is indexed."""
        return Projection(
            workflow_id=self.workflow_id,
            workflow_version=self.workflow_version,
            status=self.status.value,
            since=self.since,
            created_at=self.created_at,
            waits=tuple(
                WaitHead(wait_id=wait.wait_id, reason=wait.reason.value, wait_key=wait.wait_key, until=wait.until)
                for wait in self.waits
            ),
            queue=self.queue,
            priority=self.priority,
            partition_key=self.partition_key,
            parent_run_id=self.parent_run_id,
            root_run_id=self.root_run_id,
            session_id=self.session_id,
            actor_id=self.actor_id,
            tags=tuple(self.tags),
            format=self.format,
        )

    def wake_at(self, now: Instant) -> Instant | None:
        """When somebody should look at the run next if nothing happens: now while it can go on, at its next timer while
        it waits, never once it has ended."""
        if self.status is RunStatus.RUNNING:
            return now
        if self.status is RunStatus.WAITING:
            return min((wait.until for wait in self.waits if wait.until is not None), default=None)
        return None


Header = dict[str, Any]
Values = Sequence[JsonValue]
Fold = Callable[[Folded, Header, Values], None]


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


def _apply(state: Folded, header: Header, values: Values) -> None:
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
    """An open decision's payload refers to ``vars``: fill it in before they change, or before it is handed out."""
    decision = state.decision
    if decision is not None and decision.refs:
        whole: list[JsonValue] = [decision.payload]
        resolve_refs(state.vars, [[0, *ref[1:]] for ref in decision.refs], whole)
        decision.payload, decision.refs = cast(JsonDict, whole[0]), []


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
        refs=[ref for ref in header.get("refs", ()) if ref[0] == payload],
        result_key=header.get("result_key"),
        next_node=header.get("next"),
        recovery=Recovery(header["recovery"]),
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
    state.error = str(error.get("message")) if isinstance(error, dict) and "message" in error else str(error)


def _interrupted(state: Folded, header: Header, values: Values) -> None:
    _open_decision(state, header).idle = True
    state.attempts += 1


def _waiting(state: Folded, header: Header, values: Values) -> None:
    """The outcome of an effect is a wait. What the wait does not say itself stands in the payload."""
    decision = _open_decision(state, header)
    settle_payload(state)
    own = cast(JsonDict, values[header["wait"]]) if "wait" in header else decision.payload
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


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: JsonValue) -> list[str] | None:
    return [str(item) for item in value] if isinstance(value, list) else None


def _parked(state: Folded, header: Header, values: Values) -> None:
    """The engine cannot go on by itself; the decision stays open."""
    _open_decision(state, header).idle = True
    state.attempts += 1
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
        cause = values[header["cause"]]
        state.error = cause if isinstance(cause, str) else encode(cause).decode()


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
    """The first record of a fork: the folded state of its origin, under the fork's own id."""
    origin = msgspec.convert(values[header["state"]], Folded)
    for field in Folded.__struct_fields__:
        if field not in ("run_id", "length", "head_hash"):
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
    raise LedgerCorrupt(f"record {header['seq']} of run {state.run_id} answers wait {header['id']!r}, which is not open")


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


def fold_record(state: Folded, record: OpenedRecord) -> None:
    """Apply one record. Raises `LedgerCorrupt` where it does not follow from those before it."""
    header = record.header
    if header.get("run") != state.run_id or header.get("seq") != state.length + 1 or header.get("prev") != state.head_hash:
        raise LedgerCorrupt(
            f"record {header.get('seq')} of run {header.get('run')} does not follow record {state.length} of run {state.run_id}",
            hint="the ledger was changed, or records are missing: verify it, and restore the store from a backup",
            run_id=state.run_id,
            seq=state.length + 1,
        )
    fold = FOLDS.get(cast(str, header.get("kind")))
    if fold is None:
        raise FormatTooNew(
            f"record {header['seq']} of run {state.run_id} is of kind {header.get('kind')!r}, which this version does not know",
            hint="upgrade abstractruntime on this machine",
            run_id=state.run_id,
        )
    try:
        _apply(state, header, record.values)
        fold(state, header, record.values)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, AbstractRuntimeError):
            raise
        raise LedgerCorrupt(
            f"record {header['seq']} of run {state.run_id} cannot be applied: {type(error).__name__}: {error}",
            run_id=state.run_id,
            seq=header["seq"],
        ) from error
    state.length += 1
    state.head_hash = record.record_hash
    state.updated_at = cast(Instant, header["at"])


_state_decoder = msgspec.json.Decoder(Folded)


def open_checkpoint(run_id: str, checkpoint: Checkpoint) -> Folded:
    """The state of a checkpoint. Raises `LedgerCorrupt` where it is damaged or another run's."""
    try:
        state = _state_decoder.decode(checkpoint.state)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerCorrupt(f"the checkpoint of run {run_id} cannot be read: {error}", run_id=run_id) from None
    if state.run_id != run_id or state.length != checkpoint.length:
        raise LedgerCorrupt(
            f"the checkpoint of run {run_id} at {checkpoint.length} is of run {state.run_id} at {state.length}", run_id=run_id
        )
    return state


def fold(run_id: str, records: Iterable[bytes], state: Folded | None = None) -> Folded:
    """The state after these records, which follow ``state`` (None: they begin the ledger)."""
    state = state or Folded(run_id=run_id, workflow_id="")
    for data in records:
        fold_record(state, open_record(data))
    return state


class Journal:
    """A run's state and the records written since its last commit.

    ``entropy(n)`` gives n random bytes, for salts. ``pending``: records sealed and folded and not yet committed. If their
    commit fails the journal is of no more use: load the run again.
    """

    def __init__(self, state: Folded, entropy: Callable[[int], bytes]) -> None:
        self.state = state
        self.entropy = entropy
        self.pending: list[bytes] = []
        self.since_checkpoint_records = 0
        self.since_checkpoint_bytes = 0
        self.checkpoint_bytes = 0
        self.missed: list[str] = []
        self._large: set[str] = set()

    def follow(self, records: Iterable[bytes]) -> None:
        """Fold records that others committed."""
        for data in records:
            fold_record(self.state, open_record(data))
            self._count(data)

    def write(
        self,
        kind: str,
        at: Instant,
        fields: Header,
        *,
        values: Sequence[JsonValue] = (),
        ops: Sequence[Op] = (),
        refs: Sequence[Ref] = (),
    ) -> None:
        """Seal a record, fold it, keep it pending. ``values`` must be plain and become part of the state."""
        state = self.state
        header: Header = {
            "at": at,
            "kind": kind,
            "prev": state.head_hash,
            "run": state.run_id,
            "seq": state.length + 1,
            "v": FORMAT,
            **fields,
        }
        if ops:
            header["ops"] = ops
        if refs:
            header["refs"] = refs
        encoded = [encode(value) for value in values]
        salts = self.entropy(SALT_BYTES * len(values)) if values else b""
        data, record_hash = seal(header, encoded, values, salts)
        _apply(state, header, values)
        FOLDS[kind](state, header, values)
        state.length += 1
        state.head_hash = record_hash
        state.updated_at = at
        self.pending.append(data)
        self._count(data)

    def write_delta(
        self,
        kind: str,
        at: Instant,
        fields: Header,
        draft: dict[str, Any] | None,
        *,
        operands: Sequence[tuple[str, object]] = (),
        payload: object = None,
    ) -> None:
        """Write a record with what ``draft`` changed in ``vars``.

        ``operands``: further values, as (field of the header that names them, value). ``payload``: stored under
        "payload", with whatever stands in ``vars`` after the delta left out. Raises `InvalidValue` naming the path;
        nothing is written then.
        """
        root = draft if isinstance(draft, DraftDict) else None
        ops: list[Op] = []
        refs: list[Ref] = []
        values: list[JsonValue] = []
        try:
            if draft is not None:
                ops = self._delta(draft, root, refs, values)
            for field, operand in operands:
                fields[field] = len(values)
                values.append(plain(operand, field))
            if payload:
                # The draft is what vars will be after this delta, which is what a payload refers to.
                fields["payload"] = len(values)
                finder = Finder(draft or {}, root, settled=True)
                values.append(finder.store(payload, len(values), refs, "payload"))
        except RecursionError:
            raise InvalidValue(
                "a value in vars, payload or result contains itself, or nests too deep", hint="flatten it", path="vars"
            ) from None
        self.write(kind, at, fields, values=values, ops=ops, refs=refs)
        if root is not None:
            self._prove(root, at)

    def _delta(self, draft: dict[str, Any], root: DraftDict | None, refs: list[Ref], values: list[JsonValue]) -> list[Op]:
        """The operations that make ``vars`` what the draft is, their operands put into ``values``."""
        ops = diff(self.state.vars, draft)
        finder = Finder(self.state.vars, root, settled=False)
        for op in ops:
            if len(op) > 2:
                name = "vars" + "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in op[1])
                values.append(finder.store(op[-1], len(values), refs, name))
                op[-1] = len(values) - 1
            op[1] = list(op[1])
        return ops

    def _prove(self, draft: DraftDict, at: Instant) -> None:
        """The state must now be what the node left, byte by byte: a difference that was missed is written after all."""
        for key, value in dict.items(draft):
            if not isinstance(value, (DraftDict, DraftList)) or key in self._large:
                continue
            data = encode(self.state.vars.get(key))
            if len(data) > PROVED_BYTES:
                self._large.add(key)
            elif data != encode(value):
                self.missed.append(f"vars.{key}")
                mended = plain(value, f"vars.{key}")
                self.write("noted", at, {"note": "missed"}, values=(mended,), ops=[["=", [key], 0]])

    def payload(self) -> JsonDict:
        """The open decision's payload, whole; a copy."""
        settle_payload(self.state)
        return cast(JsonDict, thaw(cast(Decision, self.state.decision).payload))

    def checkpoint_due(self) -> bool:
        """Whether enough was written since the last checkpoint to pay for another."""
        return (
            self.since_checkpoint_records >= CHECKPOINT_RECORDS
            or self.since_checkpoint_bytes >= max(CHECKPOINT_BYTES, 2 * self.checkpoint_bytes)
        )

    def checkpoint(self, at: Instant) -> Checkpoint:
        """The state as a checkpoint, named by a record with its digest."""
        data = encode(self.state)
        checkpoint = Checkpoint(length=self.state.length, state=data)
        self.write("checkpoint", at, {"digest": digest_of(data), "size": len(data), "of": self.state.length})
        self.checkpoint_bytes = len(data)
        self.since_checkpoint_records = self.since_checkpoint_bytes = 0
        return checkpoint

    def take_pending(self) -> tuple[bytes, ...]:
        """The pending records, for a commit."""
        records = tuple(self.pending)
        self.pending = []
        return records

    def _count(self, data: bytes) -> None:
        self.since_checkpoint_records += 1
        self.since_checkpoint_bytes += len(data)

