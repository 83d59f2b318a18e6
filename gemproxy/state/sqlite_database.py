"""(edge) The connection to the state's SQLite file, and all that blocks: for one thread, which is not the loop's.

In: rows, keys. Out: rows; ``UnusableState`` or what ``sqlite3`` raises. When to write, and what to do when that
fails, is ``sqlite``'s business.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gemproxy.pool.cooldown import Record
from gemproxy.state.items import Entry
from gemproxy.state.sqlite_file import (
    VERSION,
    Broken,
    Identity,
    UnusableState,
    check,
    identity,
    is_broken,
    other_version,
    refuse_links,
    set_aside,
)
from gemproxy.state.sqlite_rows import (
    ANY_ENDED_ITEM,
    DROP_ENDED_ITEMS,
    DROP_OLDEST_ITEMS,
    GRANT,
    ITEM,
    ITEM_SCHEMA,
    ITEMS_BY_AGE,
    KIND_BYTES,
    PROJECT,
    RESTS,
    SCHEMA,
    UNFIT_ERRORS,
    Place,
    Row,
    encoded,
    item_rows,
    record_of,
)
from gemproxy.state.store import Grant

MAX_UNSEEN_AGE = 180 * 86400.0  # credentials not seen for so long are forgotten
MAX_ENDED_AGE = 3600.0  # cooldowns that ended, and the news that they did, are of no use to anyone after this
SPARE_BYTES = 8 << 20  # of the file that may be free: what is put next takes it
MAX_LOG_BYTES = 16 << 20  # of the write-ahead log once it is in the file: a large write would leave a large one
BUSY_INTERVAL = 0.02  # seconds between two attempts at what SQLite does not wait for


class Database:
    """The file at ``state.path``; ``patience`` is how many seconds a lock of another process is waited for."""

    def __init__(self, path: Path, clock: Callable[[], float], patience: float) -> None:
        self.writer = uuid.uuid4().hex
        self._path = path
        self._clock = clock
        self._patience = patience
        self._db: sqlite3.Connection | None = None
        self._seen = 0  # what other processes wrote up to here is known
        self._file: Identity = ()  # what tells it from another of the same name

    def open(self) -> None:
        """Open the file, mode 0600, made if need be; a damaged one is set aside."""
        self.close()
        self._seen = 0  # it may be another file now
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not is_broken(error):
                raise
            set_aside(self._path, self._connection, error)
            self._connect()

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def write(
        self,
        rows: Mapping[Place, Row],
        first: Callable[[sqlite3.Connection], None] | None = None,
        *,
        last: Callable[[sqlite3.Connection], None] | None = None,
        synced: bool = False,
    ) -> dict[Place, Exception]:
        """Write all rows or none, but for those that no file can hold, which are returned with the reason.

        ``synced``: so that it outlives a loss of power, too.
        """
        db = self._connected()
        db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        unfit: dict[Place, Exception] = {}
        try:
            if first is not None:
                first(db)
            for place, row in rows.items():
                try:
                    db.execute(place[0], row)
                except UNFIT_ERRORS as error:
                    unfit[place] = error
            if last is not None:
                last(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return unfit

    def write_items(self, entries: Sequence[Entry], limits: Mapping[str, int]) -> dict[Place, Exception]:
        """Write items, in a transaction of their own: a disk that is full to a few kilobytes takes tokens still."""

        def bound(db: sqlite3.Connection) -> None:
            for kind, limit in limits.items():
                _drop_oldest(db, encoded(kind), limit)

        return self.write(dict(item_rows(entries)), self._drop_ended, last=bound)

    def is_untidy(self) -> bool:
        """Return whether ``tidy`` has anything to do, as another process may have written what ended."""
        db = self._connected()
        ended = db.execute(ANY_ENDED_ITEM, (self._clock(),)).fetchone()[0]
        return bool(ended) or self._spare(db) > SPARE_BYTES

    def tidy(self) -> None:
        """Delete items that ended, and give back what the file does not need any more."""
        self.write({}, self._drop_ended)
        db = self._connected()
        if self._spare(db) > SPARE_BYTES:
            # executescript: execute would take the first step of many. Only a checkpoint cuts the file off, and only if
            # no other process reads just then: else with the next look
            db.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(PASSIVE)")

    def records(self) -> list[Record]:
        """Return every cooldown in the file."""
        return self._select(-1)

    def news(self) -> list[Record]:
        """Return the cooldowns that others wrote since these or all were asked for last."""
        return self._select(self._seen)

    def grant(self, key: str) -> Grant | None:
        """Return the tokens kept for a credential."""
        row = self._connected().execute(GRANT, (key,)).fetchone()
        return Grant(*row) if row else None

    def project(self, key: str) -> str:
        """Return the project kept for a credential, or ""."""
        row = self._connected().execute(PROJECT, (key,)).fetchone()
        return str(row[0]) if row else ""

    def item(self, kind: str, key: str) -> bytes | None:
        """Return an item that has not ended."""
        row = self._connected().execute(ITEM, (encoded(kind), encoded(key), self._clock())).fetchone()
        return bytes(row[0]) if row else None

    def forget(self, db: sqlite3.Connection) -> None:
        """Delete what is of no use to anyone any more, within a write."""
        now = self._clock()
        db.execute("DELETE FROM rests WHERE until < ? AND changed < ?", (now - MAX_ENDED_AGE, now - MAX_ENDED_AGE))
        for statement in ("DELETE FROM rests", "DELETE FROM grants", "DELETE FROM projects"):
            db.execute(f"{statement} WHERE changed < ?", (now - MAX_UNSEEN_AGE,))

    def _drop_ended(self, db: sqlite3.Connection) -> None:
        db.execute(DROP_ENDED_ITEMS, (self._clock(),))

    def _spare(self, db: sqlite3.Connection) -> int:
        """Return how many bytes the file is longer than it need be, if that can be mended."""
        if not _shrinks(db):
            return 0
        pages, free, size = (
            db.execute(f"PRAGMA {n}").fetchone()[0] for n in ("page_count", "freelist_count", "page_size")
        )
        return int(self._path.stat().st_size - (pages - free) * size)

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.ProgrammingError("not open")
        if identity(self._path) != self._file:
            raise Broken("the file was moved or deleted")
        return self._db

    def _select(self, after: int) -> list[Record]:
        """Return cooldowns written after a number of the sequence; beyond the first look only those of others."""
        db = self._connected()
        mine = self.writer if after >= 0 else ""
        db.execute("BEGIN")
        try:
            rows = db.execute(f"{RESTS} WHERE seq > ? AND writer != ?", (after, mine)).fetchall()
            self._seen = db.execute("SELECT last FROM sequence").fetchone()[0]
        finally:
            db.execute("COMMIT")
        return [record_of(row) for row in rows]

    def _connect(self) -> None:
        refuse_links(self._path)
        self._close_to_others()
        self._db = self._connection()
        try:
            self._begin(self._db)
        except BaseException:
            self.close()
            raise

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=self._patience, isolation_level=None)

    def _begin(self, db: sqlite3.Connection) -> None:
        self._version(db)  # first: nothing in a later version's file may be changed
        check(db)
        if not _shrinks(db):
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file; of another, with the next VACUUM
        self._log_ahead(db)
        db.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
        self._version(db)  # makes the log, which belongs to what the file is known by
        self._file = identity(self._path)
        self.write({}, self._prepare)
        if not _shrinks(db):
            self._let_shrink(db)
        refuse_links(self._path)  # the side files are there now

    def _close_to_others(self) -> None:
        """Make the file, or its mode, right. SQLite gives its side files the mode of the main one."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            mode = os.fstat(file).st_mode
            if not stat.S_ISREG(mode):
                raise OSError("not a regular file")
            if mode & 0o077:
                os.fchmod(file, 0o600)
        finally:
            os.close(file)

    def _log_ahead(self, db: sqlite3.Connection) -> None:
        """Switch to a write-ahead log. SQLite refuses at once, whatever the patience, if another does so meanwhile."""
        for left in range(int(self._patience / BUSY_INTERVAL), -1, -1):
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not left:
                    raise
                time.sleep(BUSY_INTERVAL)
            else:
                break

    def _let_shrink(self, db: sqlite3.Connection) -> None:
        """Rewrite a file from before there were items, so that it can give back what it does not need. It is small."""
        db.execute("PRAGMA temp_store = MEMORY")  # the copy holds tokens
        with contextlib.suppress(sqlite3.OperationalError):  # locked, full: at the next start, then
            db.execute("VACUUM")

    def _prepare(self, db: sqlite3.Connection) -> None:
        if self._version(db) == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        for statement in ITEM_SCHEMA:
            db.execute(statement)
        self.forget(db)

    def _version(self, db: sqlite3.Connection) -> int:
        """Return the version of the schema, 0 for none; raises ``UnusableState`` for a later one."""
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, VERSION):
            raise UnusableState(f"state.path = {self._path}: {other_version(version)}")
        return version


def _shrinks(db: sqlite3.Connection) -> bool:
    """Return whether a file can give back what it does not need: so it was made, or so it was rewritten."""
    return bool(db.execute("PRAGMA auto_vacuum").fetchone()[0])


def _drop_oldest(db: sqlite3.Connection, kind: bytes, limit: int) -> None:
    """Drop the oldest items of a kind, until it weighs no more than ``limit``."""
    found = db.execute(KIND_BYTES, (kind,)).fetchone()
    excess = found[0] - limit if found else 0
    if excess <= 0:
        return
    oldest = db.execute(ITEMS_BY_AGE, (kind,))
    last = 0
    while excess > 0:
        last, size = oldest.fetchone()
        excess -= size
    oldest.close()
    db.execute(DROP_OLDEST_ITEMS, (kind, last))
