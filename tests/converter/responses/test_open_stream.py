"""What an open stream of Responses keeps of its request: what its end repeats, once, and not the body."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import msgspec

from gemproxy.converter.api import Known, Options, Received, Settled
from gemproxy.converter.responses.operation import read
from gemproxy.load.effort import Effort
from gemproxy.models import capabilities
from gemproxy.upstream.ai_studio import AiStudio

MODEL = "gemini-3.5-flash"
LONG = 80_000
STREAMS = 20
FRAME = b'data: {"candidates":[{"content":{"parts":[{"text":"Hello"}]}}]}\r\n\r\n'


def body(number: int, **more: object) -> bytes:
    tool = {"type": "function", "name": "f", "description": "x" * LONG, "parameters": {"type": "object"}}
    return msgspec.json.encode({"model": MODEL, "input": f"Hello {number}", "tools": [tool], "stream": True, **more})


def opened(number: int) -> object:
    """Return what lasts of a stream that has begun, as the server holds it."""
    asked = read(Received(body(number), {}, "/v1/responses"), Options())
    known = Known(f"r{number}", 1_800_000_000, lambda: "x")
    form = asked.format(True, known)
    plan = asked.plan(known, Settled(capabilities(MODEL), MODEL, True, Effort(1 << 20)))
    transcoder = plan.listen(0, AiStudio("http://127.0.0.1:1/v1beta", "test"))
    assert transcoder.feed(FRAME)
    return transcoder, form, plan.keep, plan.held


def kept(make: Callable[[int], object]) -> float:
    """Return the bytes that each of many keeps."""
    make(0)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = [make(number) for number in range(STREAMS)]
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / len(held)
    finally:
        tracemalloc.stop()


def test_an_open_stream_keeps_the_echo_once_and_no_body() -> None:
    assert LONG < kept(opened) < 1.1 * LONG


def test_an_input_that_is_most_of_the_body_is_not_copied() -> None:
    asked = read(Received(body(1, input="y" * 2 * LONG), {}, "/v1/responses"), Options())
    plan = asked.plan(Known("r1", 1, lambda: "x"), Settled(capabilities(MODEL), MODEL, True, Effort(1 << 20)))
    assert plan.held > 3 * LONG
    small = read(Received(body(1), {}, "/v1/responses"), Options())
    plan = small.plan(Known("r1", 1, lambda: "x"), Settled(capabilities(MODEL), MODEL, True, Effort(1 << 20)))
    assert plan.held < 100
