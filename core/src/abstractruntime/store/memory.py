"""The reference store: runs in memory, as bytes, behind one lock. Nothing survives the process.

``memory:`` opens a store of its own, ``memory:name`` one that all who open that name in this process share.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Self

import pluggy
from msgspec import UNSET

from ..errors import AbstractRuntimeError
from ..models import Instant
from . import fence
from .catalogue import Agenda, Bucket, Catalogue, KeptRun
from .contract import (
    MESSAGE_PAGE,
    Commit,
    CommitResult,
    Delivery,
    Message,
    Page,
    Projection,
    RunHead,
    Runnable,
    RunQuery,
    StoredRun,
    StoreSpec,
    StoreUrl,
)

_NO_MARK = b""


def machine_clock() -> Instant:
    """The machine's clock, in µs."""
    return Instant(time.time_ns() // 1000)


class _Namespace:
    """The runs of one namespace, and all that is known about them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: dict[str, KeptRun] = {}
        self.tombstones: set[str] = set()
        self.owned: defaultdict[str, set[str]] = defaultdict(set)
        self.catalogue = Catalogue(self.runs)
        self.agenda = Agenda(self.runs)
        self.arrivals = 0

    def schedule(self, run: KeptRun, wake_at: Instant | None) -> None:
        if wake_at != run.wake_at:
            self.catalogue.rewake(run.run_id, run.wake_at, wake_at)
            run.wake_at = wake_at
            self.agenda.put(run)

    def lease(self, run: KeptRun, owner: str | None, until: Instant | None) -> None:
        if owner != run.owner:
            self._disown(run)
            if owner is not None:
                self.owned[owner].add(run.run_id)
            run.owner = owner
        if until != run.lease_until:
            run.lease_until = until
            self.agenda.put(run)

    def project(self, run: KeptRun, projection: Projection) -> None:
        self.catalogue.replace(run.run_id, run.projection, projection)
        run.projection = projection
        self.agenda.put(run)

    def remove(self, run: KeptRun) -> None:
        self.catalogue.replace(run.run_id, run.projection, None)
        self.catalogue.rewake(run.run_id, run.wake_at, None)
        self._disown(run)
        del self.runs[run.run_id]
        self.tombstones.add(run.run_id)

    def _disown(self, run: KeptRun) -> None:
        if run.owner is not None:
            self.owned[run.owner].discard(run.run_id)
            if not self.owned[run.owner]:
                del self.owned[run.owner]


_shared: defaultdict[tuple[str, str], _Namespace] = defaultdict(_Namespace)
_shared_lock = threading.Lock()


class MemoryStore:
    """A store in memory. ``clock``: its `now`; default the machine's. ``name``: shared with all who open that name."""

    def __init__(
        self, clock: Callable[[], Instant] | None = None, namespace: str = "default", *, name: str | None = None
    ) -> None:
        fence.check_id(namespace, "namespace")
        self._clock = clock or machine_clock
        self._text = f"memory:{name or ''}"
        self._closed = False
        if name:
            with _shared_lock:
                self._space = _shared[name, namespace]
        else:
            self._space = _Namespace()

    def __repr__(self) -> str:
        return f"MemoryStore({self._text!r}{', closed' if self._closed else ''})"

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset()

    def now(self) -> Instant:
        self._check_open()
        return self._clock()

    def _check_open(self) -> None:
        if self._closed:
            raise fence.closed(self._text)

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        fence.check_batch(commits, "commits")
        with self._space.lock:
            now = self.now()
            return [self._commit(commit, now) for commit in commits]

    def _commit(self, commit: Commit, now: Instant) -> CommitResult:
        error = self._refusal(commit, now)
        if error is not None:
            return CommitResult(run_id=commit.run_id, error=error)
        run = self._apply(commit, now)
        return CommitResult(
            run_id=run.run_id,
            epoch=run.epoch,
            lease_until=run.lease_until,
            wake_at=run.wake_at,
            unseen=run.has_unseen(),
        )

    def _refusal(self, commit: Commit, now: Instant) -> AbstractRuntimeError | None:
        """Why nothing of the commit may be applied. All is looked at before anything is changed."""
        if (error := fence.fault(commit)) is not None:
            return error
        run = self._space.runs.get(commit.run_id)
        if run is None:
            if not commit.expect.length and commit.run_id in self._space.tombstones:
                return fence.duplicate(commit.run_id)
            error = fence.refusal(commit, None, None, None, now)
        else:
            error = fence.refusal(commit, run.fence, run.owner, run.lease_until, now)
        if error is not None:
            return error
        nonces = {} if run is None or not commit.messages else run.known.copy()
        for message in commit.messages:
            if nonces.setdefault(message.id, message.nonce) != message.nonce:
                return fence.taken_message(commit, message)
        return None

    def _apply(self, commit: Commit, now: Instant) -> KeptRun:
        space = self._space
        run = space.runs.get(commit.run_id)
        if run is None:
            assert commit.projection is not None  # noqa: S101 - `fence.fault` saw to it
            run = space.runs[commit.run_id] = KeptRun(commit.run_id, commit.projection)
            space.catalogue.replace(run.run_id, None, run.projection)
        elif commit.projection is not None and commit.projection != run.projection:
            space.project(run, commit.projection)
        if commit.owner != run.owner:
            run.epoch += 1
            run.claims += 1
            space.lease(run, commit.owner, run.lease_until)
        if commit.records:
            run.records.extend(commit.records)
            run.length = len(run.records)
            run.head_hash = commit.head_hash
            run.claims = 0
        if commit.checkpoint is not None:
            run.checkpoint = commit.checkpoint
        if commit.artifacts:
            run.artifacts.update(commit.artifacts)
        self._take_in(run, commit)
        if commit.held is not UNSET and commit.held != run.held:
            run.held = commit.held
            space.agenda.put(run)
        if commit.lease_s is not None:
            until = fence.lease_end(now, commit.lease_s)
            space.lease(run, None if until is None else commit.owner, until)
        wake_at = run.wake_at if commit.wake_at is UNSET else commit.wake_at
        space.schedule(run, fence.woken(wake_at, now) if run.outbox or run.has_unseen() else wake_at)
        return run

    def _take_in(self, run: KeptRun, commit: Commit) -> None:
        for message in commit.messages:
            run.known[message.id] = message.nonce
            run.inbox.pop(message.id, None)
        for message_id in commit.consumed:
            run.inbox.pop(message_id, None)
        if commit.inbox_mark is not None:
            # no mark is newer than the newest arrival: it would hide what is to come
            run.mark = max(run.mark, min(_number(commit.inbox_mark), self._space.arrivals))
        if commit.delivered:
            run.outbox = [message for message in run.outbox if message.id not in commit.delivered]
        run.outbox.extend(commit.outbox)

    def load(self, run_id: str, *, after: int = 0, inbox_after: bytes = _NO_MARK) -> StoredRun | None:
        with self._space.lock:
            self._check_open()
            run = self._space.runs.get(run_id)
            if run is None:
                return None
            checkpoint = run.checkpoint if run.checkpoint and run.checkpoint.length > after else None
            seen = _number(inbox_after)
            newer = (arrived for arrived in run.inbox.values() if arrived[0] > seen)
            page = list(islice(newer, MESSAGE_PAGE + 1))
            more = len(page) > MESSAGE_PAGE
            page = page[:MESSAGE_PAGE]
            mark = max(page[-1][0] if page else 0, 0 if more else max(run.mark, seen))
            return StoredRun(
                head=run.head,
                checkpoint=checkpoint,
                records=tuple(run.records[checkpoint.length if checkpoint else after :]),
                messages=fence.by_sender(message for _, message in page),
                inbox_mark=_mark(mark),
                more_messages=more,
                outbox=tuple(run.outbox),
            )

    def ledger(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[bytes]:
        with self._space.lock:
            self._check_open()
            run = self._space.runs.get(run_id)
            if run is None:
                return iter(())
            return iter(run.records[after : None if limit is None else after + limit])

    def find(self, query: RunQuery) -> Page:
        fence.check_query(query)
        with self._space.lock:
            found = list(islice(self._space.catalogue.find(query, self.now()), query.limit + 1))
            items = tuple(run.head for run in found[: query.limit])
        return Page(items=items, cursor=fence.cursor_after(query, items[-1]) if len(found) > query.limit else None)

    def claim(
        self, *, owner: str, lease_s: float, can_run: Runnable, limit: int = 1, run_id: str | None = None
    ) -> list[RunHead]:
        fence.check_id(owner, "owner")
        fence.check_lease(lease_s)
        with self._space.lock:
            now = self.now()
            if run_id is None:
                claimed = self._space.agenda.take(now, can_run, limit)
            else:
                named = self._space.runs.get(run_id)
                suits = named is not None and named.is_due(now) and Bucket.of(named.projection).suits(can_run)
                claimed = [named] if named is not None and suits else []
            for run in claimed:
                run.epoch += 1
                run.claims += 1
                self._space.lease(run, owner, Instant(now + round(lease_s * 1_000_000)))
                self._space.agenda.put(run)
            return [run.head for run in claimed]

    def renew(self, owner: str, lease_s: float) -> list[RunHead]:
        fence.check_lease(lease_s)
        with self._space.lock:
            until = Instant(self.now() + round(lease_s * 1_000_000))
            owned = [self._space.runs[run_id] for run_id in self._space.owned.get(owner, ())]
            runs = [run for run in owned if run.lease_until is not None]
            for run in runs:
                self._space.lease(run, owner, until)
            return [run.head for run in runs if run.has_unseen()]

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        fence.check_batch(messages, "messages")
        for message in messages:
            fence.check_message(message)
        with self._space.lock:
            now = self.now()
            return [self._deliver(message, now) for message in messages]

    def _deliver(self, message: Message, now: Instant) -> Delivery:
        run = self._space.runs.get(message.run_id)
        if run is None:
            return Delivery(message_id=message.id, outcome="unknown_run")
        if (nonce := run.known.get(message.id)) is not None:
            return Delivery(message_id=message.id, outcome="accepted" if nonce == message.nonce else "known")
        self._space.arrivals += 1
        run.known[message.id] = message.nonce
        run.inbox[message.id] = (self._space.arrivals, message)
        self._space.schedule(run, fence.woken(run.wake_at, now))
        return Delivery(message_id=message.id, outcome="accepted")

    def delete(self, run_id: str) -> None:
        with self._space.lock:
            now = self.now()
            run = self._space.runs.get(run_id)
            if run is None:
                return
            if not fence.is_free(run.owner, run.lease_until, now):
                raise fence.leased(run_id, run.owner, run.lease_until)
            self._space.remove(run)

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _mark(arrival: int) -> bytes:
    return arrival.to_bytes(8, "big") if arrival else _NO_MARK


def _number(mark: bytes) -> int:
    return int.from_bytes(mark, "big")


def open_memory(url: StoreUrl, options: object) -> MemoryStore:
    """``memory:``, or ``memory:name`` for a store that the whole process shares under that name."""
    return MemoryStore(namespace=url.namespace, name=url.path or None)


abstractruntime_plugin_api = 1


@pluggy.HookimplMarker("abstractruntime")
def abstractruntime_stores() -> list[StoreSpec]:
    """This store, under the scheme ``memory``."""
    return [StoreSpec(scheme="memory", open=open_memory, summary="in memory, for tests and trials; nothing survives")]
