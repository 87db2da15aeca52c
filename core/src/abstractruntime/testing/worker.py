"""What the kit starts as a process of its own: ``python -m abstractruntime.testing.worker URL WORK … NUMBER``.

It opens the store, writes ``ready``, waits for a line, and works; what it writes then the clause reads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from abstractruntime.config import load_settings
from abstractruntime.errors import Conflict
from abstractruntime.plugins import open_store_by_url
from abstractruntime.store.contract import Runnable, Store

from .writer import LEASE_S, RunWriter, projection_of


def tell(line: object) -> None:
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def write(store: Store, number: str, steps: str, lease_s: str = str(LEASE_S)) -> None:
    """Create a run and append to it; tell of each answered commit."""
    writer = RunWriter(store, f"run {number}")
    for step in range(int(steps)):
        first = {"projection": projection_of(), "lease_s": float(lease_s), "wake_at": store.now()} if not step else {}
        writer.write(f"step {step}", **first)
        tell(step)


def claim(store: Store, number: str) -> None:
    """Claim until there is nothing left; tell of each run."""
    while heads := store.claim(owner=f"claimer {number}", lease_s=LEASE_S, can_run=Runnable(format=9), limit=3):
        for head in heads:
            tell(head.run_id)


def race(store: Store, number: str, tries: str) -> None:
    """Commit to one run that others commit to as well; tell how often it worked."""
    won = 0
    for _ in range(int(tries)):
        stored = store.load("shared")
        if stored is None:
            raise LookupError("the shared run is not there")
        result = RunWriter(store, "shared", fence=stored.head.fence).attempt(f"by {number}")
        if result.error is not None and not isinstance(result.error, Conflict):
            raise result.error
        won += result.error is None
    tell(won)


def main(url: str, work: str, *arguments: str) -> None:
    """Do one kind of work."""
    *options, number = arguments
    with open_store_by_url(url, load_settings()) as store:
        tell("ready")
        sys.stdin.readline()
        works: dict[str, Callable[..., None]] = {"write": write, "claim": claim, "race": race}
        works[work](store, number, *options)


if __name__ == "__main__":
    main(*sys.argv[1:])
