"""The store contract: the page a backend author reads.

A store keeps runs. Of each run it keeps a *ledger* (records, append only), a *head* (what is indexed and who holds the
run) and an *inbox* (messages from others). The engine computes; the store makes durable, fences and finds. A store
never looks into a record: it is handed bytes.

Words: an *instant* is an int, microseconds UTC. A run is *due* when ``wake_at`` is not None and past, ``lease_until``
is None or past, and ``held`` is empty. The *fence* of a run is (length, head hash, epoch).

All values are frozen; all arguments are keyword-only; ids, keys and owners are any text of 1–1,024 characters without
NUL or lone surrogates. Every method may be called from several threads, and several stores may be open on one place,
in one process or in many. Clause ids (S-…) name the tests of `abstractruntime.testing`. What every backend decides in
the same way stands as pure functions in `abstractruntime.store.fence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

from msgspec import UNSET, Struct, UnsetType

from ..models import Instant

MAX_ID_CHARS = 1024
GENESIS = ""
"""The head hash of a run without records."""


class Fence(Struct, frozen=True, kw_only=True):
    """Where a writer believes a run to be. ``length`` 0 means: the run must not exist, and never have existed."""

    length: int
    head_hash: str = GENESIS
    epoch: int = 0


class WaitHead(Struct, frozen=True, kw_only=True):
    """The indexed part of an open wait. ``until``: the instant at which the wait ends by itself."""

    wait_id: str
    reason: str
    wait_key: str
    until: Instant | None = None


class Projection(Struct, frozen=True, kw_only=True):
    """What the engine says about a run for finding it: a function of the records alone.

    ``since``: when the present status was entered. ``format``: the newest record format in the ledger.
    """

    workflow_id: str
    workflow_version: str = ""
    status: str = "running"
    since: Instant = Instant(0)
    created_at: Instant = Instant(0)
    waits: tuple[WaitHead, ...] = ()
    queue: str = "default"
    priority: int = 0
    partition_key: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    session_id: str | None = None
    actor_id: str | None = None
    tags: tuple[str, ...] = ()
    format: int = 1


class RunHead(Struct, frozen=True, kw_only=True):
    """A run as the store sees it: the engine's `Projection` and what the store itself owns.

    ``wake_at``: None, or when somebody should look at the run. ``owner`` and ``lease_until``: who holds it, and until
    when; an owner without a lease, or with one that ran out, keeps nobody out. ``epoch`` grows by one each time the run
    changes hands. ``claims``: how often it was claimed, or taken by a commit, since its last record. ``held``: "" or
    why it is not due whatever ``wake_at`` says. ``length``, ``head_hash``: of the ledger.
    """

    run_id: str
    projection: Projection
    length: int
    head_hash: str
    epoch: int
    wake_at: Instant | None = None
    owner: str | None = None
    lease_until: Instant | None = None
    held: Literal["", "paused", "moving", "moved"] = ""
    claims: int = 0

    @property
    def fence(self) -> Fence:
        return Fence(length=self.length, head_hash=self.head_hash, epoch=self.epoch)


class Message(Struct, frozen=True, kw_only=True):
    """Something for a run from somebody who does not hold it.

    ``id`` is known for the life of the run: a second message of that id is ``known``, unless its ``nonce`` (16 random
    bytes as 32 hex digits, made once per call and repeated by its own resends) is the same: then it is ``accepted``
    again. ``sender`` is one runtime instance, ``seq`` counts from 1 per sender and run. ``payload`` is JSON.
    """

    run_id: str
    id: str
    nonce: str
    sender: str
    seq: int
    kind: str
    key: str = ""
    payload: bytes = b"null"
    actor_id: str | None = None
    sent_at: Instant = Instant(0)


class Delivery(Struct, frozen=True, kw_only=True):
    """What became of a message: ``accepted`` (now in the inbox, or there already from the same call), ``known``
    (another call used that id), ``unknown_run`` (no such run, or deleted)."""

    message_id: str
    outcome: Literal["accepted", "known", "unknown_run"]


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The folded state after ``length`` records, as bytes of the engine. A cache: the ledger is the truth."""

    length: int
    state: bytes


class Commit(Struct, frozen=True, kw_only=True):
    """One atomic change of one run.

    It is applied if, and only if, the run is at ``expect`` and ``owner`` may write: it is the run's owner (also under a
    lease that ran out, as long as nobody took the run); or ``take`` is set and the run is free (no owner, no lease, a
    lease that is past by the store's clock, or owned by ``take_from``). Taking makes ``owner`` the owner and raises the
    epoch by one; the owner itself takes nothing, and its epoch stays. With ``expect.length`` 0 the run is created with
    at least one record and a projection, owned by ``owner``, epoch 1.

    ``records``: 0–1,000 records of 1 B–1 MiB each, appended in order; ``head_hash`` is the hash of the last of them,
    and is not looked at without any. ``projection``: the new one, None where nothing of it changed. ``wake_at``: the
    engine's wish; UNSET leaves it as it is; a message newer than the inbox mark that nobody consumed, and an
    undelivered outbox, lower it to now whatever the wish says. ``lease_s``: the lease from now on, in seconds; 0
    releases the run (no owner); None leaves its end as it is. ``inbox_mark``: the mark of the newest message the writer
    has seen, None: as it is; a mark never goes back.

    ``messages``: messages to this run that were never delivered and are taken in by this very commit: each becomes
    known, and none of them lies in the inbox afterwards; if an id is known under another nonce the commit is refused.
    ``consumed``: ids of delivered messages that its records took in; one that is not in the inbox is passed over.
    ``outbox``: messages to others, kept in order until a commit names their ids in ``delivered``; the ids within one
    run's outbox differ. ``artifacts``: names of those that its records refer to, which were written before.
    ``checkpoint`` replaces the older one. Records reset ``claims`` to 0.
    """

    run_id: str
    owner: str
    expect: Fence
    records: tuple[bytes, ...] = ()
    head_hash: str = GENESIS
    projection: Projection | None = None
    take: bool = False
    take_from: str | None = None
    lease_s: float | None = None
    wake_at: Instant | UnsetType | None = UNSET
    held: Literal["", "paused", "moving", "moved"] | UnsetType = UNSET
    inbox_mark: bytes | None = None
    messages: tuple[Message, ...] = ()
    consumed: tuple[str, ...] = ()
    outbox: tuple[Message, ...] = ()
    delivered: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None


class CommitResult(Struct, frozen=True, kw_only=True):
    """What became of a commit. ``error`` None: it is durable, and ``epoch``, ``lease_until``, ``wake_at`` are the
    run's.

    ``error`` is a `Conflict` (the fence did not match, there is no such run, ``owner`` does not hold it and does not
    take it, or a message id was taken; nothing was written), a `Leased` (the fence matches, ``take`` was set and
    somebody else holds the run; nothing was written), a `DuplicateRun` (``expect.length`` 0 and the run exists or
    existed), an `InvalidId` or `InvalidValue` (the commit itself is out of bounds; nothing was written), an
    `OutcomeUnknown`, or another `StoreError` (nothing was written). ``unseen``: the inbox holds messages newer than the
    mark.
    """

    run_id: str
    epoch: int = 0
    lease_until: Instant | None = None
    wake_at: Instant | None = None
    unseen: bool = False
    error: Exception | None = None


class StoredRun(Struct, frozen=True, kw_only=True):
    """What `Store.load` gives, read in one consistent look.

    ``checkpoint``: the newest, if newer than ``after``. ``records``: all that follow it (or ``after``, if that is
    later), in order. ``messages``: those not consumed, each sender's by ``seq``, at most ``MESSAGE_PAGE`` of them;
    ``inbox_mark`` covers exactly those and everything older; ``more_messages`` tells of others behind the page.
    ``outbox``: undelivered messages to others.
    """

    head: RunHead
    checkpoint: Checkpoint | None = None
    records: tuple[bytes, ...] = ()
    messages: tuple[Message, ...] = ()
    inbox_mark: bytes = b""
    more_messages: bool = False
    outbox: tuple[Message, ...] = ()


MESSAGE_PAGE = 1000


class Runnable(Struct, frozen=True, kw_only=True):
    """What a claimer can run. ``queues``, ``workflows``: None means any. ``workflows`` maps an id to the versions it
    can run, an empty tuple meaning every version. Runs of a newer ``format`` are passed over."""

    queues: tuple[str, ...] | None = None
    workflows: Mapping[str, tuple[str, ...]] | None = None
    format: int = 1


class RunQuery(Struct, frozen=True, kw_only=True):
    """Which runs; all conditions hold at once, None means any.

    ``tags``: the run has all of them. ``wait_reason``, ``wait_key``: one open wait has both. ``due``: due now (True) or
    not (False). ``order``: by ``since`` (default; the newest status change first where ``descending``), by ``wake_at``
    (only runs that have one) or by ``id``; ties go by run id, ascending. ``limit``: 1–1,000 a page. ``cursor``: from
    the page before, opaque; a run is on at most one page unless it changed its place in the order in between.
    """

    status: tuple[str, ...] | None = None
    workflow_id: str | None = None
    queue: str | None = None
    wait_reason: str | None = None
    wait_key: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    session_id: str | None = None
    tags: tuple[str, ...] = ()
    due: bool | None = None
    order: Literal["since", "wake_at", "id"] = "since"
    descending: bool = False
    limit: int = 100
    cursor: str | None = None


class Page(Struct, frozen=True, kw_only=True):
    """Heads in the order asked for. ``cursor`` None: this is the last page."""

    items: tuple[RunHead, ...]
    cursor: str | None = None


class Store(Protocol):
    """Keeps the runs of one namespace. Opened for that namespace, which is part of every key."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the store declares beyond the required part: of ``multi_process``, ``durable_process`` (an answered
        commit survives a kill -9 of this process), ``durable_power`` (and a power cut), ``artifacts``, ``snapshots``,
        ``wakeups``. The kit verifies what is declared."""
        ...

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        """Apply each commit, all of it or nothing of it, and answer in order. 1–1,000 commits.

        Each is atomic by itself; one that is refused does not hinder the others; commits of one run apply in order.
        Stores share the costly part (a transaction, an fsync, a round trip) between them where they can. When a result
        without error is returned, its records survive a crash of this process (as declared). A refused commit leaves no
        trace. Never raises for one commit's sake: errors stand in the results. Raises `StoreClosed`, and `InvalidValue`
        for more than 1,000 commits.
        """
        ...

    def load(self, run_id: str, *, after: int = 0, inbox_after: bytes = b"") -> StoredRun | None:
        """The run, in one consistent look; None if there is no such run. ``after``: the caller holds the state at that
        length and needs only what is newer. ``inbox_after``: a mark; only messages newer than it, so that a writer
        comes to those behind a page of messages that it cannot consume yet."""
        ...

    def ledger(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """The records after the first ``after``, in order, exactly the bytes committed; nothing for an unknown run.
        Gives those that are there when it is called, and holds no lock while the caller thinks. If the run is deleted
        in between, it gives them all the same, or raises `UnknownRun`: it never just ends early."""
        ...

    def find(self, query: RunQuery) -> Page:
        """The heads that match, in the order asked for. Raises `InvalidValue` for a limit out of bounds and for a
        cursor that is from no page of this order."""
        ...

    def claim(
        self, *, owner: str, lease_s: float, can_run: Runnable, limit: int = 1, run_id: str | None = None
    ) -> list[RunHead]:
        """Take up to ``limit`` due runs that the caller can run, by priority (highest first), then ``wake_at``.

        Each due run goes to exactly one of any number of claimers. A claimed run has the new owner, a lease of
        ``lease_s`` seconds, its epoch raised by one and its ``claims`` raised by one; its ``wake_at`` stays, so that it
        is due again when the lease runs out. ``run_id`` asks for that run only. Runs whose ``projection.format`` is
        newer than ``can_run.format``, or whose queue or workflow is not in ``can_run``, are passed over. Returns the
        heads after the claim.
        """
        ...

    def renew(self, owner: str, lease_s: float) -> list[RunHead]:
        """Extend the leases of all runs that ``owner`` holds to ``lease_s`` seconds from now, also leases that ran out
        as long as nobody took the run; a run without a lease gets none. Returns the heads of those with messages newer
        than their inbox mark."""
        ...

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        """Put messages into inboxes and answer in order. 1–1,000 messages.

        An accepted message makes its run due (``wake_at`` is lowered to now, never raised); lease, owner and epoch stay
        as they are. A message whose id is known is not stored again. Accepted messages are durable. Raises `InvalidId`
        or `InvalidValue`, with nothing delivered, for messages out of bounds.
        """
        ...

    def now(self) -> Instant:
        """The store's clock: the only one for leases, timers and deadlines."""
        ...

    def delete(self, run_id: str) -> None:
        """Remove the run and all that hangs on it; a tombstone keeps its id from being used again. Deleting an unknown
        or deleted run does nothing. A leased run is not deleted: `Leased`."""
        ...

    def close(self) -> None:
        """Release everything. Further calls raise `StoreClosed`; closing twice does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class StoreSpec(Struct, frozen=True, kw_only=True):
    """How a plugin offers a store.

    ``scheme``: the word before the colon of a URL. ``open(url, options)``: opens or creates the store; ``url`` is a
    `StoreUrl`; ``options`` is an instance of the options model, validated from ``[plugin.<word>]`` and the environment,
    or None where nothing is set there: the defaults. ``options_model``: where that pydantic model stands, as
    ``"module:Name"``; it is imported only when there is something to validate, so that a program without settings does
    not pay for pydantic. ``summary``: one line for `art plugins`.
    """

    scheme: str
    open: Callable[[StoreUrl, object], Store]
    summary: str
    options_model: str | None = None


class StoreUrl(Struct, frozen=True, kw_only=True):
    """A parsed store URL. ``path``: for file-like stores the resolved absolute path, else what stands behind the
    scheme. ``namespace``: from ``?namespace=``, default "default". ``query``: all other parameters. ``text`` is the URL
    with secrets redacted: the only form for logs and messages."""

    scheme: str
    text: str
    path: str
    namespace: str = "default"
    query: Mapping[str, str] = {}
    raw: str = ""

    def __repr__(self) -> str:
        return f"StoreUrl({self.text!r})"

    # Pretty printers ask for this before `__repr__`; the one that Struct brings shows `raw`, secrets and all.
    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("text", self.text)]


__all__ = [
    "GENESIS",
    "MAX_ID_CHARS",
    "MESSAGE_PAGE",
    "Checkpoint",
    "Commit",
    "CommitResult",
    "Delivery",
    "Fence",
    "Message",
    "Page",
    "Projection",
    "RunHead",
    "RunQuery",
    "Runnable",
    "Store",
    "StoreSpec",
    "StoreUrl",
    "StoredRun",
    "WaitHead",
]
