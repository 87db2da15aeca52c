"""The SQLite store keeps the store contract, in both durabilities."""

import pytest

from abstractruntime.testing import StoreConformance


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def store_url(self, tmp_path):
        return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("power")


class TestSqliteStoreWithPowerSafety(StoreConformance):
    """All in one file: each clause has a namespace of its own there."""

    @pytest.fixture
    def store_url(self, shared_folder):
        return f"sqlite:///{shared_folder}/runs.db?durability=power"
