"""(edge) The connection to the state's SQLite file, and all that blocks: for one thread, which is not the loop's.

In: rows, keys. Out: rows; ``UnusableState`` or what ``sqlite3`` raises. When to write, and what to do when that
fails, is ``sqlite``'s business.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from gemproxy.pool.cooldown import Record
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
from gemproxy.state.sqlite_rows import GRANT, PROJECT, RESTS, SCHEMA, UNFIT, Place, Row, record_of
from gemproxy.state.store import Grant

MONTHS = 180 * 86400.0  # credentials not seen for so long are forgotten
HOUR = 3600.0  # cooldowns that ended, and the news that they did, are of no use to anyone after this
MOMENT = 0.02  # seconds between two attempts at what SQLite does not wait for


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
                except UNFIT as error:
                    unfit[place] = error
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return unfit

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

    def forget(self, db: sqlite3.Connection) -> None:
        """Delete what is of no use to anyone any more, within a write."""
        now = self._clock()
        db.execute("DELETE FROM rests WHERE until < ? AND changed < ?", (now - HOUR, now - HOUR))
        for statement in ("DELETE FROM rests", "DELETE FROM grants", "DELETE FROM projects"):
            db.execute(f"{statement} WHERE changed < ?", (now - MONTHS,))

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
        self._log_ahead(db)
        self._version(db)  # makes the log, which belongs to what the file is known by
        self._file = identity(self._path)
        self.write({}, self._prepare)
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
        for left in range(int(self._patience / MOMENT), -1, -1):
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not left:
                    raise
                time.sleep(MOMENT)
            else:
                break

    def _prepare(self, db: sqlite3.Connection) -> None:
        if self._version(db) == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        self.forget(db)

    def _version(self, db: sqlite3.Connection) -> int:
        """Return the version of the schema, 0 for none; raises ``UnusableState`` for a later one."""
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, VERSION):
            raise UnusableState(f"state.path = {self._path}: {other_version(version)}")
        return version
