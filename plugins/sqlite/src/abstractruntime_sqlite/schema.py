"""The tables, their version, and whose file it is.

One row per run in `runs`: what a step changes stands in no index, so a step touches two pages, one here and one in
`ledger`. A ledger row is one commit: its `place` is the run's key and the number of its first record, so that the
records of a run lie together and need no index (a table WITHOUT ROWID would do the same at 2–3 times the cost for rows
above 1 KB). `waits` and `tags` stand in the run's row, to be read with it, and in tables of their own, to be searched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from abstractruntime.errors import FormatTooNew, StoreError

from .failures import foreign

APPLICATION_ID = 0x4152554E
"""``ARUN`` in the file's header says that the file is ours."""

MIN_SQLITE = (3, 35, 0)
"""The first with RETURNING."""

_MESSAGE_COLUMNS = """
    message_id TEXT NOT NULL, nonce TEXT NOT NULL, sender TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL,
    key TEXT NOT NULL, payload BLOB NOT NULL, actor_id TEXT, sent_at INTEGER NOT NULL
"""

_VERSION_1 = (
    "CREATE TABLE namespaces (ns INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY, ns INTEGER NOT NULL, run_id TEXT NOT NULL,
        length INTEGER NOT NULL, head_hash TEXT NOT NULL, epoch INTEGER NOT NULL,
        wake_at INTEGER, owner TEXT, lease_until INTEGER, held TEXT NOT NULL, claims INTEGER NOT NULL,
        mark INTEGER NOT NULL,
        workflow_id TEXT NOT NULL, workflow_version TEXT NOT NULL, status TEXT NOT NULL, since INTEGER NOT NULL,
        created_at INTEGER NOT NULL, waits TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL,
        partition_key TEXT, parent_run_id TEXT, root_run_id TEXT, session_id TEXT, actor_id TEXT, tags TEXT NOT NULL,
        format INTEGER NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX runs_id ON runs (ns, run_id)",
    "CREATE INDEX runs_status ON runs (ns, status, since)",
    # a claim must not have to step over the runs that others hold: those are in an index of their own, by their end
    """
    CREATE INDEX runs_due ON runs (ns, queue, priority, wake_at)
    WHERE wake_at IS NOT NULL AND held = '' AND lease_until IS NULL
    """,
    "CREATE INDEX runs_lease ON runs (ns, lease_until, owner) WHERE lease_until IS NOT NULL",
    "CREATE INDEX runs_wake ON runs (ns, wake_at) WHERE wake_at IS NOT NULL",
    "CREATE INDEX runs_parent ON runs (ns, parent_run_id) WHERE parent_run_id IS NOT NULL",
    "CREATE INDEX runs_root ON runs (ns, root_run_id) WHERE root_run_id IS NOT NULL",
    "CREATE INDEX runs_session ON runs (ns, session_id) WHERE session_id IS NOT NULL",
    """
    CREATE TABLE waits (
        ns INTEGER NOT NULL, wait_key TEXT NOT NULL, run INTEGER NOT NULL, PRIMARY KEY (ns, wait_key, run)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tags (
        ns INTEGER NOT NULL, tag TEXT NOT NULL, run INTEGER NOT NULL, PRIMARY KEY (ns, tag, run)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE ledger (place INTEGER PRIMARY KEY, lengths BLOB, records BLOB NOT NULL)",
    # rows that would leave half of a page empty are cut into pieces: the first stands in `ledger`, the others here
    "CREATE TABLE rests (place INTEGER PRIMARY KEY, records BLOB NOT NULL)",
    "CREATE TABLE checkpoints (run INTEGER PRIMARY KEY, length INTEGER NOT NULL, state BLOB NOT NULL)",
    # arrival is an inbox mark: AUTOINCREMENT, since a number that came again would pass for seen
    f"CREATE TABLE inbox (arrival INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, {_MESSAGE_COLUMNS})",
    "CREATE INDEX inbox_run ON inbox (run)",
    """
    CREATE TABLE known (
        run INTEGER NOT NULL, message_id TEXT NOT NULL, nonce TEXT NOT NULL, arrival INTEGER,
        PRIMARY KEY (run, message_id)
    ) WITHOUT ROWID
    """,
    f"""
    CREATE TABLE outbox (
        place INTEGER PRIMARY KEY, run INTEGER NOT NULL, run_id TEXT NOT NULL, {_MESSAGE_COLUMNS}
    )
    """,
    "CREATE INDEX outbox_run ON outbox (run)",
    """
    CREATE TABLE artifacts (
        run INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (run, name)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tombstones (
        ns INTEGER NOT NULL, run_id TEXT NOT NULL, deleted_at INTEGER NOT NULL, PRIMARY KEY (ns, run_id)
    ) WITHOUT ROWID
    """,
)


def _create(cursor: sqlite3.Cursor) -> None:
    cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in _VERSION_1:
        cursor.execute(statement)


MIGRATIONS: Sequence[Callable[[sqlite3.Cursor], None]] = (_create,)
"""Each makes a file of version n (its place here) one of version n + 1. Version 0 is an empty file."""


def check_library() -> None:
    """Raise `StoreError` where Python was built with an SQLite that is too old."""
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        wanted = ".".join(map(str, MIN_SQLITE))
        raise StoreError(
            f"Python's SQLite is {sqlite3.sqlite_version}, and {wanted} is needed",
            hint="use a newer build of Python",
            version=sqlite3.sqlite_version,
        )


def version_of(cursor: sqlite3.Cursor, path: str, newest: int = len(MIGRATIONS)) -> int:
    """The schema version of the file, 0 for an empty one. Raises `StoreForeign`, or `FormatTooNew` above ``newest``."""
    application, version, tables = cursor.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),"
        " (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise foreign(path, "is a database of another program")
    if version > newest:
        raise FormatTooNew(
            f"{path} has schema version {version}, and this version of abstractruntime-sqlite reads up to {newest}",
            hint="pip install --upgrade abstractruntime-sqlite",
            file=path,
            version=version,
            newest=newest,
        )
    return int(version)


def migrate(
    cursor: sqlite3.Cursor, path: str, migrations: Sequence[Callable[[sqlite3.Cursor], None]] = MIGRATIONS
) -> None:
    """Bring the file to the newest version, inside the transaction of the caller: all of it or nothing of it."""
    version = version_of(cursor, path, len(migrations))
    for step in migrations[version:]:
        step(cursor)
        version += 1
        cursor.execute(f"PRAGMA user_version = {version}")
