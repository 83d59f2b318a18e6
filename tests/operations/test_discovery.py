"""``models.discover``: the first key that tells, whatever the others answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import pytest

from gemproxy.credentials.token_errors import parked
from gemproxy.credentials.tokens import Tokens
from gemproxy.operations.discovery import Discovery
from gemproxy.pool.slot import Slot, SlotView
from gemproxy.simulator import Reset, Simulator, error_answer, unary_answer
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import Token


class Keys:
    async def get(self, slot: str) -> Token:
        if slot == "refused":
            raise parked("key_refused")
        return Token(f"key-{slot}")


@pytest.fixture
async def discovery(simulator: Simulator) -> AsyncIterator[Discovery]:
    async with aiohttp.ClientSession() as session:
        yield Discovery(session, AiStudio(simulator.ai_studio_url, "test"), cast("Tokens", Keys()))


def views(*names: str, **attributes: Any) -> list[SlotView]:
    return [Slot(name, kind="api_key", **attributes).view(0.0) for name in names]


def page(*models: str, after: str = "") -> Any:
    listed = [{"name": f"models/{name}", "supportedGenerationMethods": ["generateContent"]} for name in models]
    listed.append({"name": "models/embedding", "supportedGenerationMethods": ["embedContent"]})
    return unary_answer({"models": listed, "nextPageToken": after})


async def test_all_pages_are_read_and_only_what_chats_is_told(simulator, discovery):
    simulator.script(page("one", after="2"), method="models")
    simulator.script(page("two"), method="models")
    assert await discovery.find(views("a")) == ["one", "two"]
    assert [request.query.get("pageToken") for request in simulator.requests] == [None, "2"]


async def test_what_can_be_no_model_is_not_listed_and_no_more_than_there_may_be(simulator, discovery, monkeypatch):
    monkeypatch.setattr("gemproxy.operations.discovery.MOST_MODELS", 3)
    simulator.script(page("one", "a b", "a\nb", "x" * 200, "ü", "two", "three", "four"), method="models")
    assert await discovery.find(views("a")) == ["one", "two", "three"]


async def test_no_page_is_asked_for_beyond_what_there_may_be(simulator, discovery, monkeypatch):
    monkeypatch.setattr("gemproxy.operations.discovery.MOST_MODELS", 3)
    simulator.script(page("one", "two", after="2"), method="models")
    simulator.script(page("three", "four", after="3"), method="models")
    assert await discovery.find(views("a")) == ["one", "two", "three"]
    assert len(simulator.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        error_answer(403, "Denied"),
        error_answer(302, b"", headers={"Location": "/v1beta/models?stolen"}),
        unary_answer(b"nonsense"),
        unary_answer(b'{"models":[{"name":"\xff"}]}'),
        unary_answer(b'{"x":' + b"[" * 100_000),
        unary_answer({}).after(Reset()),
    ],
    ids=["403", "a redirect", "no JSON", "no UTF-8", "nested too deeply", "reset"],
)
async def test_a_key_that_tells_nothing_is_passed_over(simulator, discovery, answer):
    simulator.script(answer, method="models", credential="key-a", times=None)
    simulator.script(page("one"), method="models", credential="key-b")
    assert await discovery.find(views("refused", "a", "b")) == ["one"]
    assert {request.credential for request in simulator.requests} == {"key-a", "key-b"}


async def test_parked_and_other_credentials_are_not_asked(simulator, discovery):
    others = [*views("a", parked="key_invalid"), Slot("b", kind="oauth").view(0.0)]
    assert (await discovery.find(others), simulator.requests) == ([], [])
