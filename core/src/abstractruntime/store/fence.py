"""The fence: who may commit, and what every backend answers in the same way.

Pure functions over what a store knows of a run. A backend that uses them gets the contract's rules, limits and error
texts; one that cannot (because a database decides) must answer alike, which the clauses of the kit check.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from ..errors import AbstractRuntimeError, Conflict, DuplicateRun, InvalidId, InvalidValue, Leased, StoreClosed
from ..models import Instant, instant_text
from .contract import MAX_ID_CHARS, Commit, Fence, Message, Projection, RunHead, RunQuery

MAX_BATCH = 1000
"""Commits in one call, messages in one call, records in one commit, heads on one page."""
MAX_RECORD_BYTES = 1 << 20


def check_id(text: str, what: str) -> None:
    """Raise `InvalidId` unless ``text`` is 1–1,024 characters without NUL or lone surrogates."""
    if 1 <= len(text) <= MAX_ID_CHARS and "\0" not in text and (text.isascii() or _encodes(text)):
        return
    raise InvalidId(
        f"{what} {text[:40]!r}{'…' if len(text) > 40 else ''} has the wrong form",
        hint=f"ids, keys and owners are 1–{MAX_ID_CHARS} characters without NUL or lone surrogates",
        value=text,
    )


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_batch(items: Sequence[object], what: str) -> None:
    """Raise `InvalidValue` for more items than one call may have."""
    if len(items) > MAX_BATCH:
        raise InvalidValue(
            f"{len(items)} {what} in one call, and {MAX_BATCH} are the most", hint="split the call", path=what
        )


def check_lease(lease_s: float) -> None:
    """Raise `InvalidValue` for a length that is negative, infinite or no number."""
    if not (math.isfinite(lease_s) and lease_s >= 0):
        raise InvalidValue(f"a lease of {lease_s} s", hint="give a length in seconds, 0 or more", path="lease_s")


def check_message(message: Message) -> None:
    """Raise `InvalidId` for a message whose texts no store could keep."""
    check_id(message.run_id, "run id")
    check_id(message.id, "message id")
    check_id(message.nonce, "nonce")
    check_id(message.sender, "sender")
    check_id(message.kind, "message kind")
    if message.key:
        check_id(message.key, "message key")
    if message.actor_id:
        check_id(message.actor_id, "actor id")


def check_query(query: RunQuery) -> None:
    """Raise `InvalidValue` for a page size out of bounds or an order that does not exist."""
    if not 1 <= query.limit <= MAX_BATCH:
        raise InvalidValue(f"a page of {query.limit} heads", hint=f"a page has 1–{MAX_BATCH}", path="limit")
    if query.order not in ("since", "wake_at", "id"):
        raise InvalidValue(f"no order {query.order!r}", hint="order by since, wake_at or id", path="order")


def fault(commit: Commit) -> AbstractRuntimeError | None:
    """What is wrong with the commit itself, whatever the run: a value out of bounds, a creation without its parts."""
    try:
        _check(commit)
    except (InvalidId, InvalidValue) as error:
        return error.with_traceback(None)
    return None


def _check(commit: Commit) -> None:
    check_batch(commit.records, "records")
    for record in commit.records:
        if not 1 <= len(record) <= MAX_RECORD_BYTES:
            raise _invalid(commit, f"a record is 1–{MAX_RECORD_BYTES} bytes", path="records")
    if commit.records and not commit.head_hash:
        raise _invalid(commit, "records come with the hash of the last of them", path="head_hash")
    if commit.lease_s is not None:
        check_lease(commit.lease_s)
    if not commit.expect.length:
        _check_creation(commit)
    if commit.take or not commit.expect.length:
        check_id(commit.owner, "owner")
    if commit.projection is not None:
        _check_projection(commit.projection)
    for message in commit.messages:
        check_message(message)
        if message.run_id != commit.run_id:
            raise _invalid(commit, f"message {message.id!r} is for run {message.run_id!r}", path="messages")
    for message in commit.outbox:
        check_message(message)
    if commit.checkpoint and not 0 < commit.checkpoint.length <= commit.expect.length + len(commit.records):
        raise _invalid(commit, "a checkpoint is of a length that the ledger has", path="checkpoint")


def _check_creation(commit: Commit) -> None:
    check_id(commit.run_id, "run id")
    if not commit.records or commit.projection is None:
        raise _invalid(commit, "a run is created with its first record and its projection", path="records")


def _check_projection(projection: Projection) -> None:
    for wait in projection.waits:
        check_id(wait.wait_id, "wait id")
        check_id(wait.wait_key, "wait key")
    for tag in projection.tags:
        check_id(tag, "tag")
    check_id(projection.queue, "queue")
    check_id(projection.workflow_id, "workflow id")
    for optional in (
        projection.partition_key,
        projection.parent_run_id,
        projection.root_run_id,
        projection.session_id,
        projection.actor_id,
    ):
        if optional is not None:
            check_id(optional, "id")


def _invalid(commit: Commit, rule: str, *, path: str) -> InvalidValue:
    return InvalidValue(
        f"the commit of run {commit.run_id!r} cannot be applied: {rule}", path=path, run_id=commit.run_id
    )


def is_free(owner: str | None, lease_until: Instant | None, now: Instant) -> bool:
    """Nobody is kept out: no owner, no lease, or one that ran out."""
    return owner is None or lease_until is None or lease_until <= now


def is_due(wake_at: Instant | None, lease_until: Instant | None, held: str, now: Instant) -> bool:
    """Somebody should look at the run, and nobody holds it."""
    return wake_at is not None and wake_at <= now and (lease_until is None or lease_until <= now) and not held


def lease_end(now: Instant, lease_s: float) -> Instant | None:
    """The end of a lease that begins now; None for a length of 0, which is a release."""
    return Instant(now + round(lease_s * 1_000_000)) if lease_s else None


def woken(wake_at: Instant | None, now: Instant) -> Instant:
    """``wake_at`` lowered to now, never raised."""
    return now if wake_at is None or wake_at > now else wake_at


def refusal(
    commit: Commit, at: Fence | None, owner: str | None, lease_until: Instant | None, now: Instant
) -> AbstractRuntimeError | None:
    """Why the commit may not be applied to the run as it is, None if it may.

    ``at``: where the run is, None if there is none (a run that was deleted is not asked about here). The fence comes
    before the lease: whoever was overtaken learns that, and not who holds the run now.
    """
    if not commit.expect.length:
        return None if at is None else duplicate(commit.run_id)
    if at is None:
        return Conflict(
            f"run {commit.run_id!r} does not exist, the writer expected record {commit.expect.length}",
            hint="it was deleted, or this is another store or namespace",
            run_id=commit.run_id,
            expected=commit.expect,
            actual=None,
        )
    if commit.expect != at:
        return _overtaken(commit, at)
    if commit.owner == owner:
        return None
    if not commit.take:
        return Conflict(
            f"run {commit.run_id!r} is not held by {commit.owner!r}",
            hint="commit with take=True, or claim the run first",
            run_id=commit.run_id,
            expected=commit.expect,
            actual=at,
        )
    if is_free(owner, lease_until, now) or commit.take_from == owner:
        return None
    return leased(commit.run_id, owner, lease_until)


def _overtaken(commit: Commit, at: Fence) -> Conflict:
    expected = commit.expect
    if expected.length != at.length:
        where = f"at record {at.length}, the writer expected {expected.length}"
    elif expected.head_hash != at.head_hash:
        where = f"at record {at.length} with hash {at.head_hash[:12]}…, the writer expected {expected.head_hash[:12]}…"
    else:
        where = f"at epoch {at.epoch}, the writer expected {expected.epoch}"
    return Conflict(
        f"run {commit.run_id!r} is {where}",
        hint="another worker advanced this run; reload and look again",
        run_id=commit.run_id,
        expected=expected,
        actual=at,
    )


def duplicate(run_id: str) -> DuplicateRun:
    """The run exists, or existed and was deleted."""
    return DuplicateRun(
        f"run {run_id!r} exists, or existed and was deleted", hint="choose another id, or none", run_id=run_id
    )


def leased(run_id: str, owner: str | None, until: Instant | None) -> Leased:
    """Somebody else holds the run."""
    end = "" if until is None else f" until {instant_text(until)}"
    return Leased(
        f"run {run_id!r} is held by {owner!r}{end}",
        hint="wait for it, or deliver a message",
        run_id=run_id,
        owner=owner,
        until=until,
    )


def taken_message(commit: Commit, message: Message) -> Conflict:
    """A message of the commit has an id that another call used."""
    return Conflict(
        f"message {message.id!r} for run {commit.run_id!r} is known from another call",
        hint="somebody else was first; reload and look again",
        run_id=commit.run_id,
        message_id=message.id,
    )


def closed(what: str) -> StoreClosed:
    """The store was closed, or must not be used any more."""
    return StoreClosed(f"{what} is closed", hint="open it again", store=what)


def by_sender(arrived: Iterable[Message]) -> tuple[Message, ...]:
    """Messages in order of arrival, except that each sender's stand by ``seq``."""
    messages = tuple(arrived)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, message in enumerate(messages):
        places[message.sender].append(place)
    ordered = list(messages)
    for own in places.values():
        if all(messages[a].seq <= messages[b].seq for a, b in pairwise(own)):
            continue
        for place, message in zip(own, sorted((messages[i] for i in own), key=lambda m: m.seq), strict=True):
            ordered[place] = message
    return tuple(ordered)


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    order: str
    descending: bool
    key: int
    run_id: str


def order_key(query: RunQuery, head: RunHead) -> int:
    """By what the query orders this head, before its id; 0 where it orders by id alone."""
    if query.order == "since":
        return head.projection.since
    return head.wake_at or 0 if query.order == "wake_at" else 0


def cursor_after(query: RunQuery, head: RunHead) -> str:
    """The cursor of a page that ends with ``head``."""
    cursor = _Cursor(query.order, query.descending, order_key(query, head), head.run_id)
    return msgspec.json.encode(cursor).decode()


def place_of(query: RunQuery) -> tuple[int, str] | None:
    """Where the page before ended, as (order key, run id); None for the first page. Raises `InvalidValue`."""
    if query.cursor is None:
        return None
    try:
        cursor = msgspec.json.decode(query.cursor, type=_Cursor)
    except (msgspec.DecodeError, UnicodeEncodeError):
        cursor = None
    if cursor is None or (cursor.order, cursor.descending) != (query.order, query.descending):
        raise InvalidValue(
            "the cursor is not from a page of this order",
            hint="give the cursor of the page before, unchanged, with the same order",
            path="cursor",
        )
    return cursor.key, cursor.run_id
