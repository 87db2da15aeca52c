"""The kit as others use it: without a file, with a file of four lines, and what it says when a clause does not hold."""

import subprocess
import sys
import uuid

import pytest

from abstractruntime.errors import StoreClosed
from abstractruntime.store.memory import MemoryStore
from abstractruntime.testing import StorePlace, VirtualClock, clause, clauses_of

THIRD_PARTY = """
import pytest
from abstractruntime.testing import StoreConformance


class TestTheirStore(StoreConformance):
    @pytest.fixture
    def store_url(self):
        return {url!r}
"""


def run_pytest(*arguments, folder):
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return child.returncode, child.stdout


def test_a_store_is_proved_by_its_url_without_a_file(tmp_path):
    name = uuid.uuid4()
    status, output = run_pytest(
        "--pyargs", "abstractruntime.testing.suite", "--store", f"memory:{name}", "-k", "S-TAKE", folder=tmp_path
    )
    assert status == 0, output
    assert "9 passed" in output


def test_the_suite_asks_which_store_it_shall_prove(tmp_path):
    status, output = run_pytest("--pyargs", "abstractruntime.testing.suite", "-k", "S-TAKE-1", folder=tmp_path)
    assert status == 1
    assert "which store? give its URL: --store sqlite:///kit.db" in output


def test_a_file_of_four_lines_proves_a_store(tmp_path):
    (tmp_path / "test_theirs.py").write_text(THIRD_PARTY.format(url=f"memory:{uuid.uuid4()}"), encoding="utf-8")
    status, output = run_pytest("-k", "S-OPEN or S-ID", folder=tmp_path)
    assert status == 0, output


def test_a_broken_store_is_told_by_clause_and_sentence(tmp_path):
    """`memory:` without a name is a store of its own each time, so two of them share no place."""
    (tmp_path / "test_theirs.py").write_text(THIRD_PARTY.format(url="memory:"), encoding="utf-8")
    status, output = run_pytest("-k", "S-OPEN-1 or S-TAKE", folder=tmp_path)
    assert status == 1
    _, summary = output.split("clauses that do not hold")
    assert "S-OPEN-1: Two stores that are open on one place and namespace see each other's runs" in summary
    assert "S-TAKE" not in summary


def test_a_place_closes_what_was_opened_there():
    with StorePlace(lambda namespace: MemoryStore(namespace=namespace)) as place:
        store = place.open()
    with pytest.raises(StoreClosed):
        store.now()


def test_a_store_that_declares_processes_has_to_be_reached_by_them():
    class Declaring(MemoryStore):
        capabilities = frozenset({"multi_process"})

    with StorePlace(lambda namespace: Declaring(namespace=namespace)) as place:
        place.needs("multi_process")
        with pytest.raises(pytest.fail.Exception, match="give the fixture store_url"):
            place.url()
        with pytest.raises(pytest.skip.Exception, match="durable_process"):
            place.needs("durable_process")


def test_a_virtual_clock_stands_still_until_it_is_told():
    clock = VirtualClock()
    start = clock()
    assert clock() == start
    assert clock.advance(1.5) == clock() == start + 1_500_000
    assert clock.advance(-1.5) == start


def test_one_clause_is_proved_once():
    class Kit:
        @clause("X-SAME-1")
        def test_one(self, place):
            """One."""

        @clause("X-SAME-1")
        def test_other(self, place):
            """Other."""

    with pytest.raises(ValueError, match="X-SAME-1 is proved by test_one and by test_other"):
        clauses_of(Kit)


@pytest.mark.parametrize(("clause_id", "sentence"), [("S-1", "A sentence."), ("S-COMMIT-1", None)])
def test_a_clause_has_an_id_and_a_sentence(clause_id, sentence):
    def test_something(place):
        pass

    test_something.__doc__ = sentence
    with pytest.raises(ValueError, match="a clause has an id like S-COMMIT-1"):
        clause(clause_id)(test_something)
