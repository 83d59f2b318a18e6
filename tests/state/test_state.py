"""What outlives the process: both stores keep the same promises; the file survives kills, locks and damage."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gemproxy.pool.cooldown import Record
from gemproxy.state import sqlite as sqlite_state
from gemproxy.state.memory import MemoryState
from gemproxy.state.opening import open_state
from gemproxy.state.sqlite import SqliteState
from gemproxy.state.sqlite_database import Database
from gemproxy.state.sqlite_file import UnusableState
from gemproxy.state.store import Grant, Health
from tests.clock import Clock
from tests.credentials.token_desk import begin
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

REST = Record("print-a", "pro", 1_000_060.0, 1_000_000.0, "rate_limit", daily=True, strikes=2, changed=1_000_000.0)
PARKED = Record("print-b", "*", math.inf, 1_000_000.0, "key_invalid", changed=1_000_001.0)
LIFTED = Record("print-a", "pro", 0.0, changed=1_000_070.0)
GRANT = Grant("fake-access", 1_003_600.0, "fake-rotated", 1_000_000.0, 1_000_000.0)


def by_name(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.fingerprint, record.model))


# ------------------------------------------------------------------------------------------------ both stores


async def test_an_empty_state_knows_nothing(state):
    assert await state.records() == []
    assert await state.news() == []
    assert await state.grant("key") is None
    assert await state.project("key") == ""


async def test_what_is_kept_is_found(state):
    state.keep_record(REST)
    state.keep_record(PARKED)
    state.keep_grant("key", GRANT)
    state.keep_project("key", "found-project", 1.0)
    assert await state.grant("key") == GRANT
    assert await state.project("key") == "found-project"
    if isinstance(state, SqliteState):
        await state.flush()
    assert by_name(await state.records()) == [REST, PARKED]
    assert await state.grant("key") == GRANT
    assert await state.project("key") == "found-project"


async def test_the_newest_word_on_a_rest_holds(state):
    state.keep_record(REST)
    state.keep_record(LIFTED)
    if isinstance(state, SqliteState):
        await state.flush()
    assert await state.records() == [LIFTED]


@pytest.mark.parametrize("flushes", [False, True], ids=["together", "one by one"])
async def test_newer_tokens_of_two_kinds_are_joined(state, flushes):
    plain = Grant("fake-later", 1_007_200.0, "fake-older", 0.0, 1_000_500.0)
    for grant in (GRANT, plain, Grant("fake-stale", 5.0, "", 0.0, 5.0)):
        state.keep_grant("key", grant)
        if flushes and isinstance(state, SqliteState):
            await state.flush()
    assert await state.grant("key") == Grant("fake-later", 1_007_200.0, "fake-rotated", 1_000_000.0, 1_000_500.0)


async def test_a_closed_memory_holds_nothing(clock):
    state = MemoryState(clock)
    state.keep_record(REST)
    await state.close()
    assert await state.records() == []


# ------------------------------------------------------------------------------------------------------ the file


async def test_everything_survives_a_restart(process):
    first = await process()
    first.keep_record(REST)
    first.keep_record(PARKED)
    first.keep_grant("key", GRANT)
    first.keep_project("key", "found-project", 1.0)
    await first.close()
    second = await process()
    assert by_name(await second.records()) == [REST, PARKED]
    assert await second.grant("key") == GRANT
    assert await second.project("key") == "found-project"


async def test_the_file_is_its_owners_alone(process, path):
    state = await process()
    state.keep_grant("key", GRANT)
    await state.flush()
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {
        "state.db": "0o600",
        "state.db-wal": "0o600",
        "state.db-shm": "0o600",
    }


async def test_a_file_that_others_could_read_is_closed_to_them(process, path):
    path.touch(mode=0o644)
    await process()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_missing_folders_are_made(tmp_path, clock):
    path = tmp_path / "var" / "lib" / "state.db"
    state = await open_state(path, clock)
    assert isinstance(state, SqliteState)
    await state.close()
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_rests_are_written_soon(process, path):
    assert sqlite_state.WRITE_DELAY < 1
    state = await process()
    state.keep_record(REST)
    await soon(lambda: rows(path) == 1)


async def test_parking_is_written_at_once_and_takes_along_what_waits(process, path, monkeypatch):
    monkeypatch.setattr(sqlite_state, "WRITE_DELAY", 3600.0)
    state = await process()
    state.keep_record(REST)
    state.keep_record(PARKED)
    state.keep_record(LIFTED)  # waits for nobody either: the write has not begun
    await soon(lambda: rows(path) == 2)
    assert LIFTED in await state.records()


def rows(path: Path) -> int:
    with sqlite3.connect(path) as db:
        count = db.execute("SELECT count(*) FROM rests").fetchone()[0]
    db.close()
    return int(count)


async def test_a_killed_process_loses_nothing_that_matters(process, path):
    script = f"""
import asyncio, math, os, signal, sqlite3
from pathlib import Path
from gemproxy.pool.cooldown import Record
from gemproxy.state.sqlite import SqliteState
from gemproxy.state.store import Grant

def rows(table):
    return sqlite3.connect({str(path)!r}).execute(f"SELECT count(*) FROM {{table}}").fetchone()[0]

async def main():
    state = SqliteState(Path({str(path)!r}), lambda: 1_000_000.0)
    await state.open()
    state.keep_record(Record("print-a", "pro", 1_000_060.0, 1_000_000.0, "rate_limit", True, 2, 1_000_000.0))
    state.keep_record(Record("print-b", "*", math.inf, 1_000_000.0, "key_invalid", changed=1_000_001.0))
    state.keep_grant("key", Grant("fake-access", 1_003_600.0, "fake-rotated", 1_000_000.0, 1_000_000.0))
    while (rows("rests"), rows("grants")) != (2, 1):
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    state = await process()
    assert by_name(await state.records()) == [REST, PARKED]
    assert await state.grant("key") == GRANT


async def test_old_rests_and_lost_credentials_are_forgotten(process, clock):
    first = await process()
    first.keep_record(REST)
    first.keep_record(PARKED)
    first.keep_record(LIFTED)
    first.keep_grant("key", GRANT)
    first.keep_project("key", "found-project", clock.now)
    await first.close()
    clock.advance(3 * 86400)
    second = await process()
    assert await second.records() == [PARKED]
    assert await second.grant("key") == GRANT
    assert await second.project("key") == "found-project"
    await second.close()
    clock.advance(200 * 86400)
    third = await process()
    assert await third.records() == []
    assert await third.grant("key") is None
    assert await third.project("key") == ""


async def test_rests_of_made_up_models_do_not_fill_the_disk(process, path, clock, monkeypatch):
    monkeypatch.setattr(sqlite_state, "RECORDS_PER_FORGETTING", 10)
    state = await process()
    for number in range(200):
        state.keep_record(Record("print-a", f"made-up-{number}", clock.now + 1, clock.now, changed=clock.now))
        await state.flush()
        clock.advance(600)
    assert rows(path) < 20


async def test_rests_of_made_up_models_do_not_fill_the_memory(clock):
    state = MemoryState(clock)
    state.keep_record(PARKED)
    for number in range(10_000):
        state.keep_record(Record("print-a", f"made-up-{number}", 1_000_000.0 + number))
    records = await state.records()
    assert len(records) <= 4096
    assert PARKED in records


async def test_a_model_name_that_is_no_text_does_no_harm(process):
    state = await process()
    state.keep_record(Record("print-a", "bad\ud800name\0", 1_000_060.0, changed=1.0))
    state.keep_record(PARKED)
    await state.flush()
    assert {record.fingerprint for record in await state.records()} == {"print-a", "print-b"}


# ------------------------------------------------------------------------------------------------ several processes


async def test_processes_hear_of_each_others_rests_once(process):
    one, two = await process(), await process()
    one.keep_record(REST)
    await one.flush()
    assert await two.news() == [REST]
    assert await two.news() == []
    assert await one.news() == []
    two.keep_record(LIFTED)
    await two.flush()
    assert await one.news() == [LIFTED]


async def test_what_was_loaded_at_the_start_is_no_news(process):
    one, two = await process(), await process()
    one.keep_record(REST)
    await one.flush()
    assert await two.records() == [REST]
    assert await two.news() == []


async def test_an_older_word_of_another_process_does_not_win(process):
    one, two = await process(), await process()
    one.keep_record(LIFTED)
    await one.flush()
    two.keep_record(REST)
    await two.flush()
    assert await one.records() == [LIFTED]
    assert await one.news() == []


class Contested(sqlite3.Connection):
    """A file that another process switches to a write-ahead log at the same moment."""

    refusals = 0

    def execute(self, sql, *args):
        if "journal_mode" in sql and Contested.refusals:
            Contested.refusals -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return super().execute(sql, *args)


@pytest.mark.parametrize(("refusals", "opens"), [(3, True), (1000, False)])
async def test_a_start_waits_for_another_that_makes_the_file(path, clock, monkeypatch, refusals, opens):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=Contested))
    monkeypatch.setattr(Contested, "refusals", refusals)
    state = SqliteState(path, clock, patience=0.2)
    with contextlib.nullcontext() if opens else pytest.raises(UnusableState, match="locked"):
        await state.open()
    await state.close()


async def test_many_processes_may_start_at_once(path, clock):
    states = [SqliteState(path, clock) for _ in range(6)]
    await asyncio.gather(*(state.open() for state in states))
    for number, state in enumerate(states):
        state.keep_record(Record(f"print-{number}", "pro", 1_000_060.0, changed=1.0))
    await asyncio.gather(*(state.flush() for state in states))
    assert len(await states[0].records()) == 6
    await asyncio.gather(*(state.close() for state in states))


# ---------------------------------------------------------------------------------------------------------- trouble


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says" * 100)


def cut(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 100)
    db.close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 12288))


def scratched(path: Path) -> None:
    cut_from = 4096 * 5
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 100)
    db.close()
    content = path.read_bytes()
    path.write_bytes(content[:cut_from] + b"\xff" * 64 + content[cut_from + 64 :])


def newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(damaged, "not a database"), (cut, "malformed"), (scratched, "damaged")],
    ids=["garbage", "cut off", "scratched"],
)
async def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(process, path, clock, spoil, words, caplog):
    path.with_name("state.db.corrupt").write_bytes(b"of the time before")
    spoil(path)
    content = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        states = [SqliteState(path, clock) for _ in range(3)]
        await asyncio.gather(*(state.open() for state in states))
    (warning,) = caplog.messages
    assert all(word in warning for word in (f"state.path = {path}", words, "state.db.corrupt", "state"))
    assert path.with_name("state.db.corrupt").read_bytes() == content
    for state in states:
        assert state.health() == Health("sqlite")
        state.keep_record(PARKED)
        await state.close()
    assert await (await process()).records() == [PARKED]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damaged, "not a database"),
        (Path.unlink, "moved or deleted"),
        (lambda path: path.rename(path.with_name("elsewhere")), "moved or deleted"),
    ],
    ids=["damaged", "deleted", "moved"],
)
async def test_a_file_that_is_lost_while_it_is_used_is_begun_anew(process, path, change, words, caplog):
    state = await process()
    state.keep_grant("key", GRANT)
    await state.flush()
    for pragma in ("wal_checkpoint(TRUNCATE)", "cache_size = 0", "shrink_memory"):  # what is in memory is not read
        await state._run(lambda pragma=pragma: state._database._connected().execute(f"PRAGMA {pragma}").fetchall())
    change(path)
    state.keep_record(PARKED)
    await state.flush()
    assert not state.health().ok
    assert words in state.health().why
    await soon(lambda: state.health().ok)
    await state.flush()
    assert await state.records() == [PARKED]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT refresh FROM grants").fetchall() == [("fake-rotated",)], "known, so not lost with it"
    assert "open now" in caplog.text


@pytest.mark.parametrize("side", ["-wal", "-shm"])
async def test_a_file_beside_it_that_is_deleted_takes_nothing_with_it(process, path, side, monkeypatch, caplog):
    """SQLite would go on writing into a file without a name, which is gone with the process."""
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.02)
    states = [await process(), await process()]
    path.with_name(f"{path.name}{side}").unlink()
    for state in states:
        state.keep_record(PARKED)
        await state.flush()
    said = [message for message in caplog.messages if "moved or deleted" in message]
    assert len(said) == len(states)  # in the log: it may be well again by now
    states[0].keep_grant("key", GRANT)
    await soon(lambda: all(state.health().ok and not state._grants for state in states))
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT refresh FROM grants").fetchall() == [("fake-rotated",)]


async def test_a_file_of_a_later_version_is_left_as_it_is(path, clock, caplog):
    newer(path)
    path.chmod(0o600)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        state = await open_state(path, clock)
    (warning,) = caplog.messages
    assert all(word in warning for word in (f"state.path = {path}", "later version", "schema 99"))
    assert (state.health().backend, state.health().ok, state.health().why in warning) == ("memory", False, True)
    state.keep_record(REST)
    assert await state.records() == [REST]
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]
    assert path.read_bytes() == before


def folder(path: Path) -> None:
    path.mkdir()


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        (folder, Path.rmdir, "directory"),
        (below_a_file, lambda path: path.parent.unlink(), "exists"),
        (os.mkfifo, Path.unlink, "not a regular file"),
    ],
    ids=["a folder", "below a file", "a pipe"],
)
async def test_a_file_that_cannot_be_opened_is_told_of_and_taken_into_use_when_it_can(
    path, clock, monkeypatch, spoil, mend, words, caplog
):
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.02)
    spoil(path)
    with caplog.at_level(logging.WARNING):
        state = await open_state(path, clock)
    (warning,) = caplog.messages
    assert f"state.path = {path}" in warning
    assert words in warning
    assert (state.health().ok, words in state.health().why) == (False, True)
    state.keep_record(REST)
    assert await state.records() == [REST]
    await asyncio.sleep(0.1)
    mend(path)
    await soon(lambda: state.health().ok)
    await state.close()
    assert rows(path) == 1
    assert len(caplog.messages) == 2


class Refusing(sqlite3.Connection):
    """A disk that takes no write for a while."""

    word = ""

    def execute(self, sql, *args):
        if Refusing.word and ("journal_mode" in sql or "COMMIT" in sql):
            error = sqlite3.OperationalError(Refusing.word)
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return super().execute(sql, *args)


@pytest.mark.parametrize("opened", [True, False], ids=["while it is used", "at the start"])
@pytest.mark.parametrize("word", ["database or disk is full", "attempt to write a readonly database", "disk I/O error"])
async def test_a_disk_that_takes_no_write_is_told_of_until_it_does(path, clock, monkeypatch, word, opened, caplog):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=Refusing))
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.02)
    monkeypatch.setattr(Refusing, "word", "" if opened else word)
    state = await open_state(path, clock)
    monkeypatch.setattr(Refusing, "word", word)
    state.keep_record(PARKED)
    state.keep_grant("key", GRANT)
    await soon(lambda: not state.health().ok)
    await asyncio.sleep(0.1)
    assert word in state.health().why
    monkeypatch.setattr(Refusing, "word", "")
    await soon(lambda: state.health().ok)
    await state.close()
    assert rows(path) == 1
    assert [word in message for message in caplog.messages] == [True, False], "one warning an outage"


async def test_a_file_locked_at_the_start_is_told_of_and_taken_into_use_when_it_is_free(
    process, path, clock, monkeypatch, caplog
):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.05)
    before = await process()
    before.keep_record(PARKED)
    before.keep_grant("older", GRANT)
    await before.close()
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    state = await open_state(path, clock, patience=0.05)
    state.keep_record(REST)
    state.keep_grant("key", GRANT)
    state.keep_project("key", "found-project", 1.0)
    await state.settle()
    assert await state.records() == [REST], "held in memory"
    assert (await state.grant("key"), await state.project("key")) == (GRANT, "found-project")
    assert (await state.news(), await state.grant("older")) == ([], None)
    holder.close()
    await soon(lambda: "open now" in caplog.text)
    assert await state.news() == [PARKED], "what was there comes as news"
    await state.settle()
    assert by_name(await state.records()) == [REST, PARKED]
    assert await state.grant("older") == GRANT
    await state.close()
    assert rows(path) == 2
    assert [message.count("state.path") for message in caplog.messages] == [1, 1]


async def test_a_file_that_proves_unusable_behind_its_lock_leaves_all_in_memory(path, clock, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.05)
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("PRAGMA user_version = 99")
    holder.execute("BEGIN EXCLUSIVE")
    state = await open_state(path, clock, patience=0.05)
    holder.close()
    await soon(lambda: "schema 99" in caplog.text)
    state.keep_record(REST)
    assert await state.records() == [REST]
    await state.close()


async def test_a_state_that_stays_locked_holds_only_so_many_rests(path, clock):
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    state = await open_state(path, clock, patience=0.01)
    state.keep_record(PARKED)
    for number in range(5_000):
        state.keep_record(Record("print-a", f"made-up-{number}", 1_000_000.0 + number))
    kept = await state.records()
    assert len(kept) <= 4096
    assert PARKED in kept
    await state.close()
    holder.close()


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
async def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path, clock, caplog, name, there):
    victim = tmp_path / "elsewhere" / "victim"
    victim.parent.mkdir()
    if there:
        victim.write_bytes(b"")
    (tmp_path / name).symlink_to(victim)
    state = await open_state(tmp_path / "state.db", clock)
    assert not state.health().ok
    assert f"{name} is a symbolic link" in caplog.text
    assert "state.path" in caplog.text
    await state.close()
    assert not there or victim.read_bytes() == b""
    assert there or not victim.exists()


async def test_a_linked_folder_is_the_operators_choice(tmp_path, clock):
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    state = await open_state(tmp_path / "state" / "state.db", clock)
    assert isinstance(state, SqliteState)
    await state.close()


async def test_what_was_settled_is_on_disk(process, path):
    state = await process()
    state.keep_grant("key", GRANT)
    await state.settle()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT refresh FROM grants").fetchall() == [("fake-rotated",)]


async def test_a_disk_that_takes_long_is_waited_for_only_so_long(process, path, monkeypatch):
    monkeypatch.setattr(sqlite_state, "SETTLE_TIMEOUT", 0.01)
    state = await process()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    state.keep_grant("key", GRANT)
    await asyncio.wait_for(state.settle(), 5)
    assert await state.grant("key") == GRANT
    holder.close()
    await state.flush()
    assert await state.grant("key") == GRANT


async def test_without_a_path_the_state_is_in_memory(clock):
    state = await open_state(None, clock)
    assert isinstance(state, MemoryState)
    assert state.health() == Health("memory"), "as the operator wants it"


async def test_the_message_of_an_unusable_file_names_the_setting(tmp_path, clock):
    state = SqliteState(tmp_path, clock)
    with pytest.raises(UnusableState, match=r"state\.path = "):
        await state.open()
    await state.close()


async def test_a_write_that_fails_is_warned_of_once_and_done_later(process, path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.05)
    state = await process()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    state.keep_record(PARKED)
    state.keep_grant("key", GRANT)
    state.keep_project("key", "found-project", 1.0)
    await soon(lambda: "locked" in caplog.text)
    state.keep_grant("key", Grant("fake-later", 1_007_200.0, changed=1_000_500.0))
    await asyncio.sleep(0.3)
    assert await state.grant("key") == Grant("fake-later", 1_007_200.0, "fake-rotated", 1_000_000.0, 1_000_500.0)
    assert await state.project("key") == "found-project"
    holder.execute("ROLLBACK")
    await soon(lambda: rows(path) == 1)
    await soon(lambda: "written again" in caplog.text)
    holder.close()
    assert caplog.text.count("locked") == 1
    assert await state.records() == [PARKED]
    assert (await state.grant("key")).refresh == "fake-rotated"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(MemoryError(), id="no memory"),
        pytest.param(RuntimeError("can't start new thread"), id="no thread"),
        pytest.param(OSError(24, "Too many open files"), id="no descriptor"),
        pytest.param(ValueError("fake-access"), id="a bug of ours, whose words may quote a token"),
    ],
)
async def test_a_write_that_fails_by_anything_at_all_is_done_later(process, path, monkeypatch, caplog, fault):
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.01)
    state, failures = await process(), [fault]
    write = Database.write

    def failing(*arguments, **options):
        if failures:
            raise failures.pop()
        return write(*arguments, **options)

    monkeypatch.setattr(Database, "write", failing)
    state.keep_grant("key", GRANT)
    await soon(lambda: "written again" in caplog.text)
    assert (await state.grant("key")).refresh == "fake-rotated"
    assert (state._grants, failures) == ({}, [])
    assert "fake-access" not in caplog.text


async def test_closing_goes_on_whatever_the_last_write_meets(path, clock, monkeypatch):
    state = SqliteState(path, clock)
    await state.open()
    monkeypatch.setattr(state._database, "write", lambda *_, **__: 1 / 0)
    state.keep_grant("team-1", GRANT)
    await state.close()
    assert state._database._db is None


POISON = [
    pytest.param(Record("print-x", "pro", 1.0, strikes=1 << 70, changed=1.0), id="a number too large"),
    pytest.param(Record("print-x", "pro", math.nan, changed=1.0), id="no number"),
    pytest.param(Record("print-x", "pro", 1.0, reason="\ud800", changed=1.0), id="no text"),
]


@pytest.mark.parametrize("poison", POISON)
async def test_what_no_file_can_hold_does_not_hold_up_the_rest(process, path, poison, caplog):
    state = await process()
    state.keep_grant("key", GRANT)
    state.keep_grant("bad", Grant("fake-\ud800"))
    state.keep_record(poison)
    state.keep_record(PARKED)
    await state.flush()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT refresh FROM grants").fetchall() == [("fake-rotated",)]
        assert db.execute("SELECT fingerprint FROM rests").fetchall() == [("print-b",)]
    assert await state.grant("bad") == Grant("fake-\ud800"), "held in memory"
    await state.flush()
    assert caplog.text.count("state.path") == 1
    await state.close()


async def test_the_loop_runs_on_while_the_file_is_locked(path, clock, monkeypatch, caplog):
    state = SqliteState(path, clock, patience=10.0)
    await state.open()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    begun, write = threading.Event(), state._database.write

    def noted(*arguments: Any, **options: Any) -> Any:
        begun.set()
        return write(*arguments, **options)

    monkeypatch.setattr(state._database, "write", noted)
    state.keep_record(PARKED)
    await soon(begun.is_set)
    holder.close()  # which a loop that waited for the file would not come to before its patience is at an end
    await state.close()
    assert rows(path) == 1
    assert "locked" not in caplog.text


async def test_a_file_that_cannot_be_read_any_more_is_told_of_once(process, caplog):
    state = await process()
    await state._run(state._database.close)
    assert await state.records() == []
    assert await state.grant("key") is None
    assert await state.project("key") == ""
    assert caplog.text.count("state.path") == 1
    await state.open()
    assert await state.news() == []
    assert "read again" in caplog.text


async def test_closing_waits_for_the_write_that_runs(process, path):
    state = await process()
    state.keep_record(PARKED)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await state.close()
    assert rows(path) == 1


async def test_what_comes_after_the_end_is_let_go(process, path):
    state = await process()
    await state.close()
    await state.close()
    state.keep_record(PARKED)
    state.keep_grant("key", GRANT)
    await asyncio.sleep(0.05)
    assert rows(path) == 0
    assert await state.records() == []


async def test_a_state_that_cannot_be_written_at_the_end_closes_all_the_same(path, clock, caplog):
    state = SqliteState(path, clock, patience=0.01)
    await state.open()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    state.keep_record(REST)
    closing = begin(state.close())
    await asyncio.wait_for(closing, 2.0)
    holder.close()
    assert "locked" in caplog.text


def test_no_repr_of_a_grant_shows_a_token():
    assert "fake-" not in repr(GRANT)


async def test_what_changes_while_it_is_written_is_written_anew(path: Path, clock: Clock) -> None:
    state = SqliteState(path, clock)
    await state.open()
    older, newer = (Record("print", "model", clock.now + left, changed=clock.now + left) for left in (60.0, 90.0))
    loop, write, changed = asyncio.get_running_loop(), state._database.write, threading.Event()

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        loop.call_soon_threadsafe(lambda: (state.keep_record(newer), changed.set()))
        assert changed.wait(10)
        state._database.write = write  # type: ignore[method-assign]
        return write(*arguments, **options)

    state._database.write = meanwhile  # type: ignore[method-assign]
    state.keep_record(older)
    await state.flush()
    await state.flush()
    await state.close()
    again = SqliteState(path, clock)
    await again.open()
    try:
        assert [record.until for record in await again.records()] == [newer.until]
    finally:
        await again.close()
