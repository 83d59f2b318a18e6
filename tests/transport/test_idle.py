"""A wait that is too long ends; anything else goes on."""

from __future__ import annotations

import asyncio

import pytest

from gemproxy.transport.idle import IdleTimer
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time


async def test_long_wait_expires_once() -> None:
    ended: list[int] = []
    watch = IdleTimer(0.02, lambda: ended.append(1))
    watch.start()
    await soon(lambda: ended)
    await asyncio.sleep(0.05)
    assert (ended, watch.expired) == ([1], True)


async def test_short_waits_and_pauses_between_them_do_not_count() -> None:
    ended: list[int] = []
    watch = IdleTimer(0.5, lambda: ended.append(1))
    for _ in range(6):
        watch.start()
        await asyncio.sleep(0.1)
        watch.stop()
    await asyncio.sleep(0.6)
    assert (ended, watch.expired) == ([], False)
    watch.close()


async def test_closed_watch_watches_no_more() -> None:
    ended: list[int] = []
    watch = IdleTimer(0.01, lambda: ended.append(1))
    watch.start()
    watch.close()
    await asyncio.sleep(0.03)
    assert ended == []
