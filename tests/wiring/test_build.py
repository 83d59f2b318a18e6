"""The wiring's own: the clock that it takes, and the session that asks Google."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from email.utils import formatdate

import pytest

from gemproxy.config import load
from gemproxy.transport.connections import Connector
from gemproxy.transport.reaching import Lookout
from gemproxy.wiring import build
from gemproxy.wiring.build import _session, build_service


async def test_a_machine_that_slept_does_not_take_its_clock_for_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = {time.CLOCK_MONOTONIC: 0.0, time.CLOCK_BOOTTIME: 0.0}
    monkeypatch.setattr(time, "clock_gettime", slept.__getitem__)
    monkeypatch.setattr(build, "wall_clock", lambda: 2e9 + slept[time.CLOCK_BOOTTIME])
    async with AsyncExitStack() as stack:
        skew = (await build_service(load(None, {"GEMINI_API_KEY": "test-key-1"}), stack)).pool.lookout.skew
        skew.note({"Date": formatdate(2e9, usegmt=True)})
        slept[time.CLOCK_BOOTTIME] = 8 * 3600.0
        assert skew.words == ""


async def test_what_asks_google_keeps_clean_connections_only_and_unpacks_nothing() -> None:
    config, clock = load(None, {"GEMINI_API_KEY": "test-key-1"}), asyncio.get_running_loop().time
    async with _session(config, Lookout(clock, clock)) as session:
        assert isinstance(session.connector, Connector)
        assert session.auto_decompress is False
