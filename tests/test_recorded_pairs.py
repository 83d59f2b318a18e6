"""OpenAI's own recorded exchanges: each request is asked of the real server twice, and answered like the recording.

First the simulated Gemini answers, which refuses what Google refuses; then a Gemini answer that says what the recording
says, so that ours can be compared with it: the same words, calls, counts and finish, in the same form.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gemproxy.simulator import Answer, Simulator, frames_answer, unary_answer
from gemproxy.simulator.model import PIXEL
from tests.corpus import listed, path_of
from tests.folding import chunks
from tests.openai_schema import answer_problems, chunk_problems
from tests.running import Running, configuration, running

REQUESTS = [path for which in ("chat", "google-openai") for path in listed(f"openai-recorded/{which}-*.request.json")]
NAMES = [path.name.removesuffix(".request.json") for path in REQUESTS]
NO_AUDIO = "chat-text-to-audio"  # answered by OpenAI; refused here, since Gemini's chat models give no sound
REFUSED = {"chat-bad-request": "messages", "chat-no-messages": "messages", "chat-unknown-model": "model"}
ANSWERED = [name for name in NAMES if name not in REFUSED and name != NO_AUDIO]
UNKNOWN = "gpt-4.1-nano-wrong"
REMOTE = b"https://upload.wikimedia.org/wikipedia/commons/thumb/d/dd/Gfp-wisconsin-madison-the-nature-boardwalk.jpg/"

# What recorded answers have and ours may leave out, by the end of its path.
LEFT_OUT = {
    "service_tier": "OpenAI's own price list",
    "obfuscation": "padding that only stream_options.include_obfuscation asks for",
    "annotations": "left out where there are none",
    "text_tokens": "parts of a sum that Google does not count",
    "image_tokens": "as text_tokens",
    "thought": "Google's compatible endpoint marks a carrier of thoughts; the signature alone is sent back",
    "thought_signature": "as above: it stands beside the message once more; ours hang on the call they belong to",
    "extra_content": "as above",
    "google": "as above",
    "delta.refusal": "null in OpenAI's first chunk",
}
NULLABLE = ("content", "refusal", "system_fingerprint", "usage", "finish_reason", "logprobs")


def recording(name: str, kind: str) -> Path:
    return path_of(f"openai-recorded/{name}.{kind}")


def read(name: str, kind: str) -> bytes:
    return recording(name, kind).read_bytes()


def models() -> set[str]:
    return {msgspec.json.decode(path.read_bytes())["model"] for path in REQUESTS}


@pytest.fixture
async def remote() -> AsyncIterator[str]:
    """Return an address of this machine where an image lies."""

    async def image(_: web.Request) -> web.Response:
        return web.Response(body=b64decode(PIXEL), content_type="image/png")

    app = web.Application()
    app.router.add_get("/{path:.*}", image)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/"))


@pytest.fixture
async def server(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    """Return a server that serves a Gemini model under the names that the recordings ask for."""
    names = "".join(f'"{name}" = "gemini-3.5-flash"\n' for name in sorted(models() - {UNKNOWN}))
    more = f'[images]\nallow_hosts = ["127.0.0.1"]\n[models.aliases]\n{names}'
    async with running(simulator, configuration(simulator, tmp_path, more)) as started:
        yield started


async def ask(server: Running, name: str, remote: str) -> tuple[int, bytes]:
    body = read(name, "request.json").replace(REMOTE, remote.encode())
    return await server.post("/v1/chat/completions", body, {"Accept": "application/json"})


# ------------------------------------------------------------------------------------ a Gemini that says the same


def told(name: str) -> dict[str, Any]:
    """Return what a recorded answer says: text, calls, finish and usage."""
    if not recording(name, "response.sse").exists():
        answer = msgspec.json.decode(read(name, "response.json"))
        return said(answer["choices"][0]["message"], answer["choices"][0]["finish_reason"], answer["usage"])
    return folded(chunks(read(name, "response.sse")))


def folded(stream: list[dict[str, Any]]) -> dict[str, Any]:
    choices = [choice for chunk in stream for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    [finish] = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return said({"content": text}, finish, next((chunk["usage"] for chunk in stream if chunk.get("usage")), None))


def said(message: dict[str, Any], finish: str, usage: dict[str, Any] | None) -> dict[str, Any]:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    counts = {}
    if usage is not None:
        names = ("prompt_tokens", "completion_tokens")
        details = usage.get("completion_tokens_details", {}), usage.get("prompt_tokens_details", {})
        counts = {key: usage[key] for key in names} | {"reasoning": details[0].get("reasoning_tokens", 0)}
        counts["cached"] = details[1].get("cached_tokens", 0)
    return {"text": message.get("content") or "", "calls": calls, "finish": finish, "usage": counts}


def as_gemini(answer: dict[str, Any], *, stream: bool) -> Answer:
    """Return Gemini's answer with the same text, calls, counts and end."""
    parts: list[dict[str, Any]] = [{"text": answer["text"]}] if answer["text"] else []
    parts += [
        {"functionCall": {"name": call["name"], "args": msgspec.json.decode(call["arguments"])}}
        for call in answer["calls"]
    ]
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    candidate["finishReason"] = "MAX_TOKENS" if answer["finish"] == "length" else "STOP"
    body = {"candidates": [candidate], "modelVersion": "gemini-3.5-flash"}
    if counts := answer["usage"]:
        visible = counts["completion_tokens"] - counts["reasoning"]
        body["usageMetadata"] = {
            "promptTokenCount": counts["prompt_tokens"],
            "cachedContentTokenCount": counts["cached"],
            "candidatesTokenCount": visible,
            "thoughtsTokenCount": counts["reasoning"],
            "totalTokenCount": counts["prompt_tokens"] + counts["completion_tokens"],
        }
    return frames_answer([body]) if stream else unary_answer(body)


# ------------------------------------------------------------------------------------------------- form and words


def form(value: Any, path: str = "") -> dict[str, set[str]]:
    """Return the JSON types that stand at each path of a value; the items of a list share one path."""
    found: dict[str, set[str]] = {path: {_kind(value)}} if path else {}
    items = [(f"{path}.{key}", held) for key, held in value.items()] if isinstance(value, dict) else []
    items += [(f"{path}[]", held) for held in value] if isinstance(value, list) else []
    for place, held in items:
        for key, kinds in form(held, place).items():
            found.setdefault(key, set()).update(kinds)
    return found


def _kind(value: Any) -> str:
    return {bool: "flag", int: "number", float: "number"}.get(type(value), type(value).__name__)


def compare_form(ours: Any, recorded: Any) -> None:
    made, wanted = form(ours), form(recorded)
    for path, kinds in wanted.items():
        if path not in made:
            assert any(f"{end}." in f"{path}." or path.endswith(f"{end}[]") for end in LEFT_OUT), path
        elif path.endswith(NULLABLE):
            assert made[path] - {"NoneType"} <= kinds - {"NoneType"} or "NoneType" in kinds, path
        else:
            assert made[path] <= kinds, path


@pytest.mark.parametrize("name", ANSWERED)
async def test_recorded_exchange_is_answered_alike(
    name: str, server: Running, simulator: Simulator, remote: str
) -> None:
    status, first = await ask(server, name, remote)
    assert (status, simulator.generations[0].status) == (200, 200), first
    stream = bool(msgspec.json.decode(read(name, "request.json")).get("stream"))
    simulator.script(as_gemini(told(name), stream=stream))
    status, body = await ask(server, name, remote)
    assert status == 200, body
    if stream:
        made = chunks(body)
        assert [problem for chunk in made for problem in chunk_problems(chunk)] == []
        compare_form(made, chunks(read(name, "response.sse")))
        assert folded(made) == told(name)
        return
    answer = msgspec.json.decode(body)
    assert answer_problems(answer) == []
    compare_form(answer, msgspec.json.decode(read(name, "response.json")))
    assert said(answer["choices"][0]["message"], answer["choices"][0]["finish_reason"], answer["usage"]) == told(name)


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_recorded_refusal_is_a_refusal(name: str, server: Running, simulator: Simulator) -> None:
    status, body = await ask(server, name, "")
    recorded, ours = msgspec.json.decode(read(name, "response.json")), msgspec.json.decode(body)
    assert (status, ours["error"]["param"]) == (404 if name == "chat-unknown-model" else 400, REFUSED[name])
    assert ours["error"]["type"] == recorded["error"]["type"]
    assert set(ours["error"]) == set(recorded["error"])
    assert simulator.generations == []


async def test_sound_is_refused_before_google_is_asked(server: Running, simulator: Simulator) -> None:
    status, body = await ask(server, NO_AUDIO, "")
    assert (status, msgspec.json.decode(body)["error"]["param"]) == (400, "modalities")
    assert simulator.generations == []


@pytest.mark.parametrize(
    ("ours", "place"),
    [
        pytest.param({"id": "a"}, ".usage", id="a field that is missing"),
        pytest.param({"id": 1, "usage": {"total_tokens": 1}}, ".id", id="a field of another type"),
        pytest.param({"id": "a", "usage": {"total_tokens": "1"}}, ".usage.total_tokens", id="a count as text"),
        pytest.param({"id": "a", "usage": [1]}, ".usage", id="a list for an object"),
    ],
)
def test_the_comparison_of_forms_sees(ours: Any, place: str) -> None:
    with pytest.raises(AssertionError, match=place):
        compare_form(ours, {"id": "b", "usage": {"total_tokens": 2}, "service_tier": "default"})
