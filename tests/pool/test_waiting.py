"""The queue in front of a full pool: in order, bounded, never stuck."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gemproxy.errors import NoCredential
from gemproxy.pool.rest import Policy
from gemproxy.pool.rotator import Rotator
from gemproxy.pool.slot import Slot
from gemproxy.pool.waiting import WaitingRoom
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.demand import Demand
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from gemproxy.wire.gemini import Empty, GenerateRequest, ToolSpec


def room(clock: Any, slots: int = 1, limit: float = 5.0) -> WaitingRoom:
    pool = [Slot(name=f"s{n}", dialect="ai_studio") for n in range(slots)]
    return WaitingRoom(Rotator(pool, Policy(max_in_flight=1), clock), limit)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_free_credential_needs_no_waiting(clock: Any) -> None:
    lease = await room(clock).acquire("m", (), None)
    assert lease.slot.name == "s0"


async def test_those_who_wait_are_served_in_order(clock: Any) -> None:
    waiting = room(clock)
    order: list[int] = []

    async def request(number: int) -> None:
        lease = await waiting.acquire("m", (), None)
        order.append(number)
        await asyncio.sleep(0)
        waiting.report(lease, OK)

    await asyncio.wait_for(asyncio.gather(*(request(number) for number in range(20))), 5)
    assert order == list(range(20))


async def test_two_models_share_the_places_that_come_free(clock: Any) -> None:
    waiting = room(clock, slots=2)
    served = []

    async def request(model: str) -> None:
        lease = await waiting.acquire(model, (), None)
        served.append(model)
        await asyncio.sleep(0)
        waiting.report(lease, OK)

    await asyncio.wait_for(asyncio.gather(*(request("mn"[number % 2]) for number in range(20))), 5)
    assert len(served) == 20


async def test_waiting_ends_with_429_that_names_the_setting(clock: Any) -> None:
    waiting = room(clock, limit=0.01)
    await waiting.acquire("m", (), None)
    with pytest.raises(NoCredential, match=r"timeouts\.queue") as caught:
        await waiting.acquire("m", (), None)
    assert (caught.value.status, caught.value.retry_after) == (429, 1.0)


async def test_limit_zero_means_that_nobody_waits(clock: Any) -> None:
    waiting = room(clock, limit=0)
    await waiting.acquire("m", (), None)
    with pytest.raises(NoCredential) as caught:
        await waiting.acquire("m", (), None)
    assert caught.value.full


async def test_rest_that_ends_serves_those_who_wait(clock: Any) -> None:
    waiting = room(clock, slots=2)
    lease = await waiting.acquire("m", (), None)
    waiting.report(lease, Verdict(Action.NEXT, Scope.MODEL, clock() + 0.05, "quota", status=429))
    await waiting.acquire("m", (), None)
    others = [asyncio.get_running_loop().create_task(waiting.acquire("m", (), None)) for _ in range(2)]
    await settle()
    clock.advance(1)
    done, _ = await asyncio.wait(others, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result().slot.name for task in done] == ["s0"]
    assert others[0] in done
    others[1].cancel()


async def test_change_of_the_pool_serves_those_who_wait(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemproxy.pool.rotator.BUSY_WAIT", 0.02)
    waiting = room(clock)
    await waiting.acquire("m", (), None)
    second = asyncio.get_running_loop().create_task(waiting.acquire("m", (), None))
    await settle()
    waiting.rotator.replace([Slot("new", dialect="ai_studio")])
    assert (await asyncio.wait_for(second, 1)).slot.name == "new"


async def test_resting_pool_is_told_at_once(clock: Any) -> None:
    waiting = room(clock)
    lease = await waiting.acquire("m", (), None)
    waiting.report(lease, Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429))
    with pytest.raises(NoCredential) as caught:
        await asyncio.wait_for(waiting.acquire("m", (), None), 1)
    assert caught.value.returns_in == 60


async def test_those_who_wait_hear_when_the_pool_begins_to_rest(clock: Any) -> None:
    waiting = room(clock)
    lease = await waiting.acquire("m", (), None)
    second = asyncio.get_running_loop().create_task(waiting.acquire("m", (), None))
    await settle()
    waiting.report(lease, Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429))
    with pytest.raises(NoCredential) as caught:
        await asyncio.wait_for(second, 1)
    assert caught.value.returns_in == 60


async def test_one_who_leaves_the_queue_does_not_hold_it_up(clock: Any) -> None:
    waiting = room(clock)
    lease = await waiting.acquire("m", (), None)
    loop = asyncio.get_running_loop()
    gone, stays = (loop.create_task(waiting.acquire("m", (), None)) for _ in range(2))
    await settle()
    gone.cancel()
    await settle()
    waiting.report(lease, None)
    assert (await asyncio.wait_for(stays, 1)).slot.name == "s0"


async def test_passed_probe_lets_the_others_in(clock: Any) -> None:
    waiting = WaitingRoom(Rotator([Slot(name="s")], Policy(), clock), 5.0)
    first = await waiting.acquire("m", (), None)
    waiting.report(first, Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429))
    clock.advance(61)
    probe = await waiting.acquire("m", (), None)
    assert probe.probe
    others = [asyncio.get_running_loop().create_task(waiting.acquire("m", (), None)) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in others)
    waiting.confirm(probe)
    assert len(await asyncio.wait_for(asyncio.gather(*others), 1)) == 3


async def test_requests_that_wait_for_a_probe_of_their_kind_hold_up_no_others(clock: Any) -> None:
    waiting = WaitingRoom(Rotator([Slot(name="s")], Policy(), clock), 5.0)
    searching = Demand(GenerateRequest(tools=[ToolSpec(google_search=Empty())]))
    refused = Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429, kind=searching.kind(Cause.FEATURE))
    waiting.report(await waiting.acquire("m", (), None, searching), refused)
    clock.advance(61)
    probe = await waiting.acquire("m", (), None, searching)
    held = asyncio.get_running_loop().create_task(waiting.acquire("m", (), None, searching))
    await settle()
    assert (await asyncio.wait_for(waiting.acquire("m", (), None), 1)).slot.name == "s"
    assert not held.done()
    waiting.report(probe, OK)
    assert (await asyncio.wait_for(held, 1)).slot.name == "s"
    assert not waiting._lines
