"""The file: who may use it, what is refused and left as it was, and what a power cut or a full disk leaves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from deepnote_async import ConfigurationError, Ledger
from deepnote_async.ledger.records import Row
from deepnote_async.ledger.store import VERSION, Store
from deepnote_async.ledger.writer import Writer


def row(number, **fields):
    return Row(number, f"key {number}", 1, "notebook", "hash", None, **fields)


def rows_of(path):
    store = Store.reading(str(path))
    try:
        return [row for chunk in store.rows() for row in chunk]
    finally:
        store.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "batch.sqlite"


@pytest.fixture
def store(path):
    store = Store.writing(str(path))
    yield store
    store.close()


def test_it_is_written_through_and_for_its_owner_only(store, path):
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.put([row(1).values()])
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_when_closed_it_is_one_file_beside_its_lock(store, path):
    store.put([row(1).values()])
    store.close()
    assert {file.name for file in path.parent.iterdir()} == {"batch.sqlite", "batch.sqlite.lock"}
    assert [each.key for each in rows_of(path)] == ["key 1"]


def test_it_is_read_while_it_is_written(store, path):
    for number in range(1, 20):
        store.put([row(number).values()])
        assert len(rows_of(path)) == number
    # Half-way through a reading, too.
    reader = Store.reading(str(path))
    chunks = reader.rows()
    assert len(next(chunks)) == 19
    store.put([row(20).values()])
    assert [each.id for each in next(chunks)] == [20]
    reader.close()


HOLD = """
import sys
from deepnote_async.ledger.store import Store
store = Store.writing(sys.argv[1])
print(1, flush=True)
input()
"""


def test_another_process_is_refused_until_the_holder_dies(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"1\n"
        with pytest.raises(ConfigurationError, match="another batch uses it"):
            Store.writing(str(path))
        assert rows_of(path) == []
        holder.kill()
        holder.wait()
        Store.writing(str(path)).close()


def other_version(path):
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


def other_database(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE entries (id)")
    connection.close()


def text(path):
    path.write_text("not a database at all, but a good deal longer than the header of one would be" * 20)


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-6000])


def scribbled(path):
    data = bytearray(path.read_bytes())
    data[5000:9000] = os.urandom(4000)
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [other_version, other_database, text, empty, cut, scribbled])
def test_what_cannot_be_used_is_refused_and_left_as_it_was(path, spoil):
    store = Store.writing(str(path))
    store.put([row(number, error="x" * 100).values() for number in range(1, 300)])
    store.close()
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=f"ledger {path} cannot be used"):
        Store.writing(str(path))
    assert path.read_bytes() == before
    if spoil in {other_version, other_database, text, empty}:
        with pytest.raises(ConfigurationError, match="cannot be used"):
            Ledger.open(path)
        assert path.read_bytes() == before


def test_reading_one_that_is_not_there_makes_none(path):
    with pytest.raises(ConfigurationError, match="no such file"):
        Ledger.open(path)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Store.writing(str(path.parent / "no folder" / "batch.sqlite"))
    assert list(path.parent.iterdir()) == []


def test_remains_of_an_earlier_file_are_no_part_of_a_new_one(path):
    store = Store.writing(str(path))
    store.put([row(1).values()])
    for name in ("batch.sqlite-wal", "batch.sqlite-shm"):
        shutil.copy(path.with_name(name), path.with_name(f"kept{name}"))
    store.close()
    path.unlink()
    for name in ("batch.sqlite-wal", "batch.sqlite-shm"):
        shutil.move(path.with_name(f"kept{name}"), path.with_name(name))
    Store.writing(str(path)).close()
    assert rows_of(path) == []


READ_ONLY = """
import os, sys
from deepnote_async import ConfigurationError
from deepnote_async.ledger.store import Store
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    Store.writing(sys.argv[1])
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="modes of folders mean nothing there")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    for outer in (folder, *folder.parents[:3]):
        outer.chmod(0o755)
    folder.chmod(0o555)
    command = [sys.executable, "-c", READ_ONLY, str(folder / "batch.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be used: Permission denied" in done.stdout
    assert list(folder.iterdir()) == []


FULL = """
import random, resource, sys
from deepnote_async import ConfigurationError
from deepnote_async.ledger.records import Row
from deepnote_async.ledger.store import Store
path, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
try:
    store = Store.writing(path)
    limit = chance.randrange(10_000, 400_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for number in range(1, 5000):
        store.put([Row(number, f"key {number}", 1, "n", "h", None, error="x" * chance.randrange(200)).values()])
        print(number, flush=True)
except ConfigurationError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of file sizes")
@pytest.mark.parametrize("seed", range(4))
def test_a_disk_that_fills_up_at_a_random_write_loses_nothing_written(path, seed):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(seed)], capture_output=True, text=True, check=True
    )
    assert "cannot be used" in done.stderr, done.stderr
    written = [int(line) for line in done.stdout.split()]
    store = Store.writing(str(path))
    kept = [each.id for each in rows_of(path)]
    store.put([row(9999).values()])
    store.close()
    assert kept == written == list(range(1, len(kept) + 1))


def test_a_full_database_is_told_as_such_and_goes_on_once_there_is_room(store, path):
    store._connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(ConfigurationError, match="disk is full"):
        store.put([row(number, error="x" * 200).values() for number in range(100)])
    before = len(rows_of(path))
    store._connection.execute("PRAGMA max_page_count = 1000")
    store.put([row(1000).values()])
    assert len(rows_of(path)) == before + 1


def snapshot(path, folder):
    """The ledger as a power cut would leave it: what was committed is in its files, synced."""
    folder.mkdir()
    # The main file first: a checkpoint between the two copies writes only what is in the log as well.
    for name in (path.name, f"{path.name}-wal"):
        if path.with_name(name).exists():
            shutil.copy(path.with_name(name), folder / name)
    return folder / path.name


def test_what_a_power_cut_leaves_at_any_moment_holds_all_that_was_committed(store, path, tmp_path):
    for number in range(1, 60):
        store.put([row(number).values()])
        assert [each.id for each in read_cut(snapshot(path, tmp_path / str(number)))] == list(range(1, number + 1))


@pytest.mark.parametrize("seed", range(3))
def test_a_log_torn_anywhere_keeps_whole_groups_only(store, path, tmp_path, seed):
    chance = random.Random(seed)
    for group in range(20):
        store.put([row(10 * group + number).values() for number in range(1, 11)])
    cut_off = snapshot(path, tmp_path / "cut")
    log = cut_off.with_name(f"{path.name}-wal")
    data = log.read_bytes()
    for attempt in range(10):
        torn = tmp_path / f"torn {attempt}"
        torn.mkdir()
        shutil.copy(cut_off, torn / path.name)
        length = chance.randrange(len(data))
        junk = chance.randbytes(chance.randrange(5000))
        (torn / log.name).write_bytes(data[:length] + junk)
        kept = [each.id for each in read_cut(torn / path.name)]
        assert len(kept) % 10 == 0
        assert kept == list(range(1, len(kept) + 1))


def read_cut(path):
    store = Store.writing(str(path))
    store.close()
    return rows_of(path)


async def test_a_writer_groups_what_comes_while_it_writes(path, monkeypatch):
    groups = []
    put, gate = Store.put, threading.Event()

    def slow(store, rows):
        groups.append(len(rows))
        gate.wait(5.0)
        put(store, rows)

    monkeypatch.setattr(Store, "put", slow)
    writer = Writer(str(path))
    assert await writer.open() == []
    first = writer.put(row(1))
    while not groups:  # noqa: ASYNC110 - another thread tells
        await asyncio.sleep(0.001)
    for number in range(2, 101):
        last = writer.put(row(number))
    gate.set()
    await writer.written(first)
    await writer.written(last)
    assert groups == [1, 99]
    await writer.close()
    assert len(rows_of(path)) == 100


async def test_a_writer_cancelled_as_it_opens_lets_the_ledger_go(path):
    writer = Writer(str(path))
    opening = asyncio.create_task(writer.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await writer.close()
    other = Writer(str(path))
    await other.open()
    await other.close()


def test_an_import_loads_no_sqlite():
    program = "import json, sys, deepnote_async; deepnote_async.Ledger('x'); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {name for name in json.loads(done.stdout) if "sqlite" in name}
