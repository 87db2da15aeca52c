"""The SQLite store keeps the store contract, in both durabilities."""

import pytest

from abstractruntime.testing import StoreConformance


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def store_url(self, tmp_path):
        return f"sqlite:///{tmp_path}/runs.db"


class TestSqliteStoreWithPowerSafety(StoreConformance):
    """All in one file: each clause has a namespace of its own there."""

    @pytest.fixture(scope="class")
    def store_url(self, tmp_path_factory):
        return f"sqlite:///{tmp_path_factory.mktemp('power')}/runs.db?durability=power"
