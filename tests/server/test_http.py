"""Every route, and what bad input gets: an OpenAI error object with its true status, and the server goes on."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.redaction import held
from gemproxy.server.outlet import EventStream
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Answer, Hang, KeyState, Pause, Simulator, Wait, frames_answer, text_answer
from tests.folding import chunks, events, fold
from tests.openai_schema import answer_problems
from tests.running import KEY, Running, configuration, running
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

MODEL = "gemini-2.5-flash"
HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": False}
CHAT = "/v1/chat/completions"


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


@pytest.fixture
async def guarded(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    """A server with client keys: "sk-test" may do all, "sk-held" only gemini-2.5-pro, and nothing for operators."""
    more = """
[server]
expose_routing = true
max_body = 2097152
[auth]
admin_keys = ["sk-test"]
[[auth.clients]]
name = "held"
key = "sk-held"
models = ["gemini-2.5-pro"]
"""
    async with running(simulator, configuration(simulator, tmp_path, more, keys=2)) as started:
        yield started


def told(status: int, body: Any) -> tuple[int, str, str | None, str | None]:
    """Return status, type, code and param of an error, whose object must have exactly its four keys."""
    error = body["error"] if isinstance(body, dict) else msgspec.json.decode(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return status, error["type"], error["code"], error["param"]


async def connection(server: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a bare connection to a server."""
    host, port = server.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


# ----------------------------------------------------------------------------------------------- open to everybody


async def test_root_describes_the_service(server: Running) -> None:
    async with server.session.get(server.url + "/") as response:
        found = await response.json()
    assert found["name"] == "gemproxy"
    assert found["authentication"] == {"required": True, "type": "Bearer token in Authorization header"}
    assert found["endpoints"]["chat_completions"] == CHAT
    assert found["endpoints"]["debug"] == {
        "cache": "/v1/debug/cache",
        "token_test": "/v1/token-test",
        "full_test": "/v1/test",
    }


async def test_health_is_alive_and_tells_the_time(server: Running) -> None:
    async with server.session.get(server.url + "/health") as response:
        found = await response.json()
    assert found["status"] == "ok"
    assert len(found["timestamp"]) == len("2025-09-11T06:00:00.000Z")
    assert found["timestamp"].endswith("Z")


@pytest.mark.parametrize("path", ["/", "/health", "/ready"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_probes_take_head_and_options(server: Running, path: str, method: str) -> None:
    async with server.session.request(method, server.url + path) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_ready_until_every_credential_is_parked(server: Running, simulator: Simulator) -> None:
    assert (await server.get("/ready"))[0] == 200
    simulator.keys["test-key-1"] = KeyState.INVALID
    await server.post(CHAT, HELLO)
    status, body = await server.get("/ready")
    assert (status, body["returns_in"]) == (503, None)
    assert "/v1/debug/cache" in body["reason"]
    assert (await server.get("/health"))[0] == 200


# ---------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("base", ["/v1", ""])
async def test_models_are_listed_and_shown(server: Running, base: str) -> None:
    status, found = await server.get(f"{base}/models")
    assert (status, found["object"]) == (200, "list")
    by_id = {model["id"]: model for model in found["data"]}
    assert {"gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.0-flash-exp", "gemini-1.5-pro", "gemini-1.5-flash"} <= set(
        by_id
    )
    for model in found["data"]:
        assert (model["object"], model["owned_by"], type(model["created"])) == ("model", "google", int)
    assert by_id["gemini-1.5-pro"]["shutdown_date"]
    assert (await server.get(f"{base}/models/{MODEL}"))[1] == by_id[MODEL]
    assert (await server.get(f"{base}/models/models/{MODEL}"))[1] == by_id[MODEL]


async def test_models_past_their_shutdown_date_are_listed_last(simulator: Simulator, tmp_path: Path) -> None:
    more = '[models]\naliases = { new = "gemini-3.5-flash", old = "gemini-1.5-pro" }'
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        server.app[SERVICE].clock = lambda: 1_785_000_000.0  # 2026-07-25
        listed = [model["id"] for model in (await server.get("/v1/models"))[1]["data"]]
    assert listed[:2] == ["gemini-2.5-pro", "gemini-2.5-flash"], "their day is yet to come"
    assert listed[-5:] == ["new", "gemini-2.0-flash-exp", "gemini-1.5-pro", "gemini-1.5-flash", "old"]


async def test_a_model_name_that_could_lead_elsewhere_never_goes_upstream(
    server: Running, simulator: Simulator
) -> None:
    expected = (404, "invalid_request_error", "model_not_found", "model")
    for name in ("gemini-2/../../v1/x", "gemini-2?key=x", "gemini 2", "gemini-2\n"):
        assert told(*await server.post(CHAT, HELLO | {"model": name})) == expected, name
    assert not simulator.requests


async def test_unknown_model_is_404(server: Running) -> None:
    expected = (404, "invalid_request_error", "model_not_found", "model")
    assert told(*await server.get("/v1/models/gpt-4o")) == expected
    assert told(*await server.post(CHAT, HELLO | {"model": "gpt-4o"})) == expected


# ------------------------------------------------------------------------------------------------------------ chat


ODD = {
    "/v1/v1/chat/completions": "a base URL that was given its /v1 twice",
    "/v1/v1/v1/chat/completions": "and once more",
    "/v1//chat/completions": "a base URL that ends with a slash",
    "//chat/completions": "the same without /v1",
    "//v1/chat/completions": "a slash too many before all",
    "/v1/chat/completions/": "a slash at the end",
    "/v1/v1//chat//completions//?a=b//c": "all of it, and a query that stays",
}


@pytest.mark.parametrize("path", [pytest.param(path, id=about) for path, about in ODD.items()])
async def test_a_path_is_served_as_it_was_meant(server: Running, path: str) -> None:
    for stream in (False, True):
        status, body = await server.post(path, HELLO | {"stream": stream})
        assert status == 200, body
    large = HELLO | {"messages": [{"role": "user", "content": "long" * 300_000}]}  # more than aiohttp's default takes
    assert (await server.post(path, large, {"Expect": "100-continue"}))[0] == 200


async def test_other_routes_take_odd_paths_too(server: Running) -> None:
    plain = (await server.get(f"/v1/models/{MODEL}"))[1]
    for path in (
        "/v1/v1/models/",
        f"/v1/models//{MODEL}",
        f"/v1/models/google/{MODEL}/",
        "/v1/debug/cache/",
        "/ready/",
    ):
        status, found = await server.get(path)
        assert status == 200, path
        assert MODEL not in path or found == plain | {"id": found["id"]}
    async with server.session.get(server.url + "/v1/none//x/") as response:
        assert response.status == 404
    async with server.session.get(server.url + "/v1/chat/completions/") as response:
        assert (response.status, response.headers["Allow"]) == (405, "OPTIONS,POST")


@pytest.mark.parametrize("path", [CHAT, "/chat/completions"])
async def test_unary_and_stream_say_the_same(server: Running, simulator: Simulator, path: str) -> None:
    simulator.script(text_answer("Same words."), times=2)
    status, body = await server.post(path, HELLO)
    assert status == 200
    unary = msgspec.json.decode(body)
    status, body = await server.post(path, HELLO | {"stream": True, "stream_options": {"include_usage": True}})
    assert status == 200
    folded = fold(chunks(body))
    assert folded["choices"] == unary["choices"]
    assert folded["usage"] == unary["usage"]
    assert answer_problems(unary) == []


async def test_headers_tell_of_the_request(guarded: Running) -> None:
    data = msgspec.json.encode(HELLO | {"stream": True})
    headers = {"Authorization": f"Bearer {KEY}", "x-request-id": "my-id.1"}
    async with guarded.session.post(guarded.url + CHAT, data=data, headers=headers) as response:
        await response.read()
        assert response.headers["x-request-id"] == "my-id.1"
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-cache, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["x-gemproxy-credential"] == "studio-1"
        assert response.headers["x-gemproxy-attempts"] == "1"
    async with guarded.session.get(guarded.url + "/nowhere", headers={"x-request-id": "bad id\u00e9"}) as response:
        assert response.headers["x-request-id"].startswith("req_")


async def test_routing_is_not_told_unless_asked(server: Running) -> None:
    async with server.session.post(
        server.url + CHAT, data=msgspec.json.encode(HELLO), headers={"Authorization": "Bearer x"}
    ) as response:
        assert response.status == 200
        assert not [name for name in response.headers if name.lower().startswith("x-gemproxy")]


async def test_text_arrives_as_it_comes(server: Running, simulator: Simulator) -> None:
    gate = asyncio.Event()
    first = {"candidates": [{"content": {"parts": [{"text": "first"}]}}]}
    last = {"candidates": [{"content": {"parts": [{"text": "last"}]}, "finishReason": "STOP"}]}
    answer = frames_answer([first, last])
    simulator.script(Answer((answer.body[0], Wait(gate), answer.body[1]), content_type="text/event-stream"))
    async with server.openai() as client:
        stream = await client.chat.completions.create(**HELLO | {"stream": True})
        texts = []
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content)
            if texts[-1] == "first":
                gate.set()
    assert "".join(text or "" for text in texts) == "firstlast"


async def test_an_old_client_gets_a_stream_without_chunk_coding(guarded: Running, simulator: Simulator) -> None:
    said = [{"candidates": [{"content": {"parts": [{"text": word}]}}]} for word in ("Hello ", "old ", "world.")]
    said[-1]["candidates"][0]["finishReason"] = "STOP"  # type: ignore[assignment]
    simulator.script(frames_answer(said).paced(0.01))
    reader, writer = await connection(guarded)
    body = msgspec.json.encode(HELLO | {"stream": True})
    writer.write(b"POST %b HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-test\r\n" % CHAT.encode())
    writer.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    head, _, stream = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.0 200")
    assert b"chunked" not in head.lower()
    assert fold(chunks(stream))["choices"][0]["message"]["content"] == "Hello old world."


async def test_hold_time_commits_the_status_and_pings(simulator: Simulator, tmp_path: Path) -> None:
    more = "[server]\nping_interval = 0.1\n[timeouts]\nhold = 0.2\n"
    gate = asyncio.Event()
    simulator.script(text_answer("At last.").after(Wait(gate)))
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        headers = {"Authorization": "Bearer sk-test"}
        data = msgspec.json.encode(HELLO | {"stream": True})
        async with server.session.post(server.url + CHAT, data=data, headers=headers) as response:
            assert response.status == 200
            for _ in range(3):
                assert await response.content.readuntil(b"\n\n") == b": ping\n\n"
            gate.set()
            body = await response.read()
    assert fold(chunks(body))["choices"][0]["message"]["content"] == "At last."


async def test_failure_after_the_hold_is_an_event_and_before_it_a_status(simulator: Simulator, tmp_path: Path) -> None:
    more = "[timeouts]\nhold = 0.2\n"
    simulator.keys["test-key-1"] = KeyState.INVALID
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        simulator.script(Answer((b'{"error":{"code":400,"message":"bad"}}',), status=400).after(Pause(0.5)))
        status, body = await server.post(CHAT, HELLO | {"stream": True})
        assert status == 200
        assert told(status, events(body)[-1])[1] == "invalid_request_error"
        assert b"[DONE]" not in body
        status, body = await server.post(CHAT, HELLO | {"stream": True})
        assert told(status, body) == (503, "server_error", "no_upstream_credentials", None)


async def test_all_resting_is_429_with_retry_after(server: Running, simulator: Simulator) -> None:
    simulator.keys["test-key-1"] = KeyState.PER_MINUTE
    await server.post(CHAT, HELLO)
    async with server.session.post(
        server.url + CHAT, data=msgspec.json.encode(HELLO), headers={"Authorization": "Bearer x"}
    ) as response:
        assert told(response.status, await response.read())[:3] == (429, "rate_limit_error", "rate_limit_exceeded")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert "x-should-retry" not in response.headers


async def test_a_day_used_up_is_not_worth_a_retry(server: Running, simulator: Simulator) -> None:
    simulator.keys["test-key-1"] = KeyState.PER_DAY
    async with server.session.post(
        server.url + CHAT, data=msgspec.json.encode(HELLO), headers={"Authorization": "Bearer x"}
    ) as response:
        assert told(response.status, await response.read())[:3] == (429, "insufficient_quota", "insufficient_quota")
        assert int(response.headers["Retry-After"]) >= 60
        assert response.headers["x-should-retry"] == "false"


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"{", (400, "invalid_request_error", "invalid_json", None), id="broken JSON"),
        pytest.param(b"", (400, "invalid_request_error", "invalid_json", None), id="no body"),
        pytest.param(b"\xff\xfe{}", (400, "invalid_request_error", "invalid_json", None), id="not UTF-8"),
        pytest.param(b"[" * 100_000, (400, "invalid_request_error", None, None), id="deep JSON"),
        pytest.param(b"[]", (400, "invalid_request_error", None, None), id="not an object"),
        pytest.param({"messages": []}, (400, "invalid_request_error", None, "model"), id="no model"),
        pytest.param({"model": MODEL}, (400, "invalid_request_error", None, "messages"), id="no messages"),
        pytest.param(HELLO | {"messages": []}, (400, "invalid_request_error", None, "messages"), id="empty messages"),
        pytest.param(HELLO | {"stream": "yes"}, (400, "invalid_request_error", None, "stream"), id="wrong type"),
        pytest.param(
            HELLO | {"max_tokens": "100"}, (400, "invalid_request_error", None, "max_tokens"), id="number as text"
        ),
        pytest.param(
            HELLO | {"temperature": 3}, (400, "invalid_request_error", None, "temperature"), id="out of range"
        ),
    ],
)
async def test_bad_request_names_what_is_wrong(server: Running, simulator: Simulator, body: Any, expected: Any) -> None:
    status, kind, code, param = told(*await server.post(CHAT, body))
    assert (status, kind, param) == (expected[0], expected[1], expected[3])
    if expected[2] is not None:
        assert code == expected[2]
    assert simulator.generations == []
    assert (await server.post(CHAT, HELLO))[0] == 200, "the server goes on"


@pytest.mark.parametrize(
    "headers", [{"Authorization": ""}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "Basic c2stdGVzdA=="}]
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/debug/cache"])
async def test_missing_or_wrong_key_is_401(guarded: Running, path: str, headers: dict[str, str]) -> None:
    method = "POST" if path == CHAT else "GET"
    async with guarded.session.request(method, guarded.url + path, headers=headers) as response:
        assert told(response.status, await response.read()) == (401, "authentication_error", "invalid_api_key", None)
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_client_is_held_to_its_models_and_away_from_operators_routes(guarded: Running) -> None:
    held = {"Authorization": "Bearer sk-held"}
    assert told(*await guarded.post(CHAT, HELLO, held))[:2] == (403, "permission_error")
    assert (await guarded.post(CHAT, HELLO | {"model": "gemini-2.5-pro"}, held))[0] == 200
    assert [model["id"] for model in (await guarded.get("/v1/models", held))[1]["data"]] == ["gemini-2.5-pro"]
    assert told(*await guarded.get("/v1/debug/cache", held))[:2] == (403, "permission_error")
    assert (await guarded.get("/v1/debug/cache"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("OPTIONS", "/v1/nothing"),
        ("POST", "/a%0Ab"),
        ("DELETE", "//v1//nothing"),
        ("OPTIONS", "*"),
    ],
)
async def test_wrong_path_is_404(server: Running, caplog: pytest.LogCaptureFixture, method: str, path: str) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert told(int(head[9:12]), body)[:3] == (404, "invalid_request_error", "not_found")
    assert b"\r\nServer: gemproxy\r\n" in head
    await soon(lambda: " status=404 " in caplog.text)


async def test_of_a_long_wrong_path_only_the_beginning_is_redacted(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    cut, seen = held.cut, []
    monkeypatch.setattr(type(held), "cut", lambda _, text: seen.append(len(text)) or cut(text))
    assert (await server.get("/" + "%25" * 2_500))[0] == 404
    assert max(seen) <= 1_024
    assert "path=/%25%25" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("GET", CHAT, "OPTIONS,POST"), ("POST", "/v1/models", "GET,HEAD,OPTIONS")]
)
async def test_wrong_method_is_405_with_allow(server: Running, method: str, path: str, allow: str) -> None:
    async with server.session.request(method, server.url + path) as response:
        assert told(response.status, await response.read())[0] == 405
        assert response.headers["Allow"] == allow


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
async def test_browsers_are_let_in_only_where_configured(simulator: Simulator, tmp_path: Path, path: str) -> None:
    page = {"Origin": "https://page.example"}
    for origins, status in (('["https://page.example"]', 204), ("[]", 405)):
        more = f"[server]\ncors_origins = {origins}\n"
        async with running(simulator, configuration(simulator, tmp_path, more)) as server:
            async with server.session.options(server.url + path, headers=page) as response:
                assert response.status == status
                assert ("Access-Control-Allow-Origin" in response.headers) is (status == 204)
            async with server.session.post(
                server.url + CHAT, data=msgspec.json.encode(HELLO), headers=page | {"Authorization": "Bearer x"}
            ) as response:
                assert response.headers["Server"] == "gemproxy"
                assert response.headers.get("Access-Control-Allow-Origin") == (
                    "https://page.example" if status == 204 else None
                )


async def test_a_foreign_host_name_needs_a_key(server: Running) -> None:
    assert told(*await server.post(CHAT, HELLO, {"Host": "evil.example"}))[:2] == (403, "permission_error")


async def test_limits_of_a_key_are_told_as_openai_does(simulator: Simulator, tmp_path: Path) -> None:
    more = '[[auth.clients]]\nname = "ci"\nkey = "sk-test"\nrequests_per_minute = 2\n'
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        found = []
        for stream in (False, True, False):
            async with server.session.post(
                server.url + CHAT,
                data=msgspec.json.encode(HELLO | {"stream": stream}),
                headers={"Authorization": f"Bearer {KEY}"},
            ) as response:
                found.append((response.status, response.headers["x-ratelimit-remaining-requests"]))
                last = response.headers
                body = await response.read()
        assert found == [(200, "1"), (200, "0"), (429, "0")]
        assert told(429, body)[:3] == (429, "rate_limit_error", "rate_limit_exceeded")
        assert last["Retry-After"]


@pytest.mark.parametrize("stream", [True, False])
async def test_the_whole_answer_has_a_limit(simulator: Simulator, tmp_path: Path, stream: bool) -> None:
    frame = {"candidates": [{"content": {"parts": [{"text": "tick"}]}}]}
    simulator.script(frames_answer([frame] * 50).paced(0.05), times=None)
    async with running(simulator, configuration(simulator, tmp_path, "[timeouts]\ntotal = 0.3\n")) as server:
        status, body = await server.post(CHAT, HELLO | {"stream": stream})
        error = told(status, events(body)[-1] if stream else body)
        assert error == (200 if stream else 504, "timeout", "upstream_timeout", None)
        assert b"timeouts.total" in body


async def test_large_body_is_413(guarded: Running) -> None:
    large = b'{"x":"' + b"y" * (3 << 20) + b'"}'
    assert told(*await guarded.post(CHAT, large))[:3] == (413, "invalid_request_error", "request_too_large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    async with guarded.session.post(
        guarded.url + CHAT, data=endless(), headers={"Authorization": f"Bearer {KEY}"}
    ) as response:
        assert told(response.status, await response.read())[0] == 413
    assert (await guarded.post(CHAT, HELLO))[0] == 200


async def test_a_body_of_thirty_megabytes_is_within_the_default(server: Running) -> None:
    padded = HELLO | {"metadata": {"padding": "x" * (30 << 20)}}
    assert (await server.post(CHAT, padded))[0] == 200


async def test_a_large_image_goes_upstream_whole(server: Running, simulator: Simulator) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(5 << 20)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(png).decode()}}
    text = {"type": "text", "text": "What is this?"}
    status, _ = await server.post(CHAT, HELLO | {"messages": [{"role": "user", "content": [text, part]}]})
    assert status == 200
    parts = simulator.generations[0].json()["contents"][0]["parts"]
    assert base64.b64decode(parts[1]["inlineData"]["data"]) == png


@pytest.mark.parametrize("word", [b"image", b"\\u0069mage"], ids=["as it is", "with an escape"])
async def test_an_image_is_fetched_however_its_part_is_spelt(server: Running, word: bytes) -> None:
    part = b'{"type":"%b_url","%b_url":{"url":"http://127.0.0.1:1/a.png"}}' % (word, word)
    body = b'{"model":"gemini-3.5-flash","messages":[{"role":"user","content":[%b]}]}' % part
    status, _, _, param = told(*await server.post(CHAT, body))
    assert (status, param) == (400, "messages[0].content[0]")


async def test_slow_body_is_408(simulator: Simulator, tmp_path: Path) -> None:
    async with running(simulator, configuration(simulator, tmp_path, "[timeouts]\nbody = 0.2\n")) as server:

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(1)
            yield b"}"

        async with server.session.post(
            server.url + CHAT, data=slow(), headers={"Authorization": "Bearer x"}
        ) as response:
            status, kind, _, _ = told(response.status, await response.read())
        assert (status, kind) == (408, "timeout")


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "image/png", "text/html"])
async def test_other_media_are_415(server: Running, content_type: str) -> None:
    found = told(*await server.post(CHAT, HELLO, {"Content-Type": content_type}))
    assert found[:3] == (415, "invalid_request_error", "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain"]
)
async def test_json_is_read_whatever_curl_calls_it(server: Running, content_type: str) -> None:
    assert (await server.post(CHAT, HELLO, {"Content-Type": content_type}))[0] == 200


async def test_what_is_no_http_gets_a_plain_400(server: Running) -> None:
    reader, writer = await connection(server)
    writer.write(b"NONSENSE\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert (await server.get("/health"))[0] == 200


# ----------------------------------------------------------------------------------------------------- operations


async def test_each_request_has_one_log_line_without_secrets_or_prompts(
    server: Running, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    await server.post(CHAT, HELLO | {"messages": [{"role": "user", "content": "my secret prompt"}]})
    await server.post(CHAT, b"{")
    await server.get("/nowhere evil\nline")
    lines = [record.getMessage() for record in caplog.records if record.name == "gemproxy.access"]
    assert len(lines) == 3
    assert "status=200" in lines[0]
    assert f"model={MODEL}" in lines[0]
    assert "credential=studio-1 " in lines[0]
    assert "tokens_in=" in lines[0]
    assert "finish=stop" in lines[0]
    assert "status=400" in lines[1]
    assert "error=invalid_json" in lines[1]
    assert "status=404" in lines[2]
    everything = " ".join(record.getMessage() for record in caplog.records)
    assert "secret prompt" not in everything
    assert "test-key" not in everything
    assert KEY not in everything
    assert "\n" not in "".join(lines)


async def test_bug_is_a_500_without_details(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("inner detail")

    monkeypatch.setattr("gemproxy.converter.chat.operation.to_call", broken)
    status, body = await server.post(CHAT, HELLO, {"x-request-id": "trace-me"})
    assert told(status, body) == (500, "server_error", "internal_error", None)
    assert b"trace-me" in body
    assert b"inner detail" not in body
    assert "inner detail" in caplog.text


@pytest.mark.parametrize("fault", [ConnectionResetError, BrokenPipeError, aiohttp.ClientConnectionResetError])
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_connection_of_ours_that_breaks_is_told_to_the_client_that_waits(
    server: Running,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: type[Exception],
    stream: bool,
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise fault("a connection behind us")

    monkeypatch.setattr("gemproxy.server.asking.Asking.open", broken)
    status, body = await server.post(CHAT, HELLO | {"stream": stream})
    assert told(status, body) == (500, "server_error", "internal_error", None)
    assert "a connection behind us" in caplog.text


async def test_a_connection_of_ours_that_breaks_in_mid_stream_ends_it_with_an_error(
    server: Running, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> bool:
        raise ConnectionResetError("a connection behind us")

    monkeypatch.setattr("gemproxy.dispatch.dispatcher.Answer.pour", broken)
    status, body = await server.post(CHAT, HELLO | {"stream": True})
    assert status == 200
    assert b'"code":"internal_error"' in body.rstrip().splitlines()[-1]
    assert b"[DONE]" not in body


async def test_client_that_hangs_up_frees_everything(server: Running, simulator: Simulator) -> None:
    simulator.script(Answer((Hang(),)), times=None)
    asking = asyncio.get_running_loop().create_task(server.post(CHAT, HELLO | {"stream": True}))
    await soon(lambda: simulator.generations)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await server.session.close()
    await soon(lambda: simulator.generations[0].disconnected)
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.url + "/v1/debug/cache", headers={"Authorization": "Bearer x"}) as response,
    ):
        [row] = (await response.json())["credentials"]
    assert (row["in_flight"], row["failed"], row["state"]) == (0, 0, "ready")


async def test_more_requests_than_allowed_are_refused_at_once(simulator: Simulator, tmp_path: Path) -> None:
    simulator.script(Answer((Hang(),)), times=None)
    async with running(simulator, configuration(simulator, tmp_path, "[server]\nmax_requests = 1\n")) as server:
        first = asyncio.get_running_loop().create_task(server.post(CHAT, HELLO))
        await soon(lambda: simulator.generations)
        status, body = await server.post(CHAT, HELLO)
        assert told(status, body)[:3] == (503, "server_error", "overloaded")
        assert b"server.max_requests" in body
        assert (await server.get("/v1/models"))[0] == 200
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_client_that_leaves_as_its_status_is_told_leaves_nothing_that_goes_on(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def prepare(self: EventStream, request: Any) -> None:
        begun.set()
        await never.wait()

    def telling() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "status commit"]

    monkeypatch.setattr(EventStream, "prepare", prepare)
    simulator.script(Answer((Hang(),)))
    async with running(simulator, configuration(simulator, tmp_path, "[timeouts]\nhold = 0\n")) as server:
        asking = asyncio.get_running_loop().create_task(server.post(CHAT, HELLO | {"stream": True}))
        await begun.wait()
        assert telling()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await soon(lambda: not telling())
