"""Finding and claiming: which index drives a look, and what the rest has to fulfil."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from abstractruntime.models import Instant
from abstractruntime.store import fence
from abstractruntime.store.contract import RunHead, Runnable, RunQuery

from .rows import HEAD, Value, head_of

_STATUSES = """
WITH RECURSIVE known (status) AS (
    SELECT min(status) FROM runs INDEXED BY runs_status WHERE ns = ?
    UNION ALL
    SELECT (SELECT min(status) FROM runs INDEXED BY runs_status WHERE ns = ? AND status > known.status)
    FROM known WHERE known.status IS NOT NULL
)
SELECT status FROM known WHERE status IS NOT NULL
"""
# Two leaps: a comparison of (queue, priority) with a pair would walk all entries of the queue.
_LEAP = """
SELECT queue, priority FROM runs INDEXED BY runs_due
WHERE ns = ? AND wake_at IS NOT NULL AND held = '' AND lease_until IS NULL AND {} ORDER BY queue, priority LIMIT 1
"""
_NEXT_PRIORITY = _LEAP.format("queue = ? AND priority > ?")
_NEXT_QUEUE = _LEAP.format("queue > ?")
_DUE = "wake_at IS NOT NULL AND wake_at <= ? AND held = '' AND (lease_until IS NULL OR lease_until <= ?)"
_NOT_DUE = "(wake_at IS NULL OR wake_at > ? OR held <> '' OR lease_until > ?)"
_COUNT_DUE = """
SELECT count(*) FROM (
    SELECT 1 FROM runs INDEXED BY runs_wake WHERE ns = ? AND wake_at IS NOT NULL AND wake_at <= ? LIMIT ?
)
"""
_FEW_DUE = 200  # up to here it is quicker to sort all due runs than to look for them in another order


class _Conditions:
    """Conditions that all hold, with their values."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.values: list[Value] = []

    def add(self, text: str, *values: Value) -> None:
        self.texts.append(text)
        self.values.extend(values)

    def copy(self) -> _Conditions:
        other = _Conditions()
        other.texts, other.values = self.texts[:], self.values[:]
        return other


def find_heads(cursor: sqlite3.Cursor, ns: int, query: RunQuery, now: Instant) -> list[RunHead]:
    """The heads of the page, and one more where another page follows."""
    if query.status == ():  # SQLite refuses INDEXED BY where nothing can match
        return []
    conditions = _conditions(ns, query, now)
    _add_place(conditions, query)
    index = _narrow_index(cursor, ns, query, now)
    if index is not None:
        _add_status(conditions, query.status)
        return _select(cursor, index, conditions, query)
    if query.order != "since":
        _add_status(conditions, query.status)
        return _select(
            cursor, "INDEXED BY runs_wake" if query.order == "wake_at" else "INDEXED BY runs_id", conditions, query
        )
    statuses = [row[0] for row in cursor.execute(_STATUSES, (ns, ns))] if query.status is None else set(query.status)
    pages = []
    for status in statuses:
        own = conditions.copy()
        own.add("status = ?", status)
        pages.append(_select(cursor, "INDEXED BY runs_status", own, query))
    sign = -1 if query.descending else 1
    merged = heapq.merge(*pages, key=lambda head: (sign * head.projection.since, head.run_id))
    return list(islice(merged, query.limit + 1))


def _conditions(ns: int, query: RunQuery, now: Instant) -> _Conditions:
    conditions = _Conditions()
    conditions.add("ns = ?", ns)
    if query.order == "wake_at":
        conditions.add("wake_at IS NOT NULL")
    for column, value in (
        ("workflow_id", query.workflow_id),
        ("queue", query.queue),
        ("parent_run_id", query.parent_run_id),
        ("root_run_id", query.root_run_id),
        ("session_id", query.session_id),
    ):
        if value is not None:
            conditions.add(f"{column} = ?", value)
    if query.due is not None:
        conditions.add(_DUE if query.due else _NOT_DUE, now, now)
    for tag in query.tags:
        conditions.add("run IN (SELECT run FROM tags WHERE ns = ? AND tag = ?)", ns, tag)
    if query.wait_key is not None:
        conditions.add("run IN (SELECT run FROM waits WHERE ns = ? AND wait_key = ?)", ns, query.wait_key)
    if query.wait_reason is not None:
        conditions.add(
            "EXISTS (SELECT 1 FROM json_each(waits) WHERE json_extract(value, '$.reason') = ?"
            " AND coalesce(json_extract(value, '$.wait_key') = ?, 1))",
            query.wait_reason,
            query.wait_key,
        )
    return conditions


def _add_status(conditions: _Conditions, status: tuple[str, ...] | None) -> None:
    if status is not None:
        conditions.add(f"status IN ({_places(status)})", *status)


def _add_place(conditions: _Conditions, query: RunQuery) -> None:
    """Only what comes behind the page before."""
    place = fence.place_of(query)
    if place is None:
        return
    key, run_id = place
    way = "<" if query.descending else ">"
    if query.order == "id":
        conditions.add(f"run_id {way} ?", run_id)
    else:
        conditions.add(f"{query.order} {way}= ? AND ({query.order} {way} ? OR run_id > ?)", key, key, run_id)


def _narrow_index(cursor: sqlite3.Cursor, ns: int, query: RunQuery, now: Instant) -> str | None:
    """The index to look into where few runs can match; None where it is best to walk in the order that is asked for.

    Said outright, since SQLite has no statistics of the file and would rather follow the order.
    """
    if query.wait_key is not None or query.tags:
        return "NOT INDEXED"  # by the run keys of the sub-select
    for index, value in (
        ("runs_parent", query.parent_run_id),
        ("runs_session", query.session_id),
        ("runs_root", query.root_run_id),
    ):
        if value is not None:
            return f"INDEXED BY {index}"
    if query.due and query.order != "wake_at":
        (count,) = cursor.execute(_COUNT_DUE, (ns, now, _FEW_DUE)).fetchone()
        if count < _FEW_DUE:
            return "INDEXED BY runs_wake"
    return None


def _select(cursor: sqlite3.Cursor, index: str, conditions: _Conditions, query: RunQuery) -> list[RunHead]:
    way = " DESC" if query.descending else ""
    order = f"run_id{way}" if query.order == "id" else f"{query.order}{way}, run_id"
    sql = f"SELECT {HEAD} FROM runs {index} WHERE {' AND '.join(conditions.texts)} ORDER BY {order} LIMIT ?"  # noqa: S608 - our own names
    return [head_of(row) for row in cursor.execute(sql, (*conditions.values, query.limit + 1))]


def claimable(
    cursor: sqlite3.Cursor, ns: int, can_run: Runnable, *, now: Instant, limit: int, run_id: str | None
) -> list[RunHead]:
    """Up to ``limit`` due runs that the claimer can run, by priority, then ``wake_at``, then id."""
    if can_run.queues == () or can_run.workflows == {}:  # SQLite refuses INDEXED BY where nothing can match
        return []
    runnable = _runnable(ns, can_run)
    if run_id is not None:
        runnable.add(_DUE, now, now)
        runnable.add("run_id = ?", run_id)
        return _first(cursor, "runs_id", runnable, limit)
    abandoned = runnable.copy()
    abandoned.add("lease_until IS NOT NULL AND lease_until <= ? AND wake_at <= ? AND held = ''", now, now)
    heads = _first(cursor, "runs_lease", abandoned, limit)
    heads += _free(cursor, ns, can_run, runnable, now=now, limit=limit)
    return sorted(heads, key=_rank)[:limit]


def _rank(head: RunHead) -> tuple[int, int, str]:
    return -head.projection.priority, head.wake_at or 0, head.run_id


def _free(
    cursor: sqlite3.Cursor, ns: int, can_run: Runnable, runnable: _Conditions, *, now: Instant, limit: int
) -> list[RunHead]:
    """The first of the due runs without a lease: level by level, as far as needed."""
    found: list[RunHead] = []
    pairs = sorted(_pairs(cursor, ns, can_run), key=lambda pair: -pair[1])
    for _, level in groupby(pairs, key=lambda pair: pair[1]):
        heads: list[RunHead] = []
        for queue, priority in level:
            own = runnable.copy()
            own.add("wake_at IS NOT NULL AND wake_at <= ? AND held = '' AND lease_until IS NULL", now)
            own.add("queue = ? AND priority = ?", queue, priority)
            heads += _first(cursor, "runs_due", own, limit)
        found += sorted(heads, key=_rank)
        if len(found) >= limit:
            break
    return found[:limit]


def _first(cursor: sqlite3.Cursor, index: str, conditions: _Conditions, limit: int) -> list[RunHead]:
    where = " AND ".join(conditions.texts)
    # of one queue and priority this is the order of `runs_due`, and nothing needs to be sorted but ties
    order = "wake_at, run_id" if index == "runs_due" else "priority DESC, wake_at, run_id"
    sql = f"SELECT {HEAD} FROM runs INDEXED BY {index} WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608 - our own names
    return [head_of(row) for row in cursor.execute(sql, (*conditions.values, limit))]


def _runnable(ns: int, can_run: Runnable) -> _Conditions:
    """What does not depend on who holds the run, and how long."""
    conditions = _Conditions()
    conditions.add("ns = ?", ns)
    conditions.add("format <= ?", can_run.format)
    if can_run.queues is not None:
        conditions.add(f"queue IN ({_places(can_run.queues)})", *can_run.queues)
    if can_run.workflows is not None:
        texts: list[str] = []
        values: list[Value] = []
        for workflow_id, versions in can_run.workflows.items():
            texts.append(
                f"workflow_id = ? AND workflow_version IN ({_places(versions)})" if versions else "workflow_id = ?"
            )
            values += [workflow_id, *versions]
        conditions.add(f"({' OR '.join(texts)})", *values)
    return conditions


def _pairs(cursor: sqlite3.Cursor, ns: int, can_run: Runnable) -> Iterator[tuple[str, int]]:
    """Each queue and priority that has a run with a `wake_at`, found by leaping through the index."""
    pair: tuple[str, int] | None = cursor.execute(_NEXT_QUEUE, (ns, "")).fetchone()
    while pair is not None:
        if can_run.queues is None or pair[0] in can_run.queues:
            yield pair
        queue = pair[0]
        pair = cursor.execute(_NEXT_PRIORITY, (ns, *pair)).fetchone()
        if pair is None:
            pair = cursor.execute(_NEXT_QUEUE, (ns, queue)).fetchone()


def _places(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)
