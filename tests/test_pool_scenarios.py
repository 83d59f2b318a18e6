"""The pool as an operator lives with it: three kinds of credentials, two pools, every refusal."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.config import load
from gemproxy.simulator import (
    Account,
    AccountState,
    Hang,
    KeyState,
    Simulator,
    Wait,
    error_answer,
    replay,
    unary_answer,
)
from tests.credential_files import service_account
from tests.recorded import Recorded, answers, said
from tests.running import Running, running
from tests.test_recorded import compare, through_openai
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {
    "model": "gemini-2.5-flash",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": False,
}


def oauth_file(folder: Path, name: str) -> Path:
    """Write a credential as gemini-cli does, whose access token is long dead."""
    file = folder / f"{name}.json"
    grant = {"access_token": "", "refresh_token": f"refresh-{name}", "token_type": "Bearer", "expiry_date": 1}
    file.write_bytes(msgspec.json.encode(grant))
    return file


def config_text(simulator: Simulator, folder: Path, oauth: list[str], keys: list[str], more: str = "") -> str:
    upstream = {
        "ai_studio_url": simulator.ai_studio_url,
        "code_assist_url": simulator.code_assist_url,
        "vertex_url": simulator.vertex_url,
        "token_url": simulator.token_url,
    }
    parts = [more, '[oauth]\nclient_id = "fake-client"\nclient_secret = "fake-secret"\n[upstream]']
    parts += [f'{key} = "{url}"' for key, url in upstream.items()]
    parts += [
        f'[[credentials]]\nname = "{name}"\nkind = "oauth"\nfile = "{oauth_file(folder, name)}"\n' for name in oauth
    ]
    parts += [
        f'[[credentials]]\nname = "{name}"\nkind = "api_key"\nkey = "key-{name}"\npool = "backup"\n' for name in keys
    ]
    return "\n".join(parts)


def configured(folder: Path, text: str) -> Any:
    file = folder / "gemproxy.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, {})


def asked(simulator: Simulator) -> Counter[str]:
    """Return how often each credential was asked to generate."""
    return Counter(
        request.account.removeprefix("refresh-") or request.credential.removeprefix("key-")
        for request in simulator.generations
    )


def answered(simulator: Simulator) -> Counter[str]:
    """Return how often each credential served."""
    return Counter(
        request.account.removeprefix("refresh-") or request.credential.removeprefix("key-")
        for request in simulator.generations
        if request.status == 200
    )


async def test_primaries_refuse_each_in_its_way_and_no_client_notices(simulator: Simulator, tmp_path: Path) -> None:
    refusals = {
        "p1": AccountState.EXHAUSTED,  # a quota of hours
        "p2": AccountState.UNSUPPORTED_CLIENT,  # 403: no licence
        "p3": AccountState.VALIDATION,  # 403: a person must act
    }
    for name, state in refusals.items():
        simulator.accounts.add(Account(f"refresh-{name}", state=state))
    simulator.keys["key-b1"] = KeyState.PER_DAY
    config = configured(tmp_path, config_text(simulator, tmp_path, list(refusals), ["b1", "b2"]))
    async with running(simulator, config) as server:
        first = await server.post(CHAT, HELLO)  # the others come while the refusals are already known, or just now
        places = asyncio.Semaphore(20)

        async def one() -> int:
            async with places:
                return (await server.post(CHAT, HELLO))[0]

        statuses = [first[0], *await asyncio.gather(*(one() for _ in range(199)))]
        assert statuses == [200] * 200
        counts = asked(simulator)
        refused = [request for request in simulator.generations if request.status != 200]
        assert counts["b2"] == 200
        assert all(counts[name] <= 1 for name in (*refusals, "b1")), "asked again after its refusal"
        assert len(refused) <= 4
        _, body = await server.get("/v1/debug/cache")
        states = {row["name"]: row["state"] for row in body["credentials"]}
        assert states == {"p1": "cooling", "p2": "parked", "p3": "parked", "b1": "cooling", "b2": "ready"}


async def test_a_burst_asks_each_refusing_credential_at_most_once_per_place(
    simulator: Simulator, tmp_path: Path
) -> None:
    """20 at once before anything is known: each may be refused by a credential once, none twice by the same."""
    for name in ("p1", "p2", "p3"):
        simulator.accounts.add(Account(f"refresh-{name}", state=AccountState.EXHAUSTED))
    config = configured(tmp_path, config_text(simulator, tmp_path, ["p1", "p2", "p3"], ["b1"]))
    async with running(simulator, config) as server:
        statuses = await asyncio.gather(*(server.post(CHAT, HELLO) for _ in range(20)))
        assert [status for status, _ in statuses] == [200] * 20
        assert asked(simulator)["b1"] == 20
        before = asked(simulator)
        await asyncio.gather(*(server.post(CHAT, HELLO) for _ in range(20)))
        after = asked(simulator)
        assert {name: after[name] - before[name] for name in ("p1", "p2", "p3")} == {"p1": 0, "p2": 0, "p3": 0}


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])
@pytest.mark.parametrize("kind", ["oauth", "api_key", "service_account"])
async def test_each_kind_alone_is_a_full_installation(
    simulator: Simulator, tmp_path: Path, kind: str, model: str
) -> None:
    simulator.accounts.known_only = False
    text = config_text(simulator, tmp_path, ["only"] if kind == "oauth" else [], ["only"] if kind == "api_key" else [])
    if kind == "service_account":
        file = service_account(tmp_path / "robot.json")
        text += f'\n[[credentials]]\nname = "only"\nkind = "service_account"\nfile = "{file}"\n'
    async with running(simulator, configured(tmp_path, text)) as server:
        status, body = await server.post(CHAT, HELLO | {"model": model})
        assert (status, b'"finish_reason":"stop"' in body) == (200, True)
        status, body = await server.post(CHAT, HELLO | {"model": model, "stream": True})
        assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        assert (await server.post("/v1/token-test", b""))[0] == 200
        status, body = await server.post(f"/v1/test?model={model}", b"")
        rows = msgspec.json.decode(body)["results"]
        assert status == 200, rows
        project = ["project"] if kind == "oauth" else []
        assert [row["step"] for row in rows] == ["config", "token", *project, "generate", "stream"]


async def test_without_tokens_for_one_upstream_the_backup_of_another_serves(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.script(error_answer(401, {"error": "invalid_client"}), method="token", times=None)
    config = configured(tmp_path, config_text(simulator, tmp_path, ["p1", "p2"], ["b1"]))
    async with running(simulator, config) as server:
        assert [(await server.post(CHAT, HELLO))[0] for _ in range(6)] == [200] * 6
        assert asked(simulator) == {"b1": 6}
        await soon(lambda: sum(request.call == "token" for request in simulator.requests) == 2)  # once for each primary
        _, body = await server.get("/v1/debug/cache")
        assert {row["state"] for row in body["credentials"]} == {"ready"}


async def test_nobody_waits_for_a_slow_token_endpoint_who_can_be_served(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemproxy.dispatch.retry.TOKEN_GRACE", 0.05)
    gate = asyncio.Event()
    simulator.script(unary_answer({"access_token": "late", "expires_in": 3600}).after(Wait(gate)), method="token")
    config = configured(tmp_path, config_text(simulator, tmp_path, ["p1"], ["b1"]))
    async with running(simulator, config) as server:
        assert [(await server.post(CHAT, HELLO))[0] for _ in range(5)] == [200] * 5
        assert asked(simulator) == {"b1": 5}
        gate.set()  # the fetch has gone on meanwhile
        await soon(lambda: any(request.call == "loadCodeAssist" for request in simulator.requests))
        assert sum(request.call == "token" for request in simulator.requests) == 1
        _, body = await server.get("/v1/debug/cache")
        assert {row["name"]: (row["state"], row["failed"]) for row in body["credentials"]} == {
            "p1": ("ready", 0),
            "b1": ("ready", 0),
        }


async def test_a_slow_refresh_after_a_401_is_not_waited_for_either(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemproxy.dispatch.retry.TOKEN_GRACE", 0.05)
    config = configured(tmp_path, config_text(simulator, tmp_path, ["p1"], ["b1"]))
    async with running(simulator, config) as server:
        assert (await server.post(CHAT, HELLO))[0] == 200
        simulator.accounts.expire_all()
        simulator.script(unary_answer({}).after(Hang()), method="token", times=None)
        assert [(await server.post(CHAT, HELLO))[0] for _ in range(3)] == [200] * 3
        assert answered(simulator) == {"p1": 1, "b1": 3}


async def test_another_login_with_a_token_at_hand_serves_while_the_endpoint_is_dead(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemproxy.dispatch.retry.TOKEN_GRACE", 0.05)
    config = configured(tmp_path, config_text(simulator, tmp_path, ["p1", "p2"], ["b1"]))
    async with running(simulator, config) as server:
        assert [(await server.post(CHAT, HELLO))[0] for _ in range(2)] == [200] * 2
        simulator.script(unary_answer({}).after(Hang()), method="token", times=None)
        del simulator.accounts.access["sim-access-1"]
        assert [(await server.post(CHAT, HELLO))[0] for _ in range(4)] == [200] * 4
        assert answered(simulator) == {"p1": 1, "p2": 5}


async def test_fifty_requests_at_expiry_make_one_refresh(simulator: Simulator, tmp_path: Path) -> None:
    simulator.token_delay = 0.1
    config = configured(tmp_path, config_text(simulator, tmp_path, ["only"], []))
    async with running(simulator, config) as server:
        statuses = await asyncio.gather(*(server.post(CHAT, HELLO) for _ in range(50)))
        assert {status for status, _ in statuses} == {200}
        assert sum(simulator.refreshes.values()) == 1
        assert len([request for request in simulator.requests if request.call == "loadCodeAssist"]) == 1


async def test_revoked_token_is_refreshed_once_and_the_request_goes_on(simulator: Simulator, tmp_path: Path) -> None:
    config = configured(tmp_path, config_text(simulator, tmp_path, ["only"], []))
    async with running(simulator, config) as server:
        assert (await server.post(CHAT, HELLO))[0] == 200
        simulator.accounts.expire_all()
        assert (await server.post(CHAT, HELLO))[0] == 200
        assert sum(simulator.refreshes.values()) == 2


@pytest.mark.parametrize(
    ("states", "status", "code", "retryable"),
    [
        ([KeyState.PER_MINUTE, KeyState.PER_MINUTE], 429, "rate_limit_exceeded", None),
        ([KeyState.PER_DAY, KeyState.PER_DAY], 429, "insufficient_quota", "false"),
        ([KeyState.PER_MINUTE, KeyState.PER_DAY], 429, "rate_limit_exceeded", None),
        ([KeyState.INVALID, KeyState.LEAKED], 503, "no_upstream_credentials", "false"),
        ([KeyState.INVALID, KeyState.PER_DAY], 429, "insufficient_quota", "false"),
    ],
)
async def test_all_out_tells_when_or_who(
    simulator: Simulator, tmp_path: Path, states: list[KeyState], status: int, code: str, retryable: str | None
) -> None:
    simulator.keys |= {f"key-k{number}": state for number, state in enumerate(states)}
    names = [f"k{number}" for number in range(len(states))]
    async with running(simulator, configured(tmp_path, config_text(simulator, tmp_path, [], names))) as server:
        for _ in range(2):
            async with server.session.post(
                server.url + CHAT, data=msgspec.json.encode(HELLO), headers={"Authorization": "Bearer x"}
            ) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (status, code)
                assert response.headers.get("x-should-retry") == retryable
                if status == 429:
                    wait = int(response.headers["Retry-After"])
                    assert (wait <= 60) if retryable is None else (60 < wait <= 90_000)
                else:
                    assert "/v1/debug/cache" in error["message"]
        assert len(simulator.generations) == len(states)


async def test_keys_of_one_project_rest_together(simulator: Simulator, tmp_path: Path) -> None:
    simulator.keys["key-a"] = KeyState.PER_MINUTE
    text = config_text(simulator, tmp_path, [], ["a", "b", "c"]).replace(
        'key = "key-a"', 'key = "key-a"\nproject = "one"'
    )
    text = text.replace('key = "key-b"', 'key = "key-b"\nproject = "one"')
    async with running(simulator, configured(tmp_path, text)) as server:
        for _ in range(4):
            assert (await server.post(CHAT, HELLO))[0] == 200
    assert asked(simulator) == {"a": 1, "c": 4}


async def test_model_that_nobody_has_stays_404(simulator: Simulator, tmp_path: Path) -> None:
    gone = HELLO | {"model": "gemini-1.5-pro"}
    async with running(simulator, configured(tmp_path, config_text(simulator, tmp_path, [], ["a", "b"]))) as server:
        for _ in range(3):
            status, body = await server.post(CHAT, gone)
            assert (status, msgspec.json.decode(body)["error"]["code"]) == (404, "model_not_found")
        assert len(simulator.generations) == 2


@pytest.mark.parametrize("parked", ["a", "b"])
async def test_a_parked_credential_beside_one_that_lacks_the_model_is_503(
    simulator: Simulator, tmp_path: Path, parked: str
) -> None:
    simulator.keys[f"key-{parked}"] = KeyState.INVALID
    gone = HELLO | {"model": "gemini-1.5-pro"}
    async with running(simulator, configured(tmp_path, config_text(simulator, tmp_path, [], ["a", "b"]))) as server:
        for _ in range(3):
            status, body = await server.post(CHAT, gone)
            assert (status, msgspec.json.decode(body)["error"]["code"]) == (503, "no_upstream_credentials")
        assert len(simulator.generations) == 2


async def test_the_log_tells_what_happens_to_credentials_and_of_old_models(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    simulator.keys |= {"key-a": KeyState.PER_DAY, "key-b": KeyState.LEAKED}
    async with running(
        simulator, configured(tmp_path, config_text(simulator, tmp_path, [], ["a", "b", "c"]))
    ) as server:
        await server.post(CHAT, HELLO)
        for _ in range(2):
            await server.post(CHAT, HELLO | {"model": "gemini-1.5-flash"})
    lines = [record.getMessage() for record in caplog.records if record.name == "gemproxy"]
    assert [line for line in lines if line.startswith("credential a rests") and "(quota_day)" in line]
    assert [line for line in lines if line.startswith("credential b is parked (key_leaked)")]
    assert len([record for record in caplog.records if "shutdown date" in record.getMessage()]) == 1


async def test_backup_pool_has_the_model_that_no_primary_has(simulator: Simulator, tmp_path: Path) -> None:
    missing = error_answer(
        404, {"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}
    )
    for name in ("p1", "p2", "p3"):
        simulator.script(missing, times=None, credential=f"key-{name}")
    text = config_text(simulator, tmp_path, [], ["p1", "p2", "p3", "b"])
    text = text.replace('pool = "backup"', 'pool = "primary"', 3)
    async with running(simulator, configured(tmp_path, text)) as server:
        for _ in range(2):
            assert (await server.post(CHAT, HELLO))[0] == 200
    assert asked(simulator) == {"p1": 1, "p2": 1, "p3": 1, "b": 2}


async def test_refused_requests_tell_their_way_too(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.access")
    simulator.keys |= {"key-a": KeyState.PER_MINUTE, "key-b": KeyState.PER_MINUTE}
    text = config_text(simulator, tmp_path, [], ["a", "b"], "[server]\nexpose_routing = true\n")
    async with (
        running(simulator, configured(tmp_path, text)) as server,
        server.session.post(
            server.url + CHAT, data=msgspec.json.encode(HELLO), headers={"Authorization": "Bearer x"}
        ) as response,
    ):
        assert response.status == 429
        assert (response.headers["x-gemproxy-credential"], response.headers["x-gemproxy-attempts"]) == ("b", "2")
    assert "credential=b attempts=2" in caplog.text


async def test_full_test_asks_each_credential_for_a_model_it_offers(simulator: Simulator, tmp_path: Path) -> None:
    text = config_text(simulator, tmp_path, [], ["a", "b"])
    text = text.replace('key = "key-a"', 'key = "key-a"\nmodels = ["gemini-2.5-pro"]')
    async with running(simulator, configured(tmp_path, text)) as server:
        status, body = await server.post("/v1/test", b"")
    assert status == 200, body
    assert {request.model for request in simulator.generations} == {"gemini-2.5-pro", "gemini-3.5-flash"}


async def test_aliases_are_listed_and_shown_by_their_own_name(simulator: Simulator, tmp_path: Path) -> None:
    more = '[models.aliases]\n"gpt-4o" = "gemini-2.5-flash"\n'
    async with running(simulator, configured(tmp_path, config_text(simulator, tmp_path, [], ["a"], more))) as server:
        listed = [model["id"] for model in (await server.get("/v1/models"))[1]["data"]]
        assert "gpt-4o" in listed
        assert (await server.get("/v1/models/gpt-4o"))[1]["id"] == "gpt-4o"


@pytest.mark.parametrize("name", ["gemini-3.8-flash", "newest"])
async def test_fallback_model_is_named_in_answer_and_header(simulator: Simulator, tmp_path: Path, name: str) -> None:
    more = f'[models.aliases]\nnewest = "gemini-3.8-flash"\n[models.fallbacks]\n"{name}" = ["gemini-2.5-flash"]\n'
    overloaded = error_answer(503, "The model is overloaded.")
    simulator.script(overloaded, times=None, model="gemini-3.8-flash")
    async with running(simulator, configured(tmp_path, config_text(simulator, tmp_path, [], ["a"], more))) as server:
        for stream in (False, True):
            body = msgspec.json.encode(HELLO | {"model": "gemini-3.8-flash", "stream": stream})
            async with server.session.post(
                server.url + CHAT, data=body, headers={"Authorization": "Bearer x"}
            ) as response:
                assert response.status == 200
                assert response.headers["x-gemproxy-model"] == "gemini-2.5-flash"
                assert b'"model":"gemini-2.5-flash"' in await response.read()


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_when_all_fallbacks_fail_all_that_is_told_is_of_the_model_asked_for(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.access")
    simulator.script(error_answer(503, "The first is overloaded."), times=None, model="gemini-3.8-flash")
    simulator.script(error_answer(500, "The second failed."), times=None, model="gemini-2.5-flash")
    more = '[server]\nexpose_routing = true\n[models.fallbacks]\n"gemini-3.8-flash" = ["gemini-2.5-flash"]\n'
    async with (
        running(simulator, configured(tmp_path, config_text(simulator, tmp_path, [], ["a"], more))) as server,
        server.session.post(
            server.url + CHAT,
            data=msgspec.json.encode(HELLO | {"model": "gemini-3.8-flash", "stream": stream}),
            headers={"Authorization": "Bearer x"},
        ) as response,
    ):
        assert {request.model for request in simulator.generations} == {"gemini-3.8-flash", "gemini-2.5-flash"}
        assert (response.status, (await response.json())["error"]["message"]) == (503, "The first is overloaded.")
        assert "x-gemproxy-model" not in response.headers
    assert "status=503 model=gemini-3.8-flash" in caplog.text
    assert "error=overloaded" in caplog.text


async def test_a_fallback_is_not_named_before_it_serves(simulator: Simulator, tmp_path: Path) -> None:
    """The status is committed while the fallback is still being asked; then it fails."""
    gate = asyncio.Event()
    simulator.script(error_answer(503, "The first is overloaded."), times=None, model="gemini-3.8-flash")
    simulator.script(error_answer(500, "The second failed.").after(Wait(gate)), times=None, model="gemini-2.5-flash")
    more = '[timeouts]\nhold = 0.9\n[models.fallbacks]\n"gemini-3.8-flash" = ["gemini-2.5-flash"]\n'
    body = msgspec.json.encode(HELLO | {"model": "gemini-3.8-flash", "stream": True})
    async with (
        running(simulator, configured(tmp_path, config_text(simulator, tmp_path, [], ["a"], more))) as server,
        server.session.post(server.url + CHAT, data=body, headers={"Authorization": "Bearer x"}) as response,
    ):
        assert response.status == 200
        assert "x-gemproxy-model" not in response.headers
        gate.set()
        assert b"The first is overloaded." in await response.read()


async def test_discovered_models_are_listed(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    new = {"name": "models/gemini-9.9-new", "supportedGenerationMethods": ["generateContent"]}
    simulator.script(unary_answer({"models": [new]}), method="models")
    text = config_text(simulator, tmp_path, [], ["a"], "[models]\ndiscover = true\n")
    async with running(simulator, configured(tmp_path, text)) as server:
        await soon(lambda: "1 more models are listed" in caplog.text)
        assert "gemini-9.9-new" in [model["id"] for model in (await server.get("/v1/models"))[1]["data"]]
    assert [request.call for request in simulator.requests] == ["models"]


# ------------------------------------------------------------------------------------- recorded Code Assist traffic


@pytest.fixture
async def code_assist(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(simulator, configured(tmp_path, config_text(simulator, tmp_path, ["only"], []))) as started:
        yield started


@pytest.mark.parametrize("recorded", answers("codeassist"), ids=lambda recorded: recorded.file)
async def test_recorded_code_assist_answer_reaches_the_openai_client(
    recorded: Recorded, code_assist: Running, simulator: Simulator
) -> None:
    simulator.script(replay(recorded.path), times=None)
    told = said(recorded)
    answer = await through_openai(code_assist, recorded, told)
    if answer is not None:
        compare(answer, told)
