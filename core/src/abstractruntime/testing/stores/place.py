"""What a clause works with: a place where stores are opened, in a namespace of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import uuid4

import pytest

from ...config import load_settings
from ...plugins import open_store_by_url
from ...store.contract import Store
from ..clock import VirtualClock
from ..writer import LEASE_S, WRITER, RunWriter, projection_of


def url_in(url: str, namespace: str) -> str:
    """The URL of another namespace at the same place."""
    return f"{url}{'&' if '?' in url else '?'}namespace={quote(namespace, safe='')}"


def open_by_url(url: str) -> Callable[[str], Store]:
    """Opens stores at a URL by their namespace, with the settings that are in force."""
    return lambda namespace: open_store_by_url(url_in(url, namespace), load_settings())


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
        return self._created(self.writer(run_id, store=store, owner=owner), LEASE_S, changes)

    def free_run(self, run_id: str | None = None, *, store: Store | None = None, **changes: object) -> RunWriter:
        """A run of one record that nobody holds, due now."""
        return self._created(self.writer(run_id, store=store), 0.0, changes)

    def _created(self, writer: RunWriter, lease_s: float, changes: dict[str, object]) -> RunWriter:
        parts = {"projection": projection_of(), "lease_s": lease_s, "wake_at": writer.store.now()}
        writer.write("created", **(parts | changes))
        return writer

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass on the store's clock."""
        if self._clock is not None:
            self._clock.advance(seconds)
            return
        end = self.store.now() + round(seconds * 1_000_000)
        while self.store.now() <= end:
            time.sleep(0.005)
