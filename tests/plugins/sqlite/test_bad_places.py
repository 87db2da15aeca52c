"""Files and folders that are no good: each gives an error that names the file, and nothing is lost or written over."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from abstractruntime import errors
from abstractruntime.errors import (
    FormatTooNew,
    InvalidUrl,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
)
from abstractruntime.store.contract import StoreUrl
from abstractruntime.testing import RunWriter, StorePlace
from abstractruntime_sqlite import schema
from abstractruntime_sqlite.options import SqliteOptions
from abstractruntime_sqlite.store import SqliteStore, open_sqlite

NOBODY = 65534


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs.db"


def made(file, records=0):
    """A database with one run of so many records besides its first."""
    with SqliteStore(str(file)) as store, StorePlace(lambda _: store) as place:
        writer = place.run("run")
        for number in range(records):
            writer.write(b"%06d" % number + b"x" * 2000)
        return writer


def refusal(file, kind):
    """The error of opening the file, which must name it and say what to do."""
    with pytest.raises(kind) as caught:
        SqliteStore(str(file))
    assert str(file) in str(caught.value)
    assert caught.value.hint
    assert caught.value.file == str(file)
    return caught.value


def url_of(file, **query):
    return StoreUrl(scheme="sqlite", text=f"sqlite:///{file}", path=str(file), query=query)


# Whose file it is


@pytest.mark.parametrize("content", [b"xy", b"not a database at all\n" * 100, b"SQLite format 3", b"\0" * 4096])
def test_a_file_of_another_kind_is_refused_and_left_alone(file, content):
    file.write_bytes(content)
    refusal(file, StoreForeign)
    assert file.read_bytes() == content
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_of_another_program_is_refused_and_left_alone(file, mode):
    other = sqlite3.connect(file)
    other.execute(f"PRAGMA journal_mode = {mode}")
    other.execute("CREATE TABLE runs (id INTEGER)")
    other.commit()
    other.close()
    before = file.read_bytes()
    refusal(file, StoreForeign)
    assert file.read_bytes() == before


def test_a_database_with_another_application_id_is_refused(file):
    other = sqlite3.connect(file)
    other.execute("PRAGMA application_id = 7")
    other.close()
    refusal(file, StoreForeign)


def test_an_empty_file_is_taken(file):
    file.touch()
    made(file)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    refusal(tmp_path, StoreForeign)


def test_a_missing_folder_is_not_made(tmp_path):
    error = refusal(tmp_path / "not" / "there" / "runs.db", StoreMissing)
    assert f"mkdir -p {tmp_path / 'not' / 'there'}" in error.hint
    assert list(tmp_path.iterdir()) == []


# Which version it has


def test_a_newer_schema_is_refused_and_left_alone(file):
    made(file)
    newer = sqlite3.connect(file)
    newer.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    newer.close()
    before = file.read_bytes()
    error = refusal(file, FormatTooNew)
    assert (error.version, error.newest) == (2, 1)
    assert "pip install --upgrade abstractruntime-sqlite" in error.hint
    assert file.read_bytes() == before


def connected(file):
    connection = sqlite3.connect(file, isolation_level=None)
    return connection, connection.cursor()


def add_a_column(cursor):
    cursor.execute("ALTER TABLE runs ADD COLUMN colour TEXT")


def break_down(cursor):
    cursor.execute("CREATE TABLE half_done (id INTEGER)")
    raise sqlite3.OperationalError("broken migration")


def test_an_older_schema_is_migrated_with_what_is_in_it(file):
    writer = made(file)
    connection, cursor = connected(file)
    schema.migrate(cursor, str(file), (*schema.MIGRATIONS, add_a_column))
    assert cursor.execute("PRAGMA user_version").fetchone() == (2,)
    assert cursor.execute("SELECT run_id, colour FROM runs").fetchall() == [(writer.run_id, None)]
    schema.migrate(cursor, str(file), (*schema.MIGRATIONS, add_a_column))
    connection.close()


def test_a_migration_that_fails_leaves_the_older_schema(file):
    made(file)
    connection, cursor = connected(file)
    cursor.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(cursor, str(file), (*schema.MIGRATIONS, add_a_column, break_down))
    cursor.execute("ROLLBACK")
    connection.close()
    made(Path(f"{file}.other"))
    with SqliteStore(str(file)) as store:
        assert store.load("run").head.length == 1


# Damage


def test_a_file_that_was_cut_off_is_damaged(file):
    made(file, records=200)
    os.truncate(file, 100 * 1024)
    with pytest.raises(StoreCorrupt, match=str(file)), SqliteStore(str(file)) as store:
        list(store.ledger("run"))


def test_a_page_of_rubbish_is_damage_that_is_told(file):
    made(file, records=200)
    page = file.read_bytes().index(b"000100xxx") // 4096
    with file.open("r+b") as opened:
        opened.seek(page * 4096)
        opened.write(os.urandom(4096))
    with SqliteStore(str(file)) as store:
        for read in (lambda: list(store.ledger("run")), lambda: store.load("run")):
            with pytest.raises(StoreCorrupt, match=str(file)) as caught:
                read()
            assert caught.value.hint


def test_a_record_that_is_missing_is_damage_that_is_told(file):
    made(file, records=5)
    connection, cursor = connected(file)
    cursor.execute("DELETE FROM ledger WHERE place = (SELECT place FROM ledger ORDER BY place LIMIT 1 OFFSET 3)")
    connection.close()
    with SqliteStore(str(file)) as store:
        for read in (lambda: list(store.ledger("run")), lambda: store.load("run", after=1)):
            with pytest.raises(StoreCorrupt, match="record 4 of run 'run'"):
                read()
        assert len(store.load("run", after=4).records) == 2


def test_damage_found_by_a_commit_stands_in_its_result(file):
    writer = made(file)
    connection, cursor = connected(file)
    (page,) = cursor.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ledger'").fetchone()
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with file.open("r+b") as opened:
        opened.seek((page - 1) * 4096)
        opened.write(b"\xff" * 4096)
    with SqliteStore(str(file)) as store:
        error = RunWriter(store, "run", fence=writer.fence).attempt("x").error
        assert isinstance(error, StoreCorrupt)
        assert str(file) in str(error)


# Not for us to write


@contextmanager
def as_nobody():
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder():
    """A folder that nobody, in the sense of the user, can reach."""
    folder = Path(tempfile.mkdtemp(prefix="abstractruntime-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_to_is_said(public_folder):
    public_folder.chmod(0o555)
    with as_nobody():
        refusal(public_folder / "runs.db", StoreReadOnly)


def test_a_file_that_cannot_be_written_to_is_said(public_folder):
    file = public_folder / "runs.db"
    made(file)
    file.chmod(0o444)
    public_folder.chmod(0o777)
    with as_nobody():
        refusal(file, StoreReadOnly)


def test_a_file_in_a_folder_that_cannot_be_written_to_is_said(public_folder):
    file = public_folder / "runs.db"
    made(file)
    file.chmod(0o666)
    public_folder.chmod(0o555)
    with as_nobody():
        refusal(file, StoreReadOnly)


# No space


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    if subprocess.run(["umount", str(folder)], check=False).returncode:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        pytest.fail("a file was left open there")


def fill_until_full(writer):
    """Commit until there is no space; how many were answered, and the error of the first that was not."""
    for number in range(2000):
        result = writer.attempt(b"%06d" % number + b"x" * 4000)
        if result.error is not None:
            return number, result.error
    raise AssertionError("the disk was not full")


def test_a_full_disk_loses_nothing_and_works_again_with_space(small_disk):
    file = small_disk / "runs.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"b" * 300_000)
    with SqliteStore(str(file)) as store, StorePlace(lambda _: store) as place:
        writer = place.run("run")
        answered, error = fill_until_full(writer)
        assert isinstance(error, StoreFull)
        assert str(file) in str(error)
        assert error.hint
        assert answered > 10
        for _ in range(3):
            assert isinstance(writer.attempt(b"x" * 4000).error, StoreFull)
        stored = writer.stored(after=1)
        assert [int(record[:6]) for record in stored.records] == list(range(answered))
        assert stored.head.fence == writer.fence
        ballast.unlink()
        for _ in range(5):
            writer.write(b"x" * 4000)
    with SqliteStore(str(file)) as store:
        assert store.load("run").head.fence == writer.fence
        assert len(list(store.ledger("run"))) == 1 + answered + 5


def test_a_disk_without_any_space_is_said_when_the_file_is_made(small_disk):
    (small_disk / "ballast").write_bytes(b"b" * (1 << 20))
    refusal(small_disk / "runs.db", StoreFull)


def test_a_commit_that_does_not_fit_hinders_no_smaller_one(file):
    with SqliteStore(str(file)) as store, StorePlace(lambda _: store) as place:
        small, large = place.run("small"), place.run("large")
        cursor = store._connections._writing_cursor()
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages + 20}")
        commits = [large.commit_of(b"x" * 500_000), small.commit_of("fits")]
        results = store.commit(commits)
        assert isinstance(results[0].error, StoreFull)
        assert results[1].error is None
        assert (large.head().length, small.head().length) == (1, 2)


def test_a_file_that_may_not_grow_further_is_an_error_and_no_loss(tmp_path):
    """As with a quota: not the disk is full, but the process may not write more."""
    file = tmp_path / "runs.db"
    child = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(file)], stdout=subprocess.PIPE, text=True, check=True
    )  # fmt: skip
    kind, length = child.stdout.split()
    assert issubclass(getattr(errors, kind), StoreError)
    with SqliteStore(str(file)) as store:
        assert store.load("run").head.length == int(length) > 10


_LIMITED = """
import resource, sys
from abstractruntime.testing import RunWriter
from abstractruntime.testing.writer import projection_of
from abstractruntime_sqlite.store import SqliteStore
with SqliteStore(sys.argv[1]) as store:
    writer = RunWriter(store, "run")
    writer.write("first", projection=projection_of())
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    while (result := writer.attempt(b"x" * 4000)).error is None:
        pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(type(result.error).__name__, store.load("run").head.length)
"""


# URLs


def test_a_url_that_means_nothing_kept_is_refused():
    with pytest.raises(InvalidUrl, match="write memory:"):
        open_sqlite(url_of("/folder/:memory:"), None)


def test_options_come_from_settings_and_the_url_goes_first(file):
    set_options = SqliteOptions(durability="power", busy_timeout_s=3)
    with open_sqlite(url_of(file), set_options) as store:
        assert "durable_power" in store.capabilities
    with open_sqlite(url_of(file, durability="process"), set_options) as store:
        assert "durable_power" not in store.capabilities
    with open_sqlite(url_of(file), None) as store:
        assert store.capabilities == {"multi_process", "durable_process"}


@pytest.mark.parametrize("query", [{"durabilty": "power"}, {"durability": "maximal"}, {"busy_timeout_s": "soon"}])
def test_a_parameter_that_cannot_be_used_is_refused_by_name(file, query):
    with pytest.raises(InvalidUrl, match=next(iter(query))) as caught:
        open_sqlite(url_of(file, **query), None)
    assert "busy_timeout_s" in caught.value.hint
    assert not file.exists()
