"""One file, many users: other processes, forks, threads that wait, and interrupts."""

import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from abstractruntime.errors import Conflict, StoreBusy
from abstractruntime.store.contract import Fence
from abstractruntime.testing import RunWriter, StorePlace
from abstractruntime.testing.stores.crowds import in_processes, in_threads
from abstractruntime.testing.stores.place import open_by_url
from abstractruntime.testing.writer import message_to, projection_of, record_of
from abstractruntime_sqlite.store import SqliteStore


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "runs.db")


@pytest.fixture
def store(file):
    with SqliteStore(file) as store:
        yield store


def created(store, run_id="run"):
    writer = RunWriter(store, run_id)
    writer.write("created", projection=projection_of(), lease_s=60.0)
    return writer


def test_eight_processes_commit_at_once_and_none_is_told_of_a_lock(file):
    url = f"sqlite:///{file}"
    with StorePlace(open_by_url(url), url=url) as place:
        in_processes(place, "write", "100", count=8)
        for number in range(8):
            stored = place.store.load(f"run {number}")
            assert stored.records == tuple(record_of(f"step {step}") for step in range(100))


_OPENING = """
import sys
from abstractruntime_sqlite.store import SqliteStore
print("ready", flush=True)
sys.stdin.readline()
with SqliteStore(sys.argv[1]) as store:
    print(store.now() > 0)
"""


def test_processes_that_make_the_file_at_once_make_one(file):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENING, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate(timeout=60)[0] for child in children] == ["True\n"] * 6
    with SqliteStore(file) as store:
        created(store)


# A writer that does not finish


@pytest.fixture
def stuck_writer(file, store):
    """Another connection in the middle of a transaction, as a stopped process would be."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_writer_that_does_not_finish_is_busy_after_the_time_out(file, store):
    created(store)
    with SqliteStore(file, busy_timeout_s=0.3) as patient:
        stuck = sqlite3.connect(file, isolation_level=None)
        stuck.execute("BEGIN IMMEDIATE")
        writer = RunWriter(patient, "run", fence=store.load("run").head.fence)
        began = time.monotonic()
        error = writer.attempt("x").error
        assert isinstance(error, StoreBusy)
        assert file in str(error)
        assert "busy_timeout_s" in error.hint
        assert 0.25 < time.monotonic() - began < 3
        with pytest.raises(StoreBusy):
            patient.deliver([message_to("run")])
        with pytest.raises(StoreBusy):
            patient.renew("o", 1)
        stuck.close()
        writer.write("when the other is gone")


def test_who_waits_gets_its_turn(file, store):
    writer = created(store)
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ending = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    ending.start()
    began = time.monotonic()
    writer.write("after the other")
    assert time.monotonic() - began > 0.2
    ending.join()
    other.close()


def test_readers_do_not_wait_for_a_writer(store, stuck_writer):
    assert store.load("run") is None
    assert list(store.ledger("run")) == []


# Forks


def in_a_child(work):
    """What ``work`` gives in a forked process, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 - the parent tells
            answer = repr(error)
        os.write(writing, str(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as opened:
        answer = opened.read()
    os.waitpid(child, 0)
    return answer


def test_parent_and_child_go_on_after_a_fork(file, store):
    mine, yours = created(store, "mine"), created(store, "yours")
    assert in_a_child(lambda: yours.write("in the child").epoch) == "1"
    mine.write("in the parent")
    with SqliteStore(file) as other:
        assert [other.load(run_id).head.length for run_id in ("mine", "yours")] == [2, 2]


def test_a_child_holds_locks_of_its_own(file, store):
    """The parent is the last to close as far as it knows; what it would delete then, the child still uses."""
    writer = created(store)
    (reading, writing), (heard, said) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        writer.write("before")
        os.write(said, b"x")
        os.read(reading, 1)
        status = 0 if writer.attempt("after the parent closed").error is None else 1
        store.close()
        os._exit(status)
    os.read(heard, 1)
    store.close()
    with SqliteStore(file) as other:
        created(other, "meanwhile")
    os.write(writing, b"x")
    _, status = os.waitpid(child, 0)
    for end in (reading, writing, heard, said):
        os.close(end)
    assert os.waitstatus_to_exitcode(status) == 0
    with SqliteStore(file) as other:
        assert other.load("run").head.length == 3
        assert other.load("meanwhile").head.length == 1


def test_a_fork_while_threads_commit_harms_nobody(file, store):
    writers = [created(store, f"run {number}") for number in range(3)]
    stop = threading.Event()
    failed = []

    def write(writer):
        while not stop.is_set():
            result = writer.attempt("step")
            if result.error is not None:
                failed.append(result.error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    answers = [in_a_child(lambda n=n: created(store, f"child {n}").fence.epoch) for n in range(10)]
    stop.set()
    for thread in threads:
        thread.join()
    assert answers == ["1"] * 10
    assert failed == []
    with SqliteStore(file) as other:
        assert [other.load(writer.run_id).head.fence for writer in writers] == [writer.fence for writer in writers]
        assert all(other.load(f"child {n}").head.length == 1 for n in range(10))


# Interrupts and leaks


def test_an_interrupted_commit_leaves_the_store_usable(store):
    writer = created(store)

    def interrupted():
        with store._connections.write() as cursor:
            cursor.execute("DELETE FROM runs")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    writer.write("goes on")


def test_a_transaction_that_an_interrupt_left_open_is_rolled_back(store):
    writer = created(store)
    store._connections._writing_cursor().execute("BEGIN IMMEDIATE")
    store._connections._writing_cursor().execute("DELETE FROM runs")
    writer.write("goes on")
    assert writer.head().length == 2


def test_a_store_that_is_left_open_warns(file):
    store = SqliteStore(file)
    with pytest.warns(ResourceWarning, match="was not closed"):
        store.__del__()


def test_a_guess_about_a_run_is_never_believed(file, store):
    """What one store remembers of a run another store changed: lease, wake_at, inbox, and the run itself."""
    writer = created(store)
    writer.write("remembered")
    with SqliteStore(file) as other:
        twin = RunWriter(other, "run", fence=writer.fence)
        until = twin.write(lease_s=30.0, wake_at=other.now()).lease_until
        result = writer.write("told the truth")
        assert (result.lease_until, result.wake_at) == (until, writer.head().wake_at)
        RunWriter(other, "run", fence=writer.fence).write(lease_s=0.0)
        assert isinstance(writer.attempt("released").error, Conflict)
        other.delete("run")
        created(other, "another run in its row")
        assert isinstance(writer.attempt("gone").error, Conflict)
        assert isinstance(RunWriter(store, "run", fence=Fence(length=1)).attempt("gone").error, Conflict)


def test_threads_that_wait_for_a_thread_are_busy_after_the_time_out(file):
    with SqliteStore(file, busy_timeout_s=0.2) as store:
        writers = [created(store, f"run {number}") for number in range(4)]
        with store._connections.write():
            errors = in_threads(lambda number: writers[number].attempt("x").error, 4)
        assert [type(error) for error in errors] == [StoreBusy] * 4
        writers[0].write("free again")
