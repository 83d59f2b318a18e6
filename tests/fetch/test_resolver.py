"""Name resolution: what aiohttp gets, and whose threads it runs in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from gemproxy.fetch import resolver as lookup
from gemproxy.fetch.resolver import CALLER, Lookup
from tests.waiting import soon


@pytest.fixture
async def resolver():
    found = Lookup()
    yield found
    await found.close()


async def test_a_name_resolves_to_its_addresses(resolver, monkeypatch) -> None:
    monkeypatch.setattr(socket, "AI_ADDRCONFIG", 0)  # it hides loopback where that is the only interface
    answers = await resolver.resolve("localhost", 81, socket.AF_INET)
    assert {(answer["host"], answer["port"], answer["family"]) for answer in answers} == {
        ("127.0.0.1", 81, socket.AF_INET)
    }


async def test_a_name_without_an_address_is_an_os_error(resolver, monkeypatch) -> None:
    def unknown(*_arguments, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="not known"):
        await resolver.resolve("nowhere.test")


async def test_names_that_hang_leave_the_threads_of_the_loop_alone(resolver, monkeypatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *_arguments, **_options: release.wait(10) and [])
    stuck = [asyncio.ensure_future(resolver.resolve(f"{number}.test")) for number in range(40)]  # noqa: TID251
    try:
        assert await asyncio.wait_for(asyncio.to_thread(threading.current_thread), 5) != threading.current_thread()
        assert not any(task.done() for task in stuck)
    finally:
        release.set()
        await asyncio.gather(*stuck)


async def test_closing_does_not_wait_for_a_name_server(monkeypatch) -> None:
    release = threading.Event()
    ended: list[bool] = []
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *_arguments, **_options: ended.append(release.wait(10)))
    resolver = Lookup()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.resolve("slow.test"), 0.02)
    await resolver.close()
    assert ended == []
    release.set()


@pytest.fixture
def silent(monkeypatch) -> Iterator[list[str]]:
    """Make every name but ``well.test`` wait for a name server that says nothing; gives the names that do."""
    asked: list[str] = []
    release = threading.Event()

    def look(host, *_arguments, **_options):
        if host != "well.test":
            asked.append(host)
            release.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(lookup.socket, "getaddrinfo", look)
    yield asked
    release.set()


def asking(resolver, caller: str, *hosts: str) -> list[asyncio.Task[object]]:
    async def one(host: str) -> object:
        CALLER.set(caller)
        return await resolver.resolve(host)

    return [asyncio.get_running_loop().create_task(one(host)) for host in hosts]


async def test_names_that_hang_take_one_callers_share(resolver, silent) -> None:
    """Three requests that name silent hosts kept all others from their images."""
    stuck = asking(resolver, "one", *[f"{number}.test" for number in range(200)])
    await soon(lambda: len(silent) == lookup._THREADS_EACH)
    [other] = asking(resolver, "other", "well.test")
    assert len(await other) == 1
    assert len(silent) == lookup._THREADS_EACH
    for task in stuck:
        task.cancel()


async def test_some_names_that_hang_leave_their_callers_other_requests_alone(resolver, silent) -> None:
    asking(resolver, "one", *[f"{number}.test" for number in range(3 * 4)])
    await soon(lambda: len(silent) == 12)
    [other] = asking(resolver, "one", "well.test")
    assert len(await other) == 1


async def test_a_look_up_takes_only_so_long_and_its_thread_counts_a_little_longer(
    resolver, silent, monkeypatch
) -> None:
    monkeypatch.setattr(lookup, "LOOKUP_TIMEOUT", 0.01)
    monkeypatch.setattr(lookup, "OVERDUE_AGE", 0.05)
    waiting = asking(resolver, "one", *[f"{number}.test" for number in range(lookup._THREADS_EACH + 1)])
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in answers} == {socket.gaierror}
    assert len(silent) == lookup._THREADS_EACH + 1, "the last one had a thread after all"
    assert resolver._threads == lookup._THREADS_EACH + 1


async def test_threads_that_never_end_are_bounded(resolver, silent, monkeypatch) -> None:
    monkeypatch.setattr(lookup, "LOOKUP_TIMEOUT", 0.01)
    monkeypatch.setattr(lookup, "OVERDUE_AGE", 0.0)
    monkeypatch.setattr(lookup, "_ALL_THREADS", 10)
    waiting = asking(resolver, "one", *[f"{number}.test" for number in range(40)])
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in answers} == {socket.gaierror}
    assert (len(silent), resolver._threads) == (10, 10)


async def test_a_look_up_without_a_thread_fails_and_leaves_its_place(resolver, monkeypatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2 * lookup._THREADS_EACH):
        with pytest.raises(socket.gaierror, match="no thread is free"):
            await resolver.resolve("well.test")
    assert resolver._threads == 0


async def test_a_thread_that_hangs_holds_up_no_exit(resolver, silent) -> None:
    [task] = asking(resolver, "one", "slow.test")
    await soon(lambda: silent)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "image-lookup")
    task.cancel()
