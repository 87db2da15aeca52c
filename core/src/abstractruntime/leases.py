"""Renewal: one daemon thread per runtime keeps the leases of drives whose handlers are at work."""

from __future__ import annotations

import logging
import os
import threading

from .errors import AbstractRuntimeError, StoreClosed
from .models import Instant
from .store.contract import Store

log = logging.getLogger("abstractruntime.leases")


class Lease:
    """A drive's hold on its run. ``cancelled``: the outcome of what it does is not wanted any more."""

    __slots__ = ("cancelled", "held_until", "owner", "run_id")

    def __init__(self, owner: str, run_id: str) -> None:
        self.owner = owner
        self.run_id = run_id
        self.held_until = Instant(0)
        self.cancelled = False


class Renewer:
    """Renews every ``lease_s / 3`` seconds what is kept. Its thread starts with the first lease that is."""

    def __init__(self, store: Store, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._kept: dict[str, Lease] = {}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, lease: Lease) -> None:
        """Keep this lease from now on."""
        if self._pid != os.getpid():  # a child after a fork: what its parent holds is not its own to renew
            self._kept, self._lock, self._thread, self._pid = {}, threading.Lock(), None, os.getpid()
        self._kept[lease.owner] = lease
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._renew_all, name="abstractruntime-leases", daemon=True)
                    self._thread.start()

    def drop(self, lease: Lease) -> None:
        """Keep it no longer."""
        self._kept.pop(lease.owner, None)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _renew_all(self) -> None:
        # It wakes also while nothing is kept: waking it for each effect would cost a thread switch per step.
        while not self._closed.wait(self._lease_s / 3):
            for lease in list(self._kept.values()):
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            now = self._store.now()
            if not lease.held_until:
                lease.held_until = Instant(now + round(self._lease_s * 1_000_000))
            unseen = self._store.renew(lease.owner, self._lease_s)
            lease.held_until = Instant(now + round(self._lease_s * 1_000_000))
            if any(head.run_id == lease.run_id for head in unseen):
                self._look(lease)
        except AbstractRuntimeError as error:
            log.warning("the lease of run %s could not be renewed: %s", lease.run_id, error)
            lease.cancelled |= isinstance(error, StoreClosed) or self._store.now() > lease.held_until

    def _look(self, lease: Lease) -> None:
        """Whether what came in asks to cancel."""
        stored = self._store.load(lease.run_id)
        if stored is None or any(message.kind == "cancel" for message in stored.messages):
            lease.cancelled = True
