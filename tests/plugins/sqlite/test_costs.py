"""What commits, looks and files cost: indexes that are used and not touched, space that comes back, a log that ends."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from abstractruntime.models import Instant
from abstractruntime.store.contract import Checkpoint, Runnable, RunQuery, WaitHead
from abstractruntime.testing import RunWriter
from abstractruntime.testing.writer import message_to, projection_of
from abstractruntime_sqlite.store import SqliteStore

WAL_BYTES = 5 << 20
"""What the write-ahead log may take beside the file while it is open."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def store(file):
    with SqliteStore(str(file)) as store:
        yield store


def created(store, run_id="run", **changes):
    writer = RunWriter(store, run_id)
    parts = {"projection": projection_of(), "lease_s": 60.0, "wake_at": store.now()}
    writer.write("created", **(parts | changes))
    return writer


def stored_bytes(file):
    return sum(path.stat().st_size for path in (file, Path(f"{file}-wal")) if path.exists())


def traced(store, work):
    """The statements that ``work`` runs, with their values."""
    connection = store._connections._writing_cursor().connection
    statements = []
    connection.set_trace_callback(statements.append)
    work()
    connection.set_trace_callback(None)
    return statements


def test_a_step_is_one_transaction_of_two_statements(store):
    writer = created(store)
    writer.write("warm")
    statements = traced(store, lambda: writer.write("step"))
    assert [statement.split()[0] for statement in statements if not statement.startswith("--")] == [
        "BEGIN",
        "UPDATE",
        "INSERT",
        "COMMIT",
    ]


def test_a_step_touches_no_index(store):
    writer = created(store, projection=projection_of(session_id="s", parent_run_id="p", root_run_id="r"))
    writer.write("warm")
    cursor = store._connections._writing_cursor()
    indexed = set()
    for (sql,) in cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall():
        indexed |= set(re.findall(r"\w+", sql.partition(" ON ")[2]))
    (update,) = (s for s in traced(store, lambda: writer.write("step")) if "UPDATE" in s)
    changed = set(re.findall(r"(\w+) = ", update.partition("SET")[2].partition("WHERE")[0]))
    assert changed == {"length", "head_hash", "claims"}
    assert not changed & indexed


def test_many_commits_of_a_call_share_one_transaction(store):
    writers = [created(store, f"run {number}") for number in range(32)]
    statements = traced(store, lambda: store.commit([writer.commit_of("step") for writer in writers]))
    assert [s for s in statements if s.startswith(("BEGIN", "COMMIT"))] == ["BEGIN IMMEDIATE", "COMMIT"]


QUERIES = [
    RunQuery(),
    RunQuery(status=("waiting",), descending=True),
    RunQuery(status=("waiting",), wait_reason="user"),
    RunQuery(wait_key="k1"),
    RunQuery(tags=("t1",)),
    RunQuery(parent_run_id="p"),
    RunQuery(root_run_id="r"),
    RunQuery(session_id="s"),
    RunQuery(due=True),
    RunQuery(due=True, order="wake_at"),
    RunQuery(order="wake_at", descending=True),
    RunQuery(order="id"),
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: "-".join(
    f"{field}={value}" for field in query.__struct_fields__ if (value := getattr(query, field)) not in (None, (), False)
))  # fmt: skip
def test_no_look_walks_over_all_runs(store, query):
    for number in range(20):
        waits = (WaitHead(wait_id="w", reason="user", wait_key=f"k{number}"),)
        projection = projection_of(status="waiting", since=Instant(number), waits=waits, tags=(f"t{number}",))
        created(store, f"run {number}", projection=projection, lease_s=0.0)
    reader = store._connections._borrow()
    statements = []
    reader.set_trace_callback(statements.append)
    store._connections._give_back(reader)
    store.find(query)
    reader.set_trace_callback(None)
    looks = [s for s in statements if "FROM runs" in s]
    assert looks
    for statement in looks:
        plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [step for step in plan if step.startswith("SCAN runs")], plan


def test_a_claim_does_not_step_over_runs_that_others_hold(store):
    for number in range(300):
        created(store, f"held {number}")
    created(store, "free", lease_s=0.0, wake_at=store.now())
    statements = traced(store, lambda: store.claim(owner="o", lease_s=60, can_run=Runnable()))
    cursor = store._connections._writing_cursor()
    looks = {statement for statement in statements if "INDEXED BY runs_due" in statement}
    assert looks
    for statement in looks:
        (plan,) = [r[3] for r in cursor.execute(f"EXPLAIN QUERY PLAN {statement}") if "runs_due" in r[3]]
        assert "ns=?" in plan
    (entries,) = cursor.execute(
        "SELECT count(*) FROM runs INDEXED BY runs_due"
        " WHERE wake_at IS NOT NULL AND held = '' AND lease_until IS NULL"
    ).fetchone()  # fmt: skip
    assert entries == 0


def test_a_replaced_checkpoint_gives_its_space_back(file, store):
    writer = created(store)
    writer.write("x", checkpoint=Checkpoint(length=2, state=b"s" * 500_000))
    store._connections._writing_cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    once = stored_bytes(file)
    for number in range(20):
        writer.write("x", checkpoint=Checkpoint(length=number + 3, state=bytes([number]) * 500_000))
    store._connections._writing_cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert stored_bytes(file) < 1.3 * once


def test_what_is_stored_stays_in_proportion_to_what_was_written(file, store):
    """Chats of two runs in turns, with a checkpoint whenever they doubled."""
    writers, written, last = [created(store, "a"), created(store, "b")], 0, 0
    for number in range(1500):
        record = b"%06d" % number + b"m" * 2000
        written += len(record)
        checkpoint = None
        if written > 2 * max(last, 256_000):
            checkpoint = Checkpoint(length=writers[number % 2].fence.length + 1, state=b"s" * (written // 2))
            last = written
        writers[number % 2].write(record, checkpoint=checkpoint)
    assert stored_bytes(file) <= 2.5 * written + WAL_BYTES
    store.close()
    assert stored_bytes(file) <= 2 * written


def test_the_log_is_cut_back_after_a_large_transaction(file, store):
    writer = created(store)
    for number in range(3):
        writer.write(*[bytes([number]) * 1_000_000] * 20)
    assert Path(f"{file}-wal").stat().st_size > 16 << 20
    for _ in range(3):
        writer.write("small")
    assert Path(f"{file}-wal").stat().st_size <= WAL_BYTES


def test_a_deleted_runs_pages_are_used_again(file, store):
    for number in range(10):
        waits = (WaitHead(wait_id="w", reason="user", wait_key="k"),)
        writer = created(store, f"run {number}", lease_s=0.0, projection=projection_of(waits=waits, tags=("t",)))
        rest = {"checkpoint": Checkpoint(length=3, state=b"s"), "outbox": (message_to("o"),), "artifacts": ("a",)}
        writer.write(*[b"x" * 100_000] * 10, take=True, lease_s=0.0, **rest)
        store.deliver([message_to(writer.run_id, payload=b"1" * 10_000)])
        store.delete(writer.run_id)
    store._connections._writing_cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert stored_bytes(file) < 3 << 20
    cursor = store._connections._writing_cursor()
    for table in ("runs", "ledger", "inbox", "known", "waits", "tags", "outbox", "checkpoints", "artifacts"):
        assert cursor.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_the_file_is_whole_after_all_this(file, store):
    writer = created(store)
    for number in range(50):
        writer.write("x" * number, checkpoint=Checkpoint(length=number + 2, state=b"s" * number * 1000))
    store.close()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert not Path(f"{file}-wal").exists()


def test_what_is_not_needed_is_not_imported(file):
    """Neither the driver before a store is opened, nor pydantic where no option is set."""
    program = (
        "import sys, abstractruntime_sqlite as plugin\n"
        "(spec,) = plugin.abstractruntime_stores()\n"
        "assert 'sqlite3' not in sys.modules\n"
        "from abstractruntime.store.contract import StoreUrl\n"
        "spec.open(StoreUrl(scheme='sqlite', text='sqlite', path=sys.argv[1]), None).close()\n"
        "assert 'sqlite3' in sys.modules\n"
        "assert 'pydantic' not in sys.modules\n"
        "module, _, name = spec.options_model.partition(':')\n"
        "import importlib\n"
        "assert getattr(importlib.import_module(module), name)().durability == 'process'\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, str(file)], check=False, capture_output=True, text=True
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
