"""The store: one database file, safe for many threads and many processes of one machine."""

from __future__ import annotations

import logging
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from abstractruntime.errors import (
    InvalidUrl,
    InvalidValue,
    OutcomeUnknown,
    StoreBusy,
    StoreClosed,
    StoreError,
    UnknownRun,
)
from abstractruntime.models import Instant
from abstractruntime.store import fence
from abstractruntime.store.contract import (
    Checkpoint,
    Commit,
    CommitResult,
    Delivery,
    Message,
    Page,
    RunHead,
    Runnable,
    RunQuery,
    StoredRun,
    StoreUrl,
)

from .commits import Guesses, apply_commit
from .connections import Connections
from .failures import corrupt, failure
from .inbox import HAS_UNSEEN, deliver_message, message_page
from .queries import claimable, find_heads
from .rows import HEAD, MESSAGE, Row, arrival_of, head_of, message_of, place_of, records_in, rest_place, whole_rows

_log = logging.getLogger(__name__)

_LOAD = f"SELECT run, mark, {HEAD} FROM runs WHERE ns = ? AND run_id = ?"  # noqa: S608 - our own names
_OUTBOX = f"SELECT run_id, {MESSAGE} FROM outbox WHERE run = ? ORDER BY place"  # noqa: S608 - our own names
_RENEWED = f"""
SELECT {HEAD} FROM runs INDEXED BY runs_lease WHERE ns = ? AND lease_until IS NOT NULL AND owner = ? AND {HAS_UNSEEN}
"""  # noqa: S608 - our own names
_RENEW = "UPDATE runs INDEXED BY runs_lease SET lease_until = ? WHERE ns = ? AND lease_until IS NOT NULL AND owner = ?"
_CLAIM = """
UPDATE runs SET owner = ?, lease_until = ?, epoch = epoch + 1, claims = claims + 1 WHERE ns = ? AND run_id = ?
"""
# The row that holds the first record asked for may begin before it.
_ROW_OF = "SELECT max(place) FROM ledger WHERE place BETWEEN ? AND ?"
_LEDGER = "SELECT place, lengths, records FROM ledger WHERE place BETWEEN ? AND ? ORDER BY place"
_RESTS = "SELECT place, records FROM rests WHERE place >= ? AND place < ? ORDER BY place"
_PAGE_BYTES = 4 << 20
_TABLES_BY_RUN = ("checkpoints", "inbox", "known", "outbox", "artifacts", "waits", "tags", "runs")


def machine_clock() -> Instant:
    """The machine's clock, in µs: what all processes of one machine agree upon."""
    return Instant(time.time_ns() // 1000)


class SqliteStore:
    """Runs in one database file, which is made if it is not there; its folder has to be.

    ``path``: of the file. ``durability``: what an answered commit survives: the kill of a process ("process"), or the
    loss of power too ("power", an fsync per call). ``busy_timeout_s``: how long a call waits for the writer of another
    process before `StoreBusy`. ``clock``: the store's `now`; default the machine's.

    Raises `StoreMissing`, `StoreForeign`, `StoreCorrupt`, `StoreReadOnly`, `StoreFull`, `StoreBusy` or `FormatTooNew`,
    each naming the file.
    """

    def __init__(
        self,
        path: str,
        *,
        namespace: str = "default",
        durability: Literal["process", "power"] = "process",
        busy_timeout_s: float = 10.0,
        clock: Callable[[], Instant] = machine_clock,
    ) -> None:
        fence.check_id(namespace, "namespace")
        self._connections = Connections(path, durability=durability, busy_timeout_s=busy_timeout_s)
        self._durability = durability
        self._clock = clock
        self._guesses = Guesses()
        try:
            self._ns = self._connections.open(namespace)
        except BaseException:
            self._connections.close()
            raise
        _log.info("opened %s, namespace %s, durability %s", path, namespace, durability)

    def __repr__(self) -> str:
        return f"SqliteStore({self._connections.path!r}{', closed' if self._connections.is_closed else ''})"

    def __del__(self) -> None:
        connections = self.__dict__.get("_connections")
        if connections is not None and not connections.is_closed:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2, source=self)
            connections.close()

    @property
    def capabilities(self) -> frozenset[str]:
        always = {"multi_process", "durable_process"}
        return frozenset(always | {"durable_power"} if self._durability == "power" else always)

    def now(self) -> Instant:
        self._connections.check_open()
        return self._clock()

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        fence.check_batch(commits, "commits")
        self._connections.check_open()
        if not commits:
            return []
        try:
            return self._commit(commits)
        except StoreClosed:
            raise
        except (StoreError, InvalidValue, UnicodeEncodeError, OverflowError) as error:
            return self._answer(commits, error)

    def _commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        cursor = self._connections.begin()
        keep = False
        try:
            now = self._clock()
            results = [apply_commit(cursor, self._ns, self._guesses, commit, now) for commit in commits]
            keep = True
        except sqlite3.Error as error:
            raise failure(error, self._connections.path) from error
        finally:
            self._connections.end(cursor, keep=keep)
        return results

    def _answer(self, commits: Sequence[Commit], error: Exception) -> list[CommitResult]:
        """What became of commits whose transaction failed: each is tried alone, so that none hinders the others."""
        if len(commits) > 1 and not isinstance(error, StoreBusy | OutcomeUnknown):
            return [result for commit in commits for result in self.commit([commit])]
        if isinstance(error, UnicodeEncodeError | OverflowError):
            error = InvalidValue(f"SQLite cannot store it: {error}", path="commit")
        return [CommitResult(run_id=commit.run_id, error=error.with_traceback(None)) for commit in commits]

    def load(self, run_id: str, *, after: int = 0, inbox_after: bytes = b"") -> StoredRun | None:
        self._connections.check_open()
        return self._connections.read(lambda cursor: self._load(cursor, run_id, after, inbox_after), brief=True)

    def _load(self, cursor: sqlite3.Cursor, run_id: str, after: int, inbox_after: bytes) -> StoredRun | None:
        row: Row | None = cursor.execute(_LOAD, (self._ns, run_id)).fetchone()
        if row is None:
            return None
        run, mark = row[:2]
        head = head_of(row[2:])
        found = cursor.execute("SELECT length, state FROM checkpoints WHERE run = ? AND length > ?", (run, after))
        checkpoint = next((Checkpoint(length=length, state=state) for length, state in found.fetchall()), None)
        start = after if checkpoint is None else checkpoint.length
        records = tuple(self._records(cursor, run, head, start, head.length)) if start < head.length else ()
        page = message_page(cursor, run, run_id, seen=arrival_of(inbox_after), run_mark=mark)
        outbox = cursor.execute(_OUTBOX, (run,)).fetchall()
        return StoredRun(
            head=head,
            checkpoint=checkpoint,
            records=records,
            messages=page.messages,
            inbox_mark=page.mark,
            more_messages=page.more,
            outbox=tuple(map(message_of, outbox)),
        )

    def _records(self, cursor: sqlite3.Cursor, run: int, head: RunHead, after: int, end: int) -> Iterator[bytes]:
        """The records after ``after`` up to ``end``, each of which has to be there."""
        expected = after + 1
        ((start,),) = cursor.execute(_ROW_OF, (place_of(run, 0), place_of(run, expected))).fetchall()
        start, stop = start or place_of(run, expected), place_of(run, end)
        rows = cursor.execute(_LEDGER, (start, stop))
        rests = cursor.connection.execute(_RESTS, (rest_place(start, 1), rest_place(stop + 1, 1)))
        for seq, record in records_in(whole_rows(rows, rests), after):
            if seq != expected or seq > end:
                break
            yield record
            expected += 1
        if expected <= end:
            raise corrupt(self._connections.path, f"record {expected} of run {head.run_id!r} is not where it belongs")

    def ledger(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[bytes]:
        self._connections.check_open()
        head = self._connections.read(lambda cursor: self._head(cursor, run_id), brief=True)
        if head is None:
            return iter(())
        end = head[1].length
        return self._pages(run_id, after, end if limit is None else min(end, after + limit))

    def _head(self, cursor: sqlite3.Cursor, run_id: str) -> tuple[int, RunHead] | None:
        row: Row | None = cursor.execute(_LOAD, (self._ns, run_id)).fetchone()
        return None if row is None else (row[0], head_of(row[2:]))

    def _pages(self, run_id: str, after: int, end: int) -> Iterator[bytes]:
        while after < end:
            start = after
            page = self._connections.read(lambda cursor: self._page(cursor, run_id, start, end))  # noqa: B023 - called at once
            yield from page
            after += len(page)

    def _page(self, cursor: sqlite3.Cursor, run_id: str, after: int, end: int) -> list[bytes]:
        found = self._head(cursor, run_id)
        if found is None:
            raise UnknownRun(
                f"run {run_id!r} was deleted while its ledger was read", hint="nothing is left of it", run_id=run_id
            )
        page: list[bytes] = []
        size = 0
        for record in self._records(cursor, *found, after, end):
            page.append(record)
            size += len(record)
            if size > _PAGE_BYTES:
                break
        return page

    def find(self, query: RunQuery) -> Page:
        fence.check_query(query)
        self._connections.check_open()
        now = self._clock()
        heads = self._connections.read(lambda cursor: find_heads(cursor, self._ns, query, now))
        items = tuple(heads[: query.limit])
        return Page(items=items, cursor=fence.cursor_after(query, items[-1]) if len(heads) > query.limit else None)

    def claim(
        self, *, owner: str, lease_s: float, can_run: Runnable, limit: int = 1, run_id: str | None = None
    ) -> list[RunHead]:
        fence.check_id(owner, "owner")
        fence.check_lease(lease_s)
        self._connections.check_open()
        # Idle claimers look again and again: the write lock is only asked for where there is something to claim.
        now = self._clock()
        if not self._connections.read(
            lambda cursor: claimable(cursor, self._ns, can_run, now=now, limit=1, run_id=run_id), brief=True
        ):
            return []
        with self._connections.write() as cursor:
            now = self._clock()
            until = Instant(now + round(lease_s * 1_000_000))
            heads = claimable(cursor, self._ns, can_run, now=now, limit=limit, run_id=run_id)
            cursor.executemany(_CLAIM, [(owner, until, self._ns, head.run_id) for head in heads])
        return [
            msgspec.structs.replace(
                head, owner=owner, lease_until=until, epoch=head.epoch + 1, claims=head.claims + 1
            )
            for head in heads
        ]  # fmt: skip

    def renew(self, owner: str, lease_s: float) -> list[RunHead]:
        fence.check_lease(lease_s)
        with self._connections.write() as cursor:
            until = self._clock() + round(lease_s * 1_000_000)
            cursor.execute(_RENEW, (until, self._ns, owner))
            return [head_of(row) for row in cursor.execute(_RENEWED, (self._ns, owner)).fetchall()]

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        fence.check_batch(messages, "messages")
        for message in messages:
            fence.check_message(message)
        with self._connections.write() as cursor:
            now = self._clock()
            return [deliver_message(cursor, self._ns, message, now) for message in messages]

    def delete(self, run_id: str) -> None:
        with self._connections.write() as cursor:
            found = self._head(cursor, run_id)
            if found is None:
                return
            run, head = found
            now = self._clock()
            if not fence.is_free(head.owner, head.lease_until, now):
                raise fence.leased(run_id, head.owner, head.lease_until)
            for table in _TABLES_BY_RUN:
                cursor.execute(f"DELETE FROM {table} WHERE run = ?", (run,))  # noqa: S608 - our own names
            places = (place_of(run, 0), place_of(run + 1, 0))
            cursor.execute("DELETE FROM ledger WHERE place BETWEEN ? AND ?", places)
            rests = (rest_place(place_of(run, 0), 1), rest_place(place_of(run + 1, 0), 1))
            cursor.execute("DELETE FROM rests WHERE place BETWEEN ? AND ?", rests)
            cursor.execute("INSERT INTO tombstones VALUES (?, ?, ?)", (self._ns, run_id, now))

    def close(self) -> None:
        self._connections.close()

    def __enter__(self) -> Self:
        self._connections.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_sqlite(url: StoreUrl, options: object) -> SqliteStore:
    """The store at a URL. ``options``: a `SqliteOptions`, or None for the defaults; the URL's parameters go first."""
    if Path(url.path).name == ":memory:":
        raise InvalidUrl(f"{url.text} would not be kept", hint="write memory: for a store in memory", url=url.text)
    if options is None and not url.query:
        return SqliteStore(url.path, namespace=url.namespace)
    from .options import SqliteOptions, merged

    chosen = merged(options if isinstance(options, SqliteOptions) else SqliteOptions(), url)
    return SqliteStore(
        url.path, namespace=url.namespace, durability=chosen.durability, busy_timeout_s=chosen.busy_timeout_s
    )
