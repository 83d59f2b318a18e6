"""What one request may cost, and how it hears that its client has left."""

from __future__ import annotations

import threading

import msgspec
import pytest

from gemproxy.converter.reading import decode
from gemproxy.converter.request import Options, to_call
from gemproxy.load.effort import Abandoned, Effort, Exhausted
from gemproxy.models import capabilities
from tests.chat_bodies import USER, function


def test_as_many_steps_as_are_allowed_may_be_taken() -> None:
    effort = Effort(10)
    effort.spend(7)
    effort.spend(3)
    effort.spend(0)
    with pytest.raises(Exhausted):
        effort.spend(1)


def test_who_is_revoked_hears_it_at_the_next_step_though_it_costs_nothing() -> None:
    effort = Effort(10)
    effort.revoke()
    with pytest.raises(Abandoned):
        effort.spend(0)


def test_another_thread_ends_the_work() -> None:
    effort, begun, ends = Effort(1 << 62), threading.Event(), []

    def work() -> None:
        try:
            while True:
                effort.spend(1)
                begun.set()
        except Abandoned as end:
            ends.append(end)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    effort.revoke()
    thread.join(10)
    assert len(ends) == 1


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
    effort = Effort(1_000)
    effort.revoke()
    with pytest.raises(Abandoned):
        to_call(request, capabilities(request.model), {}, None, Options(), False, effort)
