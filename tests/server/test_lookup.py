"""Name resolution: what aiohttp gets, and whose threads it runs in."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from gemproxy.server import lookup
from gemproxy.server.lookup import Lookup


@pytest.fixture
async def resolver():
    found = Lookup()
    yield found
    await found.close()


async def test_a_name_resolves_to_its_addresses(resolver) -> None:
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
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *_arguments, **_options: release.wait(10) and [])
    resolver, loop = Lookup(), asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.resolve("slow.test"), 0.02)
    began = loop.time()
    await resolver.close()
    assert loop.time() - began < 5
    release.set()
