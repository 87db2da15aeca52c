"""The memory store keeps the store contract: with the machine's clock by its URL, and with a clock of ours."""

import uuid

import pytest

from abstractruntime.store.contract import Runnable, RunQuery, StoreUrl
from abstractruntime.store.memory import MemoryStore, abstractruntime_stores, open_memory
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


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def place(clock):
    store = MemoryStore(clock)
    with StorePlace(lambda _: store, clock=clock) as place:
        yield place


def url_of(path, namespace="default"):
    return StoreUrl(scheme="memory", text=f"memory:{path}", path=path, namespace=namespace)


def test_the_store_is_offered_under_its_word():
    (spec,) = abstractruntime_stores()
    assert (spec.scheme, spec.open) == ("memory", open_memory)


def test_without_a_name_each_store_stands_alone():
    one, two = open_memory(url_of(""), None), open_memory(url_of(""), None)
    with StorePlace(lambda _: one) as place:
        assert two.load(place.run().run_id) is None


def test_a_name_is_one_store_for_the_whole_process():
    name = str(uuid.uuid4())
    one, two, other = (open_memory(url_of(path), None) for path in (name, name, f"{name}-b"))
    with StorePlace(lambda _: one) as place:
        writer = place.run()
        assert two.load(writer.run_id) == writer.stored()
        assert other.load(writer.run_id) is None


def test_a_clock_that_is_set_back_makes_runs_wait_again(place, clock):
    place.free_run("run")
    assert place.store.claim(owner="o", lease_s=1, can_run=Runnable(queues=("other",))) == []
    clock.advance(-10)
    assert place.store.claim(owner="o", lease_s=1, can_run=Runnable()) == []
    assert place.store.find(RunQuery(due=True)).items == ()
    clock.advance(10)
    assert [head.run_id for head in place.store.claim(owner="o", lease_s=1, can_run=Runnable())] == ["run"]


def test_a_lease_that_is_renewed_often_takes_no_more_memory(place, clock):
    writer = place.run("run")
    for _ in range(20_000):
        clock.advance(0.001)
        place.store.renew(writer.owner, 60)
    assert len(place.store._space.agenda._later) < 200
    clock.advance(61)
    assert [head.run_id for head in place.store.claim(owner="o", lease_s=1, can_run=Runnable())] == ["run"]


def test_its_repr_says_which_store_it_is_and_whether_it_is_open():
    store = MemoryStore(name="kitchen")
    assert repr(store) == "MemoryStore('memory:kitchen')"
    store.close()
    assert repr(store) == "MemoryStore('memory:kitchen', closed)"
