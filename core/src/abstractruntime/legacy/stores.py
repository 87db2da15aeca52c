"""The two roles of 0.2, run store and ledger store, and those that keep everything in memory.

The in-memory ones hold copies and hand out copies. They are safe to share between threads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from threading import Lock
from typing import Protocol, TypeAlias, cast, runtime_checkable
from weakref import WeakKeyDictionary

from ..codec import plain, thaw
from ..models import Instant, JsonDict, JsonValue, RunState, RunStatus, StepStatus, WaitReason, WaitState, parse_instant
from .chain import compute_record_hash
from .records import StepRecord

__all__ = [
    "HashChainedLedgerStore",
    "InMemoryLedgerStore",
    "InMemoryRunStore",
    "LedgerStore",
    "QueryableRunStore",
    "RunStore",
]

# Inside a class with a method `list` the builtin cannot be named.
_Rows: TypeAlias = list[JsonDict]


@runtime_checkable
class RunStore(Protocol):
    """Keeps the latest state of each run."""

    @abstractmethod
    def save(self, run: RunState) -> None:
        """Keep ``run`` in place of what was kept under its id."""
        ...

    @abstractmethod
    def load(self, run_id: str) -> RunState | None:
        """The state saved last; None for an id that was never saved."""
        ...


@runtime_checkable
class QueryableRunStore(Protocol):
    """A run store that finds runs by what they are."""

    @abstractmethod
    def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        wait_reason: WaitReason | None = None,
        workflow_id: str | None = None,
        limit: int = 100,
    ) -> list[RunState]:
        """Up to ``limit`` runs that match all conditions, the one updated last first."""
        ...

    @abstractmethod
    def list_due_wait_until(self, *, now_iso: str, limit: int = 100) -> list[RunState]:
        """Up to ``limit`` runs that wait for an instant which is not after ``now_iso``, the earliest first."""
        ...

    @abstractmethod
    def list_children(self, *, parent_run_id: str, status: RunStatus | None = None) -> list[RunState]:
        """The runs that ``parent_run_id`` started, the oldest first."""
        ...


@runtime_checkable
class LedgerStore(Protocol):
    """Keeps the rows of each run's ledger."""

    @abstractmethod
    def append(self, record: StepRecord) -> None:
        """Add a row to the ledger of ``record.run_id``."""
        ...

    @abstractmethod
    def list(self, run_id: str) -> _Rows:
        """The rows in the order in which they were appended; none for an unknown id."""
        ...


class InMemoryRunStore(RunStore, QueryableRunStore):
    """States that live as long as this object. What is saved must be JSON: `InvalidValue` names the path that is not;
    a time stamp without an offset is an `InvalidInstant`. Nothing is saved then."""

    def __init__(self) -> None:
        self._runs: dict[str, RunState] = {}
        self._lock = Lock()

    def save(self, run: RunState) -> None:
        kept = _checked(run)
        with self._lock:
            self._runs[run.run_id] = kept

    def load(self, run_id: str) -> RunState | None:
        with self._lock:
            kept = self._runs.get(run_id)
        return None if kept is None else _copied(kept)

    def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        wait_reason: WaitReason | None = None,
        workflow_id: str | None = None,
        limit: int = 100,
    ) -> list[RunState]:
        def matches(run: RunState) -> bool:
            return (
                (status is None or run.status == status)
                and (wait_reason is None or (run.waiting is not None and run.waiting.reason == wait_reason))
                and (workflow_id is None or run.workflow_id == workflow_id)
            )

        return self._found(matches, lambda run: -_instant(run.updated_at), limit)

    def list_due_wait_until(self, *, now_iso: str, limit: int = 100) -> list[RunState]:
        now = parse_instant(now_iso)

        def is_due(run: RunState) -> bool:
            wait = run.waiting
            if run.status != RunStatus.WAITING or wait is None or wait.reason != WaitReason.UNTIL:
                return False
            return wait.until is not None and parse_instant(wait.until) <= now

        return self._found(is_due, lambda run: _instant(run.waiting.until if run.waiting else None), limit)

    def list_children(self, *, parent_run_id: str, status: RunStatus | None = None) -> list[RunState]:
        def matches(run: RunState) -> bool:
            return run.parent_run_id == parent_run_id and (status is None or run.status == status)

        return self._found(matches, lambda run: _instant(run.created_at), None)

    def _found(
        self, matches: Callable[[RunState], bool], order: Callable[[RunState], int], limit: int | None
    ) -> list[RunState]:
        with self._lock:
            runs = [run for run in self._runs.values() if matches(run)]
        runs.sort(key=order)
        return [_copied(run) for run in (runs if limit is None else runs[: max(limit, 0)])]

    def __repr__(self) -> str:
        return f"InMemoryRunStore({len(self._runs)} runs)"


class InMemoryLedgerStore(LedgerStore):
    """Rows that live as long as this object. A row must be JSON: `InvalidValue` names the path that is not."""

    def __init__(self) -> None:
        self._rows: dict[str, list[JsonDict]] = {}
        self._lock = Lock()

    def append(self, record: StepRecord) -> None:
        row = _row(record)
        with self._lock:
            self._rows.setdefault(record.run_id, []).append(row)

    def list(self, run_id: str) -> _Rows:
        with self._lock:
            rows = tuple(self._rows.get(run_id, ()))
        return [_typed(thaw(row)) for row in rows]

    def __repr__(self) -> str:
        return f"InMemoryLedgerStore({len(self._rows)} runs)"


class _Heads:
    """The last hash of each run in one ledger store, and who may append: all chains over that store share it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.by_run: dict[str, str | None] = {}


_shared_heads: WeakKeyDictionary[LedgerStore, _Heads] = WeakKeyDictionary()
_sharing = Lock()


class HashChainedLedgerStore(LedgerStore):
    """Chains the rows of another ledger store: each holds the hash of the one before, so that a change shows.

    The appends of one process are put in order. Nobody else may write to ``inner`` meanwhile, another process neither:
    two writers that do not see each other both follow the same row, and the chain reads as broken.
    """

    def __init__(self, inner: LedgerStore) -> None:
        self._inner = inner
        with _sharing:
            self._heads = _shared_heads.setdefault(inner, _Heads())

    def append(self, record: StepRecord) -> None:
        run_id = record.run_id
        with self._heads.lock:
            prev_hash = self._heads.by_run[run_id] if run_id in self._heads.by_run else self._stored_head(run_id)
            linked = replace(record, prev_hash=prev_hash, record_hash=None)
            linked.record_hash = compute_record_hash(record=_row(linked), prev_hash=prev_hash)
            self._inner.append(linked)
            self._heads.by_run[run_id] = linked.record_hash

    def list(self, run_id: str) -> _Rows:
        return self._inner.list(run_id)

    def _stored_head(self, run_id: str) -> str | None:
        rows = self._inner.list(run_id)
        return cast("str | None", rows[-1].get("record_hash")) if rows else None

    def __repr__(self) -> str:
        return f"HashChainedLedgerStore({self._inner!r})"


def _row(record: StepRecord) -> JsonDict:
    return cast(JsonDict, plain(asdict(record), "record"))


def _typed(row: JsonValue) -> JsonDict:
    """0.2 kept the status of rows in memory as the enumeration, which is its text as well."""
    typed = cast(JsonDict, row)
    typed["status"] = StepStatus(cast(str, typed["status"]))
    return typed


def _checked(run: RunState) -> RunState:
    for stamp in (run.created_at, run.updated_at, run.waiting.until if run.waiting else None):
        if stamp is not None:
            parse_instant(stamp)
    return replace(
        run,
        status=RunStatus(run.status),
        vars=cast(JsonDict, plain(run.vars, "vars")),
        output=cast("JsonDict | None", plain(run.output, "output")),
        waiting=_plain_wait(run.waiting),
        waits=_plain_waits(run.waits),
    )


def _copied(run: RunState) -> RunState:
    return replace(
        run,
        vars=cast(JsonDict, thaw(run.vars)),
        output=cast("JsonDict | None", thaw(run.output)),
        waiting=_plain_wait(run.waiting),
        waits=_plain_waits(run.waits),
    )


def _plain_waits(waits: Iterable[WaitState]) -> tuple[WaitState, ...]:
    return tuple(wait for wait in map(_plain_wait, waits) if wait is not None)


def _plain_wait(wait: WaitState | None) -> WaitState | None:
    if wait is None:
        return None
    return replace(
        wait,
        choices=cast("list[str] | None", plain(wait.choices, "waiting.choices")),
        details=cast("JsonDict | None", plain(wait.details, "waiting.details")),
    )


def _instant(stamp: str | None) -> Instant:
    return Instant(0) if stamp is None else parse_instant(stamp)
