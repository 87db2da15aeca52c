"""One store made of the two roles of 0.2, a run store and a ledger store.

The pair is what survives. A commit is one row appended to a ledger of its own (``<run id>.records``, the record texts
as they are), then the rows of its steps in the run's ledger as 0.2 knows them, then the saved state. The first of these
decides: what is missing of the others after a crash is written when the run is loaded again. A state that somebody else
saved meanwhile is taken in as an edit.

What a pair cannot promise, and this store does not: that two processes keep out of each other's way, that leases and
undelivered messages outlive the process, that runs can be deleted, and anything about durability that the two stores do
not promise themselves. Runtimes of one process that use the same two objects share one store.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import cast
from weakref import WeakValueDictionary

from msgspec import Struct, structs

from ..codec import thaw
from ..errors import AbstractRuntimeError, InvalidId, OutcomeUnknown, StoreCorrupt, StoreError, UsageError
from ..journal import Folded, Journal, fold
from ..models import Instant, JsonDict, JsonValue, RunState, StepStatus, instant_text
from ..steps import ledger_rows
from ..store.contract import (
    Commit,
    CommitResult,
    Delivery,
    Fence,
    Message,
    Page,
    RunHead,
    Runnable,
    RunQuery,
    Store,
    StoredRun,
)
from ..store.fence import is_free
from ..store.memory import MemoryStore
from ..views import copy_view
from .edits import EDITOR, begin, edit_commit, likeness, record_edit
from .records import StepRecord
from .stores import LedgerStore, QueryableRunStore, RunStore

__all__ = ["RECORDS_SUFFIX", "PairStore", "pair_store"]

log = logging.getLogger("abstractruntime.legacy")

RECORDS_SUFFIX = ".records"
"""What follows a run's id in the name of the ledger that holds its records."""

_STEP_FIELDS = frozenset(field.name for field in fields(StepRecord)) - {"prev_hash", "record_hash", "signature"}


class _Mirror(Struct):
    """What the pair holds of a run. ``state``: folded from all its records. ``commits``: how many rows hold them.
    ``rows``: how many rows the run's own ledger should have. ``likeness``: of the state saved last. ``behind``: rows or
    state are still to be written.
    """

    state: Folded
    commits: int = 0
    rows: int = 0
    likeness: bytes = b""
    behind: bool = False


class _KeptCommit(Struct, frozen=True):
    """A commit as the pair holds it. ``rows_before``: how many rows the run's own ledger should have had before."""

    records: tuple[bytes, ...]
    rows_before: int


class PairStore(MemoryStore):
    """The pair behind the store contract. ``clock``: its `now`, default the machine's."""

    def __init__(
        self, run_store: RunStore, ledger_store: LedgerStore, clock: Callable[[], Instant] | None = None
    ) -> None:
        super().__init__(clock)
        self._run_store = run_store
        self._ledger_store = ledger_store
        self._mirrors: dict[str, _Mirror] = {}

    def __repr__(self) -> str:
        return f"PairStore({self._run_store!r}, {self._ledger_store!r})"

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; the two stores stay as they are."""
        return self._closed

    def load(self, run_id: str, *, after: int = 0, inbox_after: bytes = b"") -> StoredRun | None:
        self._follow([run_id])
        return super().load(run_id, after=after, inbox_after=inbox_after)

    def ledger(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[bytes]:
        self._follow([run_id])
        return super().ledger(run_id, after=after, limit=limit)

    def find(self, query: RunQuery) -> Page:
        self._follow(self._unknown_runs())
        return super().find(query)

    def claim(
        self, *, owner: str, lease_s: float, can_run: Runnable, limit: int = 1, run_id: str | None = None
    ) -> list[RunHead]:
        self._follow(self._unknown_runs() if run_id is None else [run_id])
        return super().claim(owner=owner, lease_s=lease_s, can_run=can_run, limit=limit, run_id=run_id)

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        self._follow({message.run_id for message in messages})
        return super().deliver(messages)

    def delete(self, run_id: str) -> None:
        """Refused: the roles of 0.2 have no way to delete."""
        raise UsageError(
            "a pair of a run store and a ledger store cannot delete runs",
            hint="use a store of its own, like sqlite:///runs.db",
            run_id=run_id,
        )

    # -- writing -------------------------------------------------------------------------------------------------------

    def _commit(self, commit: Commit, now: Instant) -> CommitResult:
        if not commit.expect.length:
            self._adopt_unknown(commit.run_id)
            # Nobody else looks for runs of a pair, so there is nobody whom a new one has to be kept from; and the next
            # runtime on these two objects is to have it at once.
            commit = structs.replace(commit, lease_s=0)
        error = self._refusal(commit, now)
        if error is None and commit.records:
            error = self._append_records(commit)
        if error is not None:
            return CommitResult(run_id=commit.run_id, error=error)
        result = super()._commit(commit, now)
        if commit.records:
            self._show(commit.run_id, commit.records)
        return result

    def _append_records(self, commit: Commit) -> AbstractRuntimeError | None:
        """Make the commit's records durable; why that failed."""
        run_id = commit.run_id
        if run_id.endswith(RECORDS_SUFFIX):
            return InvalidId(
                f"run id {run_id!r} ends like the names of ledgers that hold records",
                hint="choose another",
                run_id=run_id,
            )
        mirror = self._mirrors.get(run_id)
        try:
            if mirror is not None and mirror.behind:
                # More than one commit behind, a saved state could not be told from an edit.
                self._catch_up(mirror)
            self._ledger_store.append(_texts(run_id, commit.records, mirror.rows if mirror else 0, self.now()))
        except Exception as error:
            log.warning("run %s: the commit could not be appended to the ledger", run_id, exc_info=True)
            return self._after_failed_append(commit, error)
        return None

    def _after_failed_append(self, commit: Commit, error: Exception) -> AbstractRuntimeError | None:
        what = f"run {commit.run_id} could not be written to {self!r}: {error}"
        try:
            kept = self._kept(commit.run_id)
        except Exception:
            log.warning("run %s: its ledger cannot be read back either", commit.run_id, exc_info=True)
            self._forget(commit.run_id)
            return OutcomeUnknown(what, run_id=commit.run_id)
        if kept and kept[-1].records == commit.records:
            return None  # it was appended after all
        return StoreError(what, hint="nothing was written", run_id=commit.run_id)

    def _forget(self, run_id: str) -> None:
        """Drop what is known of a run, so that it is read from the pair again."""
        self._mirrors.pop(run_id, None)
        if (run := self._space.runs.get(run_id)) is not None:
            self._space.remove(run)
            self._space.tombstones.discard(run_id)

    def _show(self, run_id: str, records: Sequence[bytes]) -> None:
        """Write what 0.2 shows of these records: rows of steps, and the state. The commit stands whether or not this
        succeeds; what fails is made up for before the run's next commit."""
        mirror = self._mirrors.setdefault(run_id, _Mirror(state=_nothing(run_id)))
        mirror.commits += 1
        try:
            rows = _step_rows(records, mirror.state)
            mirror.rows += len(rows)
            for row in rows:
                self._ledger_store.append(row)
            self._save(mirror)
        except Exception:
            mirror.behind = True
            log.warning("run %s is committed, but its rows or its state could not be written", run_id, exc_info=True)

    def _save(self, mirror: _Mirror) -> None:
        state = copy_view(mirror.state)
        self._run_store.save(state)
        mirror.likeness = likeness(state)
        mirror.behind = False

    # -- following the pair --------------------------------------------------------------------------------------------

    def _unknown_runs(self) -> list[str]:
        """Runs that the pair holds and this store has not seen."""
        if not isinstance(self._run_store, QueryableRunStore):
            return []
        held = self._run_store.list_runs(limit=sys.maxsize)
        return [run.run_id for run in held if run.run_id not in self._mirrors]

    def _follow(self, run_ids: Iterable[str]) -> None:
        """Take in what stands in the pair and not here: runs from before a restart, and edits by hand."""
        with self._space.lock:
            for run_id in run_ids:
                try:
                    self._follow_one(run_id)
                except AbstractRuntimeError:
                    raise
                except Exception as error:
                    raise StoreError(f"run {run_id} cannot be read from {self!r}: {error}", run_id=run_id) from error

    def _follow_one(self, run_id: str) -> None:
        mirror = self._mirrors.get(run_id)
        if mirror is None:
            self._adopt_unknown(run_id)
        elif mirror.behind:
            self._try_to_catch_up(mirror)
        else:
            self._take_in_edit(mirror, self._run_store.load(run_id))

    def _adopt_unknown(self, run_id: str) -> None:
        if run_id in self._mirrors or run_id.endswith(RECORDS_SUFFIX):
            return
        kept, saved = self._kept(run_id), self._run_store.load(run_id)
        if kept:
            self._adopt(run_id, kept, saved)
        elif saved is not None:
            self._begin(run_id, saved)

    def _adopt(self, run_id: str, kept: Sequence[_KeptCommit], saved: RunState | None) -> None:
        """A run from before a restart. One commit behind, its saved state is what a crash left; else it was edited."""
        state = _nothing(run_id)
        for commit in kept[:-1]:
            _step_rows(commit.records, state)
        one_behind = likeness(copy_view(state))
        rows = kept[-1].rows_before + len(_step_rows(kept[-1].records, state))
        mirror = _Mirror(state=state, commits=len(kept), rows=rows, likeness=likeness(copy_view(state)))
        mirror.behind = len(self._ledger_store.list(run_id)) < rows
        self._mirrors[run_id] = mirror
        journal = Journal(state, os.urandom)
        journal.pending = [record for commit in kept for record in commit.records]
        self._apply(edit_commit(journal, Fence(length=0), self.now()), self.now())
        if saved is None or likeness(saved) == one_behind:
            self._try_to_catch_up(mirror)
            return
        self._take_in_edit(mirror, saved)
        if mirror.behind:
            self._try_to_catch_up(mirror)

    def _begin(self, run_id: str, saved: RunState) -> None:
        """A run that 0.2 wrote, or a program saved by hand: its ledger begins with where it stands."""
        now = self.now()
        journal = Journal(_nothing(run_id), os.urandom)
        begin(journal, saved, now)
        self._mirrors[run_id] = _Mirror(state=_nothing(run_id), rows=len(self._ledger_store.list(run_id)))
        try:
            self._commit_or_raise(edit_commit(journal, Fence(length=0), now), now)
        except Exception:
            self._forget(run_id)
            raise

    def _take_in_edit(self, mirror: _Mirror, saved: RunState | None) -> None:
        if saved is None or likeness(saved) == mirror.likeness:
            return
        run_id, now = mirror.state.run_id, self.now()
        kept = self._space.runs[run_id]
        if not is_free(kept.owner, kept.lease_until, now):
            log.warning("run %s was edited while it is at work; its next commit overwrites that", run_id)
            return
        if len(self._kept(run_id)) != mirror.commits:
            self._forget(run_id)  # not edited: somebody else drove it on
            self._adopt_unknown(run_id)
            return
        journal = Journal(fold(run_id, kept.records), os.urandom)
        if record_edit(journal, saved, now):
            self._commit_or_raise(edit_commit(journal, kept.fence, now), now)

    def _commit_or_raise(self, commit: Commit, now: Instant) -> None:
        error = self._commit(commit, now).error
        if error is not None:
            raise error

    def _try_to_catch_up(self, mirror: _Mirror) -> None:
        """Reading a run does not depend on what 0.2 shows of it; its next commit does."""
        try:
            self._catch_up(mirror)
        except Exception:
            mirror.behind = True
            log.warning("run %s: its rows or its state still cannot be written", mirror.state.run_id, exc_info=True)

    def _catch_up(self, mirror: _Mirror) -> None:
        """Write the rows and the state that could not be written."""
        run_id = mirror.state.run_id
        state = _nothing(run_id)
        rows = _step_rows(self._space.runs[run_id].records, state)
        mirror.state = state
        self._append_missing(mirror, rows)
        self._save(mirror)

    def _append_missing(self, mirror: _Mirror, rows: Sequence[StepRecord]) -> None:
        """Append the last of ``rows`` where the run's ledger has fewer than it should."""
        missing = mirror.rows - len(self._ledger_store.list(mirror.state.run_id))
        for row in rows[-missing:] if missing > 0 else ():
            self._ledger_store.append(row)

    def _kept(self, run_id: str) -> list[_KeptCommit]:
        """The records that the pair holds of a run, by commit."""
        return [_kept_commit(row) for row in self._ledger_store.list(run_id + RECORDS_SUFFIX)]


_pairs: WeakValueDictionary[tuple[int, int], PairStore] = WeakValueDictionary()


def pair_store(run_store: RunStore, ledger_store: LedgerStore) -> Store:
    """The store over these two; the same for the same two objects as long as somebody uses it."""
    key = (id(run_store), id(ledger_store))
    found = _pairs.get(key)
    if found is None or found.is_closed:
        found = _pairs[key] = PairStore(run_store, ledger_store)
    return found


def _nothing(run_id: str) -> Folded:
    """The state before the first record."""
    return Folded(run_id=run_id, workflow_id="")


def _texts(run_id: str, records: Sequence[bytes], rows_before: int, now: Instant) -> StepRecord:
    """The row that holds a commit's records."""
    texts: list[JsonValue] = [record.decode() for record in records]
    stamp = instant_text(now)
    return StepRecord(
        run_id=run_id + RECORDS_SUFFIX,
        step_id=EDITOR,
        node_id="",
        status=StepStatus.COMPLETED,
        result={"records": texts, "rows_before": rows_before},
        started_at=stamp,
        ended_at=stamp,
    )


def _kept_commit(row: JsonDict) -> _KeptCommit:
    try:
        held = cast(JsonDict, row["result"])
        texts = cast("list[str]", held["records"])
        return _KeptCommit(tuple(text.encode() for text in texts), cast(int, held["rows_before"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupt(
            f"a row of ledger {row.get('run_id')!r} does not hold the records of a commit: {error!r}",
            hint="ledgers of that name are written by the adapter alone; restore it from a backup",
        ) from error


def _step_rows(records: Sequence[bytes], state: Folded) -> list[StepRecord]:
    """The rows of 0.2 for these records, which follow ``state`` and are folded into it: effects and the end of the run,
    but no pure transitions."""
    rows = ledger_rows(records, state)
    return [_step_record(row) for row in rows if row["status"] is not None and row["kind"] != "stepped"]


def _step_record(row: JsonDict) -> StepRecord:
    known = {name: thaw(value) for name, value in row.items() if name in _STEP_FIELDS}
    return StepRecord(**{**known, "status": StepStatus(cast(str, row["status"]))})  # type: ignore[arg-type]
