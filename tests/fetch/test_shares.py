"""Places that callers share: what one of them wants keeps nobody else waiting."""

from __future__ import annotations

import asyncio

from gemproxy.fetch.shares import Shares


async def takers(shares: Shares, *callers: str) -> list[asyncio.Task[None]]:
    """Let each take a place, and give it a moment to get one."""
    tasks = [asyncio.get_running_loop().create_task(shares.take(caller)) for caller in callers]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def had(tasks: list[asyncio.Task[None]]) -> list[bool]:
    return [task.done() and not task.cancelled() for task in tasks]


async def test_one_caller_gets_no_more_than_its_share() -> None:
    shares = Shares(4, 2)
    assert had(await takers(shares, "a", "a", "a", "b", "b", "c")) == [True, True, False, True, True, False]


async def test_a_place_that_is_given_back_goes_to_who_holds_the_fewest() -> None:
    shares = Shares(3, 2)
    await takers(shares, "a", "a", "b")
    waiting = await takers(shares, "a", "b", "c")
    shares.give("a")
    await asyncio.sleep(0)
    assert had(waiting) == [False, False, True]
    shares.give("c")
    await asyncio.sleep(0)
    assert had(waiting) == [True, False, True], "of those that hold the same, who came first"


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    shares = Shares(1, 1)
    await shares.take("a")
    gone, stays = await takers(shares, "b", "c")
    gone.cancel()
    await asyncio.sleep(0)
    shares.give("a")
    await stays
    shares.give("c")
    assert (shares._free, dict(shares._held), shares._waiting) == (1, {}, {})


async def test_a_place_handed_to_who_leaves_at_that_moment_is_not_lost() -> None:
    shares = Shares(1, 1)
    await shares.take("a")
    gone, stays = await takers(shares, "b", "c")
    shares.give("a")  # to b, which does not know yet
    gone.cancel()
    await stays
    shares.give("c")
    assert (shares._free, dict(shares._held), shares._waiting) == (1, {}, {})
