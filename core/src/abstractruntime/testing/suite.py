"""The kit without a test file: ``pytest --pyargs abstractruntime.testing.suite --store URL``.

Each test works in a namespace of its own, so the place may have been used before. ``memory:`` needs a name
(``memory:kit``): without one, a URL that is opened twice is two stores.
"""

from __future__ import annotations

import pytest

from abstractruntime.testing import StoreConformance


class TestStore(StoreConformance):
    """The store of ``--store``."""

    @pytest.fixture
    def store_url(self, pytestconfig: pytest.Config) -> str:
        url = pytestconfig.getoption("--store", default=None)
        if not url:
            pytest.fail("which store? give its URL: --store sqlite:///kit.db", pytrace=False)
        return str(url)
