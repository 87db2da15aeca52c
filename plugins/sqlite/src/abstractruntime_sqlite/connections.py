"""Connections to one database file: one that writes, behind a lock, and a few that read.

A fork must find none of them open: SQLite's locks belong to the process that took them, and a child that goes on with
inherited ones, or with new ones beside them, writes without any. So before a fork all are closed, and each side opens
its own again when it needs one.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

from abstractruntime.store import fence

from . import schema
from .failures import busy, failure, foreign, is_busy, missing_folder, no_wal

T = TypeVar("T")

MAX_IDLE_READERS = 4
_SLICE_MS = 100  # of waiting inside SQLite, which sleeps without jitter; the rest of the time-out is waited here
_WAL_BYTES = 4 << 20  # what a large transaction leaves behind is cut back to this; SQLite's own turn is about as long


class Connections:
    """All connections of one store. ``durability``: "process" or "power". ``busy_timeout_s`` is for each wait."""

    def __init__(self, path: str, *, durability: Literal["process", "power"], busy_timeout_s: float) -> None:
        schema.check_library()
        self.path = path
        self._synchronous = "FULL" if durability == "power" else "NORMAL"
        self._busy_timeout_s = busy_timeout_s
        self._writer: sqlite3.Cursor | None = None
        self._idle: list[sqlite3.Connection] = []
        self._lent = 0
        self._why_closed: str | None = None
        self._quiet = False
        self._make_locks()
        _stores.add(self)

    def _make_locks(self) -> None:
        self._write_lock = threading.Lock()
        self._pool = threading.Condition(threading.Lock())

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, or a fork left nothing that can be used."""
        return self._why_closed is not None

    def check_open(self) -> None:
        """Raise `StoreClosed` after `close`."""
        if self._why_closed is not None:
            raise fence.closed(f"{self.path}{self._why_closed}")

    def open(self, namespace: str) -> int:
        """Make or check the file, and give the number of the namespace in it.

        Raises what is wrong with the file, by name; one that is not ours is not touched.
        """
        _check_place(self.path)
        with self.write() as cursor:
            schema.migrate(cursor, self.path)
            cursor.execute("INSERT INTO namespaces (name) VALUES (?) ON CONFLICT DO NOTHING", (namespace,))
            (number,) = cursor.execute("SELECT ns FROM namespaces WHERE name = ?", (namespace,)).fetchone()
            return int(number)

    def write(self) -> WriteTransaction:
        """One transaction of the writer: ``with connections.write() as cursor``. Commits, or rolls back on an error."""
        return WriteTransaction(self)

    def read(self, look: Callable[[sqlite3.Cursor], T], *, brief: bool = False) -> T:
        """What ``look`` gives, in one read transaction. It may be called again when another process was in the way.

        ``brief``: it takes microseconds, so that it may go before the next writer.
        """
        return self._patiently(lambda: self._look(look, brief=brief))

    def _look(self, look: Callable[[sqlite3.Cursor], T], *, brief: bool) -> T:
        # The writer's page cache is the one that is warm: a reader's is thrown away by every commit.
        if brief and self._write_lock.acquire(blocking=False):
            try:
                self.check_open()
                return _in_transaction(self._writing_cursor(), look)
            finally:
                self._write_lock.release()
        reader = self._borrow()
        try:
            return _in_transaction(reader.cursor(), look)
        finally:
            self._give_back(reader)

    def begin(self) -> sqlite3.Cursor:
        """Take the write lock and begin. The caller ends with `end`."""
        lock = self._write_lock
        if not (lock.acquire(blocking=False) or lock.acquire(timeout=self._busy_timeout_s)):
            raise busy(self.path)
        try:
            cursor = self._writer
            if cursor is not None:
                try:
                    cursor.execute("BEGIN IMMEDIATE")
                    return cursor
                except sqlite3.Error:
                    pass  # busy, or an interrupt got in between: the patient way tells
            return self._patiently(self._begun)
        except BaseException:
            lock.release()
            raise

    def _begun(self) -> sqlite3.Cursor:
        self.check_open()
        cursor = self._writing_cursor()
        if cursor.connection.in_transaction:  # an interrupt got between the transaction and its end
            cursor.execute("ROLLBACK")
        cursor.execute("BEGIN IMMEDIATE")
        return cursor

    def end(self, cursor: sqlite3.Cursor, *, keep: bool) -> None:
        """Commit or roll back, and release the write lock. Raises what COMMIT reports, after a rollback."""
        try:
            if keep:
                cursor.execute("COMMIT")
            elif cursor.connection.in_transaction:  # some errors have rolled back already
                cursor.execute("ROLLBACK")
        except sqlite3.Error as error:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise failure(error, self.path, committing=keep) from error
        finally:
            self._write_lock.release()

    def close(self) -> None:
        """Wait for what is under way and close all. Closing twice does nothing."""
        with self._write_lock, self._pool:
            self._close_all("")

    def _close_all(self, why: str) -> None:
        self._why_closed = why
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
        if self._writer is not None:
            _close(self._writer)
            self._writer = None

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` gives, tried until the time-out while other connections are in the way."""
        deadline = time.monotonic() + self._busy_timeout_s
        pause_s = 0.001
        while True:
            try:
                return attempt()
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise failure(error, self.path) from error
            # jitter: writers that were turned away together must not come back together
            time.sleep(random.uniform(0, pause_s))  # noqa: S311 - no secret
            pause_s = min(2 * pause_s, 0.05)

    def _writing_cursor(self) -> sqlite3.Cursor:
        if self._writer is None:
            self._writer = self._connect().cursor()
        return self._writer

    def _borrow(self) -> sqlite3.Connection:
        with self._pool:
            self._pool.wait_for(lambda: not self._quiet)
            self.check_open()
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect()
        except BaseException:
            self._give_back(None)
            raise

    def _give_back(self, reader: sqlite3.Connection | None) -> None:
        with self._pool:
            self._lent -= 1
            if reader is not None:
                if self.is_closed or len(self._idle) >= MAX_IDLE_READERS:
                    reader.close()
                else:
                    self._idle.append(reader)
            self._pool.notify_all()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            _uri(self.path), uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        cursor = connection.cursor()
        try:
            self._set_up(cursor)
        except BaseException:
            _close(cursor)
            raise
        cursor.close()
        return connection

    def _set_up(self, cursor: sqlite3.Cursor) -> None:
        cursor.execute(f"PRAGMA busy_timeout = {_SLICE_MS}")
        # Before anything that writes to the file: it may be another program's.
        schema.version_of(cursor, self.path)
        (mode,) = cursor.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal" and cursor.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise no_wal(self.path)
        cursor.execute(f"PRAGMA synchronous = {self._synchronous}")
        cursor.execute("PRAGMA fullfsync = ON")  # for macOS, where a plain fsync stops at the drive's cache
        cursor.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        cursor.execute("PRAGMA cache_size = -8192")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.execute("PRAGMA trusted_schema = OFF")

    def quiesce(self) -> bool:
        """Before a fork: wait until nothing is under way, close all, and let nothing new begin."""
        if not self._write_lock.acquire(timeout=self._busy_timeout_s):
            return False
        with self._pool:
            self._quiet = True
            if not self._pool.wait_for(lambda: not self._lent, timeout=self._busy_timeout_s):
                self._quiet = False
                self._write_lock.release()
                return False
            self._close_idle()
        return True

    def resume(self) -> None:
        """After a fork, in the parent."""
        with self._pool:
            self._quiet = False
            self._pool.notify_all()
        self._write_lock.release()

    def reborn(self, *, clean: bool) -> None:
        """After a fork, in the child: new locks, since the threads that held or awaited the old ones are gone."""
        self._make_locks()
        self._quiet = False
        self._lent = 0
        if not clean:
            # Neither used nor closed: either would touch the locks and the shared memory of the parent.
            _inherited.append((self._writer, self._idle))
            self._writer, self._idle = None, []
            self._why_closed = " (the process was forked in the middle of a call)"


class WriteTransaction:
    """A transaction of the writer, for ``with``."""

    __slots__ = ("_connections", "_cursor")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> sqlite3.Cursor:
        self._cursor = self._connections.begin()
        return self._cursor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.end(self._cursor, keep=error is None)
        if error is not None and isinstance(error, sqlite3.Error):
            raise failure(error, self._connections.path) from error


def _in_transaction(cursor: sqlite3.Cursor, look: Callable[[sqlite3.Cursor], T]) -> T:
    if cursor.connection.in_transaction:
        cursor.execute("ROLLBACK")
    cursor.execute("BEGIN")
    try:
        return look(cursor)
    finally:
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")


def _close(cursor: sqlite3.Cursor) -> None:
    """Close a connection by its cursor: an open statement of the cursor would keep the file open behind its back."""
    connection = cursor.connection
    cursor.close()
    connection.close()


def _uri(path: str) -> str:
    return f"{Path(path).as_uri()}?mode=rwc"


def _check_place(path: str) -> None:
    file = Path(path)
    if not file.parent.is_dir():
        raise missing_folder(path)
    if file.is_dir():
        raise foreign(path, "is a folder")


_stores: weakref.WeakSet[Connections] = weakref.WeakSet()
_inherited: list[object] = []
_quiet: list[Connections] = []


def _before_fork() -> None:
    _quiet[:] = [store for store in sorted(_stores, key=id) if not store.is_closed and store.quiesce()]


def _after_fork_in_parent() -> None:
    while _quiet:
        _quiet.pop().resume()


def _after_fork_in_child() -> None:
    for store in list(_stores):
        if not store.is_closed:
            store.reborn(clean=store in _quiet)
    _quiet.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
