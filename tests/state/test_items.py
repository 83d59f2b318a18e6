"""Bytes kept by kind and key: both states keep, bound and end them alike; the file outlives what may happen to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gemproxy.state import items
from gemproxy.state import sqlite as sqlite_state
from gemproxy.state.items import EXTRA_ITEM_BYTES, MAX_KIND_BYTES, Entry, Item, Items, batches, weight
from gemproxy.state.memory import MemoryState
from gemproxy.state.opening import open_state
from gemproxy.state.sqlite import SqliteState
from gemproxy.state.sqlite_database import SPARE_BYTES, Database
from gemproxy.state.sqlite_rows import SCHEMA
from gemproxy.state.store import Grant, State
from tests.waiting import soon

MEBIBYTE = 1 << 20
ONE = EXTRA_ITEM_BYTES + 3 + 1000  # what an item of a thousand bytes weighs under a key of three letters
LIMIT = 10 * ONE


async def written(state: State) -> None:
    """Wait until nothing but the file answers, where there is one."""
    if isinstance(state, SqliteState):
        await state.flush()
        assert not state._items


def fill(state: State, numbers: range, kind: str = "answer", lasts: float = 60.0) -> None:
    for number in numbers:
        state.put(kind, f"{number:03}", bytes([number]) * 1000, lasts, LIMIT)


async def found(state: State, numbers: range, kind: str = "answer") -> list[int]:
    values = {number: await state.get(kind, f"{number:03}") for number in numbers}
    assert all(value == bytes([number]) * 1000 for number, value in values.items() if value is not None)
    return [number for number, value in values.items() if value is not None]


def query(path: Path, statement: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(statement).fetchall()


# ------------------------------------------------------------------------------------------------ both states


async def test_what_was_put_is_got_by_its_kind_and_key(state):
    assert await state.get("answer", "one") is None
    state.put("answer", "one", b"\x00first", 60.0)
    state.put("answer", "two", b"", 60.0)
    state.put("count", "one", b"17", 60.0)
    for _ in range(2):
        assert await state.get("answer", "one") == b"\x00first"
        assert await state.get("answer", "two") == b""
        assert await state.get("count", "one") == b"17"
        assert await state.get("count", "two") is None
        await written(state)


@pytest.mark.parametrize("flushes", [False, True], ids=["together", "one by one"])
async def test_the_newest_value_holds(state, flushes):
    for value in (b"old", b"new"):
        state.put("answer", "one", value, 60.0)
        if flushes:
            await written(state)
    await written(state)
    assert await state.get("answer", "one") == b"new"


@pytest.mark.parametrize("flushes", [False, True], ids=["together", "one by one"])
async def test_what_was_dropped_is_gone_and_may_come_again(state, flushes):
    state.put("answer", "one", b"first", 60.0)
    state.put("answer", "two", b"other", 60.0)
    if flushes:
        await written(state)
    state.drop("answer", "one")
    state.drop("answer", "never there")
    assert await state.get("answer", "one") is None
    await written(state)
    assert await state.get("answer", "one") is None
    assert await state.get("answer", "two") == b"other"
    state.put("answer", "one", b"again", 60.0)
    await written(state)
    assert await state.get("answer", "one") == b"again"


async def test_an_item_lasts_for_so_many_seconds_of_the_wall_clock(state, clock):
    state.put("answer", "short", b"a", 10.0)
    state.put("answer", "long", b"b", 3600.0)
    state.put("answer", "ended", b"c", 0.0)
    state.put("answer", "always", b"d", math.inf)
    for _ in range(2):
        assert await state.get("answer", "short") == b"a"
        assert await state.get("answer", "ended") is None
        await written(state)
    clock.advance(9.9)
    assert await state.get("answer", "short") == b"a"
    clock.advance(0.1)
    assert await state.get("answer", "short") is None
    assert await state.get("answer", "long") == b"b"
    assert await state.get("answer", "always") == b"d"


async def test_an_item_that_is_put_again_lasts_anew(state, clock):
    state.put("answer", "one", b"a", 10.0)
    await written(state)
    clock.advance(5.0)
    state.put("answer", "one", b"b", 10.0)
    await written(state)
    clock.advance(9.0)
    assert await state.get("answer", "one") == b"b"


@pytest.mark.parametrize("step", [1, 4, 20], ids=["one by one", "some at a time", "together"])
async def test_the_oldest_of_a_full_kind_go(state, step):
    fill(state, range(5), "other")
    for begin in range(0, 20, step):
        fill(state, range(begin, begin + step))
        await written(state)
    assert await found(state, range(20)) == list(range(10, 20))
    assert await found(state, range(5), "other") == list(range(5)), "each kind is bounded alone"


async def test_what_is_put_again_is_young_again(state):
    fill(state, range(10))
    await written(state)
    fill(state, range(1))
    await written(state)
    fill(state, range(10, 12))
    await written(state)
    assert await found(state, range(12)) == [0, 3, 4, 5, 6, 7, 8, 9, 10, 11]


async def test_a_large_item_takes_the_room_of_many_small_ones(state):
    fill(state, range(10))
    await written(state)
    large = b"x" * (4 * ONE - weight("abc", b""))
    state.put("answer", "abc", large, 60.0, LIMIT)
    await written(state)
    assert await state.get("answer", "abc") == large
    assert await found(state, range(10)) == [4, 5, 6, 7, 8, 9]


async def test_what_fills_its_kind_alone_is_kept_and_what_is_larger_is_not(state):
    fill(state, range(5))
    state.put("answer", "abc", b"before", 60.0, LIMIT)
    await written(state)
    most = LIMIT - weight("abc", b"")
    state.put("answer", "abc", b"x" * (most + 1), 60.0, LIMIT)
    await written(state)
    assert await state.get("answer", "abc") is None, "what it was to replace is gone"
    assert await found(state, range(5)) == list(range(5)), "and nothing else"
    state.put("answer", "abc", b"x" * most, 60.0, LIMIT)
    await written(state)
    assert await state.get("answer", "abc") == b"x" * most


async def test_the_limit_holds_unless_another_is_named(state):
    for number in range(65):
        state.put("answer", str(number), bytes(MEBIBYTE), 60.0)
        await written(state)
    assert MAX_KIND_BYTES == 64 * MEBIBYTE
    assert [await state.get("answer", str(number)) is None for number in range(4)] == [True, True, False, False]


async def test_dropping_makes_room_and_leaves_the_limit_alone(state):
    fill(state, range(10))
    await written(state)
    state.drop("answer", "005")
    await written(state)
    fill(state, range(10, 11))
    await written(state)
    assert await found(state, range(11)) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


async def test_dropping_does_not_fall_back_to_the_default(process, monkeypatch):
    first = await process()
    fill(first, range(10))
    await first.flush()
    monkeypatch.setattr(items, "MAX_KIND_BYTES", LIMIT // 2)
    second = await process()  # knows nothing yet of the limit
    second.drop("answer", "005")
    await second.flush()
    assert await found(second, range(10)) == [0, 1, 2, 3, 4, 6, 7, 8, 9]


async def test_empty_items_do_not_fill_the_memory_either(state):
    for number in range(1000):
        state.put("answer", f"{number:03}", b"", 60.0, LIMIT)
    await written(state)
    kept = [number for number in range(1000) if await state.get("answer", f"{number:03}") is not None]
    assert kept == list(range(1000 - LIMIT // (EXTRA_ITEM_BYTES + 3), 1000))


KEYS = ["", "ä", "a\0b", "a\0", "a\ud800", "a\udfff", "a?", "a\ufffd", "'; DROP TABLE items", "k" * 10_000]


async def test_every_text_is_a_key_and_a_kind_of_its_own(state, caplog):
    for _ in range(2):
        for number, key in enumerate(KEYS):
            state.put("answer", key, str(number).encode(), 60.0)
        assert [await state.get("answer", key) for key in KEYS] == [str(number).encode() for number in range(len(KEYS))]
        await written(state)
        assert [await state.get("answer", key) for key in KEYS] == [str(number).encode() for number in range(len(KEYS))]
    for key in KEYS:
        state.drop("answer", key)
        state.put(key, "one", key.encode(errors="surrogatepass"), 60.0)
    await written(state)
    assert [await state.get("answer", key) for key in KEYS] == [None] * len(KEYS)
    assert [await state.get(key, "one") for key in KEYS] == [key.encode(errors="surrogatepass") for key in KEYS]
    assert caplog.text == ""


async def test_a_closed_state_lets_go(path, clock):
    memory, file = MemoryState(clock), SqliteState(path, clock)
    await file.open()
    for state in (memory, file):
        await state.close()
        state.drop("answer", "one")
        assert await state.get("answer", "one") is None
    memory = MemoryState(clock)
    memory.put("answer", "one", b"a", 60.0)
    await memory.close()
    assert await memory.get("answer", "one") is None


async def test_what_has_ended_leaves_the_memory_with_the_next_that_comes(clock):
    state = MemoryState(clock)
    fill(state, range(5), lasts=10.0)
    fill(state, range(5, 7), lasts=60.0)
    clock.advance(10.0)
    state.put("count", "one", b"", 60.0)
    assert [entry.key for entry in state._items] == ["005", "006", "one"]


# ------------------------------------------------------------------------------------------------ in memory


def test_no_repr_shows_what_is_kept():
    kept = Items()
    kept.put("answer", "one", Item(b"a secret", 5.0))
    assert "secret" not in repr(list(kept)) + repr(kept)
    assert "8 bytes" in repr(list(kept))


@pytest.mark.parametrize(
    ("sizes", "together"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([10, 10, 10], [[10, 10, 10]], id="what fits"),
        pytest.param([2000, 2000, 10], [[2000], [2000, 10]], id="no more than fits"),
        pytest.param([10, 9000, 10], [[10], [9000], [10]], id="a large one alone"),
    ],
)
def test_items_are_written_in_batches(sizes, together):
    entries = [Entry("answer", str(place), Item(bytes(size))) for place, size in enumerate(sizes)]
    split = list(batches(entries, 3000 + 2 * EXTRA_ITEM_BYTES))
    assert [[len(entry.item.value or b"") for entry in batch] for batch in split] == together
    assert [entry for batch in split for entry in batch] == entries


# ------------------------------------------------------------------------------------------------------ the file


async def test_items_survive_a_restart_until_they_end(process, clock):
    first = await process()
    first.put("answer", "one", b"first", 60.0)
    first.put("answer", "two", b"second", 3600.0)
    await first.close()
    clock.advance(60.0)
    second = await process()
    assert await second.get("answer", "one") is None
    assert await second.get("answer", "two") == b"second"


async def test_a_killed_process_loses_no_item_that_another_has_seen(process, path):
    script = f"""
import asyncio, os, signal
from pathlib import Path
from gemproxy.state.sqlite import SqliteState

async def main():
    state, other = (SqliteState(Path({str(path)!r}), lambda: 1_000_000.0) for _ in range(2))
    await state.open()
    await other.open()
    state.put("answer", "one", b"first" * 300_000, 60.0)
    while await other.get("answer", "one") is None:
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert await (await process()).get("answer", "one") == b"first" * 300_000


async def test_processes_see_each_others_items(process):
    one, two = await process(), await process()
    one.put("answer", "one", b"first", 60.0)
    await one.flush()
    assert await two.get("answer", "one") == b"first"
    two.put("answer", "one", b"second", 60.0)
    await two.flush()
    assert await one.get("answer", "one") == b"second"
    one.drop("answer", "one")
    await one.flush()
    assert await two.get("answer", "one") is None


async def test_who_is_patient_gets_what_another_process_is_about_to_write(process, monkeypatch):
    one, two = await process(), await process()
    began, goes_on, write = threading.Event(), threading.Event(), Database.write_items

    def held(self, *arguments):
        began.set()
        goes_on.wait(10)
        return write(self, *arguments)

    monkeypatch.setattr(Database, "write_items", held)
    one.put("answer", "one", b"first", 60.0)
    await asyncio.to_thread(began.wait, 10)
    assert await two.get("answer", "one") is None
    asyncio.get_running_loop().call_later(0.05, goes_on.set)
    assert await two.get("answer", "one", patient=True) == b"first"
    assert await two.get("answer", "none", patient=True) is None
    two.drop("answer", "one")
    assert await two.get("answer", "one", patient=True) is None


async def test_processes_share_one_bound(process):
    one, two = await process(), await process()
    for number in range(20):
        fill((one, two)[number % 2], range(number, number + 1))
        await (one, two)[number % 2].flush()
    assert await found(one, range(20)) == list(range(10, 20))
    assert await found(two, range(20)) == list(range(10, 20))


async def test_an_item_is_written_at_once_and_never_twice(process, path, monkeypatch):
    state, batches_written = await process(), []
    write_items = Database.write_items

    def noted(database, batch, limits):
        batches_written.append([entry.key for entry in batch])
        return write_items(database, batch, limits)

    monkeypatch.setattr(Database, "write_items", noted)
    for number in range(30):
        state.put("answer", str(number), bytes(MEBIBYTE), 60.0)
        await asyncio.sleep(0.001)
    await soon(lambda: not state._items)
    assert [key for batch in batches_written for key in batch] == [str(number) for number in range(30)]


async def test_a_file_that_is_locked_is_tried_again_and_not_once_for_each_item(process, path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.05)
    state = await process()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        for number in range(200):
            state.put("answer", str(number), b"value", 60.0)
            await asyncio.sleep(0.0001)
        assert len([task for task in asyncio.all_tasks() if task.get_name() == "state flush"]) <= 2
        await soon(lambda: "locked" in caplog.text)
        assert await state.get("answer", "199") == b"value", "held in memory"
    await soon(lambda: "written again" in caplog.text and not state._items)
    assert query(path, "SELECT count(*) FROM items") == [(200,)]
    assert [message.count("state.path") for message in caplog.messages] == [1, 1]


async def test_what_ended_leaves_the_file_and_the_file_shrinks(process, path, clock, monkeypatch):
    monkeypatch.setattr(sqlite_state, "TIDY_INTERVAL", 0.02)
    state = await process()
    for number in range(32):
        state.put("answer", str(number), bytes(MEBIBYTE), 60.0 if number else math.inf)
    await state.flush()
    assert path.stat().st_size > 28 * MEBIBYTE
    clock.advance(60.0)
    await soon(lambda: path.stat().st_size < 2 * MEBIBYTE)
    assert query(path, "SELECT key FROM items") == [(b"0",)]
    assert await state.get("answer", "0") == bytes(MEBIBYTE)
    assert query(path, "PRAGMA quick_check") == [("ok",)]
    state.put("answer", "one", bytes(MEBIBYTE), 60.0)
    await state.flush()
    assert path.with_name("state.db-wal").stat().st_size <= 16 * MEBIBYTE
    assert state.health().ok


async def test_a_file_that_another_reads_shrinks_with_the_next_look(process, path, clock):
    state = await process()
    for number in range(16):
        state.put("answer", str(number), bytes(MEBIBYTE), 60.0)
    await state.flush()
    clock.advance(60.0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        await state._tidy_items()
        assert path.stat().st_size > 15 * MEBIBYTE
    await state._tidy_items()
    assert path.stat().st_size < MEBIBYTE
    assert state.health().ok


async def test_a_kind_that_stays_full_does_not_let_the_file_grow(process, path):
    state = await process()
    for number in range(60):
        state.put("answer", str(number), bytes(MEBIBYTE), 60.0, 8 * MEBIBYTE)
        await state.flush()
    await state.close()
    assert path.stat().st_size < 12 * MEBIBYTE
    assert SPARE_BYTES >= 8 * MEBIBYTE


async def test_a_state_at_rest_writes_nothing(process, path, monkeypatch):
    monkeypatch.setattr(sqlite_state, "TIDY_INTERVAL", 0.01)
    state, writes, looks = await process(), [], []
    look = Database.is_untidy
    monkeypatch.setattr(Database, "write", lambda *_, **__: writes.append(None))
    monkeypatch.setattr(Database, "is_untidy", lambda database: (looks.append(None), look(database))[1])
    await soon(lambda: len(looks) > 3)
    assert writes == []
    assert state.health().ok


# ---------------------------------------------------------------------------------------- forth and back


def before_items(path: Path) -> None:
    """Make a file as gemproxy made it that knew no items."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA)
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO grants VALUES ('key', 'fake-access', 1e9, 'fake-rotated', 1e6, 1e6)")


async def test_a_file_from_before_there_were_items_takes_them_and_shrinks(process, path, clock, monkeypatch):
    monkeypatch.setattr(sqlite_state, "TIDY_INTERVAL", 0.02)
    before_items(path)
    states = [await process(), await process()]
    for number in range(16):
        states[number % 2].put("answer", str(number), bytes(MEBIBYTE), 60.0)
    for state in states:
        await state.flush()
    assert (await states[0].grant("key")).refresh == "fake-rotated"
    assert await states[0].get("answer", "15") == bytes(MEBIBYTE)
    clock.advance(60.0)
    # with two that look after it, one may cut it off between two steps of the other: so much may stay (SPARE_BYTES)
    await soon(lambda: path.stat().st_size < SPARE_BYTES + MEBIBYTE)


async def test_a_file_that_cannot_be_rewritten_is_used_all_the_same(path, clock, monkeypatch, caplog):
    class Full(sqlite3.Connection):
        def execute(self, sql, *args):
            if sql == "VACUUM":
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *args)

    connect = sqlite3.connect
    before_items(path)
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=Full))
    state = await open_state(path, clock)
    assert state.health().ok
    for number in range(10):
        state.put("answer", str(number), bytes(MEBIBYTE), 60.0)
    await state.flush()
    clock.advance(60.0)
    state._untidy = True
    await state.flush()
    assert await state._run(state._database.is_untidy) is False, "it does not try for ever"
    await state.close()
    assert caplog.text == ""


async def test_a_gemproxy_that_knows_no_items_goes_on_with_a_file_that_has_them(process, path):
    """A roll-back: what that version did at its start, and what it reads and writes, is spelled out here."""
    new = await process()
    new.put("answer", "one", b"first", 60.0)
    new.keep_grant("key", Grant("fake-access", 1e9, "fake-rotated", 1e6, 1e6))
    await new.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        assert old.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        old.execute("PRAGMA journal_mode = WAL")
        old.execute("BEGIN IMMEDIATE")
        old.execute("UPDATE sequence SET last = last + 1")
        old.execute(
            "INSERT INTO rests SELECT 'print-a', 'pro', 1000060.0, 1e6, '', 0, 0, 1e6, 'old', last FROM sequence"
        )
        old.execute("DELETE FROM projects WHERE changed < 1")
        old.execute("COMMIT")
        assert old.execute("SELECT refresh FROM grants").fetchall() == [("fake-rotated",)]
    again = await process()
    assert await again.get("answer", "one") == b"first"
    assert [record.fingerprint for record in await again.records()] == ["print-a"]


# ---------------------------------------------------------------------------------------------------------- trouble


class Refusing(sqlite3.Connection):
    """A disk that takes nothing, or nothing large, for a while."""

    word = ""
    large_only = False

    def execute(self, sql, *args):
        if Refusing.word and ("INSERT INTO items" in sql or ("COMMIT" in sql and not Refusing.large_only)):
            error = sqlite3.OperationalError(Refusing.word)
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return super().execute(sql, *args)


@pytest.fixture
def disk(monkeypatch):
    """Return a function that lets the disk refuse what is written, or take it again."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=Refusing))
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.02)

    def refuses(word: str, large_only: bool = False) -> None:
        monkeypatch.setattr(Refusing, "word", word)
        monkeypatch.setattr(Refusing, "large_only", large_only)

    return refuses


@pytest.mark.parametrize("word", ["database or disk is full", "attempt to write a readonly database", "disk I/O error"])
async def test_items_wait_in_memory_for_a_disk_that_takes_no_write(path, clock, disk, word, caplog):
    state = await open_state(path, clock)
    disk(word)
    fill(state, range(20))
    state.put("answer", "short", b"a", 10.0, LIMIT)
    await soon(lambda: not state.health().ok)
    assert word in state.health().why
    assert await found(state, range(20)) == list(range(11, 20)), "bounded"
    assert await state.get("answer", "short") == b"a"
    clock.advance(10.0)
    assert await state.get("answer", "short") is None
    disk("")
    await soon(lambda: state.health().ok)
    await written(state)
    assert await found(state, range(20)) == list(range(11, 20))
    await state.close()
    assert [word in message for message in caplog.messages] == [True, False], "one warning an outage"


@pytest.mark.usefixtures("turned")
async def test_a_disk_that_refuses_items_is_not_asked_anew_with_each(path, clock, disk, monkeypatch):
    state, tries = await open_state(path, clock), []
    write_items = Database.write_items
    monkeypatch.setattr(Database, "write_items", lambda *args: (tries.append(None), write_items(*args))[1])
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.3)
    disk("database or disk is full")
    fill(state, range(1))
    await soon(lambda: not state.health().ok)
    for number in range(1, 10):
        fill(state, range(number, number + 1))
        state.drop("answer", "000")
        await asyncio.sleep(0.005)
    assert len(tries) == 1
    disk("")
    await soon(lambda: state.health().ok)
    assert query(path, "SELECT count(*) FROM items") == [(9,)]
    await state.close()


async def test_a_disk_that_is_too_full_for_items_takes_tokens_still(path, clock, disk, caplog):
    state = await open_state(path, clock)
    disk("database or disk is full", large_only=True)
    state.put("answer", "one", bytes(MEBIBYTE), 60.0)
    state.keep_grant("key", Grant(refresh="fake-rotated", issued=1.0))
    await soon(lambda: not state.health().ok)
    await soon(lambda: not state._grants)
    for _ in range(5):
        state.keep_project("key", "found-project", 1.0)
        await state.flush()
    assert query(path, "SELECT refresh FROM grants") == [("fake-rotated",)]
    assert await state.get("answer", "one") == bytes(MEBIBYTE)
    disk("")
    await soon(lambda: not state._items)
    await state.close()
    assert ["disk is full" in message for message in caplog.messages] == [True, False], "one warning an outage"


async def test_items_of_a_state_that_cannot_be_opened_yet_are_written_once_it_can(path, clock, monkeypatch):
    monkeypatch.setattr(sqlite_state, "RETRY_INTERVAL", 0.05)
    path.mkdir()
    state = await open_state(path, clock)
    fill(state, range(20))
    state.drop("answer", "015")
    assert await found(state, range(20)) == [10, 11, 12, 13, 14, 16, 17, 18, 19]
    path.rmdir()
    await soon(lambda: state.health().ok)
    await written(state)
    assert await found(state, range(20)) == [10, 11, 12, 13, 14, 16, 17, 18, 19]
    await state.close()


async def test_a_file_that_is_lost_takes_only_what_was_in_it(process, path, monkeypatch, caplog):
    state = await process()
    state.put("answer", "one", b"first", 60.0)
    await state.flush()
    path.unlink()
    state.put("answer", "two", b"second", 60.0)
    await soon(lambda: "open now" in caplog.text)
    await state.flush()
    assert await state.get("answer", "one") is None
    assert await state.get("answer", "two") == b"second"
    assert query(path, "SELECT key FROM items") == [(b"two",)]


async def test_a_page_that_is_damaged_under_the_items_lets_a_new_file_begin(process, path, caplog):
    state = await process()
    for number in range(2000):
        state.put("answer", str(number), bytes(100), 60.0)
    state.keep_grant("key", Grant(refresh="fake-rotated", issued=1.0))
    await state.flush()
    for pragma in ("wal_checkpoint(TRUNCATE)", "cache_size = 0", "shrink_memory"):  # what is in memory is not read
        await state._run(lambda pragma=pragma: state._database._connected().execute(f"PRAGMA {pragma}").fetchall())
    (root,) = query(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'items'")[0]
    with path.open("r+b") as file:
        file.seek(4096 * (root - 1))
        file.write(b"\xff" * 64)
    assert await state.get("answer", "1") is None
    assert not state.health().ok
    state.put("answer", "new", b"value", 60.0)
    await soon(lambda: state.health().ok)
    await state.flush()
    assert await state.get("answer", "new") == b"value"
    assert await state.get("answer", "1") is None
    assert query(path, "SELECT refresh FROM grants") == [("fake-rotated",)]
    assert path.with_name("state.db.corrupt").exists()


async def test_a_file_that_is_damaged_under_the_items_is_found_at_the_start(process, path, clock, caplog):
    first = await process()
    first.put("answer", "one", bytes(MEBIBYTE), 60.0)
    await first.close()
    (root,) = query(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'items'")[0]
    with path.open("r+b") as file:
        file.seek(4096 * (root - 1))
        file.write(b"\xff" * 64)
    with caplog.at_level(logging.WARNING):
        second = await process()
    assert "state.db.corrupt" in caplog.text
    assert await second.get("answer", "one") is None
    second.put("answer", "one", b"again", 60.0)
    await second.flush()
    assert await second.get("answer", "one") == b"again"


POISON = [
    pytest.param(("answer", "bad", b"fake-value", math.nan), id="no number"),
    pytest.param(("answer", "bad", ["fake-value"], 60.0), id="no bytes"),
]


@pytest.mark.parametrize("poison", POISON)
async def test_what_no_file_can_hold_does_not_hold_up_the_rest(process, path, poison, caplog):
    state = await process()
    state.put(*poison)
    state.put("answer", "good", b"first", 60.0)
    state.keep_grant("key", Grant(refresh="fake-rotated", issued=1.0))
    await state.flush()
    assert query(path, "SELECT key FROM items") == [(b"good",)]
    assert query(path, "SELECT refresh FROM grants") == [("fake-rotated",)]
    await state.flush()
    state.drop(*poison[:2])
    await state.flush()
    assert caplog.text.count("; state is held") == 1
    assert "fake-value" not in caplog.text
    assert await state.get("answer", "good") == b"first"


async def test_what_is_too_large_for_sqlite_does_not_hold_up_the_rest(process, path):
    state = await process()
    await state._run(lambda: state._database._connected().setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))
    state.put("answer", "large", bytes(20_000), 60.0)
    state.put("answer", "small", b"first", 60.0)
    await state.flush()
    assert query(path, "SELECT key FROM items") == [(b"small",)]
    assert await state.get("answer", "large") == bytes(20_000), "held in memory"
    assert "too big" in state.health().why


async def test_the_loop_runs_on_while_megabytes_are_written(process, monkeypatch):
    state, loop, went_on = await process(), asyncio.get_running_loop(), []
    write_items = Database.write_items

    def noted(database, batch, limits):
        turn = threading.Event()
        loop.call_soon_threadsafe(turn.set)
        went_on.append(turn.wait(5 * all(went_on)))  # which a loop that does the writing itself does not come to
        return write_items(database, batch, limits)

    monkeypatch.setattr(Database, "write_items", noted)
    for number in range(32):
        state.put("answer", str(number), bytes(MEBIBYTE), 60.0)
    await soon(lambda: not state._items)
    assert len(went_on) >= 8
    assert all(went_on)
    assert await state.get("answer", "31") is not None


async def test_what_waits_to_be_written_never_lets_something_older_show(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "state.db", lambda: 1_000.0)
    await state.open()
    try:
        for key in ("dropped", "pushed out"):
            state.put("k", key, b"old", 60, limit=10_000)
        await state.flush()
        state.put("k", "pushed out", b"n" * 5_000, 60, limit=10_000)
        state.drop("k", "dropped")
        state.put("k", "other", b"y" * 8_000, 60, limit=10_000)
        before = [await state.get("k", key) for key in ("dropped", "pushed out")]
        await state.flush()
        after = [await state.get("k", key) for key in ("dropped", "pushed out")]
        assert (before, after) == ([None, None], [None, None])
        assert await state.get("k", "other") == b"y" * 8_000
    finally:
        await state.close()


def test_one_put_lets_a_bounded_number_go() -> None:
    items = Items()
    for number in range(5_000):
        items.put("k", str(number), Item(b"", 10.0))
    items.expire(20.0)
    items.put("k", "last", Item(b"", 30.0), 2_000)
    assert 1_000 < sum(1 for _ in items) < 4_000
    for number in range(10):
        items.put("k", str(number), Item(b"", 30.0), 2_000)
    assert sum(1 for _ in items) == 1
