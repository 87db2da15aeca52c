"""Reading a ledger into a state, and writing it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from ..codec import FORMAT, DraftDict, DraftList, Op, OpenedRecord, Ref, encode, open_record, plain, seal
from ..codec.delta import diff
from ..codec.operands import Finder
from ..codec.record import SALT_BYTES, digest_of
from ..errors import AbstractRuntimeError, FormatTooNew, InvalidValue, LedgerCorrupt
from ..models import Instant, JsonDict, JsonValue
from ..store.contract import Checkpoint
from ..store.fence import MAX_RECORD_BYTES
from .kinds import FOLDS, Header, apply_delta, whole_payload
from .state import Decision, Folded

PROVED_BYTES = 16_384
"""Top-level values up to this size are compared by their bytes after each step."""

CHECKPOINT_RECORDS = 1_000
CHECKPOINT_BYTES = 262_144


def fold_record(state: Folded, record: OpenedRecord) -> None:
    """Apply one record. Raises `LedgerCorrupt` where it does not follow from those before it."""
    header = record.header
    if (
        header.get("run") != state.run_id
        or header.get("seq") != state.length + 1
        or header.get("prev") != state.head_hash
    ):
        raise LedgerCorrupt(
            f"record {header.get('seq')} of run {header.get('run')} does not follow "
            f"record {state.length} of run {state.run_id}",
            hint="the ledger was changed, or records are missing: verify it, and restore the store from a backup",
            run_id=state.run_id,
            seq=state.length + 1,
        )
    fold = FOLDS.get(cast(str, header.get("kind")))
    if fold is None:
        raise FormatTooNew(
            f"record {header['seq']} of run {state.run_id} is of kind {header.get('kind')!r}, "
            "which this version does not know",
            hint="upgrade abstractruntime on this machine",
            run_id=state.run_id,
        )
    try:
        apply_delta(state, header, record.values)
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
    state.format = max(state.format, cast(int, header["v"]))
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
            f"the checkpoint of run {run_id} at {checkpoint.length} is of run {state.run_id} at {state.length}",
            run_id=run_id,
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

    ``entropy(n)`` gives n random bytes, for salts. ``pending``: records sealed and folded and not yet committed. If
    their commit fails the journal is of no more use: load the run again.
    """

    def __init__(self, state: Folded, entropy: Callable[[int], bytes]) -> None:
        self.state = state
        self.entropy = entropy
        self.pending: list[bytes] = []
        self.pending_bytes = 0
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
        data, record_hash = self._sealed(header, values)
        apply_delta(state, header, values)
        FOLDS[kind](state, header, values)
        state.length += 1
        state.format = max(state.format, FORMAT)
        state.head_hash = record_hash
        state.updated_at = at
        self.pending.append(data)
        self.pending_bytes += len(data)
        self._count(data)

    def _sealed(self, header: Header, values: Sequence[JsonValue]) -> tuple[bytes, str]:
        """The record's bytes and hash. Raises `InvalidValue` for what no record can hold; nothing is applied then."""
        salts = self.entropy(SALT_BYTES * len(values)) if values else b""
        try:
            data, record_hash = seal(header, [encode(value) for value in values], values, salts)
        except (UnicodeEncodeError, TypeError, OverflowError) as error:
            raise InvalidValue(
                f"a {header['kind']} record has a field that is no text or number: {error}",
                hint="ids, keys and names are text without lone surrogates",
                path=str(header["kind"]),
            ) from None
        if len(data) > MAX_RECORD_BYTES:
            raise InvalidValue(
                f"a {header['kind']} record of {len(data):,} bytes is larger than the {MAX_RECORD_BYTES:,} "
                "that a store takes",
                hint="keep large values outside of the run, and their address in vars",
                path=str(header["kind"]),
                size=len(data),
            )
        return data, record_hash

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
        fields = dict(fields)  # the caller may write another record with them if this one is refused
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
        if root is not None and len(root.registry) > 1:  # else only the root was handed out, which was compared whole
            self._prove(root, at)

    def _delta(
        self, draft: dict[str, Any], root: DraftDict | None, refs: list[Ref], values: list[JsonValue]
    ) -> list[Op]:
        """The operations that make ``vars`` what the draft is, their operands put into ``values``."""
        ops = diff(self.state.vars, draft)
        if not ops:
            return ops
        finder = Finder(self.state.vars, root, settled=False)
        for op in ops:
            if len(op) > 2:
                name = "vars" + "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in op[1])
                depth = max(0, len(op[1]) - 1)
                values.append(finder.store(op[-1], len(values), refs, name, depth=depth))
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
        return whole_payload(self.state, cast(Decision, self.state.decision))

    def checkpoint_due(self) -> bool:
        """Whether enough was written since the last checkpoint to pay for another.

        Many records are no reason while they are small beside the state: writing that would cost more than they did.
        """
        written = self.since_checkpoint_bytes
        if self.since_checkpoint_records >= CHECKPOINT_RECORDS and written >= self.checkpoint_bytes:
            return True
        return written >= max(CHECKPOINT_BYTES, 2 * self.checkpoint_bytes)

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
        self.pending, self.pending_bytes = [], 0
        return records

    def _count(self, data: bytes) -> None:
        self.since_checkpoint_records += 1
        self.since_checkpoint_bytes += len(data)
