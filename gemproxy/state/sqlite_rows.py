"""The tables of the state's SQLite file: statements, and the rows that go into them. Pure: values in, rows out.

Must not name a table, a column or a version otherwise than files have them that are out there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gemproxy.pool.cooldown import Record
from gemproxy.state.items import Entry, weight
from gemproxy.state.store import Grant

Place = tuple[str, Any]  # of a row: the statement that keeps it, and its key
Row = tuple[Any, ...]

SCHEMA = """
CREATE TABLE rests (
    fingerprint TEXT NOT NULL, model TEXT NOT NULL, until REAL NOT NULL, since REAL NOT NULL, reason TEXT NOT NULL,
    daily INTEGER NOT NULL, strikes INTEGER NOT NULL, changed REAL NOT NULL, writer TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, model)
);
CREATE INDEX rests_by_seq ON rests (seq);
CREATE TABLE grants (
    credential TEXT PRIMARY KEY, access TEXT NOT NULL, expiry REAL NOT NULL, refresh TEXT NOT NULL,
    issued REAL NOT NULL, changed REAL NOT NULL
);
CREATE TABLE projects (credential TEXT PRIMARY KEY, project TEXT NOT NULL, changed REAL NOT NULL);
CREATE TABLE sequence (last INTEGER NOT NULL);
INSERT INTO sequence VALUES (0);
"""
ITEM_SCHEMA = (  # beside ``SCHEMA``: a gemproxy that knows no items goes on with a file that has them
    """
    CREATE TABLE IF NOT EXISTS items (
        age INTEGER PRIMARY KEY, kind BLOB NOT NULL, key BLOB NOT NULL, until REAL NOT NULL, bytes INTEGER NOT NULL,
        value BLOB NOT NULL, UNIQUE (kind, key)
    )
    """,
    "CREATE INDEX IF NOT EXISTS items_by_age ON items (kind, age, bytes)",
    "CREATE INDEX IF NOT EXISTS items_by_end ON items (until)",
    # counted as they come and go: to add up a hundred thousand with every write takes 20 ms
    "CREATE TABLE IF NOT EXISTS item_kinds (kind BLOB PRIMARY KEY, bytes INTEGER NOT NULL)",
    """
    CREATE TRIGGER IF NOT EXISTS item_kept AFTER INSERT ON items BEGIN
        INSERT INTO item_kinds VALUES (new.kind, new.bytes)
        ON CONFLICT (kind) DO UPDATE SET bytes = bytes + excluded.bytes;
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS item_dropped AFTER DELETE ON items BEGIN
        UPDATE item_kinds SET bytes = bytes - old.bytes WHERE kind = old.kind;
    END
    """,
)
KEEP_RECORD = """
INSERT INTO rests SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, last FROM sequence WHERE true
ON CONFLICT (fingerprint, model) DO UPDATE SET until = excluded.until, since = excluded.since, reason = excluded.reason,
    daily = excluded.daily, strikes = excluded.strikes, changed = excluded.changed, writer = excluded.writer,
    seq = excluded.seq
WHERE excluded.changed > rests.changed
"""
KEEP_GRANT = """
INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (credential) DO UPDATE SET
    access = iif(excluded.changed > grants.changed, excluded.access, grants.access),
    expiry = iif(excluded.changed > grants.changed, excluded.expiry, grants.expiry),
    refresh = iif(excluded.issued >= grants.issued, excluded.refresh, grants.refresh),
    issued = max(excluded.issued, grants.issued),
    changed = max(excluded.changed, grants.changed)
"""
KEEP_PROJECT = """
INSERT INTO projects VALUES (?, ?, ?)
ON CONFLICT (credential) DO UPDATE SET project = excluded.project, changed = excluded.changed
WHERE excluded.changed > projects.changed
"""
KEEP_ITEM = "INSERT INTO items (kind, key, until, bytes, value) VALUES (?, ?, ?, ?, ?)"  # as the newest
DROP_ITEM = "DELETE FROM items WHERE kind = ? AND key = ?"
DROP_ENDED_ITEMS = "DELETE FROM items WHERE until <= ?"
DROP_OLDEST_ITEMS = "DELETE FROM items WHERE kind = ? AND age <= ?"
COUNT = "UPDATE sequence SET last = last + 1"
UNFIT_ERRORS = (
    *(ValueError, TypeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.IntegrityError),
    sqlite3.DataError,
)
"""What SQLite raises for a row that it will never take."""
RESTS = "SELECT fingerprint, model, until, since, reason, daily, strikes, changed FROM rests"
GRANT = "SELECT access, expiry, refresh, issued, changed FROM grants WHERE credential = ?"
PROJECT = "SELECT project FROM projects WHERE credential = ?"
ITEM = "SELECT value FROM items WHERE kind = ? AND key = ? AND until > ?"
ANY_ENDED_ITEM = "SELECT EXISTS (SELECT 1 FROM items WHERE until <= ?)"
KIND_BYTES = "SELECT bytes FROM item_kinds WHERE kind = ?"
ITEMS_BY_AGE = "SELECT age, bytes FROM items WHERE kind = ? ORDER BY age"


def rows_of(
    records: Mapping[tuple[str, str], Record],
    grants: Mapping[str, Grant],
    projects: Mapping[str, tuple[str, float]],
    writer: str,
) -> Iterator[tuple[Place, Row]]:
    """Yield the row of each, with its place; first what numbers the records of this write."""
    if records:
        yield (COUNT, None), ()
    for place, record in records.items():
        yield (KEEP_RECORD, place), (*_row(record), writer)
    for key, grant in grants.items():
        row = (key, grant.access, grant.expiry, grant.refresh, grant.issued, grant.changed)
        yield (KEEP_GRANT, key), row
    for key, (project, changed) in projects.items():
        yield (KEEP_PROJECT, key), (key, project, changed)


def item_rows(entries: Iterable[Entry]) -> Iterator[tuple[Place, Row]]:
    """Yield what puts each item in the place of the one that was there, or drops that one."""
    for kind, key, item in entries:
        yield (DROP_ITEM, (kind, key)), (encoded(kind), encoded(key))
        if item.value is not None:
            row = (encoded(kind), encoded(key), item.until, weight(key, item.value), item.value)
            yield (KEEP_ITEM, (kind, key)), row


def encoded(name: str) -> bytes:
    """Return a kind or a key as the file has it: SQLite takes no lone surrogates, and two keys must not become one."""
    return name.encode(errors="surrogatepass")


def record_of(row: Row) -> Record:
    """Return the record in a row of ``RESTS``."""
    fingerprint, model, until, since, reason, daily, strikes, changed = row
    return Record(fingerprint, model, until, since, reason, bool(daily), strikes, changed)


def _row(record: Record) -> tuple[Any, ...]:
    return (
        record.fingerprint,
        record.model.encode(errors="replace").decode(),  # a client's word: SQLite takes no lone surrogates
        record.until,
        record.since,
        record.reason,
        record.daily,
        record.strikes,
        record.changed,
    )
