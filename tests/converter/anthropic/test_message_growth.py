"""What walks a request of Messages, or writes an answer to it, is linear in its size."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest

from gemproxy.converter.anthropic.heading import Heading
from gemproxy.converter.anthropic.operation import read
from gemproxy.converter.anthropic.stream import Opening, Stream
from gemproxy.converter.anthropic.whole import Whole
from gemproxy.converter.api import Known, Options, Received, Settled
from gemproxy.converter.bounds import Bounds
from gemproxy.converter.events import Annotation, Event, Finish, Text, Thought, ToolCall
from gemproxy.converter.gemini.signatures import SignatureCache, Signed
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import capabilities
from gemproxy.simulator.model import PIXEL
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import Token
from tests.growth import Task, Work, check_linear

OPTIONS = Options(bounds=Bounds(values=1 << 40, messages=1 << 40, parts=1 << 40, calls=1 << 40))
UPSTREAM = AiStudio("http://127.0.0.1", "test")
USER = {"role": "user", "content": "Hi"}
TEXT = {"type": "text", "text": "a"}


def asked(**fields: Any) -> Work:
    """Return the work of a request, each field of which is made for a size."""

    def work(size: int) -> Task:
        sent = {"model": "gemini-3.8-flash", "max_tokens": 9, "messages": [USER]}
        body = msgspec.json.encode(sent | {name: made(size) for name, made in fields.items()})
        cache = SignatureCache(lambda: 0.0).of("ci")
        cache.put("t1", Signed("c2ln", "ai_studio/gemini-3.8-flash", '{"a":1}'))

        def task() -> None:
            with suppress(ClientFault):
                request = read(Received(body, {}, "/v1/messages"), OPTIONS)
                known = Known("m1", 0, lambda: "x", signatures=cache, options=OPTIONS)
                model = capabilities(request.model)
                plan = request.plan(known, Settled(model, model.id, False, Effort(1 << 40)))
                UPSTREAM.ask(plan.calls[0], Token("test-key-1"), 0.0)

        return task

    return work


def calls(size: int) -> list[dict[str, Any]]:
    uses = [{"type": "tool_use", "id": f"t{n}", "name": "f", "input": {"a": 1}} for n in range(size)]
    results = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": [TEXT]} for n in reversed(range(size))]
    return [USER, {"role": "assistant", "content": uses}, {"role": "user", "content": results}]


def turns(size: int) -> list[dict[str, Any]]:
    return [USER, {"role": "system", "content": "a", "clear_at": "next_user_message"}] * size


def found(size: int) -> list[dict[str, Any]]:
    names = [{"type": "tool_reference", "tool_name": f"g{n}"} for n in range(size)]
    return [USER, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": names}]}]


def drawn(size: int) -> list[dict[str, Any]]:
    return [USER, {"role": "assistant", "content": f"![image](data:image/png;base64,{PIXEL}) " * size}]


def half_drawn(size: int) -> list[dict[str, Any]]:
    return [USER, {"role": "assistant", "content": "![image](data:image/png;base64,aaaa" * size}]


@pytest.mark.parametrize(
    ("work", "size"),
    [
        pytest.param(asked(messages=lambda n: [USER] * n), 4000, id="many messages"),
        pytest.param(asked(messages=lambda n: [{"role": "user", "content": [TEXT] * n}]), 4000, id="many blocks"),
        pytest.param(asked(messages=turns), 3000, id="many instructions for a turn"),
        pytest.param(asked(messages=calls), 2000, id="many calls, whose results come backwards"),
        pytest.param(asked(messages=found), 4000, id="many tools that were found"),
        pytest.param(asked(system=lambda n: [TEXT] * n), 4000, id="many system blocks"),
        pytest.param(asked(messages=lambda n: [{"role": "user", "content": "ü" * n}]), 500_000, id="a long text"),
        pytest.param(asked(messages=drawn), 2000, id="many images in what the model said"),
        pytest.param(asked(messages=half_drawn), 20_000, id="many beginnings of an image"),
        pytest.param(asked(messages=lambda n: [{"role": "x" * n}]), 500_000, id="a long role that is none"),
    ],
)
def test_a_request_is_walked_in_linear_time(work: Work, size: int) -> None:
    check_linear(work, size)


def told(stream: bool, *events: Event) -> Work:
    heading = Heading("m1", "g", lambda: "x", thinks=True, grounded=True)

    def work(size: int) -> Task:
        def task() -> None:
            writer = Stream(heading, Opening()) if stream else Whole(heading)
            for event in (*events[:-1] * size, events[-1], Finish(0, "stop")):
                writer.write(event)
            writer.finish()

        return task

    return work


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    "events",
    [
        pytest.param((Text(0, "word "), Annotation(0, 0, 5, "https://a.example/", "A")), id="many texts"),
        pytest.param((Thought(0, "hm "), Text(0, "a")), id="many thoughts"),
        pytest.param((ToolCall(0, "t1", "f", "{}", "c2ln"), Text(0, "a")), id="many calls"),
    ],
)
def test_an_answer_is_written_in_linear_time(stream: bool, events: tuple[Event, ...]) -> None:
    check_linear(told(stream, *events), 3000)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_many_sources_of_one_text(stream: bool) -> None:
    heading = Heading("m1", "g", lambda: "x", grounded=True)

    def work(size: int) -> Task:
        said = Text(0, "word " * size)
        each = [Annotation(0, n, 5 * size, f"https://a.example/{n}", "A") for n in range(size)]

        def task() -> None:
            writer = Stream(heading, Opening()) if stream else Whole(heading)
            for event in (said, *each, Finish(0, "stop")):
                writer.write(event)
            writer.finish()

        return task

    check_linear(work, 2000)
