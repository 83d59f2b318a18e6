"""Random valid requests: no one of them is a fault of ours, and none leaves a body that Google would not take.

By OpenAI's schema nearly everything is allowed, so much of it must be refused: always with 400 and by the name of the
field. Conversations that hang together must be taken, whatever the upstream, and the strict simulated Gemini (its
``law``) must find nothing wrong. ``EXAMPLES=5000 pytest tests/test_request_property.py`` looks longer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gemproxy.converter.api import Options
from gemproxy.converter.chat.media import remote_images
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import Conversion, to_call
from gemproxy.errors import ClientFault
from gemproxy.models import Catalogue
from gemproxy.simulator import Simulator
from gemproxy.simulator.google import Google
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import HttpRequest, Token
from gemproxy.upstream.vertex import Vertex
from gemproxy.wire.gemini import Blob
from tests.examples import draws
from tests.gemini_schema import check_body
from tests.outgoing import problems
from tests.random_requests import MODELS, by_schema, conversations
from tests.running import configuration, running
from tests.simulator.asking import google, refused, request

CATALOGUE = Catalogue()
AGENT = "gemproxy/test"
HOST = "http://127.0.0.1:9"
UPSTREAMS = [
    AiStudio(f"{HOST}/v1beta", AGENT),
    CodeAssist(f"{HOST}/v1internal", AGENT),
    Vertex(f"{HOST}/vertex/v1", AGENT),
]
often = draws(25)
seldom = draws(8, share=10)

RANDOM = st.deferred(lambda: by_schema())  # not before it is drawn from


def planned(sent: dict[str, Any]) -> Conversion | ClientFault:
    """Return what the converter makes of a request; anything but a plan or the caller's fault is ours."""
    try:
        read = decode(msgspec.json.encode(sent))
        images = {image.url: Blob("image/png", "iVBORw0KGgoAAAANSUhEUg==") for image in remote_images(read)}
        return to_call(read, CATALOGUE.lookup(read.model), images, None, Options(), stream=bool(read.stream))
    except ClientFault as fault:
        return fault


def asked(plan: Conversion) -> Iterator[tuple[str, HttpRequest, Google]]:
    """Return what each upstream would be sent, and a simulated Google that knows the credential."""
    target = google()
    target.accept_any_signature = True
    target.allow_models = set(MODELS)
    robot = target.accounts.grant("fake-robot", service=False)
    assert robot is not None
    token = Token(target.accounts.issue(robot), robot.project)
    for upstream in UPSTREAMS:
        yield upstream.name, upstream.ask(plan.call, token, 0.0), target


def described(upstream: str, sent: HttpRequest) -> list[str]:
    body = msgspec.json.decode(sent.body)
    return check_body(body["request"] if upstream == "code_assist" else body)


def lawful(target: Google, sent: HttpRequest) -> str:
    """Return what the simulated Google objects to; "" if nothing."""
    headers = sent.headers
    if "x-goog-api-key" in headers:
        headers = headers | {"x-goog-api-key": "test-key-1"}
    answer = target.answer(request(sent.method, sent.url, sent.body, **headers))
    return "" if answer.status == 200 else f"{answer.status} {refused(answer)[1]}"


@often
@given(conversations())
def test_a_sound_conversation_is_taken_everywhere(sent: dict[str, Any]) -> None:
    plan = planned(sent)
    assert isinstance(plan, Conversion), (plan.param, plan.message)
    for upstream, made, target in asked(plan):
        assert described(upstream, made) == []
        assert lawful(target, made) == "", upstream


@often
@given(RANDOM)
def test_what_the_schema_allows_is_taken_or_refused_by_name(sent: dict[str, Any]) -> None:
    plan = planned(sent)
    if isinstance(plan, ClientFault):
        assert plan.status == 400
        assert re.split(r"[.\[]", plan.param or "")[0] in sent, plan.message
        event(f"refused: {re.sub(r'[0-9]+', 'n', plan.param or '')}")
        return
    event("taken")
    for upstream, made, target in asked(plan):
        assert described(upstream, made) == []
        assert lawful(target, made) == "", upstream


# --------------------------------------------------------------------------------------------- the same over a socket

Post = Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Post, Simulator]]:
    """Return a running server for the whole module: examples are drawn by synchronous code."""
    folder: Path = tmp_path_factory.mktemp("door")
    with asyncio.Runner() as runner:
        stack, simulator = AsyncExitStack(), Simulator()
        runner.run(stack.enter_async_context(simulator))
        server = runner.run(stack.enter_async_context(running(simulator, configuration(simulator, folder))))
        simulator.accept_any_signature = True
        simulator.allow_models = set(MODELS)
        yield lambda sent: runner.run(server.post("/v1/chat/completions", sent)), simulator
        runner.run(stack.aclose())


@seldom
@given(conversations())
def test_a_sound_conversation_is_answered(door: tuple[Post, Simulator], sent: dict[str, Any]) -> None:
    post, simulator = door
    simulator.clear()
    status, body = post(sent)
    assert status == 200, body
    assert b'"error":' not in body[-400:]
    assert problems(simulator.generations) == []


@seldom
@given(RANDOM)
def test_what_the_schema_allows_is_never_a_500(door: tuple[Post, Simulator], sent: dict[str, Any]) -> None:
    post, simulator = door
    simulator.clear()
    status, body = post(sent)
    assert status in (200, 400), body
    assert problems(simulator.generations) == []
