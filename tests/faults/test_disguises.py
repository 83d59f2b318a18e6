"""An upstream quotes the credential it was sent, in every disguise and every place where a text of its own is passed
on: no client, log, capture or operator's answer may hold it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.config import load
from gemproxy.redaction import LONGEST_MESSAGE
from gemproxy.simulator import Account, Answer, Simulator, error_answer, frames_answer, unary_answer
from tests.disguises import DISGUISES, leaks
from tests.faults.client import CHAT, hello
from tests.faults.figures import note
from tests.faults.test_secrets import written_log
from tests.running import Running, running
from tests.server_process import rewrite

GATEWAY_KEY = "gw/FAKE+one_two-three=four.five"  # of no shape that a rule knows
CLIENT_KEY = "fake-team-key-0001"
ADMIN_KEY = "fake-admin-key-0001"
REFRESH, ROTATED = "fake/refresh+token-0001", "fake/rotated+token-0001"
CLIENT_SECRET, ACCESS = "fake/client+secret-0001", "fake.access/token+0001"

TOML = f"""
[server]
port = 0
[log]
level = "debug"
capture_dir = "captures"
[auth]
admin_keys = ["{ADMIN_KEY}"]
[[auth.clients]]
name = "team"
key = "{CLIENT_KEY}"
[oauth]
client_id = "fake-client"
client_secret = "{CLIENT_SECRET}"
[[credentials]]
name = "gateway"
kind = "api_key"
key = "{GATEWAY_KEY}"
models = ["gemini-2.5-flash"]
[[credentials]]
name = "person"
kind = "oauth"
file = "person.json"
models = ["gemini-2.5-pro"]
"""
TICK = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


def refusal(text: str) -> dict[str, Any]:
    return {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}


def ended(reason: str, message: str = "") -> Answer:
    candidate = {"finishReason": reason} | ({"finishMessage": message} if message else {})
    return frames_answer([{"candidates": [candidate]}])


Place = Callable[[str], Answer]
PLACES: dict[str, Place] = {
    "a refusal": lambda text: error_answer(400, refusal(text)),
    "a refusal within a refusal": lambda text: error_answer(400, refusal(msgspec.json.encode(refusal(text)).decode())),
    "an error instead of a stream": lambda text: frames_answer([refusal(text)]),
    "an error in a stream": lambda text: frames_answer([TICK, refusal(text)]),
    "why a prompt was blocked": lambda text: frames_answer(
        [{"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": text}}]
    ),
    "the word for a blocked prompt": lambda text: frames_answer([{"promptFeedback": {"blockReason": text}}]),
    "why an answer was blocked": lambda text: ended("SAFETY", text),
    "why an answer is malformed": lambda text: ended("MALFORMED_FUNCTION_CALL", text),
    "the word for an end": lambda text: ended(text),
}


async def told(server: Running, path: str, body: Any, key: str = CLIENT_KEY) -> str:
    headers = {"Authorization": f"Bearer {key}"}
    async with server.session.post(server.url + path, json=body, headers=headers) as response:
        text = await response.text()
        assert len(text) < 3 * LONGEST_MESSAGE
        return "\n".join([text, *_strings(text)])


def _strings(text: str) -> list[str]:
    """Return all texts of an answer, or of a stream's events, as a client reads them."""
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    found = [msgspec.json.decode(line) for line in lines if line.startswith("{")]
    return [leaf for value in found for leaf in _leaves(value)]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [leaf for inner in (value.values() if isinstance(value, dict) else value) for leaf in _leaves(inner)]
    return [value] if isinstance(value, str) else []


def configured(simulator: Simulator, folder: Path) -> Any:
    (folder / "person.json").write_bytes(msgspec.json.encode({"refresh_token": REFRESH}))
    urls = ("ai_studio_url", "code_assist_url", "vertex_url", "token_url")
    upstream = "".join(f'{url} = "{getattr(simulator, url)}"\n' for url in urls)
    rewrite(folder, f"{TOML}[upstream]\n{upstream}")
    return load(folder / "gemproxy.toml", {})


@pytest.mark.parametrize("place", PLACES)
async def test_a_key_that_the_upstream_quotes_is_passed_on_in_no_disguise(
    simulator: Simulator, tmp_path: Path, place: str
) -> None:
    now = [""]
    simulator.script(lambda _: PLACES[place](f"Key {DISGUISES[now[0]](GATEWAY_KEY)} has expired."), times=None)
    answers: dict[str, str] = {}
    with written_log() as log:
        async with running(simulator, configured(simulator, tmp_path)) as server:
            for now[0] in DISGUISES:
                answers[now[0]] = await told(server, CHAT, hello(stream=True))
    captured = "".join(file.read_text() for file in (tmp_path / "captures").glob("*"))
    leaking = {
        where: [name for name, hide in DISGUISES.items() if leaks(text(name), GATEWAY_KEY, hide)]
        for where, text in (
            ("answers", lambda name: answers[name]),
            ("log", lambda _: log.getvalue()),
            ("captures", lambda _: captured),
        )
    }
    note(f"a key quoted in {place}: {len(DISGUISES)} disguises, passed on: {leaking}")
    assert leaking == {"answers": [], "log": [], "captures": []}


@pytest.mark.parametrize(
    "secret",
    [GATEWAY_KEY, CLIENT_KEY, ADMIN_KEY, REFRESH, ROTATED, CLIENT_SECRET, ACCESS],
    ids=["key", "client", "admin", "refresh", "rotated", "client secret", "access"],
)
async def test_whatever_the_process_holds_is_cut_out(simulator: Simulator, tmp_path: Path, secret: str) -> None:
    simulator.accounts.add(Account(REFRESH, project="fake-project-1"))
    tokens = {"access_token": ACCESS, "refresh_token": ROTATED, "expires_in": 3599}
    simulator.script(unary_answer(tokens), method="token")
    names = ("as it is", "percent", "unicode escapes", "base64 behind 1", "cut by a line end")
    for name in names:
        simulator.script(error_answer(400, refusal(f"Not {DISGUISES[name](secret)}.")), model="gemini-2.5-pro")
    async with running(simulator, configured(simulator, tmp_path)) as server:
        for name in names:
            answer = await told(server, CHAT, hello(model="gemini-2.5-pro"))
            assert not leaks(answer, secret, DISGUISES[name]), name
            assert "[secret]" in answer


async def test_a_token_endpoint_and_a_search_for_a_project_tell_no_secret(simulator: Simulator, tmp_path: Path) -> None:
    simulator.accounts.add(Account(REFRESH, project="fake-project-1"))
    hide = DISGUISES["percent"]
    with written_log() as log:
        async with running(simulator, configured(simulator, tmp_path)) as server:
            answers = []
            for word in ("invalid_grant", hide(REFRESH), "x" * 5_000):
                told_all = {"error": word, "error_description": f"{REFRESH} {hide(CLIENT_SECRET)} " + "y" * 5_000}
                simulator.script(error_answer(400, told_all), method="token")
                answers.append(await told(server, "/v1/token-test", {}, ADMIN_KEY))
            for reason in (hide(REFRESH), "Z" * 5_000):
                tier = {"reasonCode": reason, "reasonMessage": f"{hide(REFRESH)} {CLIENT_SECRET}", "tierId": "x"}
                simulator.script(unary_answer({"ineligibleTiers": [tier]}), method="loadCodeAssist")
                answers.append(await told(server, "/v1/token-test", {}, ADMIN_KEY))
            for path in ("/v1/debug/cache", "/metrics"):
                async with server.session.get(
                    server.url + path, headers={"Authorization": f"Bearer {ADMIN_KEY}"}
                ) as response:
                    answers.append(await response.text())
    for text in (*answers, log.getvalue()):
        for secret in (REFRESH, CLIENT_SECRET):
            assert not leaks(text, secret, hide)
        assert "Z" * 100 not in text.upper()


async def test_a_key_in_the_wrong_place_is_not_in_the_log(simulator: Simulator, tmp_path: Path) -> None:
    with written_log() as log:
        async with running(simulator, configured(simulator, tmp_path)) as server:
            headers = {"Authorization": f"Bearer {CLIENT_KEY}"}
            for path in (f"/v1/{CLIENT_KEY}/models", f"/v1/models/{CLIENT_KEY}", f"/{GATEWAY_KEY.replace('/', '%2F')}"):
                async with server.session.get(server.url + path, headers=headers) as response:
                    assert response.status == 404
    assert not leaks(log.getvalue(), CLIENT_KEY, str)
    assert not leaks(log.getvalue(), GATEWAY_KEY, str)
    assert "[secret]" in log.getvalue()


async def test_a_strangers_words_are_short_in_the_log(simulator: Simulator, tmp_path: Path) -> None:
    with written_log() as log:
        async with running(simulator, configured(simulator, tmp_path)) as server:
            headers = {"Authorization": "Bearer fake-wrong-key", "x-request-id": "r" * 4_000}
            for method, path in (("GET", "/" + "p" * 8_000), ("GET", "/v1/models/" + "m" * 7_000), ("M" * 4_000, "/")):
                async with server.session.request(method, server.url + path, headers=headers) as response:
                    assert response.status >= 400
                    assert len(await response.read()) < 1_000
            await _raw(server, b"GET / NOHTTP" + b"x" * 7_000 + b"\r\n\r\n")
    assert max(map(len, log.getvalue().splitlines())) < 900


async def _raw(server: Running, data: bytes) -> bytes:
    host, port = aiohttp.client.URL(server.url).host, aiohttp.client.URL(server.url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer
