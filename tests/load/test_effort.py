"""What one request may cost, and how it hears that its client has left."""

from __future__ import annotations

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import to_call
from gemproxy.load.effort import Effort, Elsewhere, Exhausted
from gemproxy.load.turns import Abandoned
from gemproxy.models import capabilities
from tests.burdens import client_left
from tests.chat_bodies import USER, function


def test_as_many_steps_as_are_allowed_may_be_taken() -> None:
    effort = Effort(10)
    effort.spend(7)
    effort.spend(3)
    effort.spend(0)
    with pytest.raises(Exhausted):
        effort.spend(1)


def test_more_than_may_be_done_here_is_to_be_begun_elsewhere() -> None:
    effort = Effort(10, here=3)
    effort.spend(3)
    with pytest.raises(Elsewhere):
        effort.spend(1)


def test_the_end_is_heard_at_the_next_step_though_it_costs_nothing() -> None:
    effort = Effort(10)
    with client_left(), pytest.raises(Abandoned):
        effort.spend(0)
    effort.spend(0)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"tools": [function("f", {"properties": {"abandoned": {}}})]}, id="tools"),
        pytest.param(
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "r", "schema": {"title": "abandoned"}},
                }
            },
            id="the schema of an answer",
        ),
    ],
)
def test_nobody_takes_the_end_of_an_abandoned_conversion_for_a_fault(fields: dict[str, object]) -> None:
    request = decode(msgspec.json.encode({"model": "gemini-3.8-flash", "messages": USER, **fields}))
    with client_left(), pytest.raises(Abandoned):
        to_call(request, capabilities(request.model), {}, None, Options(), False, Effort(1_000))
