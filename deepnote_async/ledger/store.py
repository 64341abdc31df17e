"""The file: an SQLite database, written by one thread of one process at a time.

It is kept in WAL mode with ``synchronous=FULL``, so that a group of changes is on disk after one sync of one appended
file. A rollback journal needs three for the same, and in its default form ``EXTRA`` on top, or a power cut may bring
the journal back and undo what had been committed. Readers do not hold up the writer, nor it them; frames torn by a
power cut are told by their checksums and left out. WAL needs shared memory, so the file belongs on a local disk. When
the ledger is closed it is one file again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs

from ..errors import ConfigurationError
from .lock import FileLock, HeldError
from .records import LedgerSummary, Row, Values

__all__ = ["VERSION", "Store", "unusable"]

APPLICATION: Final = 0x444E4C47  # in the file's header: tells a ledger from any other database
VERSION: Final = 1
PATIENCE: Final = 10.0  # s that a write waits for a reader who holds up a checkpoint
CHUNK: Final = 2000  # rows read in one transaction

COLUMNS: Final = tuple(field.name for field in attrs.fields(Row) if field.name != "named")
_NAMES: Final = ", ".join(COLUMNS)
_SCHEMA: Final = f"""
BEGIN;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    notebook_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    request TEXT,
    state TEXT NOT NULL CHECK (state IN ('planned', 'starting', 'started', 'ended', 'unknown')),
    run_id TEXT,
    status TEXT,
    since REAL,
    until REAL,
    created_at REAL,
    finished_at REAL,
    error TEXT
) STRICT;
COMMIT;
PRAGMA journal_mode = WAL;
"""
# Only constants are put together here.
_PUT: Final = (
    f"INSERT INTO entries ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "  # noqa: S608
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[6:])
)
_READ: Final = f"SELECT {_NAMES} FROM entries WHERE id > ? ORDER BY id LIMIT {CHUNK}"  # noqa: S608
_COUNT: Final = """
SELECT state, status = 'success', count(*), sum(attempt - 1)
FROM entries NATURAL JOIN (SELECT key, max(attempt) AS attempt FROM entries GROUP BY key)
GROUP BY 1, 2
"""


def unusable(path: str, error: BaseException | str) -> ConfigurationError:
    """That a ledger cannot be used, and why."""
    result = ConfigurationError(f"the ledger {path} cannot be used: {error}")
    if isinstance(error, BaseException):
        result.__cause__ = error
    return result


class Store:
    """A ledger's file, open for reading, or locked and open for writing; for the thread that opened it."""

    def __init__(self, path: str, connection: sqlite3.Connection, lock: FileLock | None) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock

    @classmethod
    def reading(cls, path: str) -> Store:
        """Open an existing ledger, which another process may be writing; raises :class:`ConfigurationError`."""
        with _told(path):
            if not Path(path).is_file():
                raise unusable(path, "there is no such file")
            return cls(path, _connect_to_read(path), None)

    @classmethod
    def writing(cls, path: str) -> Store:
        """Lock a ledger and open it, making it if need be; raises :class:`ConfigurationError`.

        What cannot be used is left as it was.
        """
        with _told(path), contextlib.ExitStack() as undo:
            try:
                lock = FileLock(f"{path}.lock")
            except HeldError:
                raise unusable(path, "another batch uses it; its lock ends with its process") from None
            undo.callback(lock.release)
            if not Path(path).exists():
                _create(path)
            else:
                with contextlib.closing(_connect_to_read(path)) as connection:
                    _check_whole(path, connection)
            connection = _connect(path, "rw")
            undo.callback(connection.close)
            connection.execute("PRAGMA synchronous = FULL")
            # Whether it can be written is told now, not at the first start.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
            undo.pop_all()
            return cls(path, connection, lock)

    def put(self, rows: Sequence[Values]) -> None:
        """Write rows, all or none; when this returns they are on disk."""
        with _told(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(_PUT, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, after: int = 0) -> Iterator[list[Row]]:
        """All rows in the order they were made, in chunks, each of which is one consistent view."""
        while True:
            with _told(self._path):
                chunk = [Row(*values) for values in self._connection.execute(_READ, (after,)).fetchall()]
            if not chunk:
                return
            yield chunk
            after = chunk[-1].id

    def summary(self) -> LedgerSummary:
        """How many requests stand where."""
        counts: dict[str, int] = {}
        with _told(self._path):
            found = self._connection.execute(_COUNT).fetchall()
        for state, good, count, earlier in found:
            name = state if state != "ended" else "succeeded" if good else "failed"
            counts[name] = counts.get(name, 0) + count
            counts["earlier"] = counts.get("earlier", 0) + earlier
        return LedgerSummary(**counts)

    def close(self) -> None:
        """Close the file and let the lock go."""
        try:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        finally:
            if self._lock is not None:
                self._lock.release()


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Tell what SQLite and the operating system raise as what it means for the ledger."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise unusable(path, _meaning(error)) from error
    except OSError as error:
        raise unusable(path, error.strerror or str(error)) from error


def _meaning(error: sqlite3.DatabaseError) -> str:
    code = getattr(error, "sqlite_errorcode", None) or 0
    match code & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return "it is no ledger, or its header is damaged"
        case sqlite3.SQLITE_CORRUPT:
            return f"it is damaged ({error})"
        case sqlite3.SQLITE_FULL:
            return "the disk is full"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return f"it, or its folder, cannot be written ({error})"
    return str(error)


def _connect(path: str, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.path.abspath(path))}?mode={mode}"  # noqa: PTH100 - links are SQLite's own to resolve
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)


def _connect_to_read(path: str) -> sqlite3.Connection:
    connection = _connect(path, "ro")
    try:
        _check_version(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(path: str, connection: sqlite3.Connection) -> None:
    application, version = (_pragma(connection, name) for name in ("application_id", "user_version"))
    if application != APPLICATION:
        raise unusable(path, "it is no ledger")
    if version != VERSION:
        raise unusable(path, f"it is of version {version}, and this package reads and writes version {VERSION}")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _check_whole(path: str, connection: sqlite3.Connection) -> None:
    found = _pragma(connection, "quick_check(1)")
    if found != "ok":
        raise unusable(path, f"it is damaged ({found})")


def _create(path: str) -> None:
    """Make a ledger beside its place and move it there whole, so that no crash leaves half a one."""
    new = f"{path}.new"
    # SQLite would take what an earlier file of either name has left beside it for parts of this one.
    for old in (new, f"{new}-journal", f"{new}-wal", f"{path}-journal", f"{path}-wal", f"{path}-shm"):
        Path(old).unlink(missing_ok=True)
    try:
        # Made here, for SQLite would give it the mode of the umask; its companions get that of the file.
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, stat.S_IRUSR | stat.S_IWUSR))
        with contextlib.closing(_connect(new, "rw")) as connection:
            connection.executescript(_SCHEMA)
        Path(new).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(new).unlink()
        raise
    _sync_folder(Path(path).absolute().parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":  # Windows cannot open one
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
