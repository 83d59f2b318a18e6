"""(edge) The file of the state itself: whether it can be used, and what is done with a damaged one.

In: its path, and for what must be read a connection. Out: ``UnusableState`` with the reason; a damaged file beside it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

log = logging.getLogger(__name__)
VERSION = 1
SIDES = ("", "-wal", "-shm")  # SQLite's files, by what stands behind the name of the first
CORRUPT_SUFFIX = ".corrupt"  # behind the name of a damaged file; the last one only is kept: it must not fill the disk

Identity = tuple[tuple[int, int] | None, ...]


class UnusableState(Exception):  # noqa: N818 - the house says fault and failure
    """The file must not be used; the message names ``state.path`` and says why."""


class AwayState(UnusableState):
    """The file cannot be used now; it may be later."""


class Broken(sqlite3.DatabaseError):
    """What is open is damaged, or no longer the file at ``state.path``: it must be opened anew."""


def look(path: Path) -> None:
    """Raise ``UnusableState`` for what cannot be opened, as far as a look tells: nothing is made, changed or locked.

    Its message says what a start would do about it.
    """
    try:
        there = next(place for place in (path, *path.parents) if place.exists() or place.is_symlink())
        refuse_links(path)
        if there != path:
            _look_at_folder(there)
        else:
            _look_at_folder(path.parent)
            _look_at_file(path)
    except Broken as fault:
        raise UnusableState(f"state.path = {path}: {fault}; it is moved aside, and a new state begun") from None
    except (OSError, sqlite3.Error) as error:
        lost = "state (rests, tokens, projects) is kept in memory only"
        raise UnusableState(f"state.path = {path}: {error}; {lost}") from None


def _look_at_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _look_at_file(path: Path) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError("not a regular file")
        head = os.read(file, 100)  # of SQLite's file format: its name, and the version that its user gave it
    finally:
        os.close(file)
    if head and not head.startswith(b"SQLite format 3\0"):
        raise Broken("file is not a database")
    if head and (version := int.from_bytes(head[60:64])) not in (0, VERSION):
        raise sqlite3.DatabaseError(other_version(version))


def refuse_links(path: Path) -> None:
    """Raise ``OSError`` for a link where a file must be: who may write in its folder would choose what we write."""
    for name in (f"{path.name}{side}" for side in SIDES):
        if path.with_name(name).is_symlink():
            raise OSError(f"{name} is a symbolic link, which is not followed: name the file itself")


def other_version(version: int) -> str:
    return f"written by a later version of gemproxy (schema {version}, not {VERSION}), and left to it"


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder out."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def identity(path: Path) -> Identity:
    """Return what tells SQLite's files from others of the same names: what is written last is in the second."""
    return tuple(_one(Path(f"{path}{side}")) for side in SIDES)


def _one(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check(db: sqlite3.Connection) -> None:
    """Raise ``sqlite3.DatabaseError`` for a damaged file."""
    damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise Broken(f"damaged: {damage}")


def is_broken(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the extended ones say more
    return isinstance(error, Broken) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path, connection: Callable[[], sqlite3.Connection], error: sqlite3.DatabaseError) -> None:
    """Make room for a new file; other processes may be about to do the same."""
    with _alone_in(path.parent):
        if not _is_damaged(path, connection):
            return  # one of them has done it
        for side in SIDES:
            if (file := Path(f"{path}{side}")).exists():
                file.replace(f"{path}{CORRUPT_SUFFIX}{side}")
    log.warning(
        "state.path = %s: %s; it was moved aside to %s, and a new state begun: what it held is lost",
        *(path, error, f"{path.name}{CORRUPT_SUFFIX}"),
    )


def _is_damaged(path: Path, connection: Callable[[], sqlite3.Connection]) -> bool:
    if not path.exists():
        return False
    with closing(connection()) as db:
        try:
            check(db)
        except sqlite3.DatabaseError as fault:
            return is_broken(fault)
    return False
