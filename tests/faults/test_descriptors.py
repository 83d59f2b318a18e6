"""A process that may have few file descriptors serves as many as they carry, and says so; the others hear why."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from gemproxy import descriptors
from gemproxy.descriptors import NONE_LEFT
from gemproxy.dispatch.faults import _unreachable
from gemproxy.errors import Failure
from gemproxy.process.dismissal import FULL
from gemproxy.process.listener import Listener, Refusals
from gemproxy.simulator import Simulator, Wait, text_answer
from gemproxy.transport.reaching import why
from gemproxy.upstream.dialect import Action, Scope
from tests.faults.client import Got, ask, hello
from tests.server_process import ServerProcess, configured, serving
from tests.waiting import soon

PROGRAM = ("tests.faults.few_descriptors",)
KEY = ConnectionKey("host", 443, True, True, None, None, None)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_as_many_streams_are_served_as_descriptors_carry(simulator: Simulator, tmp_path: Path, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    toml = configured(simulator.ai_studio_url, server=f'loop = "{loop}"')
    async with serving(tmp_path, toml, program=PROGRAM, FEW_DESCRIPTORS="64") as server:
        line = await server.logged("server.max_connections = 10000 takes")
        carried = int(re.findall(r"the system allows 64 .* no more than (\d+) connections", line)[0])
        assert 10 <= carried <= 24
        told = await streams(simulator, server, 60)
        whole = [got for got in told if got.whole]
        assert len(whole) == carried, "as many as were promised"
        assert {got.status for got in told if not got.whole} == {503}
        assert all(b"LimitNOFILE" in got.body for got in told if not got.whole)
        for _ in range(20):  # it goes on, once it has heard that those clients are gone
            if all(got.whole for got in await streams(simulator, server, 5)):
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("it does not go on")
        assert len([line for line in server.log.splitlines() if "connections refused" in line]) <= 2
        assert " asyncio " not in server.log


async def streams(simulator: Simulator, server: ServerProcess, count: int) -> list[Got]:
    """Ask for so many streams at once, over new connections, which end when all that are refused have heard so."""
    gate, ended = asyncio.Event(), []
    simulator.clear()
    simulator.script(text_answer("at last").after(Wait(gate)), times=count)

    async def one() -> Got:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            got = await ask(session, server.url, hello(stream=True))
        ended.append(got)
        return got

    tasks = [asyncio.get_running_loop().create_task(one()) for _ in range(count)]
    await soon(lambda: len(ended) + len(simulator.generations) == count)
    gate.set()
    return await asyncio.gather(*tasks)


# ------------------------------------------------------------------------------------------------------- one listener


async def test_who_waits_while_descriptors_are_few_is_told_when_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of descriptors tell how many are in use; here all of them are too high, but for a moment only."""
    monkeypatch.setattr(descriptors, "allowed", lambda: 1)
    told: list[Failure | None] = []

    class Line(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    def make(refused: Failure | None) -> asyncio.Protocol:
        told.append(refused)
        return Line()

    with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as clients:
        listener = Listener(sock, make)
        listener.start(100)
        for _ in range(3):
            clients.enter_context(socket.create_connection(sock.getsockname()))
        await soon(lambda: told)
        assert told == [NONE_LEFT], "one, and then a pause"
        await soon(lambda: len(told) == 3)
        assert told == [NONE_LEFT] * 3
        await listener.settle()
        listener.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_socket_that_gives_nothing_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    made, faults = [], [OSError(number, "")] * 2
    monkeypatch.setattr("gemproxy.process.listener.SHORTAGE_PAUSE", 0.01)

    class Full(socket.socket):
        def accept(self):  # type: ignore[no-untyped-def]
            if faults:
                raise faults.pop()
            return super().accept()

    def make(refused: Failure | None) -> asyncio.Protocol:
        made.append(refused)
        return asyncio.Protocol()

    with Full() as sock:
        sock.bind(("127.0.0.1", 0))
        listener = Listener(sock, make)
        listener.start(100)
        with socket.create_connection(sock.getsockname()):
            await soon(lambda: made)
        assert (made, faults) == ([None], [])
        await listener.settle()
        listener.close()
    assert caplog.text.count("kept waiting") == 1


def test_refusals_take_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    refusals = Refusals()
    for number in range(500):
        refusals.count(FULL, 100.0 + number / 100)
    numbers = [int(line.message.split(": ")[1].split(".")[0]) for line in caplog.records]
    assert numbers == [1, 100, 100, 100, 100]
    assert "server.max_connections" in caplog.text


# -------------------------------------------------------------------------------------------------------- on the way


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_request_that_gets_no_descriptor_is_nobody_elses_fault(number: int) -> None:
    fault = aiohttp.ClientConnectorError(KEY, OSError(number, "Too many open files"))
    verdict = _unreachable(fault)
    assert (verdict.action, verdict.scope, verdict.status, verdict.code) == (Action.STOP, Scope.NONE, 503, "overloaded")
    assert "LimitNOFILE" in verdict.message
    assert why(fault) == NONE_LEFT.message
