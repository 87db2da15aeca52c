"""Runs as loaded: from their checkpoint and the records behind it, or from the state held since the last call."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from msgspec import Struct

from .codec import open_record
from .codec.record import digest_of
from .errors import LedgerCorrupt, UnknownRun
from .journal import Folded, Journal, open_checkpoint
from .store.contract import Checkpoint, RunHead, Store, StoredRun

CACHED_RUNS = 128


class Opened(Struct):
    """A run as loaded: the store's part, its journal, and what lies in its inbox."""

    head: RunHead
    journal: Journal
    stored: StoredRun

    @property
    def state(self) -> Folded:
        return self.journal.state


class Loader:
    """Opens runs. A state given back (`keep`) is carried on, where the store's ledger still goes through it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Journal] = OrderedDict()

    def new(self, run_id: str, workflow_id: str) -> Journal:
        """The journal of a run that does not exist yet."""
        return Journal(Folded(run_id=run_id, workflow_id=workflow_id), os.urandom)

    def open(self, run_id: str) -> Opened:
        """The run as it is now. Raises `UnknownRun`, `LedgerCorrupt`, `FormatTooNew`."""
        with self._lock:
            journal = self._kept.pop(run_id, None)
        stored = self._store.load(run_id, after=journal.state.length if journal else 0)
        if journal is not None and stored is not None and not _continues(journal.state, stored):
            journal, stored = None, self._store.load(run_id)
        if stored is None:
            raise UnknownRun(f"no run {run_id!r} in this store", hint="`art runs` lists those there are", run_id=run_id)
        if journal is None:
            checkpoint = stored.checkpoint
            state = open_checkpoint(run_id, checkpoint) if checkpoint else Folded(run_id=run_id, workflow_id="")
            journal = Journal(state, os.urandom)
            journal.checkpoint_bytes = len(checkpoint.state) if checkpoint else 0
            if checkpoint and stored.records:
                _check_announced(checkpoint, stored.records[0])
        journal.follow(stored.records)
        return Opened(stored.head, journal, stored)

    def keep(self, journal: Journal) -> None:
        """Give a journal back whose records are all committed. Nobody else may hold it."""
        with self._lock:
            self._kept[journal.state.run_id] = journal
            self._kept.move_to_end(journal.state.run_id)
            if len(self._kept) > CACHED_RUNS:
                self._kept.popitem(last=False)


def _continues(known: Folded, stored: StoredRun) -> bool:
    """Whether what was loaded follows the state that was held: the store may have been replaced by a backup."""
    if stored.head.length == known.length:
        return stored.head.head_hash == known.head_hash
    if stored.head.length < known.length or stored.checkpoint is not None or not stored.records:
        return False
    return open_record(stored.records[0]).header.get("prev") == known.head_hash


def _check_announced(checkpoint: Checkpoint, record: bytes) -> None:
    """The record behind a checkpoint names its digest: a checkpoint that was changed is not believed."""
    header = open_record(record).header
    if header.get("kind") != "checkpoint" or header.get("digest") != digest_of(checkpoint.state):
        raise LedgerCorrupt(
            f"the checkpoint of run {header.get('run')} is not the one that its ledger names",
            hint="it is only a cache: delete it, and the run is read from its ledger",
            run_id=header.get("run"),
            seq=header.get("seq"),
        )
