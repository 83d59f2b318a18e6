"""Turns: one at a time for each key, whoever comes and goes meanwhile, and nothing is left of them."""

from __future__ import annotations

import asyncio

import pytest

from gemproxy.server.turns import Turns
from gemproxy.tasks import spawn


async def test_a_turn_is_one_s_alone_until_it_is_given_back() -> None:
    turns, told = Turns(), []

    async def one(name: str, key: str) -> None:
        give_back = await turns.take(key)
        told.append(f"{name} begins")
        await asyncio.sleep(0)
        told.append(f"{name} ends")
        give_back()

    await asyncio.gather(one("first", "a"), one("second", "a"), one("other", "b"))
    assert told.index("second begins") > told.index("first ends")
    assert told.index("other begins") < told.index("first ends")
    assert not turns


async def test_who_leaves_while_waiting_leaves_nothing() -> None:
    turns = Turns()
    give_back = await turns.take("a")
    waiting = spawn(turns.take("a"), name="waiting")
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(turns) == 1
    give_back()
    assert not turns
