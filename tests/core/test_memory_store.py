"""The memory store keeps the store contract: with the machine's clock by its URL, and with a clock of ours."""

import uuid

import pytest

from abstractruntime.store.contract import StoreUrl
from abstractruntime.store.memory import MemoryStore, open_memory
from abstractruntime.testing import StoreConformance, StorePlace, VirtualClock


class TestMemoryStoreByUrl(StoreConformance):
    @pytest.fixture
    def store_url(self):
        return f"memory:{uuid.uuid4()}"


class TestMemoryStoreWithItsClock(StoreConformance):
    """Nothing is waited for: the clock is told."""

    @pytest.fixture
    def clock(self):
        return VirtualClock()

    @pytest.fixture
    def open_store(self, clock):
        name = str(uuid.uuid4())
        return lambda namespace: MemoryStore(clock, namespace, name=name)
