"""Nothing that a request made waits for the garbage collector: it would look late, and memory would grow until then.

An exception that somebody keeps holds the frames it came through, and those hold the exception. The garbage collector
is off here; what it would have found afterwards must not be ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest

from gemproxy.simulator import Answer, CutOff, Hang, Reset, Simulator, error_answer, frames_answer
from tests.apis.three_calls import THREE_CALLS
from tests.running import running
from tests.server.test_http import CHAT, HELLO
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # pauses between attempts are not what is looked at

FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
GOOD = frames_answer([FRAME, {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}]}])
ANSWERS = {
    "good": GOOD,
    "refused": error_answer(400, "no"),
    "overloaded": error_answer(503, "full"),
    "reset before headers": Answer().after(Reset()),
    "reset": frames_answer([FRAME]).then(Reset()),
    "cut off": frames_answer([FRAME]).then(CutOff()),
    "without a finish": frames_answer([FRAME]),
    "no JSON": Answer((b"data: {nonsense}\r\n\r\n",), content_type="text/event-stream"),
    "nothing": Answer((b"",), content_type="text/event-stream"),
}


@contextlib.contextmanager
def found_by_the_collector() -> Iterator[Counter[str]]:
    """Count, by type, what of the proxy's own only the collector could find."""
    found: Counter[str] = Counter()
    gc.freeze()  # what was there before is not looked at: not what ten thousand other tests hold, nor their garbage
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [type(thing) for thing in gc.garbage if type(thing).__module__.startswith("gemproxy.")]
        found.update(kind.__qualname__ for kind in ours if ".simulator" not in kind.__module__)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_answered_request_leaves_no_circle(simulator: Simulator, answer: Answer, stream: bool) -> None:
    simulator.script(answer, times=None)
    async with running(simulator) as server:
        with found_by_the_collector() as found:
            for _ in range(3):
                await server.post(CHAT, HELLO | {"stream": stream})
            await asyncio.sleep(0)
    assert not found


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_client_that_left_leaves_no_circle(simulator: Simulator, stream: bool) -> None:
    simulator.script(frames_answer([FRAME]).then(Hang()), times=None)
    async with running(simulator) as server:
        with found_by_the_collector() as found:
            for _ in range(3):
                with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                    async with asyncio.timeout(0.2):
                        await server.post(CHAT, HELLO | {"stream": stream})
            await soon(lambda: all(request.disconnected for request in simulator.generations))
    assert not found


SEVERAL = f"/thrice/{HELLO['model']}"


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_several_calls_leave_no_circle(simulator: Simulator, answer: Answer) -> None:
    simulator.script(answer, times=None)
    async with running(simulator, operations=(THREE_CALLS,)) as server:
        with found_by_the_collector() as found:
            for _ in range(3):
                await server.post(SEVERAL, b"Hello")
            await asyncio.sleep(0.05)
    assert not found


async def test_a_client_that_left_several_calls_leaves_no_circle(simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Hang()), times=None)
    async with running(simulator, operations=(THREE_CALLS,)) as server:
        with found_by_the_collector() as found:
            for _ in range(3):
                with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                    async with asyncio.timeout(0.2):
                        await server.post(SEVERAL, b"Hello")
            await soon(lambda: all(request.disconnected for request in simulator.generations))
            await asyncio.sleep(0.05)
    assert not found
