"""What the memory store looks things up in: runs as they stand, in several orders, in groups, and by when they are due.

Nothing here is safe between threads: the store's lock is held around every call.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple, Self

from ..models import Instant
from . import fence
from .contract import GENESIS, Checkpoint, Fence, Message, Projection, RunHead, Runnable, RunQuery

# The highest code point: no id is greater than a text of these alone, so (key, _LAST) stands behind every (key, id).
_LAST = chr(0x10FFFF) * 1025


class KeptRun:
    """One run as it stands. Mutable, so never handed out: `head` is what others see."""

    __slots__ = (
        "agenda_turn",
        "artifacts",
        "checkpoint",
        "claims",
        "epoch",
        "head_hash",
        "held",
        "inbox",
        "known",
        "lease_until",
        "length",
        "mark",
        "outbox",
        "owner",
        "projection",
        "records",
        "run_id",
        "wake_at",
    )

    def __init__(self, run_id: str, projection: Projection) -> None:
        self.run_id = run_id
        self.projection = projection
        self.length = 0
        self.head_hash = GENESIS
        self.epoch = 0
        self.wake_at: Instant | None = None
        self.owner: str | None = None
        self.lease_until: Instant | None = None
        self.held: Literal["", "paused", "moving", "moved"] = ""
        self.claims = 0
        self.records: list[bytes] = []
        self.checkpoint: Checkpoint | None = None
        self.inbox: dict[str, tuple[int, Message]] = {}  # by message id, in order of arrival
        self.known: dict[str, str] = {}  # message id to nonce
        self.mark = 0
        self.outbox: list[Message] = []
        self.artifacts: set[str] = set()
        self.agenda_turn = 0

    @property
    def fence(self) -> Fence:
        """Where the run is."""
        return Fence(length=self.length, head_hash=self.head_hash, epoch=self.epoch)

    @property
    def head(self) -> RunHead:
        """The run as others see it."""
        return RunHead(
            run_id=self.run_id,
            projection=self.projection,
            length=self.length,
            head_hash=self.head_hash,
            epoch=self.epoch,
            wake_at=self.wake_at,
            owner=self.owner,
            lease_until=self.lease_until,
            held=self.held,
            claims=self.claims,
        )

    def has_unseen(self) -> bool:
        """Whether a message newer than the mark lies in the inbox."""
        return bool(self.inbox) and next(reversed(self.inbox.values()))[0] > self.mark

    def is_due(self, now: Instant) -> bool:
        """Whether somebody should look at the run now, and nobody holds it."""
        return fence.is_due(self.wake_at, self.lease_until, self.held, now)


class Order:
    """Runs by a key, ties by id: walked either way, from any place on."""

    def __init__(self, entries: Iterable[tuple[int, str]] = ()) -> None:
        self._entries = sorted(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: int, run_id: str) -> None:
        """Put a run in. Cheap at the end, where most go."""
        insort(self._entries, (key, run_id))

    def discard(self, key: int, run_id: str) -> None:
        """Take a run out, if it is there."""
        place = bisect_left(self._entries, (key, run_id))
        if place < len(self._entries) and self._entries[place] == (key, run_id):
            del self._entries[place]

    def up_to(self, key: int) -> list[tuple[int, str]]:
        """All entries of a key that is not greater."""
        return self._entries[: bisect_right(self._entries, (key, _LAST))]

    def ascending(self, after: tuple[int, str] | None) -> Iterator[tuple[int, str]]:
        """From the lowest key and id, or from behind ``after``."""
        start = 0 if after is None else bisect_right(self._entries, after)
        return islice(self._entries, start, None)

    def backward(self, after: tuple[int, str] | None) -> Iterator[tuple[int, str]]:
        """The same entries in the opposite order."""
        end = len(self._entries) if after is None else bisect_left(self._entries, after)
        return (self._entries[place] for place in range(end - 1, -1, -1))

    def descending(self, after: tuple[int, str] | None) -> Iterator[tuple[int, str]]:
        """Keys from the highest; the ids of one key still from the lowest."""
        entries = self._entries
        end = len(entries)
        if after is not None:
            end = bisect_right(entries, (after[0], _LAST))
            yield from entries[bisect_right(entries, after) : end]
            end = bisect_left(entries, (after[0], ""))
        while end:
            start = bisect_left(entries, (entries[end - 1][0], ""))
            yield from entries[start:end]
            end = start


class _Due(NamedTuple):
    """A place in the agenda. Stale, and dropped when met, once the run has moved on to another turn."""

    rank: int
    at: Instant
    run_id: str
    turn: int


class Bucket(NamedTuple):
    """What decides who can run a run; runs that agree in it are in one heap."""

    queue: str
    workflow_id: str
    workflow_version: str
    format: int

    @classmethod
    def of(cls, projection: Projection) -> Self:
        """The bucket of a run."""
        return cls(projection.queue, projection.workflow_id, projection.workflow_version, projection.format)

    def suits(self, can_run: Runnable) -> bool:
        """Whether the claimer can run these."""
        if self.format > can_run.format or (can_run.queues is not None and self.queue not in can_run.queues):
            return False
        if can_run.workflows is None:
            return True
        versions = can_run.workflows.get(self.workflow_id)
        return versions is not None and (not versions or self.workflow_version in versions)


class Agenda:
    """Who is due next: a heap of runs whose time has yet to come, and per bucket one of those whose time has come."""

    def __init__(self, runs: dict[str, KeptRun]) -> None:
        self._runs = runs
        self._later: list[tuple[Instant, str, int]] = []
        self._ready: defaultdict[Bucket, list[_Due]] = defaultdict(list)

    def put(self, run: KeptRun) -> None:
        """Give the run its place anew; the one it had goes stale."""
        run.agenda_turn += 1
        if run.wake_at is None or run.held:
            return
        if len(self._later) > 4 * len(self._runs) + 64:
            self._later = [entry for entry in self._later if self._turn(entry[1]) == entry[2]]
            heapq.heapify(self._later)
        heapq.heappush(self._later, (max(run.wake_at, run.lease_until or run.wake_at), run.run_id, run.agenda_turn))

    def take(self, now: Instant, can_run: Runnable, limit: int) -> list[KeptRun]:
        """The due runs that the claimer can run, best first. The caller changes their lease and puts them back."""
        self._ripen(now)
        heaps = [heap for bucket, heap in self._ready.items() if bucket.suits(can_run)]
        taken: list[KeptRun] = []
        while len(taken) < limit:
            tops = [heap for heap in heaps if self._top(heap, now)]
            if not tops:
                break
            best = min(tops, key=lambda heap: heap[0])
            taken.append(self._runs[heapq.heappop(best).run_id])
        return taken

    def _ripen(self, now: Instant) -> None:
        while self._later and self._later[0][0] <= now:
            _, run_id, turn = heapq.heappop(self._later)
            if self._turn(run_id) == turn:
                run = self._runs[run_id]
                due = _Due(-run.projection.priority, run.wake_at or Instant(0), run_id, turn)
                heapq.heappush(self._ready[Bucket.of(run.projection)], due)

    def _top(self, heap: list[_Due], now: Instant) -> bool:
        """Whether the heap has a due run at its top, after what is stale was dropped."""
        while heap:
            due = heap[0]
            if self._turn(due.run_id) == due.turn:
                run = self._runs[due.run_id]
                if run.is_due(now):
                    return True
                self.put(run)  # the clock was set back: its time is still to come
            heapq.heappop(heap)
        return False

    def _turn(self, run_id: str) -> int:
        run = self._runs.get(run_id)
        return 0 if run is None else run.agenda_turn


class Catalogue:
    """Finds runs: three orders over all of them, one by status, and groups of those that share a value."""

    def __init__(self, runs: dict[str, KeptRun]) -> None:
        self._runs = runs
        self._since = Order()
        self._wake = Order()
        self._ids = Order()
        self._status: defaultdict[str, Order] = defaultdict(Order)
        self._groups: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def replace(self, run_id: str, old: Projection | None, new: Projection | None) -> None:
        """The run's projection changed; None stands for a run that is not there."""
        if old is not None:
            self._since.discard(old.since, run_id)
            self._status[old.status].discard(old.since, run_id)
        if new is not None:
            self._since.add(new.since, run_id)
            self._status[new.status].add(new.since, run_id)
        if old is None:
            self._ids.add(0, run_id)
        if new is None:
            self._ids.discard(0, run_id)
        before, after = _groups_of(old), _groups_of(new)
        for group in before - after:
            self._groups[group].discard(run_id)
            if not self._groups[group]:
                del self._groups[group]
        for group in after - before:
            self._groups[group].add(run_id)

    def rewake(self, run_id: str, old: Instant | None, new: Instant | None) -> None:
        """The run's ``wake_at`` changed."""
        if old is not None:
            self._wake.discard(old, run_id)
        if new is not None:
            self._wake.add(new, run_id)

    def find(self, query: RunQuery, now: Instant) -> Iterator[KeptRun]:
        """The runs that match, in the order of the query, from its place on."""
        wanted = _wanted_by(query)
        few = self._few(query, wanted, now)
        run_ids = self._walk(query) if few is None else self._sort(query, few)
        return (self._runs[run_id] for run_id in run_ids if _matches(self._runs[run_id], query, wanted, now))

    def _few(self, query: RunQuery, wanted: frozenset[tuple[str, str]], now: Instant) -> Collection[str] | None:
        """The smallest group that holds all matches, where to sort it is less work than to walk; else None."""
        groups: list[Collection[str]] = [self._groups.get(group, ()) for group in wanted]
        if query.due:
            groups.append([run_id for _, run_id in self._wake.up_to(now)])
        if not groups:
            return None
        smallest = min(groups, key=len)
        # a walk meets one member of the group among every (all runs / members), and needs a page of them
        return smallest if len(smallest) ** 2 <= query.limit * len(self._ids) else None

    def _sort(self, query: RunQuery, run_ids: Collection[str]) -> Iterator[str]:
        order = Order((fence.order_key(query, self._runs[run_id].head), run_id) for run_id in run_ids)
        return _walked([order], query)

    def _walk(self, query: RunQuery) -> Iterator[str]:
        if query.order == "since" and query.status is not None:
            return _walked([self._status[status] for status in set(query.status) if status in self._status], query)
        return _walked([{"since": self._since, "wake_at": self._wake, "id": self._ids}[query.order]], query)


def _walked(orders: Sequence[Order], query: RunQuery) -> Iterator[str]:
    place = fence.place_of(query)
    if query.order == "id" and query.descending:
        return (run_id for order in orders for _, run_id in order.backward(place))
    if query.descending:
        walks = [order.descending(place) for order in orders]
        return (run_id for _, run_id in heapq.merge(*walks, key=lambda entry: (-entry[0], entry[1])))
    return (run_id for _, run_id in heapq.merge(*(order.ascending(place) for order in orders)))


def _groups_of(projection: Projection | None) -> frozenset[tuple[str, str]]:
    if projection is None:
        return frozenset()
    groups = {("workflow", projection.workflow_id)}
    groups.update(("tag", tag) for tag in projection.tags)
    groups.update(("reason", wait.reason) for wait in projection.waits)
    groups.update(("wait", wait.wait_key) for wait in projection.waits)
    one = {"parent": projection.parent_run_id, "root": projection.root_run_id, "session": projection.session_id}
    groups.update((field, value) for field, value in one.items() if value is not None)
    return frozenset(groups)


def _wanted_by(query: RunQuery) -> frozenset[tuple[str, str]]:
    """The groups that every match is in."""
    one = {
        "workflow": query.workflow_id,
        "parent": query.parent_run_id,
        "root": query.root_run_id,
        "session": query.session_id,
        "reason": query.wait_reason,
        "wait": query.wait_key,
    }
    wanted = {(field, value) for field, value in one.items() if value is not None}
    return frozenset(wanted | {("tag", tag) for tag in query.tags})


def _matches(run: KeptRun, query: RunQuery, wanted: frozenset[tuple[str, str]], now: Instant) -> bool:
    projection = run.projection
    if query.status is not None and projection.status not in query.status:
        return False
    if query.queue is not None and projection.queue != query.queue:
        return False
    if query.due is not None and run.is_due(now) != query.due:
        return False
    if query.order == "wake_at" and run.wake_at is None:
        return False
    if wanted and not wanted <= _groups_of(projection):
        return False
    if query.wait_reason is None or query.wait_key is None:
        return True
    return any((wait.reason, wait.wait_key) == (query.wait_reason, query.wait_key) for wait in projection.waits)
