"""Several calls of one request: how many at once, in which order, and what becomes of the rest when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gemproxy.converter.api import Plan
from gemproxy.converter.transcript import Part, Usage
from gemproxy.dispatch.dispatcher import Dispatcher
from gemproxy.dispatch.fan_out import Gathered, fan_out
from gemproxy.errors import ClientFault, Failure, UpstreamFault
from gemproxy.load.budget import Hold
from gemproxy.load.burden import Burden
from gemproxy.upstream.dialect import Call
from gemproxy.wire.gemini import GenerateRequest
from tests.burdens import make_burden, make_load


class Answered:
    """An answer in two pieces, behind its first bytes."""

    credential, attempts, usage, reasons = "one", 1, Usage(prompt=1), ("stop",)

    def __init__(self, name: str, closed: list[str]) -> None:
        self.head = name.encode()
        self._left = [b"-", b"."]
        self._closed = closed

    async def pour(self, take: Callable[[bytes], object]) -> bool:
        take(self._left.pop(0))
        return not self._left

    def close(self) -> None:
        self._closed.append(self.head.decode())


class Dispatch:
    """Answers calls as the test says: after the turns of the loop in its model's name, or by a failure."""

    def __init__(self, **failing: Exception) -> None:
        self.failing = failing
        self.under_way = self.most = 0
        self.opened: list[tuple[str, float]] = []
        self.closed: list[str] = []
        self.cancelled: list[str] = []

    async def open(self, call: Call, listen: Callable[..., Any], burden: Burden, *, since: float) -> Answered:
        name, _, turns = call.model.partition("/")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.opened.append((name, since))
        try:
            for _ in range(int(turns or 0)):
                await asyncio.sleep(0)
            if name in self.failing:
                raise self.failing[name]
            return Answered(name, self.closed)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.under_way -= 1


async def fan(
    dispatch: Dispatch,
    *models: str,
    side_by_side: int = 2,
    burden: Burden | None = None,
    spares: Callable[[Failure], bool] = lambda failure: False,
) -> tuple[list[Part | Failure], Hold]:
    calls = [Call("generateContent", model, GenerateRequest()) for model in models]
    listen = cast("Any", lambda number, dialect: None)
    plan = Plan(calls, listen, lambda came: b"", side_by_side, spares)
    return await fan_out(cast("Dispatcher", dispatch), plan, burden or make_burden(), -7.0)


def bodies(came: list[Part | Failure]) -> list[bytes]:
    return [part.body if isinstance(part, Part) else part.message.encode() for part in came]


async def test_answers_come_in_the_order_of_the_calls_a_few_at_a_time() -> None:
    dispatch = Dispatch()
    parts, _ = await fan(dispatch, "a/9", "b/1", "c/4", "d")
    assert bodies(parts) == [b"a-.", b"b-.", b"c-.", b"d-."]
    assert dispatch.most == 2
    assert [since == -7.0 for _, since in dispatch.opened] == [True, True, False, False], "who waits has its own budget"
    assert sorted(dispatch.closed) == ["a", "b", "c", "d"]


async def test_what_is_kept_is_counted_until_it_is_given_back_or_a_call_fails() -> None:
    load = make_load()
    burden = load.burden("test")
    came, hold = await fan(Dispatch(), "a", "b", burden=burden)
    assert hold.size == len(b"a-.b-.")
    Gathered(came, b"", hold).close()
    assert hold.size == 0
    with pytest.raises(UpstreamFault):
        await fan(Dispatch(b=UpstreamFault("broken")), "a", "b/9", burden=burden)
    burden.close()
    assert load.budget.held == 0


async def test_the_first_failure_ends_the_others_and_is_the_requests() -> None:
    dispatch = Dispatch(b=UpstreamFault("broken"), c=ClientFault("later"))
    with pytest.raises(UpstreamFault, match="broken"):
        await fan(dispatch, "a/50", "b/2", "c/60", "d", side_by_side=3)
    assert sorted(dispatch.cancelled) == ["a", "c"]
    assert [name for name, _ in dispatch.opened] == ["a", "b", "c"], "the fourth was never asked"
    assert dispatch.under_way == 0


async def test_of_failures_in_one_turn_the_first_calls_is_told() -> None:
    with pytest.raises(UpstreamFault, match="first"):
        await fan(Dispatch(a=UpstreamFault("first"), b=UpstreamFault("second")), "a", "b")


async def test_a_failure_that_is_spared_stands_in_its_place() -> None:
    dispatch = Dispatch(b=ClientFault("blocked"))
    came, hold = await fan(dispatch, "a/3", "b", "c", spares=lambda failure: isinstance(failure, ClientFault))
    assert bodies(came) == [b"a-.", b"blocked", b"c-."]
    assert Gathered(came, b"", hold).attempts == 2
    with pytest.raises(UpstreamFault):
        await fan(Dispatch(b=UpstreamFault("broken")), "a/3", "b", spares=lambda failure: failure.status == 400)


async def test_a_plan_may_do_without_any_call() -> None:
    assert (await fan(Dispatch()))[0] == []


@pytest.mark.parametrize("count", [0, 2])
def test_several_calls_that_nobody_puts_together_are_a_bug(count: int) -> None:
    with pytest.raises(ValueError, match="gather"):
        Plan([Call("generateContent", "m", GenerateRequest())] * count, cast("Any", None))


async def test_whoever_leaves_ends_all() -> None:
    dispatch = Dispatch()
    asking = asyncio.get_running_loop().create_task(fan(dispatch, "a/900", "b/900"))
    for _ in range(5):
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (sorted(dispatch.cancelled), dispatch.under_way) == (["a", "b"], 0)


def test_the_whole_tells_of_its_parts() -> None:
    parts = [Part(b"", name, 2, Usage(prompt=3, cached=1), ("stop",)) for name in "abacde"]
    whole = Gathered(parts, b"all", make_burden().hold)
    assert (whole.whole(), whole.attempts, whole.credential) == (b"all", 12, "a,b,c,d")
    assert whole.usage == Usage(prompt=18, cached=6)
    assert whole.reasons == ["stop"] * 6
