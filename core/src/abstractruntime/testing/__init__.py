"""The published kit: whoever writes a backend proves it with the tests that prove ours.

A third party's whole test file::

    import pytest
    from abstractruntime.testing import StoreConformance


    class TestPaintStore(StoreConformance):
        @pytest.fixture
        def store_url(self, tmp_path):
            return f"paint://{tmp_path}/runs"

or no file at all: ``pytest --pyargs abstractruntime.testing.suite --store paint:///tmp/runs``. Each test is a clause of
the store contract and has an id, as in ``S-COMMIT-3``. Needs the extra ``abstractruntime[testing]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clauses import Clause, clause, clauses_of
    from .clock import VirtualClock
    from .stores import StoreConformance, StorePlace
    from .writer import RunWriter

__all__ = ["Clause", "RunWriter", "StoreConformance", "StorePlace", "VirtualClock", "clause", "clauses_of"]

_HOMES = {
    "Clause": ".clauses",
    "clause": ".clauses",
    "clauses_of": ".clauses",
    "VirtualClock": ".clock",
    "RunWriter": ".writer",
    "StoreConformance": ".stores",
    "StorePlace": ".stores",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == ".stores":
        import pytest

        # before the import: so that a failing clause shows the values, as in a test file
        pytest.register_assert_rewrite(f"{__name__}.stores", f"{__name__}.writer")
    return getattr(import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
