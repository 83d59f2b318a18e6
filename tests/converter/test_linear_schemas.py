"""Schemas cost what is counted: twice the schema takes twice the time, and a step is a step whatever it is spent on.

Each is about as large as a schema may be: a square that does not show there shows nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from statistics import median
from typing import Any

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.schema import cache as schema
from gemproxy.converter.schema.clean import MAX_BYTES
from gemproxy.converter.schema.refs import Unusable
from gemproxy.load.effort import Effort, Exhausted
from tests.growth import REPEATS, TIMES, TRIES, Task, check_linear, seconds

STRING = {"type": "string"}
Shape = Callable[[int], dict[str, Any]]


def ref(name: object, **beside: Any) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}", **beside}


def web(size: int) -> dict[str, Any]:
    """Return definitions in rings of 10, each of which names all of its ring."""
    rings = range(0, size, 10)
    definitions = {
        f"{n}": {"properties": {f"{m}": ref(m) for m in range(at, at + 10)}} for at in rings for n in range(at, at + 10)
    }
    return {"properties": {f"{at}": ref(at) for at in rings}, "$defs": definitions}


def heirs(size: int) -> dict[str, Any]:
    """Return one schema of many bases, each on a circle of its own, and refs beside them that ask for these circles."""
    bases = {f"{n}": {"properties": {f"s{n}": ref(n)}} for n in range(size)}
    beside = {f"p{n}": ref(n) for n in range(size)}
    return {"properties": {"a": {"allOf": [ref(n) for n in range(size)], "properties": beside}}, "$defs": bases}


def aliases(size: int) -> dict[str, Any]:
    """Return many names of one target that itself names many."""
    names = ["".join(f"%{ord('A'):02X}" if n >> bit & 1 else "A" for bit in range(11)) for n in range(size // 7)]
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
    pytest.param(plain, 8_000, id="properties"),
    pytest.param(lambda n: {"properties": {f"{m}": True for m in range(n)}}, 16_000, id="properties of truths"),
    pytest.param(web, 320, id="a web of refs"),
    pytest.param(heirs, 1_500, id="circles inside of circles"),
    pytest.param(
        lambda n: {"properties": {"a": {"allOf": [{"properties": {f"{m}": STRING}} for m in range(n)]}}},
        5_000,
        id="allOf of many",
    ),
    pytest.param(lambda n: {"properties": {f"{m}": ref(m) for m in range(n)}}, 6_000, id="refs that lead nowhere"),
    pytest.param(lambda n: {"properties": {"a": {"$ref": "#/" + "%20" * n}}}, 60_000, id="a long pointer"),
    pytest.param(same_hash, 10_000, id="numbers of one hash"),
    pytest.param(lambda n: {"properties": {"a": {"enum": [0.5, *map(str, range(n))]}}}, 25_000, id="mixed values"),
    pytest.param(
        lambda n: {
            "properties": {f"{m}": ref("A", description="D") for m in range(n // 25)},
            "$defs": {"A": {"const": [[0] * n]}},
        },
        50_000,
        id="a large constant, named again and again",
    ),
    pytest.param(aliases, 4_000, id="many names of one target"),
]


def document(shape: Shape, size: int) -> bytes:
    raw = msgspec.json.encode({"type": "object", **shape(size)})
    assert len(raw) < MAX_BYTES
    return raw


def walk(raw: bytes) -> int:
    """Return the steps that a schema takes."""
    effort = Effort(10_000_000)
    with contextlib.suppress(Unusable):
        schema._tool(raw, effort)
    return effort.allowed - effort._left


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_a_schema_is_walked_in_linear_time(shape: Shape, size: int) -> None:
    def work(size: int) -> Task:
        raw = document(shape, size)
        steps.append(walk(raw))
        return lambda: walk(raw)

    steps: list[int] = []
    check_linear(work, size)
    little, much = steps
    assert much < 1.2 * TIMES * little


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_a_step_is_about_as_much_work_whatever_the_schema(shape: Shape, size: int) -> None:
    raw, usual = document(shape, size // 8), document(plain, 1_000)

    def dearness() -> float:
        costs = [(seconds(lambda: walk(raw)), seconds(lambda: walk(usual))) for _ in range(REPEATS)]
        return median(one for one, _ in costs) / walk(raw) * walk(usual) / median(other for _, other in costs)

    found = [dearness()]
    while found[-1] >= 3 and len(found) < TRIES:
        found.append(dearness())
    assert found[-1] < 3, found


def test_a_request_may_not_cost_more_than_its_nodes_in_all() -> None:
    raws = [msgspec.json.encode({"type": "object", "title": str(n), **web(40)}) for n in range(60)]
    effort, done = Effort(Options().max_schema_nodes // 10), 0  # a tenth, of schemas that are as much smaller
    with pytest.raises(Exhausted):
        for raw in raws:
            done += bool(schema._tool(raw, effort))
    assert 5 < done < 20
