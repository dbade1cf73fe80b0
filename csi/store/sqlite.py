"""The store in an embedded SQLite file: one transaction per commit, durable when it returns.

The present inventory is kept in memory; the file is read once, at the start, and then only written. All of SQLite
happens in one thread of its own, so the event loop never waits for the disk; commits are serialised.

What can go wrong, and what is done
    a crash in a commit       the write-ahead log holds the whole transaction or none of it
    the disk is full          the commit is refused, memory stays as it was; later commits may pass
    an I/O error at COMMIT    it may be on the disk or not: no commit passes until a restart has read the file
    the file is not ours, corrupt, newer or half there
                              refused at the start; it is never replaced by an empty one
A new file appears under its name only when it is complete, so an empty one is damage and not a beginning.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from csi.core.errors import StaleState, StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Record
from csi.ports import Change
from csi.store import codec, guard
from csi.store.lockfile import LockFile
from csi.store.schema import APPLICATION_ID, CURRENT, Documents, Schema

T = TypeVar("T")

# Another program that reads the file (a backup) may hold it up for a moment.
_BUSY_SECONDS = 5.0

_RESTORE = (
    "restore it from a backup, or move it away together with its -wal file to begin with an empty state "
    "(volumes are then found again by name on their hosts)"
)
_REMEDIES = {
    sqlite3.SQLITE_CORRUPT: _RESTORE,
    sqlite3.SQLITE_NOTADB: _RESTORE,
    sqlite3.SQLITE_FULL: "free some space on its file system; the next commit will pass then",
    sqlite3.SQLITE_READONLY: "let this user write the file and its directory, and mount its file system writable",
    sqlite3.SQLITE_CANTOPEN: "let this user write the file and its directory, and mount its file system writable",
    sqlite3.SQLITE_BUSY: "end the program that holds a lock on the file",
    sqlite3.SQLITE_IOERR: "look into the kernel log for errors of its disk",
}


class SqliteStore:
    """Implements ``ports.Store``."""

    def __init__(self, path: Path, schema: Schema = CURRENT) -> None:
        # Two names of one file must meet at one lock.
        self._file = _File(Path(os.path.realpath(path)), schema)
        self._thread: ThreadPoolExecutor | None = None
        self._inventory: Inventory | None = None
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Inventory]] = set()

    async def open(self) -> None:
        if self._thread is not None:
            raise StateUnusable(f"state file {self._file.path} is open already")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        try:
            self._inventory = await self._call(self._file.open)
        except BaseException:
            await self.close()
            raise

    @property
    def inventory(self) -> Inventory:
        if self._inventory is None:
            raise StateUnusable(f"state file {self._file.path} is not open")
        return self._inventory

    async def commit(self, changes: Sequence[Change]) -> Inventory:
        # In a task of its own: if the caller is cancelled, file and memory still move together.
        task = asyncio.create_task(self._commit(tuple(changes)))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for the commits that are under way. Fine at any time, also twice."""
        if self._running:
            await asyncio.wait(set(self._running))
        thread, self._thread = self._thread, None
        if thread is not None:
            # Queued behind an ``open`` whose caller was cancelled, so it always has the last word.
            closing = asyncio.get_running_loop().run_in_executor(thread, self._file.close)
            thread.shutdown(wait=False)
            await asyncio.shield(closing)

    async def _commit(self, changes: tuple[Change, ...]) -> Inventory:
        async with self._turn:
            step = guard.advance(self.inventory, changes)
            await self._call(lambda: self._file.write(step))
            self._inventory = step.after
            return step.after

    async def _call(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise StateUnusable(f"state file {self._file.path} is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _finished(self, task: asyncio.Task[Inventory]) -> None:
        self._running.discard(task)
        # Read, so that the failure of a commit that nobody waits for any more is not reported as forgotten.
        if not task.cancelled():
            task.exception()


class _File:
    """The file itself. Every method runs in the store's thread."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        self._lock = LockFile(path)
        self._connection: sqlite3.Connection | None = None
        self._doubt = ""

    def open(self) -> Inventory:
        if not self.path.parent.is_dir():
            raise StateUnusable(
                f"state file {self.path}: its directory does not exist: make it, or mount it, or set state.path"
            )
        with self._explained("cannot be opened"):
            self._lock.take()
            if not self._is_there():
                self._make()
            self._connection = _connect(self.path)
            version = self._check()
            self._prepare()
            if version < self._schema.version:
                self._migrate(version)
            return self._load()

    def write(self, step: guard.Advance) -> None:
        """Raises: StateUnusable, StaleState (the foreign keys saw what the guard did not)."""
        if self._doubt:
            raise StateUnusable(self._doubted())
        with self._explained("cannot be written"):
            self._execute("BEGIN IMMEDIATE")
            try:
                for record in step.removes:
                    self._apply(codec.remove(record))
                for record in step.puts:
                    for statement in codec.put(record, step.before.find(record)):
                        self._apply(statement)
                self._commit()
            except sqlite3.IntegrityError as error:
                self._roll_back()
                raise StaleState(f"state file {self.path} refuses the commit: {error}") from error
            except BaseException:
                self._roll_back()
                raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                # Closing may fail to write the log back into the file; the log stays then, and is read at the start.
                with suppress(sqlite3.Error):
                    connection.close()
        finally:
            self._lock.release()

    # --- opening ------------------------------------------------------------------------------

    def _is_there(self) -> bool:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            log = self.path.with_name(self.path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise StateUnusable(
                    f"state file {self.path} is missing but its log {log} is there: {_RESTORE}"
                ) from None
            return False
        if size == 0:
            raise StateUnusable(f"state file {self.path} is empty, which this program never leaves: {_RESTORE}")
        return True

    def _make(self) -> None:
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = _connect(new)
        try:
            connection.execute("BEGIN")
            for table in self._schema.tables:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {self._schema.version}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        new.rename(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _check(self) -> int:
        """Whether it is a sound file of ours that this program can read; the version of its schema."""
        if self._number("PRAGMA application_id") != APPLICATION_ID:
            raise StateUnusable(
                f"state file {self.path} is a database of another program: set state.path to a file of its own"
            )
        version = self._number("PRAGMA user_version")
        if version > self._schema.version:
            raise StateUnusable(
                f"state file {self.path} has schema {version}, this program knows up to {self._schema.version}: "
                "start the newer program again, or restore the backup that it made before it changed the file"
            )
        if not self._schema.can_migrate(version):
            raise StateUnusable(
                f"state file {self.path} has schema {version}, from which this program has no way to "
                f"{self._schema.version}: open it once with a release in between"
            )
        found = [str(line) for (line,) in self._execute("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise StateUnusable(f"state file {self.path} is corrupt ({'; '.join(found)}): {_RESTORE}")
        return version

    def _check_keys(self) -> None:
        broken = self._execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise StateUnusable(
                f"state file {self.path} is corrupt (a row of {broken[0]} refers to a row of {broken[2]} "
                f"that is not there): {_RESTORE}"
            )

    def _prepare(self) -> None:
        (mode,) = self._execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StateUnusable(
                f"state file {self.path}: its file system takes no write-ahead log (mode {mode}): "
                "set state.path to a local file system"
            )
        self._execute("PRAGMA synchronous = FULL")
        # A read-only file is to be found out now and not at the first volume; BEGIN IMMEDIATE alone passes on one.
        self._execute("BEGIN IMMEDIATE")
        self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._execute("ROLLBACK")

    def _migrate(self, version: int) -> None:
        backup = self.path.with_name(f"{self.path.name}.schema-{version}")
        backup.unlink(missing_ok=True)
        self._execute("VACUUM INTO ?", (str(backup),))
        self._execute("PRAGMA foreign_keys = OFF")
        self._execute("BEGIN IMMEDIATE")
        try:
            older = self._all_documents()
            newer = self._schema.migrate(version, older)
            for (name,) in self._execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                self._execute(f'DROP TABLE "{name}"')
            for table in self._schema.tables:
                self._execute(table)
            for name, kind in codec.KINDS.items():
                for document in newer.get(name, []):
                    for statement in codec.put(msgspec.convert(document, kind), None):
                        self._apply(statement)
            self._check_keys()
            self._execute(f"PRAGMA user_version = {self._schema.version}")
            self._commit()
        except Exception as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise
            raise StateUnusable(
                f"state file {self.path} could not be brought from schema {version} to {self._schema.version} "
                f"({type(error).__name__}: {error}) and was left as it is: start the older program again, report this"
            ) from error

    def _all_documents(self) -> Documents:
        # Older versions may have had other tables: whatever has a column of that name holds records.
        tables = self._execute(
            "SELECT t.name FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c "
            "WHERE t.type = 'table' AND c.name = 'document'"
        ).fetchall()
        return {
            name: [msgspec.json.decode(document) for (_, _, document) in self._execute(codec.select(f'"{name}"').sql)]
            for (name,) in tables
        }

    def _load(self) -> Inventory:
        self._check_keys()
        self._execute("PRAGMA foreign_keys = ON")
        records: list[Record] = []
        for name in codec.KINDS:
            for row_id, version, document in self._execute(codec.select(name).sql):
                try:
                    records.append(codec.record(name, row_id, version, document))
                except ValueError as error:
                    raise StateUnusable(
                        f"state file {self.path} is corrupt ({name}, row {row_id!r}: {error}): {_RESTORE}"
                    ) from error
        return Inventory.of(records)

    # --- writing ------------------------------------------------------------------------------

    def _apply(self, statement: codec.Statement) -> None:
        done = self._execute(statement.sql, statement.values)
        if statement.guarded and done.rowcount != 1:
            self._doubt = "it was changed by another program while this one ran"
            raise StateUnusable(self._doubted())

    def _doubted(self) -> str:
        return f"state file {self.path}: {self._doubt}: restart the service, which reads it again"

    def _commit(self) -> None:
        try:
            self._execute("COMMIT")
        except sqlite3.Error as error:
            # These are said before the commit mark is in the log; after any other error it may be there.
            if _code(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CONSTRAINT):
                self._doubt = f"the outcome of an earlier commit is not known ({error})"
            raise

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._execute("ROLLBACK")
            except sqlite3.Error as error:
                self._doubt = f"a transaction could not be rolled back ({error})"

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        if self._connection is None:
            raise StateUnusable(f"state file {self.path} is not open")
        return self._connection.execute(statement, tuple(values))

    def _number(self, pragma: str) -> int:
        return int(self._execute(pragma).fetchone()[0])

    @contextmanager
    def _explained(self, trouble: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = _REMEDIES.get(_code(error), _RESTORE)
            raise StateUnusable(f"state file {self.path} {trouble}: {error}: {remedy}") from error
        except OSError as error:
            remedy = _REMEDIES[sqlite3.SQLITE_READONLY]
            raise StateUnusable(f"state file {self.path} {trouble}: {error.strerror}: {remedy}") from error


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: SQLite itself must never make the file.
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_SECONDS)


def _code(error: sqlite3.Error) -> int:
    """The primary result code; the upper bits are details."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
