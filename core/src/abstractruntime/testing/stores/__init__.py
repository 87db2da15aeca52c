"""Store conformance: the clauses of `abstractruntime.store.contract`, one test each.

Every clause takes one `StorePlace` and nothing else, so that it can also be called without pytest, as the proof of the
kit itself does with stores that are broken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ...store.contract import Store
from ..clock import VirtualClock
from .commits import CommitClauses
from .crowds import CrowdClauses
from .finding import FindClauses
from .leases import LeaseClauses
from .lifetime import LifetimeClauses
from .messages import MessageClauses
from .place import StorePlace, open_by_url
from .reading import ReadClauses
from .waking import WakeClauses

__all__ = ["StoreConformance", "StorePlace"]


class StoreConformance(
    CommitClauses,
    WakeClauses,
    LeaseClauses,
    MessageClauses,
    ReadClauses,
    FindClauses,
    LifetimeClauses,
    CrowdClauses,
):
    """All clauses of the store contract. A subclass says which store: by the fixture ``store_url``.

    ``store_url``: a place that all who open it share; each test uses a namespace of its own there. For a store that is
    not reached by a URL, override ``open_store``: namespace → store. A store that takes a clock may be given one that
    ``clock`` returns too; then nothing needs to be waited for.
    """

    @pytest.fixture
    def store_url(self) -> str | None:
        """The URL of the store to be proved; None where ``open_store`` is overridden."""
        return None

    @pytest.fixture
    def clock(self) -> VirtualClock | None:
        """The clock of all stores of ``open_store``; None for the machine's."""
        return None

    @pytest.fixture
    def open_store(self, store_url: str | None) -> Callable[[str], Store]:
        """Opens a store for a namespace."""
        if store_url is None:
            pytest.fail("give the fixture store_url, or open_store", pytrace=False)
        return open_by_url(store_url)

    @pytest.fixture
    def place(
        self, open_store: Callable[[str], Store], store_url: str | None, clock: VirtualClock | None
    ) -> Iterator[StorePlace]:
        """Where a clause opens its stores."""
        with StorePlace(open_store, url=store_url, clock=clock) as place:
            yield place
