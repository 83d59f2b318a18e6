"""The queue in front of a full pool: in order, bounded, never stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gemproxy.errors import NoCredential
from gemproxy.pool.cooldown import Policy
from gemproxy.pool.queue import Queue
from gemproxy.pool.rotator import Rotator
from gemproxy.pool.slot import Lease, Slot
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.demand import PLAIN_DEMAND, Demand
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from gemproxy.wire.gemini import Empty, GenerateRequest, ToolSpec
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time


def queue(clock: Any, slots: int = 1, limit: float = 5.0) -> Queue:
    queue = [Slot(name=f"s{n}", dialect="ai_studio") for n in range(slots)]
    return Queue(Rotator(queue, Policy(max_in_flight=1), clock), limit)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_free_credential_needs_no_waiting(clock: Any) -> None:
    lease = await queue(clock).acquire("m", (), None)
    assert lease.slot.name == "s0"


async def test_those_who_wait_are_served_in_order(clock: Any) -> None:
    waiting = queue(clock)
    order: list[int] = []

    async def request(number: int) -> None:
        lease = await waiting.acquire("m", (), None)
        order.append(number)
        await asyncio.sleep(0)
        waiting.report(lease, OK)

    await asyncio.wait_for(asyncio.gather(*(request(number) for number in range(20))), 5)
    assert order == list(range(20))


async def test_two_models_share_the_places_that_come_free(clock: Any) -> None:
    waiting = queue(clock, slots=2)
    served = []

    async def request(model: str) -> None:
        lease = await waiting.acquire(model, (), None)
        served.append(model)
        await asyncio.sleep(0)
        waiting.report(lease, OK)

    await asyncio.wait_for(asyncio.gather(*(request("mn"[number % 2]) for number in range(20))), 5)
    assert len(served) == 20


async def test_waiting_ends_with_429_that_names_the_setting(clock: Any) -> None:
    waiting = queue(clock, limit=0.01)
    await waiting.acquire("m", (), None)
    with pytest.raises(NoCredential, match=r"timeouts\.queue") as caught:
        await waiting.acquire("m", (), None)
    assert (caught.value.status, caught.value.retry_after) == (429, 1.0)


async def test_limit_zero_means_that_nobody_waits(clock: Any) -> None:
    waiting = queue(clock, limit=0)
    await waiting.acquire("m", (), None)
    with pytest.raises(NoCredential) as caught:
        await waiting.acquire("m", (), None)
    assert caught.value.full


async def test_rest_that_ends_serves_those_who_wait(clock: Any) -> None:
    waiting = queue(clock, slots=2)
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


async def test_who_does_not_wait_gets_what_those_in_line_leave(clock: Any) -> None:
    waiting = queue(clock, slots=2)
    lease = await waiting.acquire("m", (), None)
    waiting.report(lease, Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429))
    await waiting.acquire("m", (), None)
    first = asyncio.get_running_loop().create_task(waiting.acquire("m", (), None))
    await settle()
    clock.advance(61)
    with pytest.raises(NoCredential):
        waiting.at_once("m", ())
    assert (await asyncio.wait_for(first, 1)).slot.name == "s0"


async def test_change_of_the_pool_serves_those_who_wait(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemproxy.pool.rotator.BUSY_WAIT", 0.02)
    waiting = queue(clock)
    await waiting.acquire("m", (), None)
    second = asyncio.get_running_loop().create_task(waiting.acquire("m", (), None))
    await settle()
    waiting.rotator.replace([Slot("new", dialect="ai_studio")])
    assert (await asyncio.wait_for(second, 1)).slot.name == "new"


async def test_who_waits_is_looked_at_again_until_something_is_free(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("rotator", "queue"):
        monkeypatch.setattr(f"gemproxy.pool.{module}.BUSY_WAIT", 0.001)
    waiting = queue(clock)
    await waiting.acquire("m", (), None)
    looks = 0

    def count() -> None:
        nonlocal looks
        looks += 1

    acquire = waiting.rotator.acquire
    monkeypatch.setattr(waiting.rotator, "acquire", lambda *asked: count() or acquire(*asked))
    second = asyncio.get_running_loop().create_task(waiting.acquire("m", (), None))
    await soon(lambda: looks > 3)
    waiting.rotator.replace([Slot("new", dialect="ai_studio")])
    assert (await asyncio.wait_for(second, 5)).slot.name == "new"


async def test_resting_pool_is_told_at_once(clock: Any) -> None:
    waiting = queue(clock)
    lease = await waiting.acquire("m", (), None)
    waiting.report(lease, Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429))
    with pytest.raises(NoCredential) as caught:
        await asyncio.wait_for(waiting.acquire("m", (), None), 1)
    assert caught.value.returns_in == 60


async def test_those_who_wait_hear_when_the_pool_begins_to_rest(clock: Any) -> None:
    waiting = queue(clock)
    lease = await waiting.acquire("m", (), None)
    second = asyncio.get_running_loop().create_task(waiting.acquire("m", (), None))
    await settle()
    waiting.report(lease, Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429))
    with pytest.raises(NoCredential) as caught:
        await asyncio.wait_for(second, 1)
    assert caught.value.returns_in == 60


async def test_one_who_leaves_the_queue_does_not_hold_it_up(clock: Any) -> None:
    waiting = queue(clock)
    lease = await waiting.acquire("m", (), None)
    loop = asyncio.get_running_loop()
    gone, stays = (loop.create_task(waiting.acquire("m", (), None)) for _ in range(2))
    await settle()
    gone.cancel()
    await settle()
    waiting.report(lease, None)
    assert (await asyncio.wait_for(stays, 1)).slot.name == "s0"


async def test_passed_probe_lets_the_others_in(clock: Any) -> None:
    waiting = Queue(Rotator([Slot(name="s")], Policy(), clock), 5.0)
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
    waiting = Queue(Rotator([Slot(name="s")], Policy(), clock), 5.0)
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


def begun(*acquiring: Coroutine[Any, Any, Lease]) -> list[asyncio.Task[Lease]]:
    return [asyncio.get_running_loop().create_task(each) for each in acquiring]


async def test_who_has_tried_what_is_free_holds_up_nobody(clock: Any) -> None:
    waiting = queue(clock, slots=2)
    free, held = [await waiting.acquire("m", (), None) for _ in range(2)]
    (picky,) = begun(waiting.acquire("m", {free.slot.name}, None))
    await settle()
    waiting.report(free, OK)
    (fresh,) = begun(waiting.acquire("m", (), None))
    await settle()
    assert fresh.result().slot is free.slot
    assert not picky.done()
    waiting.report(held, OK)
    await settle()
    assert picky.result().slot is held.slot


async def test_who_waits_for_one_upstream_holds_up_none_that_wait_for_another(clock: Any) -> None:
    queue = [Slot(name="s0", dialect="ai_studio"), Slot(name="s1", dialect="vertex")]
    waiting = Queue(Rotator(queue, Policy(max_in_flight=1), clock), 5.0)
    leases = [await waiting.acquire("m", (), None) for _ in queue]
    vertex, any_of_them = begun(waiting.acquire("m", (), ["vertex"]), waiting.acquire("m", (), None))
    await settle()
    waiting.report(leases[0], OK)
    await settle()
    assert any_of_them.result().slot.name == "s0"
    assert not vertex.done()
    waiting.report(leases[1], OK)
    await settle()
    assert vertex.result().slot.name == "s1"


async def test_of_all_who_could_take_a_place_the_one_who_waits_longest_gets_it(clock: Any) -> None:
    waiting = queue(clock, slots=3)
    leases = [await waiting.acquire("m", (), None) for _ in range(3)]
    asked = [("m", {"s1"}), ("m", set()), ("n", set()), ("m", {"s1", "s2"}), ("m", {"s1"})]
    waiters = begun(*(waiting.acquire(model, tried, None) for model, tried in asked))
    await settle()
    order = []
    for _ in asked:
        waiting.report(leases[0], OK)  # s0, which all of them may take
        (first,) = begun(waiting.acquire("m", (), None))  # who comes now overtakes nobody
        await settle()
        (got,) = [task for task in waiters if task.done() and task not in order]
        order.append(got)
        leases[0] = got.result()
        first.cancel()
    assert order == waiters


async def test_a_kind_that_begins_to_rest_holds_up_no_others_that_came_after_it(clock: Any) -> None:
    searching = Demand(GenerateRequest(tools=[ToolSpec(google_search=Empty())]))
    waiting = queue(clock, slots=2)
    first = await waiting.acquire("m", (), None, searching)
    await waiting.acquire("m", (), None)
    held, plain, later = begun(
        *(waiting.acquire("m", (), None, demand) for demand in (searching, PLAIN_DEMAND, searching))
    )
    await settle()
    refused = Verdict(Action.NEXT, Scope.MODEL, clock() + 60, "quota", status=429, kind=searching.kind(Cause.FEATURE))
    waiting.report(first, refused)
    await settle()
    assert plain.result().slot is first.slot
    assert not held.done()
    assert [waiter.number for line in waiting._lines.values() for waiter in line] == [1, 3]
    waiting.rotator.replace([Slot(name="s2"), Slot(name="s3")], Policy())
    assert [lease.slot.name for lease in await asyncio.wait_for(asyncio.gather(held, later), 2)] == ["s2", "s3"]
    assert not waiting._lines


async def test_a_place_given_to_one_who_leaves_in_that_moment_goes_to_the_next(clock: Any) -> None:
    waiting = queue(clock)
    lease = await waiting.acquire("m", (), None)
    gone, stays = begun(*(waiting.acquire("m", (), None) for _ in range(2)))
    await settle()
    waiting.report(lease, OK)
    gone.cancel()
    assert (await asyncio.wait_for(stays, 1)).slot.name == "s0"
    assert gone.cancelled()
    assert not waiting._lines
