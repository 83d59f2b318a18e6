"""Schemas cost what is counted: twice the schema takes twice the time, and a step is a step whatever it is spent on.

The clock is that of this thread alone; the best of a few counts.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.schema import cache as schema
from gemproxy.converter.schema.clean import MAX_BYTES
from gemproxy.converter.schema.refs import Unusable
from gemproxy.load.effort import Effort, Exhausted

STRING = {"type": "string"}
Shape = Callable[[int], dict[str, Any]]


def ref(name: object, **beside: Any) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}", **beside}


def web(size: int) -> dict[str, Any]:
    """Return definitions in rings of 40, each of which names all of its ring."""
    rings = range(0, size, 40)
    definitions = {
        f"{n}": {"properties": {f"{m}": ref(m) for m in range(at, at + 40)}} for at in rings for n in range(at, at + 40)
    }
    return {"properties": {f"{at}": ref(at) for at in rings}, "$defs": definitions}


def heirs(size: int) -> dict[str, Any]:
    """Return one schema of many bases, each on a circle of its own, and refs beside them that ask for these circles."""
    bases = {f"{n}": {"properties": {f"s{n}": ref(n)}} for n in range(size)}
    beside = {f"p{n}": ref(n) for n in range(size)}
    return {"properties": {"a": {"allOf": [ref(n) for n in range(size)], "properties": beside}}, "$defs": bases}


def aliases(size: int) -> dict[str, Any]:
    """Return many names of one target that itself names many."""
    names = ["".join(f"%{ord('A'):02X}" if n >> bit & 1 else "A" for bit in range(11)) for n in range(600)]
    inside = {f"{n}": ref(names[0]) for n in range(size)}
    return {
        "properties": {f"p{n}": ref(name) for n, name in enumerate(names)},
        "$defs": {"A" * 11: {"anyOf": [STRING, {"properties": inside}]}},
    }


def same_hash(size: int) -> dict[str, Any]:
    """Return whole numbers that all have one hash."""
    numbers = ",".join(str(n * (2**61 - 1) + 7) for n in range(1, size))
    return {"properties": {"a": {"enum": msgspec.Raw(f"[{numbers}]".encode())}}}


def plain(size: int) -> dict[str, Any]:
    return {"properties": {f"{n}": STRING for n in range(size)}}


SHAPES: list[Any] = [
    pytest.param(plain, 2_000, 2, id="properties"),
    pytest.param(lambda n: {"properties": {f"{m}": True for m in range(n)}}, 4_000, 12, id="properties of truths"),
    pytest.param(web, 80, 3, id="a web of refs"),
    pytest.param(heirs, 500, 1, id="circles inside of circles"),
    pytest.param(
        lambda n: {"properties": {"a": {"allOf": [{"properties": {f"{m}": STRING}} for m in range(n)]}}},
        *(1_500, 2),
        id="allOf of many",
    ),
    pytest.param(lambda n: {"properties": {f"{m}": ref(m) for m in range(n)}}, 2_000, 2, id="refs that lead nowhere"),
    pytest.param(lambda n: {"properties": {"a": {"$ref": "#/" + "%20" * n}}}, 15_000, 6, id="a long pointer"),
    pytest.param(same_hash, 5_000, 8, id="numbers of one hash"),
    pytest.param(lambda n: {"properties": {"a": {"enum": [0.5, *map(str, range(n))]}}}, 5_000, 10, id="mixed values"),
    pytest.param(
        lambda n: {
            "properties": {f"{m}": ref("A", description="D") for m in range(n // 25)},
            "$defs": {"A": {"const": [[0] * n]}},
        },
        *(20_000, 2),
        id="a large constant, named again and again",
    ),
    pytest.param(aliases, 2_000, 1, id="many names of one target"),
]


def document(shape: Shape, size: int) -> bytes:
    raw = msgspec.json.encode({"type": "object", **shape(size)})
    assert len(raw) < MAX_BYTES
    return raw


def cost(raw: bytes, times: int) -> tuple[float, int]:
    """Return the seconds of this thread, and the steps, that a schema takes so many times."""
    gc.collect()
    gc.disable()  # how often it looks around does not grow evenly
    try:
        effort, started = Effort(10_000_000), time.thread_time()
        for _ in range(times):
            with contextlib.suppress(Unusable):
                schema._tool(raw, effort)
        return time.thread_time() - started, effort.allowed - effort._left
    finally:
        gc.enable()


@pytest.mark.parametrize(("shape", "size", "times"), SHAPES)
def test_twice_the_schema_takes_twice_the_time(shape: Shape, size: int, times: int) -> None:
    small, large = document(shape, size), document(shape, 2 * size)
    once, twice = cost(small, times), cost(large, times)
    assert twice[1] < 2.3 * once[1]
    for _ in range(5):  # others want the machine, too: the best ones count
        if twice[0] < 2.3 * once[0]:
            return
        once, twice = min(once, cost(small, times)), min(twice, cost(large, times))
    assert twice[0] < 2.3 * once[0]


@pytest.mark.parametrize(("shape", "size", "times"), SHAPES)
def test_a_step_is_about_as_much_work_whatever_the_schema(shape: Shape, size: int, times: int) -> None:
    raw, usual = document(shape, size), document(plain, 2_000)
    pairs = [(cost(raw, times), cost(usual, 2)) for _ in range(3)]
    assert min(seconds / steps for (seconds, steps), _ in pairs) < 3 * min(
        seconds / steps for _, (seconds, steps) in pairs
    )


def test_a_request_may_not_cost_more_than_its_nodes_in_all() -> None:
    raws = [msgspec.json.encode({"type": "object", "title": str(n), **web(80)}) for n in range(60)]
    effort, done = Effort(Options().max_schema_nodes), 0
    with pytest.raises(Exhausted):
        for raw in raws:
            done += bool(schema._tool(raw, effort))
    assert 5 < done < 20
