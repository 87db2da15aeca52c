"""The store: one database file, safe for many threads and many processes of one machine."""

from __future__ import annotations

import logging
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Self

import msgspec

from abstractruntime.errors import AbstractRuntimeError, InvalidUrl, InvalidValue, UnknownRun
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

from .commits import apply_commit
from .connections import Connections
from .failures import failure
from .inbox import HAS_UNSEEN, deliver_message, message_page
from .queries import claimable, find_heads
from .rows import HEAD, MESSAGE, Row, arrival_of, head_of, message_of, place_of, records_in

_log = logging.getLogger(__name__)

_LOAD = f"SELECT run, mark, {HEAD} FROM runs WHERE ns = ? AND run_id = ?"  # noqa: S608 - our own names
_OUTBOX = f"SELECT run_id, {MESSAGE} FROM outbox WHERE run = ? ORDER BY place"  # noqa: S608 - our own names
_RENEWED = f"SELECT {HEAD} FROM runs WHERE ns = ? AND owner = ? AND {HAS_UNSEEN} ORDER BY run_id"  # noqa: S608 - our own names
_CLAIM = """
UPDATE runs SET owner = ?, lease_until = ?, epoch = epoch + 1, claims = claims + 1 WHERE ns = ? AND run_id = ?
"""
# The row that holds the first record asked for may begin before it.
_LEDGER = """
SELECT place, lengths, records FROM ledger
WHERE place >= coalesce((SELECT max(place) FROM ledger WHERE place BETWEEN ?1 AND ?2), ?2) AND place <= ?3
ORDER BY place
"""
_LEDGER_PAGE_BYTES = 4 << 20
_TABLES_BY_RUN = ("checkpoints", "inbox", "known", "outbox", "artifacts", "waits", "tags")


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
            cursor = self._connections.begin()
            keep = False
            try:
                now = self._clock()
                results = [apply_commit(cursor, self._ns, commit, now) for commit in commits]
                keep = True
            finally:
                self._connections.end(cursor, keep=keep)
        except (AbstractRuntimeError, sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            return self._one_by_one(commits, error)
        return results

    def _one_by_one(self, commits: Sequence[Commit], error: Exception) -> list[CommitResult]:
        """After one of them made the transaction fail: each alone, so that it does not hinder the others."""
        if len(commits) > 1 and not isinstance(error, StoreBusy | OutcomeUnknown | StoreClosed):
            return [result for commit in commits for result in self.commit([commit])]
        told = _told(error, self._connections.path)
        return [CommitResult(run_id=commit.run_id, error=told) for commit in commits]
