"""What a clause works with: a place where stores are opened, and a writer that keeps a run's fence."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import uuid4

import pytest
from msgspec import structs

from ...config import load_settings
from ...models import Instant
from ...plugins import open_store_by_url
from ...store.contract import GENESIS, Commit, CommitResult, Fence, Message, Projection, RunHead, Store, StoredRun
from ..clock import VirtualClock

LEASE_S = 60.0
"""A lease that does not run out while a clause works."""
SHORT_LEASE_S = 0.2
"""A lease that a clause waits for."""
WRITER = "writer"


def url_in(url: str, namespace: str) -> str:
    """The URL of another namespace at the same place."""
    return f"{url}{'&' if '?' in url else '?'}namespace={quote(namespace, safe='')}"


def open_by_url(url: str) -> Callable[[str], Store]:
    """Opens stores at a URL by their namespace, with the settings that are in force."""
    return lambda namespace: open_store_by_url(url_in(url, namespace), load_settings())


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


class StorePlace:
    """One place, in a namespace of its own. ``url``: where other processes find it; ``clock``: of all its stores."""

    def __init__(
        self, open_store: Callable[[str], Store], *, url: str | None = None, clock: VirtualClock | None = None
    ) -> None:
        self._open = open_store
        self._url = url
        self._clock = clock
        self._stores: list[Store] = []
        self._store: Store | None = None
        self._names = 0
        self.namespace = f"kit-{uuid4().hex}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for store in self._stores:
            store.close()

    @property
    def store(self) -> Store:
        """The store that a clause uses where one is enough."""
        if self._store is None:
            self._store = self.open()
        return self._store

    def open(self, namespace: str | None = None) -> Store:
        """Another store at this place; it is closed when the clause ends."""
        store = self._open(self.namespace if namespace is None else namespace)
        self._stores.append(store)
        return store

    def url(self) -> str:
        """For other processes. A store that declares `multi_process` has to be reached by one."""
        if self._url is None:
            pytest.fail("a store that declares multi_process is proved by its URL: give the fixture store_url")
        return url_in(self._url, self.namespace)

    def needs(self, capability: str) -> None:
        """The clause is about stores that declare this; others have nothing to prove."""
        if capability not in self.store.capabilities:
            pytest.skip(f"the store does not declare {capability}")

    def new_id(self) -> str:
        """A run id that was not used here."""
        self._names += 1
        return f"run-{self._names}"

    def writer(self, run_id: str | None = None, *, store: Store | None = None, owner: str = WRITER) -> RunWriter:
        """A writer for a run that is not there yet."""
        return RunWriter(store or self.store, run_id or self.new_id(), owner=owner)

    def run(
        self, run_id: str | None = None, *, store: Store | None = None, owner: str = WRITER, **changes: object
    ) -> RunWriter:
        """A run of one record that ``owner`` holds for long; ``changes`` are fields of its first commit."""
        writer = self.writer(run_id, store=store, owner=owner)
        parts: dict[str, object] = {"projection": projection_of(), "lease_s": LEASE_S, "wake_at": self.store.now()}
        writer.write("created", **(parts | changes))
        return writer

    def free_run(self, run_id: str | None = None, **changes: object) -> RunWriter:
        """A run of one record that nobody holds, due now."""
        return self.run(run_id, **({"lease_s": 0.0} | changes))

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass on the store's clock."""
        if self._clock is not None:
            self._clock.advance(seconds)
            return
        end = self.store.now() + round(seconds * 1_000_000)
        while self.store.now() <= end:
            time.sleep(0.005)


def projection_of(**changes: object) -> Projection:
    """A projection; what a clause does not say is the same everywhere."""
    return structs.replace(Projection(workflow_id="flow", since=Instant(1), created_at=Instant(1)), **changes)
