"""What a client says stays data: upstream headers and bodies, URLs, the log. Nothing of its own goes further."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import msgspec
import pytest
from yarl import URL

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.config import load
from gemproxy.simulator import Simulator, frames_answer, text_answer
from tests.faults.client import AUTH, ask, bare, hello
from tests.faults.figures import note
from tests.faults.plants import PLANTS, found_in, trio
from tests.running import Running, running
from tests.server_process import configured, serving

TICK = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


# ------------------------------------------------------------------------------------------- what goes upstream

NOSY = {
    "Cookie": "session=fake-cookie",
    "Origin": "http://localhost",
    "Referer": "https://intern.example/page",
    "User-Agent": "OpenAI/Python 9.9",
    "X-Forwarded-For": "203.0.113.9",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "Via": "1.1 proxy",
    "Traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "Accept-Language": "fake-language",
    "OpenAI-Organization": "org-fake",
    "OpenAI-Beta": "assistants=v2",
    "X-Stainless-Lang": "fake-stainless",
    "X-Goog-Api-Key": "fake-google-key",
    "X-Goog-User-Project": "fake-project",
    "X-Goog-Api-Client": "fake",
    "X-HTTP-Method-Override": "DELETE",
    "X-Request-Id": "my-request",
    "Idempotency-Key": "fake-idempotency",
}
COMMON = {"Host", "Accept", "Accept-Encoding", "Content-Length", "Content-Type", "User-Agent"}
COMMON |= {"Connection"} if PLAIN else set()  # that is not kept
UNKNOWN = {
    "user": "somebody@example.invalid",
    "metadata": {"secret": "fake-metadata"},
    "api_key": "fake-body-key",
    "safety_identifier": "fake-identifier",
    "prompt_cache_key": "fake-cache-key",
    "store": True,
    "contents": [{"role": "user", "parts": [{"text": "smuggled"}]}],
    "system_instruction": "smuggled",
    "model_version": "smuggled",
    "project": "smuggled",
}


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize(
    ("model", "own"),
    [
        ("gemini-2.5-flash", "x-goog-api-key"),
        ("gemini-2.5-pro", "Authorization"),
        ("gemini-3.5-flash", "Authorization"),
    ],
    ids=["AI Studio", "Code Assist", "Vertex AI"],
)
async def test_upstream_gets_exactly_our_headers_and_the_converted_body(
    simulator: Simulator, tmp_path: Path, model: str, own: str, stream: bool
) -> None:
    file = tmp_path / "trio.toml"
    keys = '[auth]\nkeys = ["sk-test"]\n'  # without any, what a proxy passed on is refused
    file.write_text(keys + trio(simulator, tmp_path), encoding="utf-8")
    async with running(simulator, load(file, {})) as server:
        got = await ask(server.session, server.url, hello(model=model, stream=stream, **UNKNOWN), AUTH | NOSY)
    assert got.whole, got.body
    for request in simulator.requests:
        mine = (
            "x-goog-api-client" if request.call == "token" else own
        )  # google-auth names itself to the token end point
        assert set(request.headers) == COMMON | {mine}, request.path
        assert request.headers["User-Agent"].startswith("gemproxy/"), request.path
        for value in (*NOSY.values(), "sk-test"):
            assert value not in " ".join(request.headers.values()), request.path
    [generation] = simulator.generations
    body = generation.json()
    inner = body.get("request", body)
    assert inner["contents"] == [{"role": "user", "parts": [{"text": "Hello"}]}]
    assert set(inner) <= {"contents", "generationConfig", "safetySettings"}
    for leaked in (b"smuggled", b"somebody@", b"fake-metadata", b"fake-body-key", b"fake-identifier", b"sk-test"):
        assert leaked not in generation.body


# --------------------------------------------------------------------------------------------------------- injection

NAMES = [
    "gemini-2.5-flash/../../../v1internal",
    "gemini-2.5-flash/../gemini-2.5-pro",
    "gemini-../../x",
    "gemini-2.5-flash?alt=json&key=other",
    "gemini-2.5-flash#fragment",
    "gemini-2.5-flash:countTokens",
    "gemini-2.5-flash%2f..%2f..%2fupload",
    "gemini-2.5-flash%0d%0ax-injected: 1",
    "gemini-2.5-flash\r\nx-injected: 1\r\n\r\n",
    "gemini-2.5-flash HTTP/1.1\r\nHost: evil",
    "gemini-2.5-flash\x00",
    "gemini-2.5-flash\u2028\u2029\u0085",
    "gemini-2.5-fla\u0455h",
    "gemini-\U0001f600",
    "gemini-2.5-flash\\..\\..",
    "gemini-2.5-flash;x=y",
    "gemini-@evil.example/",
    "models/gemini-2.5-flash",
    "models/models/gemini-x",
    "tunedModels/gemini-x",
    "//evil.example/gemini-x",
    "gemini-" + "a" * 100_000,
    "..",
    "",
]
STUDIO_PATH = re.compile(r"/v1beta/models/[^/?#]*:(generateContent|streamGenerateContent\?alt=sse)")


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name[:40]) for name in NAMES])
async def test_model_name_stays_a_name(opened: Running, simulator: Simulator, name: str) -> None:
    simulator.script(text_answer("served"), times=None, method=None)
    for stream in (False, True):
        got = await ask(opened.session, opened.url, hello(model=name, stream=stream))
        assert got.whole or 400 <= got.status < 500
        assert "x-injected" not in {header.lower() for header in got.headers}
    for request in simulator.requests:
        assert STUDIO_PATH.fullmatch(request.raw_path), request.raw_path[:200]
        assert URL(request.raw_path, encoded=True).path.count("/") >= 3
        assert "x-injected" not in request.headers
        assert request.headers["Host"] == URL(simulator.url).authority
        assert len(request.raw_path) < 4_000, "a name of 100 kB is nobody's model"


NASTY = [
    "a\r\nx-injected: 1",
    "a\x00b",
    "../../etc/passwd",
    '"}],"x":[{"',
    "\u2028",
    "</script>",
    "${jndi:ldap://x}",
    "a" * 5_000,
]


@pytest.mark.parametrize("word", NASTY, ids=[ascii(word[:20]) for word in NASTY])
async def test_names_and_ids_stay_data(opened: Running, simulator: Simulator, word: str) -> None:
    function = {
        "name": word,
        "description": word,
        "parameters": {"type": "object", "properties": {word: {"type": "string"}}},
    }
    call = {
        "id": word,
        "type": "function",
        "function": {"name": word, "arguments": msgspec.json.encode({word: word}).decode()},
    }
    messages = [
        {"role": "user", "content": word, "name": word},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": word, "content": word},
    ]
    body = hello() | {"messages": messages, "tools": [{"type": "function", "function": function}], "user": word}
    simulator.script(text_answer("served"), times=None)
    got = await ask(opened.session, opened.url, body)
    assert got.whole or got.status == 400, got.body
    for request in simulator.requests:
        assert STUDIO_PATH.fullmatch(request.raw_path)
        assert "x-injected" not in request.headers
        texts = [part["text"] for content in request.json()["contents"] for part in content["parts"] if "text" in part]
        assert word in texts


async def test_what_the_model_says_stays_data(opened: Running, simulator: Simulator) -> None:
    """Text that looks like events must not become events (and U+2028 ends no line)."""
    said = 'x\n\ndata: [DONE]\n\ndata: {"error":{}}\r\n\r\nevent: y\u2028\u0085\x0b\x0c\x1c end'
    simulator.script(
        frames_answer([TICK, {"candidates": [{"content": {"parts": [{"text": said}]}, "finishReason": "STOP"}]}])
    )
    got = await ask(opened.session, opened.url, hello(stream=True))
    assert got.whole
    assert got.text == "tick " + said


# --------------------------------------------------------------------------------------------------------------- log

FORGED = "2026-01-01T00:00:00.000Z INFO gemproxy.access id=forged status=200"
EVIL = [
    f"gemini-x\n{FORGED}",
    f"gemini-x\r\n{FORGED}",
    "gemini-\x1b[2J\x1b]0;owned\x07",
    f"gemini-\u2028{FORGED}",
    f"gemini-\x85{FORGED}",
]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_log_has_one_line_a_request_whatever_a_client_says(
    simulator: Simulator, tmp_path: Path, form: str
) -> None:
    async with (
        serving(
            tmp_path, configured(simulator.ai_studio_url, f'[log]\nformat = "{form}"\nlevel = "debug"\n')
        ) as server,
        aiohttp.ClientSession() as session,
    ):
        already = len(server.log.splitlines())
        for evil in EVIL:
            await ask(session, server.url, hello(model=evil))
            raw = URL.build(path=f"/no/{evil}").raw_path
            async with session.get(
                URL(server.url + raw, encoded=True), headers={"x-request-id": "x" * 129}
            ) as response:
                assert response.status == 404
        await server.logged("/no/", times=len(EVIL))
        log = server.log
    assert "\x1b" not in log
    loggers = [_logger(line, form) for line in log.split("\n")[already:] if line]
    assert {name.partition(".")[0] for name in loggers} == {"gemproxy"}, "a line that no logger of ours has begun"
    assert loggers.count("gemproxy.access") == 2 * len(EVIL)
    assert form == "json" or not set(log) & set("\u2028\u2029\x85\x07\r"), "JSON says them inside its strings"


def _logger(line: str, form: str) -> str:
    """Return who wrote a line; an assertion fails if it is no line of a log."""
    if form == "json":
        return str(msgspec.json.decode(line)["logger"])
    found = re.match(r"\d{4}-\d\d-\d\dT[\d:.]{12}Z [A-Z]+ (\S+) ", line)
    assert found is not None, line
    assert not line.startswith(FORGED)
    return found[1]


async def test_what_is_no_http_leaves_no_traceback_and_none_of_its_bytes_in_the_log(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Anybody who reaches the port can send it: it must neither flood the log nor carry a key into it."""
    key = PLANTS["client key"]
    bad = [
        f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\x01\r\n\r\n",
        f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization Bearer {key}\r\n\r\n",
        f"GET /v1/models?key={key}\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        f"Bearer {key}\r\n\r\n",
    ]
    async with serving(tmp_path, configured(simulator.ai_studio_url)) as server:
        before = len(server.log)
        for said in bad:
            async with bare(server.port) as client:
                await client.say(said.encode())
                assert await client.status() == 400
                answer = await client.rest()
                assert not found_in(answer), "the answer to no HTTP repeats what was sent"
        await asyncio.sleep(0.2)
        grown = server.log[before:]
    note(f"{len(bad)} requests that are no HTTP: {len(grown)} bytes of log")
    assert not found_in(grown)
    assert len(grown) < 300 * len(bad)
