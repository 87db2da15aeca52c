"""One commit inside the transaction of its call: look at all, then write; a refused one has written nothing."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from msgspec import UNSET

from abstractruntime.errors import AbstractRuntimeError
from abstractruntime.models import Instant
from abstractruntime.store import fence
from abstractruntime.store.contract import GENESIS, Commit, CommitResult, Fence, Projection

from .inbox import HAS_UNSEEN
from .rows import (
    MESSAGE,
    MESSAGE_PLACES,
    PROJECTION_COLUMNS,
    WHOLE_BYTES,
    Value,
    arrival_of,
    ledger_rows,
    message_row,
    pieces,
    place_of,
    projection_row,
    rest_place,
    tags_in,
    wait_keys,
)

# Fence, head and the look into the inbox in one statement: what most steps are. RETURNING would cost more than the rest
# of it, so what the answer says (lease, wake_at, nothing unseen) is guessed and stands among the conditions.
_ADVANCE = f"""
UPDATE runs SET length = ?, head_hash = ?, claims = 0
WHERE run = ? AND ns = ? AND run_id = ? AND length = ? AND head_hash = ? AND epoch = ? AND owner = ?
AND lease_until IS ? AND wake_at IS ? AND NOT {HAS_UNSEEN}
"""  # noqa: S608 - our own names
_STATE = """
SELECT run, length, head_hash, epoch, owner, lease_until, wake_at, held, claims, mark,
    (SELECT max(arrival) FROM inbox WHERE inbox.run = runs.run), EXISTS (SELECT 1 FROM outbox WHERE run = runs.run)
FROM runs WHERE ns = ? AND run_id = ?
"""
_PROJECTION = f"SELECT {', '.join(PROJECTION_COLUMNS)} FROM runs WHERE run = ?"  # noqa: S608 - our own names
_RECORDS = "INSERT INTO ledger (place, lengths, records) VALUES (?, ?, ?)"
_REST = "INSERT INTO rests (place, records) VALUES (?, ?)"
_CREATE_COLUMNS = (
    "ns", "run_id", "length", "head_hash", "epoch", "wake_at", "owner", "lease_until", "held", "claims", "mark",
    *PROJECTION_COLUMNS,
)  # fmt: skip
_CREATE = f"""
INSERT INTO runs ({", ".join(_CREATE_COLUMNS)}) SELECT {", ".join("?" * len(_CREATE_COLUMNS))}
WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE ns = ? AND run_id = ?) ON CONFLICT DO NOTHING RETURNING run
"""  # noqa: S608 - our own names
_CHECKPOINT = "INSERT INTO checkpoints (run, length, state) VALUES (?, ?, ?)"
# A mark cannot be newer than the newest arrival: after a restored backup it would hide what is to come.
_NEWEST_ARRIVAL = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'inbox'"
_OUTBOX = f"INSERT INTO outbox (run, run_id, {MESSAGE}) VALUES (?, ?, {MESSAGE_PLACES})"  # noqa: S608 - our own names


_MAX_GUESSES = 4096


class _State(NamedTuple):
    """What a commit is judged by and what it changes, as `_STATE` reads it."""

    run: int
    length: int
    head_hash: str
    epoch: int
    owner: str | None
    lease_until: Instant | None
    wake_at: Instant | None
    held: str
    claims: int
    mark: int
    newest_arrival: int | None
    has_outbox: int

    @property
    def fence(self) -> Fence:
        return Fence(length=self.length, head_hash=self.head_hash, epoch=self.epoch)


class Guess(NamedTuple):
    """Where a run was when this process last looked: a key to try first, and values that the statement proves."""

    run: int
    lease_until: Instant | None
    wake_at: Instant | None


class Guesses(dict[str, Guess]):
    """By run id; forgotten altogether when there are too many."""

    def note(self, run_id: str, guess: Guess) -> None:
        """Remember a run."""
        if len(self) >= _MAX_GUESSES:
            self.clear()
        self[run_id] = guess


def apply_commit(cursor: sqlite3.Cursor, ns: int, guesses: Guesses, commit: Commit, now: Instant) -> CommitResult:
    """Apply the commit, or answer why not. Raises what SQLite raises; the caller rolls back."""
    guess = guesses.get(commit.run_id)
    if guess is not None and _only_advances(commit) and _advance(cursor, ns, guess, commit):
        return CommitResult(
            run_id=commit.run_id, epoch=commit.expect.epoch, lease_until=guess.lease_until, wake_at=guess.wake_at
        )
    if (error := fence.fault(commit)) is not None:
        return CommitResult(run_id=commit.run_id, error=error)
    if not commit.expect.length:
        return _create(cursor, ns, commit, now)
    return _change(cursor, ns, guesses, commit, now)


def _only_advances(commit: Commit) -> bool:
    """Whether the commit has one record that is in bounds, and nothing else."""
    return (
        len(commit.records) == 1
        and commit.projection is None
        and commit.lease_s is None
        and commit.wake_at is UNSET
        and commit.inbox_mark is None
        and not commit.messages
        and not commit.consumed
        and commit.checkpoint is None
        and not commit.outbox
        and not commit.delivered
        and not commit.artifacts
        and commit.held is UNSET
        and 0 < len(commit.records[0]) <= fence.MAX_RECORD_BYTES
        and commit.head_hash != GENESIS
    )


def _advance(cursor: sqlite3.Cursor, ns: int, guess: Guess, commit: Commit) -> bool:
    """Append under the fence; False where the run is not as expected or guessed, with nothing written."""
    expect = commit.expect
    run, lease_until, wake_at = guess
    length = expect.length
    moved = cursor.execute(
        _ADVANCE,
        (
            length + 1, commit.head_hash,
            run, ns, commit.run_id, length, expect.head_hash, expect.epoch, commit.owner, lease_until, wake_at,
        ),
    ).rowcount  # fmt: skip
    if not moved:
        return False
    if len(commit.records[0]) <= WHOLE_BYTES:
        cursor.execute(_RECORDS, (place_of(run, length + 1), None, commit.records[0]))
    else:
        _append(cursor, run, commit)
    return True


def _append(cursor: sqlite3.Cursor, run: int, commit: Commit) -> None:
    for place, lengths, records in ledger_rows(run, commit.expect.length, commit.records):
        first, *rests = pieces(records)
        cursor.execute(_RECORDS, (place, lengths, first))
        for piece, rest in enumerate(rests, 1):
            cursor.execute(_REST, (rest_place(place, piece), rest))


def _create(cursor: sqlite3.Cursor, ns: int, commit: Commit, now: Instant) -> CommitResult:
    if (error := _own_messages_refusal(commit)) is not None:
        return CommitResult(run_id=commit.run_id, error=error)
    projection = commit.projection
    if projection is None:
        raise ValueError("a creation without a projection passed the check")
    lease_until = None if commit.lease_s is None else fence.lease_end(now, commit.lease_s)
    owner = None if commit.lease_s is not None and lease_until is None else commit.owner
    wake_at = None if commit.wake_at is UNSET else commit.wake_at
    if commit.outbox:
        wake_at = fence.woken(wake_at, now)
    held = "" if commit.held is UNSET else commit.held
    own: list[Value] = [
        ns, commit.run_id, len(commit.records), commit.head_hash, 1, wake_at, owner, lease_until, held, 0,
        _mark(cursor, commit, 0),
    ]  # fmt: skip
    created = cursor.execute(_CREATE, (*own, *projection_row(projection), ns, commit.run_id)).fetchall()
    if not created:
        return CommitResult(run_id=commit.run_id, error=fence.duplicate(commit.run_id))
    ((run,),) = created
    _index(cursor, ns, run, {wait.wait_key for wait in projection.waits}, set(projection.tags))
    _append(cursor, run, commit)
    _take_in(cursor, run, commit)
    _attach(cursor, run, commit)
    return CommitResult(run_id=commit.run_id, epoch=1, lease_until=lease_until, wake_at=wake_at)


def _change(cursor: sqlite3.Cursor, ns: int, guesses: Guesses, commit: Commit, now: Instant) -> CommitResult:
    row = cursor.execute(_STATE, (ns, commit.run_id)).fetchone()
    state = None if row is None else _State(*row)
    if state is None:
        error = fence.refusal(commit, None, None, None, now)
    else:
        error = fence.refusal(commit, state.fence, state.owner, state.lease_until, now)
        error = error or _message_refusal(cursor, state.run, commit)
    if state is None or error is not None:
        return CommitResult(run_id=commit.run_id, error=error)
    result = _write(cursor, ns, commit, state, now)
    guesses.note(commit.run_id, Guess(state.run, result.lease_until, result.wake_at))
    return result


def _own_messages_refusal(commit: Commit) -> AbstractRuntimeError | None:
    nonces: dict[str, str] = {}
    for message in commit.messages:
        if nonces.setdefault(message.id, message.nonce) != message.nonce:
            return fence.taken_message(commit, message)
    return None


def _message_refusal(cursor: sqlite3.Cursor, run: int, commit: Commit) -> AbstractRuntimeError | None:
    for message in commit.messages:
        known = cursor.execute("SELECT nonce FROM known WHERE run = ? AND message_id = ?", (run, message.id)).fetchone()
        if known is not None and known != (message.nonce,):
            return fence.taken_message(commit, message)
    return _own_messages_refusal(commit)


def _write(cursor: sqlite3.Cursor, ns: int, commit: Commit, state: _State, now: Instant) -> CommitResult:
    """Write a commit that nothing speaks against."""
    run = state.run
    taken = commit.owner != state.owner
    epoch = state.epoch + taken
    owner: str | None = commit.owner
    lease_until = state.lease_until
    if commit.lease_s is not None:
        lease_until = fence.lease_end(now, commit.lease_s)
        owner = None if lease_until is None else owner
    mark = _mark(cursor, commit, state.mark)
    _append(cursor, run, commit)
    _take_in(cursor, run, commit)
    _attach(cursor, run, commit)
    unseen = _has_unseen(cursor, commit, state, mark)
    wake_at = state.wake_at if commit.wake_at is UNSET else commit.wake_at
    if unseen or _has_outbox(cursor, commit, state):
        wake_at = fence.woken(wake_at, now)
    changes: dict[str, Value] = {
        "length": state.length + len(commit.records),
        "head_hash": commit.head_hash if commit.records else state.head_hash,
        "epoch": epoch,
        "owner": owner,
        "lease_until": lease_until,
        "wake_at": wake_at,
        "held": state.held if commit.held is UNSET else commit.held,
        "claims": 0 if commit.records else state.claims + taken,
        "mark": mark,
    }
    changes = {column: value for column, value in changes.items() if value != getattr(state, column)}
    if commit.projection is not None:
        changes |= _project(cursor, ns, run, commit.projection)
    _update(cursor, run, changes)
    return CommitResult(run_id=commit.run_id, epoch=epoch, lease_until=lease_until, wake_at=wake_at, unseen=unseen)


def _update(cursor: sqlite3.Cursor, run: int, changes: dict[str, Value]) -> None:
    """Set what changed, and nothing else: a column in SET costs its index even where its value stays."""
    if changes:
        columns = ", ".join(f"{column} = ?" for column in changes)
        cursor.execute(f"UPDATE runs SET {columns} WHERE run = ?", (*changes.values(), run))  # noqa: S608 - our own names


def _project(cursor: sqlite3.Cursor, ns: int, run: int, projection: Projection) -> dict[str, Value]:
    """The columns of the projection that change; `waits` and `tags` are brought up to date here."""
    old = cursor.execute(_PROJECTION, (run,)).fetchone()
    changes = {
        column: value
        for column, value, before in zip(PROJECTION_COLUMNS, projection_row(projection), old, strict=True)
        if value != before
    }
    before = dict(zip(PROJECTION_COLUMNS, old, strict=True))
    if "waits" in changes:
        _reindex_waits(cursor, ns, run, wait_keys(before["waits"]), {wait.wait_key for wait in projection.waits})
    if "tags" in changes:
        _reindex_tags(cursor, ns, run, tags_in(before["tags"]), set(projection.tags))
    return changes


def _index(cursor: sqlite3.Cursor, ns: int, run: int, keys: set[str], tags: set[str]) -> None:
    _reindex_waits(cursor, ns, run, set(), keys)
    _reindex_tags(cursor, ns, run, set(), tags)


def _reindex_waits(cursor: sqlite3.Cursor, ns: int, run: int, old: set[str], new: set[str]) -> None:
    for key in old - new:
        cursor.execute("DELETE FROM waits WHERE ns = ? AND wait_key = ? AND run = ?", (ns, key, run))
    for key in new - old:
        cursor.execute("INSERT INTO waits (ns, wait_key, run) VALUES (?, ?, ?)", (ns, key, run))


def _reindex_tags(cursor: sqlite3.Cursor, ns: int, run: int, old: set[str], new: set[str]) -> None:
    for tag in old - new:
        cursor.execute("DELETE FROM tags WHERE ns = ? AND tag = ? AND run = ?", (ns, tag, run))
    for tag in new - old:
        cursor.execute("INSERT INTO tags (ns, tag, run) VALUES (?, ?, ?)", (ns, tag, run))


def _take_in(cursor: sqlite3.Cursor, run: int, commit: Commit) -> None:
    """Messages that the records took in leave the inbox, and their ids stay known."""
    for message in commit.messages:
        cursor.execute(
            "INSERT INTO known (run, message_id, nonce) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (run, message.id, message.nonce),
        )
    for message_id in (*(message.id for message in commit.messages), *commit.consumed):
        cursor.execute(
            "DELETE FROM inbox WHERE arrival = (SELECT arrival FROM known WHERE run = ? AND message_id = ?)",
            (run, message_id),
        )


def _attach(cursor: sqlite3.Cursor, run: int, commit: Commit) -> None:
    """Outbox, artifact references and checkpoint."""
    for message_id in commit.delivered:
        cursor.execute("DELETE FROM outbox WHERE run = ? AND message_id = ?", (run, message_id))
    for message in commit.outbox:
        cursor.execute(_OUTBOX, (run, message.run_id, *message_row(message)))
    for name in commit.artifacts:
        cursor.execute("INSERT INTO artifacts (run, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (run, name))
    if commit.checkpoint is not None:
        # Removed first, so that the new one takes its pages: an upsert would need room for both.
        cursor.execute("DELETE FROM checkpoints WHERE run = ?", (run,))
        cursor.execute(_CHECKPOINT, (run, commit.checkpoint.length, commit.checkpoint.state))


def _mark(cursor: sqlite3.Cursor, commit: Commit, mark: int) -> int:
    if commit.inbox_mark is None or (given := arrival_of(commit.inbox_mark)) <= mark:
        return mark
    (newest,) = cursor.execute(_NEWEST_ARRIVAL).fetchone()
    return max(mark, min(given, int(newest)))


def _has_unseen(cursor: sqlite3.Cursor, commit: Commit, state: _State, mark: int) -> bool:
    if state.newest_arrival is None or state.newest_arrival <= mark:
        return False
    if not (commit.consumed or commit.messages):
        return True
    return bool(
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM inbox WHERE run = ? AND arrival > ?)", (state.run, mark)
        ).fetchone()[0]
    )


def _has_outbox(cursor: sqlite3.Cursor, commit: Commit, state: _State) -> bool:
    if commit.outbox or not (state.has_outbox and commit.delivered):
        return bool(commit.outbox or state.has_outbox)
    return bool(cursor.execute("SELECT EXISTS (SELECT 1 FROM outbox WHERE run = ?)", (state.run,)).fetchone()[0])
