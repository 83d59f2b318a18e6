"""A look at everything that gemproxy sent to Google in a test: each body must be one that Google describes.

A plugin of the tests (``pytest_plugins`` in conftest), so that no test has to remember it. It looks at the requests of
the ``simulator`` fixture when the test is over; those that a test sent there itself are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from tests.gemini_schema import check_body


def problems(requests: Iterable[Any]) -> list[str]:
    """Return what is wrong with the bodies that gemproxy sent among these requests, a sentence a place."""
    found = []
    for request in requests:
        if request.headers.get("User-Agent", "").startswith("gemproxy/"):
            found += [f"{request.upstream} {request.model}: {problem}" for problem in check_body(_body(request))]
    return found


def _body(request: Any) -> dict[str, Any]:
    body = msgspec.json.decode(request.body)
    return body["request"] if request.upstream == "code_assist" else body


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have ``outgoing`` stand around each test with a simulator, and cost no other test anything."""
    names = getattr(item, "fixturenames", [])
    if "simulator" in names and "outgoing" not in names:
        names.insert(0, "outgoing")


@pytest.fixture
def outgoing(simulator: Any) -> Iterator[None]:
    """Fail a test in which something else than a Gemini request went out."""
    yield
    assert problems(simulator.generations) == []
