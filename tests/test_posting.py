"""Questions to Google: the whole answer, within bounds, and no credential for whom a redirect names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from gemproxy import posting
from gemproxy.posting import Reply, ask
from gemproxy.simulator import Answer, Hang, Pause, Simulator, drip, error_answer
from gemproxy.upstream.dialect import HttpRequest

BODY = b'{"models":[]}'


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def question(simulator: Simulator) -> HttpRequest:
    return HttpRequest(f"{simulator.ai_studio_url}/models", {"x-goog-api-key": "test-key-1"}, b"", "GET")


@pytest.mark.parametrize(
    ("most", "size"), [(posting.MOST, 13), (5, 6)], ids=["all of it", "no more pieces than are needed"]
)
async def test_an_answer_that_comes_in_pieces_is_read_on(simulator, session, monkeypatch, most, size):
    monkeypatch.setattr(posting, "MOST", most)
    simulator.script(Answer(drip(BODY, 3, 0.02), headers={"Retry-After": "7"}), method="models")
    reply = await ask(session, question(simulator), 5.0)
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (200, BODY[:size], "7")


async def test_a_redirect_is_not_followed(simulator, session):
    simulator.script(error_answer(307, b"", headers={"Location": f"{simulator.url}/elsewhere"}), method="models")
    assert (await ask(session, question(simulator), 5.0)).status == 307
    assert [request.path for request in simulator.requests] == ["/v1beta/models"]


@pytest.mark.parametrize("place", ["before the head", "in the body"])
async def test_a_silent_answer_is_given_up(simulator, session, place):
    answer = Answer().after(Hang()) if place == "before the head" else Answer((b"{", Pause(0.01), Hang()))
    simulator.script(answer, method="models")
    with pytest.raises(TimeoutError):
        await ask(session, question(simulator), 0.1)


def test_the_repr_of_a_reply_shows_nothing_of_it():
    assert repr(Reply(200, {"set-cookie": "fake"}, b"fake")) == "Reply(200)"
