"""Whatever stands in the place of a value: the request is refused, naming it, or what goes out is Gemini's form."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gemproxy.errors import ClientFault
from tests.converter.anthropic.asking_messages import PLAIN, body_of, plan_of
from tests.fields_page import rows_of
from tests.gemini_schema import check_body

WRONG: list[Any] = [None, True, 1, -1, 1.5, 10**30, "x", "", [], {}, [1], [{"type": "text", "text": "a"}], {"a": [{}]}]
EACH = 1  # one in so many: all of them take half a minute, and are alike


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything within a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inside:
        yield (*above, key)
        yield from places(held, (*above, key))


def with_wrong(sent: dict[str, Any], place: tuple[Any, ...], wrong: Any) -> dict[str, Any]:
    made: Any = copy.deepcopy(sent)
    within = made
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = wrong
    found: dict[str, Any] = made
    return found


def changed() -> Iterator[dict[str, Any]]:
    for row in rows_of("fields-anthropic.md"):
        sent = PLAIN | row.example
        for place in places(sent):
            yield from (with_wrong(sent, place, wrong) for wrong in WRONG)


def test_nothing_that_is_wrong_breaks_anything() -> None:
    counts: Counter[str] = Counter()
    wrong: list[Any] = []
    for sent in changed():
        try:
            plan = plan_of(sent)
        except ClientFault as fault:
            counts["refused"] += 1
            problem = None if fault.param and fault.status in (400, 404) else fault.message
        else:
            counts["asked"] += 1
            problem = check_body(body_of(sent)) if plan.calls else None
        wrong += [(sent, problem)] if problem else []
    assert wrong == []
    assert min(counts["refused"], counts["asked"]) > 2_000
