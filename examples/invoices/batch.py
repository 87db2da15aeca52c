"""A batch: one run per letter, one payments file, and what of it is done, kept over the death of the demo itself."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

_NOTE = "batch.json"


class FolderInUse(Exception):
    """Another demo works in this folder; the message names the folder and the other's process id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the demo knows of itself; everything else stands in the runs.

    `name`: also the beginning of the run ids. `letters`, `store`: where they are. `files`: the letters' names.
    `crash_shown`: whether the worker has been killed. `finished`: whether the proof was given.
    """

    name: str
    letters: str
    files: tuple[str, ...]
    store: str
    crash_shown: bool = False
    finished: bool = False

    def run_id(self, file: str) -> str:
        """Return the id of a letter's run. It is derived, so that a second start of it is known to be one."""
        return f"{self.name}-{Path(file).stem}"


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep other demos out of the folder, which is created. Raises `FolderInUse`. The lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise FolderInUse(f"another demo (process {holder}) works in {folder}: wait for it, or use --dir") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def load_batch(folder: Path) -> Batch | None:
    """Return the batch of the last call, None when there was none."""
    try:
        noted = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Batch(**{**noted, "files": tuple(noted["files"])})


def new_batch(folder: Path, letters: Path, store: str) -> Batch:
    """Begin a batch of the `*.txt` files in `letters`, named after the time."""
    name = f"invoices-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    files = tuple(sorted(file.name for file in letters.glob("*.txt")))
    return save_batch(folder, Batch(name=name, letters=str(letters), files=files, store=store))


def save_batch(folder: Path, batch: Batch) -> Batch:
    """Note the batch, all or nothing, and return it."""
    draft = folder / f"{_NOTE}.new"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(batch), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / _NOTE)
    return batch
