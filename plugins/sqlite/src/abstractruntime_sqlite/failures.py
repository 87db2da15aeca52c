"""What SQLite reports, as errors of the runtime that name the file and say what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from abstractruntime.errors import (
    AbstractRuntimeError,
    InvalidValue,
    OutcomeUnknown,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
)

_PRIMARY = 0xFF  # the low byte of an extended result code is the plain one


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection was in the way, so that a later try may succeed."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def failure(error: sqlite3.Error, path: str, *, committing: bool = False) -> AbstractRuntimeError:
    """The runtime's error for one of SQLite. ``committing``: it came from COMMIT itself."""
    code = getattr(error, "sqlite_errorcode", 0)
    text = f"{error} ({getattr(error, 'sqlite_errorname', 'no code')})"
    match code & _PRIMARY:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return busy(path)
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _read_only(path)
        case sqlite3.SQLITE_CORRUPT:
            return corrupt(path, text)
        case sqlite3.SQLITE_NOTADB:
            return foreign(path, "is no SQLite database")
        case sqlite3.SQLITE_CANTOPEN:
            return _cannot_open(path, text)
        case sqlite3.SQLITE_TOOBIG:
            return InvalidValue(f"too large for {path}: {text}", hint="store large values as artifacts", path="records")
        case sqlite3.SQLITE_IOERR:
            return _broken(path, text, committing=committing)
    return StoreError(f"{path}: {text}", hint="see docs/reference/errors.md", file=path)


def busy(path: str) -> StoreBusy:
    """Another writer did not finish in time."""
    return StoreBusy(
        f"{path} is locked by another writer",
        hint="try again, or raise busy_timeout_s in [plugin.sqlite]; a stopped process may hold the lock",
        file=path,
    )


def corrupt(path: str, detail: str) -> StoreCorrupt:
    """Bytes of the file that cannot be right."""
    return StoreCorrupt(
        f"{path} is damaged: {detail}",
        hint="make a copy of the file and its -wal, then look with `sqlite3 FILE 'PRAGMA integrity_check'`",
        file=path,
    )


def foreign(path: str, why: str) -> StoreForeign:
    """A file that this store did not make."""
    return StoreForeign(f"{path} {why}", hint="name another file; this one was not touched", file=path)


def no_wal(path: str) -> StoreError:
    """The file system has no shared memory, so there is no write-ahead log."""
    return StoreError(
        f"{path} cannot be put into WAL mode",
        hint="keep the file on a local disk: network file systems are not supported",
        file=path,
    )


def missing_folder(path: str) -> StoreMissing:
    """The folder that should hold the file is not there."""
    folder = str(Path(path).parent)
    return StoreMissing(
        f"the folder of {path} does not exist", hint=f"make it first: mkdir -p {folder}", file=path, folder=folder
    )


def _full(path: str) -> StoreFull:
    return StoreFull(
        f"no space left for {path}; nothing of the commit was written",
        hint="make room and try again: nothing that was answered before is lost",
        file=path,
    )


def _read_only(path: str) -> StoreReadOnly:
    return StoreReadOnly(
        f"{path} cannot be written to",
        hint="the file and its folder must both be writable: SQLite keeps its -wal and -shm beside the file",
        file=path,
    )


def _cannot_open(path: str, text: str) -> StoreError:
    file = Path(path)
    if not file.parent.is_dir():
        return missing_folder(path)
    if not (_is_writable(file.parent) and (_is_writable(file) or not file.exists())):
        return _read_only(path)
    return StoreError(f"{path} cannot be opened: {text}", hint="check its permissions and open files", file=path)


def _is_writable(place: Path) -> bool:
    return os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _broken(path: str, text: str, *, committing: bool) -> StoreError:
    """An I/O error. SQLite knows a full disk where it writes the file itself, not where it grows its shared memory."""
    if _no_space_beside(path):
        return _full(path)
    if committing:
        return OutcomeUnknown(
            f"{path}: {text} while committing; it cannot be told whether the commit was applied",
            hint="load the run: it was applied if the record at its place has its hash",
            file=path,
        )
    return StoreError(f"{path}: {text}; nothing of the commit was written", hint="check the disk", file=path)


def _no_space_beside(path: str) -> bool:
    try:
        room = os.statvfs(Path(path).parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 64 * 1024  # less than one growth of the shared memory
