"""A writer that keeps a run's fence: what an engine does, without the thinking. And what it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from uuid import uuid4

from msgspec import structs

from ..models import Instant
from ..store.contract import GENESIS, Commit, CommitResult, Fence, Message, Projection, RunHead, Store, StoredRun

LEASE_S = 60.0
"""A lease that does not run out while a clause works."""
SHORT_LEASE_S = 0.2
"""A lease that a clause waits for."""
WRITER = "writer"


def record_of(text: str) -> bytes:
    """A record as the engine makes them: a line of header, a line of values. To a store it is bytes."""
    return f'{{"kind":"noted","text":"{text}"}}\n["{hashlib.sha256(text.encode()).hexdigest()}",[]]\n'.encode()


def hash_after(head_hash: str, records: Sequence[bytes]) -> str:
    """A head hash that depends on all records before it, 64 hex digits like the engine's."""
    for record in records:
        head_hash = hashlib.sha256(head_hash.encode() + record).hexdigest()
    return head_hash


def message_to(run_id: str, message_id: str = "m1", **changes: object) -> Message:
    """A message with a nonce of its own."""
    message = Message(run_id=run_id, id=message_id, nonce=uuid4().hex, sender="sender", seq=1, kind="resume", key="k")
    return structs.replace(message, **changes)


class RunWriter:
    """Writes one run and keeps its fence: what an engine does, without the thinking."""

    def __init__(self, store: Store, run_id: str, *, owner: str = WRITER, fence: Fence | None = None) -> None:
        self.store = store
        self.run_id = run_id
        self.owner = owner
        self.fence = fence or Fence(length=0)

    def __repr__(self) -> str:
        return f"RunWriter({self.run_id!r}, {self.fence})"

    def commit_of(self, *records: bytes | str, **changes: object) -> Commit:
        """A commit at the fence. Records may be given as text; ``changes`` are fields of `Commit`."""
        stored = tuple(record_of(record) if isinstance(record, str) else record for record in records)
        head_hash = hash_after(self.fence.head_hash, stored) if stored else GENESIS
        commit = Commit(run_id=self.run_id, owner=self.owner, expect=self.fence, records=stored, head_hash=head_hash)
        return structs.replace(commit, **changes)

    def attempt(self, *records: bytes | str, **changes: object) -> CommitResult:
        """Commit, and go on from there if it was applied."""
        commit = self.commit_of(*records, **changes)
        (result,) = self.store.commit([commit])
        if result.error is None:
            self.follow(commit, result)
        return result

    def write(self, *records: bytes | str, **changes: object) -> CommitResult:
        """Commit what must be applied."""
        result = self.attempt(*records, **changes)
        assert result.error is None, f"{self.run_id!r} at {self.fence} was refused: {result.error}"
        return result

    def follow(self, commit: Commit, result: CommitResult) -> None:
        """The commit was applied: the fence moves on."""
        length = commit.expect.length + len(commit.records)
        head_hash = commit.head_hash if commit.records else commit.expect.head_hash
        self.fence = Fence(length=length, head_hash=head_hash, epoch=result.epoch)

    def stored(self, *, after: int = 0) -> StoredRun:
        """The run as the store has it."""
        stored = self.store.load(self.run_id, after=after)
        assert stored is not None, f"{self.run_id!r} is not in the store"
        return stored

    def head(self) -> RunHead:
        """The run's head as the store has it."""
        return self.stored().head

    def claimed_by(self, head: RunHead) -> RunWriter:
        """A writer that goes on after a claim."""
        assert head.owner is not None
        return RunWriter(self.store, head.run_id, owner=head.owner, fence=head.fence)


def projection_of(**changes: object) -> Projection:
    """A projection; what a clause does not say is the same everywhere."""
    return structs.replace(Projection(workflow_id="flow", since=Instant(1), created_at=Instant(1)), **changes)
