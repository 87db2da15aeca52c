"""Renewal: one daemon thread per runtime keeps the leases of drives whose handlers are at work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import AbstractRuntimeError
from .models import Instant
from .store.contract import Store

log = logging.getLogger("abstractruntime.leases")


class Lease:
    """A drive's hold on its run while a handler works. ``cancelled``: the handler's outcome is not wanted any more."""

    __slots__ = ("cancelled", "held_until", "owner", "run_id")

    def __init__(self, owner: str, run_id: str, held_until: Instant) -> None:
        self.owner = owner
        self.run_id = run_id
        self.held_until = held_until
        self.cancelled = False


class Renewer:
    """Renews every ``lease_s / 3`` seconds. Starts its thread with the first lease that is kept."""

    def __init__(self, store: Store, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._kept: dict[str, Lease] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def keep(self, lease: Lease) -> Iterator[Lease]:
        """Keep this lease while the block runs."""
        with self._changed:
            self._kept[lease.owner] = lease
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._renew_all, name="abstractruntime-leases", daemon=True)
                self._thread.start()
            elif len(self._kept) == 1:
                self._changed.notify()
        try:
            yield lease
        finally:
            with self._changed:
                self._kept.pop(lease.owner, None)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _renew_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._kept))
                if self._closed:
                    return
                self._changed.wait_for(lambda: self._closed, timeout=self._lease_s / 3)
                if self._closed:
                    return
                kept = list(self._kept.values())
            for lease in kept:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            unseen = self._store.renew(lease.owner, self._lease_s)
            lease.held_until = Instant(self._store.now() + round(self._lease_s * 1_000_000))
            if any(head.run_id == lease.run_id for head in unseen):
                stored = self._store.load(lease.run_id)
                lease.cancelled |= stored is None or stored.head.owner != lease.owner
                lease.cancelled |= stored is not None and any(message.kind == "cancel" for message in stored.messages)
        except AbstractRuntimeError as error:
            log.warning("the lease of run %s could not be renewed: %s", lease.run_id, error)
            lease.cancelled |= self._store.now() > lease.held_until
