"""Reference lines: the least that each medium can do for one step, without a runtime. Each measured in a process of its
own, like the workloads, and next to them.

A step writes a record of 1 KB and a head of 300 B, except in memory, where it encodes a state of 1 KB.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from pathlib import Path

import msgspec
from stopwatch import Sample, Stopwatch

RECORD = b"r" * 1024
HEAD = b"h" * 300


class State(msgspec.Struct):
    n: int
    text: str


def bare_loop(folder: Path, *, steps: int) -> Sample:
    """A loop that changes a struct, encodes it with a reused encoder and keeps the bytes in a dict."""
    encode = msgspec.json.Encoder().encode
    kept: dict[str, bytes] = {}
    state = State(0, "x" * 1000)
    with Stopwatch() as watch:
        for number in range(steps):
            state.n = number
            kept["run"] = encode(state)
    return watch.sample(per=steps)


def raw_append(folder: Path, *, steps: int) -> Sample:
    """One os.write per step to one file: head and record in a frame with its length and checksum."""
    file = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    body = HEAD + RECORD
    with Stopwatch() as watch:
        for _ in range(steps):
            os.write(file, b"@%d %08x\n%b" % (len(body), zlib.crc32(body), body))
    os.close(file)
    return watch.sample(per=steps, stored=folder)


def sqlite_step(folder: Path, *, steps: int) -> Sample:
    """One WAL transaction per step, synchronous NORMAL: BEGIN IMMEDIATE, a ledger row, the head's row, COMMIT."""
    connection = _open(folder / "line.db")
    _create(connection, 1)
    with Stopwatch() as watch:
        for number in range(steps):
            _advance(connection, 1, number + 1, "running")
    connection.close()
    return watch.sample(per=steps, stored=folder)


def sqlite_park(folder: Path, *, runs: int) -> Sample:
    """Start and park with a transaction per step: one to create the run, one to decide, one to park."""
    connection = _open(folder / "line.db")
    with Stopwatch() as watch:
        for run in range(runs):
            _create(connection, run)
            _advance(connection, run, 1, "running")
            _advance(connection, run, 2, "waiting")
    connection.close()
    return watch.sample(per=runs, stored=folder)


def sqlite_resume(folder: Path, *, runs: int) -> Sample:
    """Resume and finish with a transaction per step: read the run, one for the answer, one for the end."""
    prepare_parked(folder, runs=runs)
    connection = _open(folder / "line.db")
    with Stopwatch() as watch:
        for run in range(runs):
            _resume(connection, run)
    connection.close()
    return watch.sample(per=runs, stored=folder)


def prepare_parked(folder: Path, *, runs: int) -> None:
    """A file with parked runs, as the line keeps them."""
    connection = _open(folder / "line.db")
    for run in range(runs):
        _create(connection, run)
        _advance(connection, run, 1, "waiting")
    connection.close()


def first_step(folder: Path, *, started: float) -> Sample:
    """From process start to the first resumed step, with nothing imported but sqlite3 and msgspec."""
    connection = _open(folder / "line.db")
    _resume(connection, 1)
    took_us = (time.monotonic() - started) * 1e6
    connection.close()
    return Sample.of_process(took_us)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS heads (run INTEGER PRIMARY KEY, length INTEGER, status TEXT, head BLOB)"
    )
    connection.execute("CREATE TABLE IF NOT EXISTS ledger (place INTEGER PRIMARY KEY, record BLOB)")
    return connection


def _create(connection: sqlite3.Connection, run: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO ledger VALUES (?, ?)", (run << 32, RECORD))
    connection.execute("INSERT INTO heads VALUES (?, 1, 'running', ?)", (run, HEAD))
    connection.execute("COMMIT")


def _advance(connection: sqlite3.Connection, run: int, length: int, status: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO ledger VALUES (?, ?)", ((run << 32) + length, RECORD))
    connection.execute("UPDATE heads SET length = ?, status = ?, head = ? WHERE run = ?", (length, status, HEAD, run))
    connection.execute("COMMIT")


def _resume(connection: sqlite3.Connection, run: int) -> None:
    (length,) = connection.execute("SELECT length FROM heads WHERE run = ?", (run,)).fetchone()
    places = (run << 32, (run << 32) + length)
    connection.execute("SELECT record FROM ledger WHERE place BETWEEN ? AND ?", places).fetchall()
    _advance(connection, run, length + 1, "running")
    _advance(connection, run, length + 2, "completed")
