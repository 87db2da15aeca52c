"""Rows of the tables, as values of the contract and back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from abstractruntime.store.contract import Message, Projection, RunHead, WaitHead

Value: TypeAlias = "str | int | bytes | float | None"
Row: TypeAlias = tuple[Any, ...]

MARK_BYTES = 8
_ROW_BYTES = 64 << 20  # a commit of more is several ledger rows: SQLite ends at 1 GB
_PLACE_BITS = 32
_PAGE_BYTES = 4061  # what a leaf of a table holds of one row on a page of 4,096 bytes
WHOLE_BYTES = 1350
"""Up to here a row is not cut into pieces."""
_PIECE_BYTES = 1000

PROJECTION_COLUMNS = (
    "workflow_id",
    "workflow_version",
    "status",
    "since",
    "created_at",
    "waits",
    "queue",
    "priority",
    "partition_key",
    "parent_run_id",
    "root_run_id",
    "session_id",
    "actor_id",
    "tags",
    "format",
)
OWN_COLUMNS = (
    "run_id",
    "length",
    "head_hash",
    "epoch",
    "wake_at",
    "owner",
    "lease_until",
    "held",
    "claims",
)
HEAD = ", ".join(f"runs.{column}" for column in OWN_COLUMNS + PROJECTION_COLUMNS)
"""What `head_of` reads."""

MESSAGE_COLUMNS = ("message_id", "nonce", "sender", "seq", "kind", "key", "payload", "actor_id", "sent_at")
MESSAGE = ", ".join(MESSAGE_COLUMNS)
"""What `message_of` reads, behind the id of the run that the message is for."""
MESSAGE_PLACES = ", ".join("?" * len(MESSAGE_COLUMNS))

_waits = msgspec.json.Decoder(tuple[WaitHead, ...])
_tags = msgspec.json.Decoder(tuple[str, ...])
_encoder = msgspec.json.Encoder()
_NONE = "[]"


def head_of(row: Row) -> RunHead:
    """The head in a row of `HEAD`."""
    (
        run_id, length, head_hash, epoch, wake_at, owner, lease_until, held, claims,
        workflow_id, workflow_version, status, since, created_at, waits, queue, priority, partition_key,
        parent_run_id, root_run_id, session_id, actor_id, tags, record_format,
    ) = row  # fmt: skip
    projection = Projection(
        workflow_id=workflow_id,
        workflow_version=workflow_version,
        status=status,
        since=since,
        created_at=created_at,
        waits=() if waits == _NONE else _waits.decode(waits),
        queue=queue,
        priority=priority,
        partition_key=partition_key,
        parent_run_id=parent_run_id,
        root_run_id=root_run_id,
        session_id=session_id,
        actor_id=actor_id,
        tags=() if tags == _NONE else _tags.decode(tags),
        format=record_format,
    )
    return RunHead(
        run_id=run_id,
        projection=projection,
        length=length,
        head_hash=head_hash,
        epoch=epoch,
        wake_at=wake_at,
        owner=owner,
        lease_until=lease_until,
        held=held,
        claims=claims,
    )


def projection_row(projection: Projection) -> list[Value]:
    """The values of `PROJECTION_COLUMNS`."""
    return [
        projection.workflow_id,
        projection.workflow_version,
        projection.status,
        projection.since,
        projection.created_at,
        _encoder.encode(projection.waits).decode() if projection.waits else _NONE,
        projection.queue,
        projection.priority,
        projection.partition_key,
        projection.parent_run_id,
        projection.root_run_id,
        projection.session_id,
        projection.actor_id,
        _encoder.encode(projection.tags).decode() if projection.tags else _NONE,
        projection.format,
    ]


def wait_keys(text: str) -> set[str]:
    """The keys in a stored `waits`."""
    return set() if text == _NONE else {wait.wait_key for wait in _waits.decode(text)}


def tags_in(text: str) -> set[str]:
    """The tags in a stored `tags`."""
    return set() if text == _NONE else set(_tags.decode(text))


def message_of(row: Row) -> Message:
    """The message in a row of a run id and `MESSAGE`."""
    run_id, message_id, nonce, sender, seq, kind, key, payload, actor_id, sent_at = row
    return Message(
        run_id=run_id,
        id=message_id,
        nonce=nonce,
        sender=sender,
        seq=seq,
        kind=kind,
        key=key,
        payload=payload,
        actor_id=actor_id,
        sent_at=sent_at,
    )


def message_row(message: Message) -> tuple[Value, ...]:
    """The values of `MESSAGE`."""
    return (
        message.id,
        message.nonce,
        message.sender,
        message.seq,
        message.kind,
        message.key,
        message.payload,
        message.actor_id,
        message.sent_at,
    )


def place_of(run: int, seq: int) -> int:
    """Where the record ``seq`` (from 1) of a run has its place in `ledger`."""
    return (run << _PLACE_BITS) + seq


def seq_of(place: int) -> int:
    """The number of the first record of a ledger row."""
    return place & ((1 << _PLACE_BITS) - 1)


def pieces(records: bytes) -> list[bytes]:
    """What stands in `ledger`, and behind it what stands in `rests`.

    A page of 4,096 bytes has room for 4,061 of rows: rows of 1.4–4 KB would leave up to half of it empty, so they
    are cut into equal pieces of at most 1,000 bytes. Larger ones have pages of their own anyway.
    """
    size = len(records)
    if not WHOLE_BYTES < size <= _PAGE_BYTES:
        return [records]
    count = -(-size // _PIECE_BYTES)
    return [records[size * piece // count : size * (piece + 1) // count] for piece in range(count)]


def rest_place(place: int, piece: int) -> int:
    """Where piece ``piece`` (from 1, at most 4) of the ledger row at ``place`` has its place in `rests`."""
    return (place << 2) + piece - 1


def ledger_rows(
    run: int, length: int, records: Sequence[bytes], *, row_bytes: int = _ROW_BYTES
) -> Iterator[tuple[int, bytes | None, bytes]]:
    """One row for the records of a commit after ``length`` records; more where they are too large for one."""
    start = size = 0
    for number, record in enumerate(records):
        if number > start and size + len(record) > row_bytes:
            yield _packed(run, length + start, records[start:number])
            start, size = number, 0
        size += len(record)
    if records:
        yield _packed(run, length + start, records[start:])


def _packed(run: int, length: int, records: Sequence[bytes]) -> tuple[int, bytes | None, bytes]:
    if len(records) == 1:
        return place_of(run, length + 1), None, records[0]
    lengths = struct.pack(f">{len(records)}I", *map(len, records))
    return place_of(run, length + 1), lengths, b"".join(records)


def records_in(rows: Iterable[tuple[int, bytes | None, bytes]], after: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each record in ledger rows made whole, from the first after ``after``."""
    for place, lengths, records in rows:
        seq = seq_of(place)
        if lengths is None:
            if seq > after:
                yield seq, records
            continue
        start = 0
        for (size,) in struct.iter_unpack(">I", lengths):
            if seq > after:
                yield seq, records[start : start + size]
            seq, start = seq + 1, start + size


def whole_rows(
    rows: Iterable[tuple[int, bytes | None, bytes]], rests: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Ledger rows with their rests behind them; both come in the order of their places."""
    behind = iter(rests)
    rest = next(behind, None)
    for place, lengths, records in rows:
        parts = [records]
        while rest is not None and rest[0] >> 2 <= place:
            if rest[0] >> 2 == place:
                parts.append(rest[1])
            rest = next(behind, None)
        yield place, lengths, b"".join(parts)


def mark_of(arrival: int) -> bytes:
    """The inbox mark of everything up to an arrival."""
    return arrival.to_bytes(MARK_BYTES, "big") if arrival else b""


def arrival_of(mark: bytes) -> int:
    """The arrival that a mark stands for."""
    return min(int.from_bytes(mark, "big"), 2**63 - 1)
