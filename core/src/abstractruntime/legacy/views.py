"""A runtime's store as the two roles of 0.2, for programs that look into them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from ..errors import Leased, UsageError
from ..journal import Folded, Journal, open_checkpoint
from ..models import Instant, JsonDict, RunState, RunStatus, WaitReason, parse_instant
from ..store.contract import Fence, RunHead, RunQuery, StoredRun
from ..store.fence import is_free
from .edits import begin, edit_commit, record_edit
from .records import StepRecord
from .stores import LedgerStore, QueryableRunStore, RunStore

if TYPE_CHECKING:
    from ..runtime import Runtime

__all__ = ["ledger_store_view", "run_store_view"]

_Rows: TypeAlias = list[JsonDict]
_PAGE = 1000


def run_store_view(runtime: Runtime) -> RunStore:
    """The runtime's runs as a run store of 0.2, a queryable one."""
    return _RunStoreView(runtime)


def ledger_store_view(runtime: Runtime) -> LedgerStore:
    """The runtime's ledgers as a ledger store of 0.2."""
    return _LedgerStoreView(runtime)


class _RunStoreView(RunStore, QueryableRunStore):
    """Runs of any store. What is saved is an edit: the difference to where the run stands becomes a record."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def save(self, run: RunState) -> None:
        """Record what ``run`` says other than its ledger; for an unknown run a ledger begins with where it stands.

        Raises `Leased` while somebody works on the run, `InvalidValue` naming the path of what is no JSON.
        """
        store = self._runtime.store
        now = store.now()
        stored = store.load(run.run_id)
        if stored is None:
            journal = Journal(Folded(run_id=run.run_id, workflow_id=run.workflow_id), os.urandom)
            begin(journal, run, now)
        else:
            _check_free(stored.head, now)
            journal = _journal_of(stored)
            if not record_edit(journal, run, now):
                return
        result = store.commit([edit_commit(journal, stored.head.fence if stored else Fence(length=0), now)])[0]
        if result.error is not None:
            raise result.error

    def load(self, run_id: str) -> RunState | None:
        return None if self._runtime.store.load(run_id) is None else self._runtime.get_state(run_id)

    def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        wait_reason: WaitReason | None = None,
        workflow_id: str | None = None,
        limit: int = 100,
    ) -> list[RunState]:
        """The runs whose status changed last come first."""
        query = RunQuery(
            status=None if status is None else (str(status),),
            wait_reason=None if wait_reason is None else str(wait_reason),
            workflow_id=workflow_id,
            descending=True,
        )
        return self._states(self._heads(query), limit)

    def list_due_wait_until(self, *, now_iso: str, limit: int = 100) -> list[RunState]:
        now = parse_instant(now_iso)
        query = RunQuery(status=(RunStatus.WAITING.value,), wait_reason=WaitReason.UNTIL.value, order="wake_at")
        return self._states((head for head in self._heads(query) if _is_due(head, now)), limit)

    def list_children(self, *, parent_run_id: str, status: RunStatus | None = None) -> list[RunState]:
        query = RunQuery(parent_run_id=parent_run_id, status=None if status is None else (str(status),))
        heads = sorted(self._heads(query), key=lambda head: head.projection.created_at)
        return self._states(iter(heads), len(heads))

    def _heads(self, query: RunQuery) -> Iterator[RunHead]:
        cursor = None
        while True:
            page = self._runtime.find(query, limit=_PAGE, cursor=cursor)
            yield from page.items
            if (cursor := page.cursor) is None:
                return

    def _states(self, heads: Iterator[RunHead], limit: int) -> list[RunState]:
        return [self._runtime.get_state(head.run_id) for head in islice(heads, max(limit, 0))]

    def __repr__(self) -> str:
        return f"<runs of {self._runtime.store!r}>"


class _LedgerStoreView(LedgerStore):
    """Ledgers of any store, as rows of steps."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def append(self, record: StepRecord) -> None:
        """Refused: the ledger is what the run did, and only its runtime writes it."""
        raise UsageError(
            f"row {record.step_id!r} cannot be appended: the ledger of run {record.run_id!r} is written by its runtime",
            hint="let an effect do it",
            run_id=record.run_id,
        )

    def list(self, run_id: str) -> _Rows:
        return self._runtime.get_ledger(run_id)

    def __repr__(self) -> str:
        return f"<ledgers of {self._runtime.store!r}>"


def _is_due(head: RunHead, now: Instant) -> bool:
    return any(wait.until is not None and wait.until <= now for wait in head.projection.waits)


def _check_free(head: RunHead, now: Instant) -> None:
    if not is_free(head.owner, head.lease_until, now):
        raise Leased(
            f"run {head.run_id} is held by {head.owner}, so it cannot be edited now",
            hint="edit it while it waits, or after it has ended",
            run_id=head.run_id,
            owner=head.owner,
            until=head.lease_until,
        )


def _journal_of(stored: StoredRun) -> Journal:
    run_id, checkpoint = stored.head.run_id, stored.checkpoint
    state = open_checkpoint(run_id, checkpoint) if checkpoint else Folded(run_id=run_id, workflow_id="")
    journal = Journal(state, os.urandom)
    journal.follow(stored.records)
    return journal
