"""A medium that Google refuses is named as the client knows it, wherever it stands in a conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gemproxy.simulator import Simulator, error_answer
from tests.running import Running, running

CHAT = "/v1/chat/completions"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
GOOD = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
BROKEN = {"type": "image_url", "image_url": {"url": "data:image/webp;base64,bm90IGEgcGljdHVyZQ=="}}
SOUND = {"type": "input_audio", "input_audio": {"format": "mp3", "data": "SUQzBAAAAAAAAAAA"}}
PAPER = {"type": "file", "file": {"file_data": "data:application/x-made-up;base64,AAAA"}}
FILM = {"type": "video_url", "video_url": {"url": "data:video/x-made-up;base64,AAAA"}}
LATER = [{"role": "assistant", "content": "I see."}, {"role": "user", "content": "And now?"}]


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


async def refused(server: Running, messages: list[dict[str, Any]], stream: bool) -> dict[str, Any]:
    asked = {"model": "gemini-3.5-flash", "messages": messages, "stream": stream}
    status, body = await server.post(CHAT, asked)
    assert status == 400, body
    return msgspec.json.decode(body)["error"]


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "Look:"}, *parts]}


CALLED = {
    "role": "assistant",
    "tool_calls": [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "ab"
    ],
}


def result(name: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{name}", "content": [part]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("messages", "param"),
    [
        pytest.param([user(BROKEN)], "messages[0].content[1]", id="a picture"),
        pytest.param([user(BROKEN), *LATER], "messages[0].content[1]", id="a picture of long ago"),
        pytest.param([user(SOUND), *LATER, user(PAPER)], "messages[3].content[1]", id="a file"),
        pytest.param([user(GOOD, FILM)], "messages[0].content[2]", id="a film"),
        pytest.param(
            [user(), CALLED, result("b", PAPER), result("a", SOUND)], "messages[2].content[0]", id="in a tool's result"
        ),
        pytest.param(
            [user(), {"role": "assistant", "content": "", "images": [{"image_url": BROKEN["image_url"]}]}, user()],
            "messages[1].images[0]",
            id="a picture that the model made",
        ),
    ],
)
async def test_the_refused_part_is_named(
    server: Running, messages: list[dict[str, Any]], param: str, stream: bool
) -> None:
    assert (await refused(server, messages, stream))["param"] == param


async def test_of_several_that_may_be_meant_all_are_named(server: Running) -> None:
    told = await refused(server, [user(BROKEN, GOOD, SOUND)], False)
    assert told["param"] == "messages[0].content[1]"
    assert "one of messages[0].content[1], messages[0].content[2])" in told["message"]


async def test_a_path_of_googles_is_told_as_the_clients(server: Running, simulator: Simulator) -> None:
    simulator.script(error_answer(400, "Invalid value at 'contents[0].parts[2].inline_data.data' (TYPE_BYTES)"))
    assert (await refused(server, [user(GOOD, GOOD)], False))["param"] == "messages[0].content[2]"
