"""Messages for runs: put in by anybody, read a page at a time by who holds the run."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from abstractruntime.models import Instant
from abstractruntime.store import fence
from abstractruntime.store.contract import MESSAGE_PAGE, Delivery, Message

from .rows import MESSAGE, MESSAGE_PLACES, Row, mark_of, message_of, message_row

_TARGET = """
SELECT run, wake_at, (SELECT nonce FROM known WHERE known.run = runs.run AND message_id = ?)
FROM runs WHERE ns = ? AND run_id = ?
"""
_PUT = f"INSERT INTO inbox (run, {MESSAGE}) VALUES (?, {MESSAGE_PLACES})"  # noqa: S608 - our own names
_PAGE = f"SELECT arrival, {MESSAGE} FROM inbox WHERE run = ? AND arrival > ? ORDER BY arrival LIMIT ?"  # noqa: S608 - our own names

HAS_UNSEEN = "EXISTS (SELECT 1 FROM inbox WHERE inbox.run = runs.run AND inbox.arrival > runs.mark)"
"""Of a row of `runs`: whether a message newer than its mark lies in the inbox."""


class MessagePage(NamedTuple):
    """Unconsumed messages, the mark that covers them, and whether others follow."""

    messages: tuple[Message, ...]
    mark: bytes
    more: bool


def deliver_message(cursor: sqlite3.Cursor, ns: int, message: Message, now: Instant) -> Delivery:
    """Put one message into its inbox, inside the transaction of its call."""
    row = cursor.execute(_TARGET, (message.id, ns, message.run_id)).fetchone()
    if row is None:
        return Delivery(message_id=message.id, outcome="unknown_run")
    run, wake_at, nonce = row
    if nonce is not None:
        return Delivery(message_id=message.id, outcome="accepted" if nonce == message.nonce else "known")
    arrival = cursor.execute(_PUT, (run, *message_row(message))).lastrowid
    cursor.execute(
        "INSERT INTO known (run, message_id, nonce, arrival) VALUES (?, ?, ?, ?)",
        (run, message.id, message.nonce, arrival),
    )
    if wake_at is None or wake_at > now:  # a head that is due already is not touched
        cursor.execute("UPDATE runs SET wake_at = ? WHERE run = ?", (now, run))
    return Delivery(message_id=message.id, outcome="accepted")


def message_page(cursor: sqlite3.Cursor, run: int, run_id: str, *, seen: int, run_mark: int) -> MessagePage:
    """The oldest messages that nobody consumed, from those after the arrival ``seen``."""
    rows: list[Row] = cursor.execute(_PAGE, (run, seen, MESSAGE_PAGE + 1)).fetchall()
    more = len(rows) > MESSAGE_PAGE
    rows = rows[:MESSAGE_PAGE]
    newest = rows[-1][0] if rows else 0
    mark = newest if more else max(newest, seen, run_mark)
    return MessagePage(fence.by_sender(message_of((run_id, *row[1:])) for row in rows), mark_of(mark), more)
