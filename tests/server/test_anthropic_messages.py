"""Messages over HTTP, as Anthropic's clients ask for them: answers, streams, counts, models, refusals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.server.service import SERVICE
from gemproxy.simulator import Hang, Pause, Reset, Simulator, error_answer, frames_answer, text_answer
from gemproxy.tasks import spawn
from tests.converter.anthropic.message_events import events_of, folded
from tests.golden import frames
from tests.running import Running, configuration, running
from tests.waiting import soon

MODEL = "gemini-3.5-flash"
USER: Any = {"role": "user", "content": "Hello"}
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [USER]}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}], "usageMetadata": {"promptTokenCount": 7}}
OVERLOADED = error_answer(503, "The model is overloaded.")
VERSION = {"anthropic-version": "2026-10-21"}
ALIASES = """
[models.aliases]
"claude-*" = "gemini-3.5-flash"
"claude-*haiku*" = "gemini-2.5-flash-lite"
"""


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


async def ask(server: Running, body: Any, path: str = "/v1/messages", **headers: str) -> tuple[int, Any, Any]:
    """Return status, decoded body and headers."""
    sent = {"x-api-key": "sk-test", "Content-Type": "application/json", **VERSION, **headers}
    data = msgspec.json.encode(body)
    async with server.session.post(server.url + path, data=data, headers=sent) as response:
        return response.status, msgspec.json.decode(await response.read()), response.headers


async def streamed(server: Running, body: dict[str, Any]) -> list[dict[str, Any]]:
    status, answer = await server.post("/v1/messages", body | {"stream": True}, VERSION)
    assert status == 200, answer
    return events_of(answer)


def contents(simulator: Simulator) -> list[Any]:
    found: list[Any] = simulator.requests[-1].json()["contents"]
    return found


# ---------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/messages?beta=true", "/v1/v1/messages/"])
async def test_an_answer(server: Running, path: str) -> None:
    status, message, headers = await ask(server, BODY, path)
    assert status == 200
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", MODEL)
    assert message["content"] == [{"type": "text", "text": "Hello from the simulated Gemini. You said: Hello"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert headers["request-id"] == headers["x-request-id"]
    assert headers["Content-Type"].startswith("application/json")


async def test_a_candidate_that_nobody_asked_for_is_not_told(server: Running, simulator: Simulator) -> None:
    two = [
        {"index": index, "content": {"parts": [{"text": text}]}, "finishReason": reason}
        for index, text, reason in ((0, "a", "MAX_TOKENS"), (1, "B", "STOP"))
    ]
    simulator.script(frames_answer([{"candidates": [each]} for each in two]))
    folded_up = folded(await streamed(server, BODY))
    assert (folded_up["content"], folded_up["stop_reason"]) == ([{"type": "text", "text": "a"}], "max_tokens")


async def test_a_stream_adds_up_to_the_same_answer(server: Running) -> None:
    _, whole, _ = await ask(server, BODY)
    message = folded(await streamed(server, BODY))
    assert message | {"id": ""} == whole | {"id": ""}


async def test_the_first_event_tells_what_the_question_costs(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME, FRAME | {"candidates": [{"finishReason": "STOP"}]}]))
    [start, *_] = await streamed(server, BODY)
    assert start["message"]["usage"]["input_tokens"] == 7


@pytest.mark.usefixtures("turned")
async def test_a_stream_begins_and_pings_while_the_model_thinks(simulator: Simulator, tmp_path: Path) -> None:
    more = "[server]\nping_interval = 1\n[timeouts]\nhold = 2\n"
    simulator.script(text_answer("At last").after(Pause(5)))
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        status, body = await server.post("/v1/messages", BODY | {"stream": True})
    names = [line for line in body.decode().split("\n") if line.startswith("event: ")]
    assert status == 200
    assert names[:3] == ["event: message_start", "event: ping", "event: ping"]
    assert names.count("event: message_start") == 1
    assert folded(events_of(body))["content"][0]["text"] == "At last"


async def test_a_warm_up_is_answered_without_a_call(server: Running, simulator: Simulator) -> None:
    for body in (BODY, BODY | {"stream": True}):
        before = len(simulator.requests)
        status, answer = await server.post("/v1/messages", body | {"max_tokens": 0})
        message = folded(events_of(answer)) if "stream" in body else msgspec.json.decode(answer)
        assert (status, message["content"], message["stop_reason"]) == (200, [], "max_tokens")
        assert len(simulator.requests) == before


async def test_a_search_is_grounded_and_its_sources_are_cited(server: Running, simulator: Simulator) -> None:
    """As Claude Code searches: by a request of its own, which has nothing but this tool and forces it."""
    simulator.script(frames_answer([msgspec.json.decode(frame) for frame in frames("grounding-non-ascii")]))
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    forced = {"tools": [tool], "tool_choice": {"type": "tool", "name": "web_search"}, "thinking": {"type": "disabled"}}
    message = folded(await streamed(server, BODY | forced))
    assert simulator.requests[-1].json()["tools"] == [{"googleSearch": {}}]
    text, use, found = message["content"]
    assert {each["type"] for each in text["citations"]} == {"web_search_result_location"}
    assert all(each["cited_text"] in text["text"] for each in text["citations"])
    assert use["name"] == "web_search"
    assert {each["url"] for each in found["content"]} == {each["url"] for each in text["citations"]}
    history = [USER, {"role": "assistant", "content": message["content"]}, USER]
    assert (await ask(server, BODY | {"messages": history}))[0] == 200
    assert [len(turn["parts"]) for turn in contents(simulator)] == [1, 1, 1], "what was found is not said again"


async def test_a_stream_that_breaks_ends_in_an_error(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    events = await streamed(server, BODY)
    assert [event["type"] for event in events[-2:]] == ["content_block_delta", "error"]
    assert events[-1]["error"]["type"] == "api_error"
    assert events[-1]["request_id"].startswith("req_")


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("change", "status", "kind", "message"),
    [
        pytest.param({"model": "gpt-4o"}, 404, "not_found_error", "model: ", id="a model of another maker"),
        pytest.param({"max_tokens": None}, 400, "invalid_request_error", "max_tokens: Field required", id="no limit"),
        pytest.param({"messages": []}, 400, "invalid_request_error", "messages: ", id="nothing said"),
        pytest.param(
            {"messages": [USER | {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": 1}]}]},
            400,
            "invalid_request_error",
            "messages.0.content.1.text: expected",
            id="a number in the place of a text",
        ),
        pytest.param(
            {"messages": [USER | {"content": [{"type": "odd"}]}]},
            400,
            "invalid_request_error",
            "messages.0.content.0.type: must be",
            id="a block that nobody knows",
        ),
        pytest.param(
            {"messages": [USER, {"role": "assistent", "content": "a"}]},
            400,
            "invalid_request_error",
            "messages.1.role: must be",
            id="a role that nobody knows",
        ),
        pytest.param(
            {
                "messages": [
                    USER
                    | {
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "*"}},
                        ]
                    }
                ]
            },
            400,
            "invalid_request_error",
            "messages.0.content.1: The data is not valid base64.",
            id="an image that is none",
        ),
    ],
)
async def test_a_bad_request_is_told_in_anthropics_words(
    server: Running, change: dict[str, Any], status: int, kind: str, message: str
) -> None:
    found, body, headers = await ask(server, BODY | change)
    assert (found, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["error"]["message"].startswith(message)
    assert body["request_id"] == headers["request-id"]


async def test_a_thread_is_refused_in_the_way_that_clients_go_on_from(server: Running) -> None:
    status, body, _ = await ask(server, BODY | {"thread": {"type": "create"}})
    assert status == 400
    assert body["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


async def test_an_overloaded_upstream_is_529(server: Running, simulator: Simulator) -> None:
    simulator.script(OVERLOADED, times=None)
    status, body, _ = await ask(server, BODY)
    assert (status, body["error"]["type"]) == (529, "overloaded_error")


async def test_too_long_a_prompt_is_told_in_the_words_that_clients_act_upon(
    server: Running, simulator: Simulator
) -> None:
    words = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    simulator.script(error_answer(400, words), times=None)
    status, body, _ = await ask(server, BODY)
    assert status == 400
    assert body["error"]["message"] == "prompt is too long: 1200000 tokens > 1048576 maximum"


async def test_a_quota_tells_when_to_come_back(server: Running, simulator: Simulator) -> None:
    simulator.script(error_answer(429, "Resource has been exhausted (e.g. check quota)."), times=None)
    status, body, headers = await ask(server, BODY)
    assert (status, body["error"]["type"]) == (429, "rate_limit_error")
    assert int(headers["retry-after"]) > 0


async def test_what_is_refused_unread_is_in_anthropics_form_too(simulator: Simulator, tmp_path: Path) -> None:
    more = '[server]\nmax_body = 1000\nmax_requests = 1\n[[auth.clients]]\nname = "one"\nkey = "sk-one"\n'
    simulator.script(text_answer("At last").after(Hang()))
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        own = {"x-api-key": "sk-one"}

        async def kind(path: str, method: str = "POST", body: Any = BODY, **headers: str) -> tuple[int, str]:
            data = msgspec.json.encode(body)
            async with server.session.request(method, server.url + path, data=data, headers=headers) as response:
                found = msgspec.json.decode(await response.read())
                assert found["request_id"] == response.headers["request-id"]
                return response.status, found["error"]["type"]

        assert await kind("/v1/messages") == (401, "authentication_error")
        assert await kind("/v1/messages", **{"x-api-key": "sk-two"}) == (401, "authentication_error")
        assert await kind("/v1/messages/batches", **own) == (404, "not_found_error")
        assert await kind("/v1/complete", **own, **VERSION) == (404, "not_found_error")
        assert await kind("/v1/models/gpt-4o", "GET", **own, **VERSION) == (404, "not_found_error")
        assert await kind("/v1/models", "GET", **VERSION) == (401, "authentication_error")
        assert await kind("/v1/messages", "GET", **own) == (405, "invalid_request_error")
        assert await kind("/v1/messages", body="a" * 2000, **own) == (413, "request_too_large")
        under_way = spawn(ask(server, BODY, **own), name="a request")
        await soon(lambda: bool(simulator.requests))
        assert await kind("/v1/messages", **own) == (529, "overloaded_error")
        server.app[SERVICE].refusing = True
        assert await kind("/v1/messages", **own) == (503, "api_error")
        under_way.cancel()


async def test_either_place_of_the_key_will_do(simulator: Simulator, tmp_path: Path) -> None:
    more = '[[auth.clients]]\nname = "one"\nkey = "sk-one"\n'
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        for headers in ({"x-api-key": "sk-one", "Authorization": "Bearer odd"}, {"Authorization": "Bearer sk-one"}):
            url = f"{server.url}/v1/messages"
            async with server.session.post(url, data=msgspec.json.encode(BODY), headers=headers) as response:
                assert response.status == 200


async def test_claude_codes_probe(server: Running) -> None:
    async with server.session.head(f"{server.url}/") as response:
        assert response.status == 200


# ----------------------------------------------------------------------------------------------------------- aliases


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("claude-haiku-4-5-20251001", "gemini-2.5-flash-lite"),
        ("claude-opus-5-5", "gemini-3.5-flash"),
        ("gemini-2.5-flash", "gemini-2.5-flash"),
    ],
)
async def test_names_of_claude_are_those_of_the_operator(
    simulator: Simulator, tmp_path: Path, name: str, served: str
) -> None:
    async with running(simulator, configuration(simulator, tmp_path, ALIASES)) as server:
        _, message, _ = await ask(server, BODY | {"model": name})
        assert message["model"] == name
        assert f"/{served}:" in simulator.requests[-1].path
        _, shown = await server.get(f"/v1/models/{name}", VERSION)
        assert shown["id"] == name
        _, listed = await server.get("/v1/models?limit=1000", VERSION)
        assert not any("*" in model["id"] for model in listed["data"])


# ------------------------------------------------------------------------------------------------------------ counts


async def count(server: Running, **change: Any) -> Any:
    body = {key: value for key, value in BODY.items() if key != "max_tokens"} | change
    status, counted, _ = await ask(server, body, "/v1/messages/count_tokens?beta=true")
    assert status == 200, counted
    return counted


async def test_tokens_are_counted_by_gemini_once_a_minute(server: Running, simulator: Simulator) -> None:
    counted = await count(server)
    assert counted["input_tokens"] > 0
    assert simulator.requests[-1].path.endswith(":countTokens")
    asked = len(simulator.requests)
    assert await count(server) == counted
    assert len(simulator.requests) == asked
    await count(server, system="Be brief.")
    assert len(simulator.requests) == asked + 1


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(OVERLOADED, id="overloaded"),
        pytest.param(error_answer(429, "Resource has been exhausted (e.g. check quota)."), id="a quota"),
        pytest.param(error_answer(403, "Permission denied."), id="nobody is left"),
    ],
)
async def test_a_count_that_fails_is_an_estimate(
    server: Running, simulator: Simulator, failing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.access")
    simulator.script(failing, times=None, method="countTokens")
    guessed = (await count(server, messages=[{"role": "user", "content": "word " * 400}]))["input_tokens"]
    assert 500 < guessed < 600
    assert "finish=estimate" in caplog.text


async def test_those_who_ask_the_same_meanwhile_wait_for_one_answer(server: Running, simulator: Simulator) -> None:
    counted = await asyncio.gather(*(count(server) for _ in range(5)), count(server, system="Be brief."))
    assert counted[:5] == [counted[0]] * 5
    assert [request.call for request in simulator.requests] == ["countTokens"] * 2
    assert not server.app[SERVICE].turns


async def test_a_picture_is_not_estimated_by_its_bytes(server: Running, simulator: Simulator) -> None:
    simulator.script(OVERLOADED, times=None, method="countTokens")
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoA" * 4000}
    block = {"type": "image", "source": source}
    guessed = (await count(server, messages=[{"role": "user", "content": [block]}]))["input_tokens"]
    assert 258 < guessed < 400, "as many as Gemini counts for one"


async def test_a_count_that_cannot_be_asked_for_keeps_nobody_waiting(server: Running) -> None:
    block = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9/a.png"}}
    body = BODY | {"messages": [{"role": "user", "content": [block]}]}
    for _ in range(2):
        status, refused, _ = await ask(server, body, "/v1/messages/count_tokens")
        assert (status, refused["error"]["message"][:22]) == (400, "messages.0.content.0: ")
    assert not server.app[SERVICE].turns


async def test_a_count_for_a_model_that_nobody_has(server: Running) -> None:
    status, body, _ = await ask(server, BODY | {"model": "gpt-4o"}, "/v1/messages/count_tokens")
    assert (status, body["error"]["type"]) == (404, "not_found_error")


# ------------------------------------------------------------------------------------------------------------ models


async def test_models_are_listed_in_the_form_of_who_asks(server: Running) -> None:
    _, listed = await server.get("/v1/models", VERSION)
    assert len(listed["data"]) == 20
    assert listed["has_more"]
    assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
    assert {model["type"] for model in listed["data"]} == {"model"}
    _, openais = await server.get("/v1/models")
    assert openais["object"] == "list"


async def test_models_are_listed_page_by_page(server: Running) -> None:
    _, all_at_once = await server.get("/v1/models?limit=1000", VERSION)
    names = [model["id"] for model in all_at_once["data"]]
    assert not all_at_once["has_more"]
    found: list[str] = []
    query = "limit=7"
    while True:
        _, page = await server.get(f"/v1/models?{query}", VERSION)
        found += [model["id"] for model in page["data"]]
        if not page["has_more"]:
            break
        query = f"limit=7&after_id={page['last_id']}"
    assert found == names
    _, before = await server.get(f"/v1/models?limit=2&before_id={names[5]}", VERSION)
    assert [model["id"] for model in before["data"]] == names[3:5]
    _, ending = await server.get("/v1/models?limit=1000&lifecycle=deprecated", VERSION)
    ends = [model["id"] for model in all_at_once["data"] if model["retires_at"] is not None]
    assert [model["id"] for model in ending["data"]] == ends != []
    for bad in ("limit=0", "limit=x", "after_id=nobody"):
        status, _ = await server.get(f"/v1/models?{bad}", VERSION)
        assert status == 400


async def test_one_model(server: Running) -> None:
    _, model = await server.get(f"/v1/models/{MODEL}", VERSION)
    assert model == {
        "type": "model",
        "id": MODEL,
        "display_name": "Gemini 3.5 Flash",
        "created_at": "2026-05-19T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 1_048_576,
        "max_tokens": 65_536,
        "retires_at": None,
    }
