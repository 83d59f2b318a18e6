"""Codex CLI, which speaks Responses alone: it reads and edits files, asks again after failures, sums up what grew long.

Each run has a home and a folder of its own; what the model wants done is scripted, and the last word is the simulated
Gemini's, which refuses a history whose calls are not signed as it signed them.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gemproxy.converter.responses.compaction import ASK
from gemproxy.simulator import (
    Answer,
    Recorded,
    Reset,
    Simulator,
    error_answer,
    frames_answer,
    google_errors,
    sse,
    text_answer,
)
from gemproxy.simulator.model import PIXEL
from gemproxy.simulator.signatures import Signer
from tests.clients.node.conftest import finished, module
from tests.clients.node.journey import MODEL, calls
from tests.clients.test_signature_journeys import signed, statuses
from tests.running import KEY, Running, configuration, running
from tests.system.conftest import find

PATCH = "*** Begin Patch\n*** Update File: note.txt\n@@\n-plum\n+pear\n*** End Patch\n"
HEREDOC = {"cmd": f"apply_patch <<'EOF'\n{PATCH}EOF"}
SCRIPT = 'text((await tools.exec_command({ cmd: "cat note.txt" })).output)'
PATCHING = f"text(await tools.apply_patch({msgspec.json.encode(PATCH).decode()}))"
# Names under which Codex knows a model, and so offers other tools: a patch tool, or all of them in an item.
OLDER, NEWER = "gpt-5.5", "gpt-6-luna"
ALIASES = f'[models]\naliases = {{ "{OLDER}" = "{MODEL}", "{NEWER}" = "{MODEL}" }}\n'
UNBOUND = "--dangerously-bypass-approvals-and-sandbox"  # a container may have no sandbox to offer
QUIET = """
check_for_update_on_startup = false
[analytics]
enabled = false
[feedback]
enabled = false
[otel]
exporter = "none"
"""
OWN = f"""
model_provider = "gemproxy"
{QUIET}
[model_providers.gemproxy]
name = "gemproxy"
base_url = "URL"
env_key = "CODEX_API_KEY"
wire_api = "responses"
"""
BUILT_IN = f"""
openai_base_url = "URL"
{QUIET}
"""


class Ran(Struct):
    """What a run of Codex came to: its exit code, its events, and the last that it said."""

    code: int
    events: list[dict[str, Any]]
    errors: str

    @property
    def items(self) -> list[dict[str, Any]]:
        return [event["item"] for event in self.events if event["type"] == "item.completed"]

    @property
    def said(self) -> str:
        return [item["text"] for item in self.items if item["type"] == "agent_message"][-1]


Codex = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def server(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(simulator, configuration(simulator, tmp_path, ALIASES)) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder in which Codex works."""
    made = tmp_path / "work"
    made.mkdir()
    (made / "note.txt").write_text("plum\n", encoding="utf-8")
    return made


@pytest.fixture
def codex(server: Running, folder: Path, tmp_path: Path) -> Codex:
    """Return what runs ``codex exec`` with a prompt; a way out of the machine would lead it to a closed port."""
    program = module("@openai/codex") / "bin" / "codex.js"
    home = tmp_path / "home"
    home.mkdir()
    closed = "http://127.0.0.1:9"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CODEX_HOME": str(home),
        "CODEX_API_KEY": KEY,
        "HTTPS_PROXY": closed,
        "HTTP_PROXY": closed,
        "NO_PROXY": "127.0.0.1",
    }

    async def run(*arguments: str, model: str = MODEL, settings: str = OWN, sandbox: str = UNBOUND) -> Ran:
        whole = f'model = "{model}"\n{settings.replace("URL", f"{server.url}/v1")}'
        (home / "config.toml").write_text(whole, encoding="utf-8")
        command = (find("node"), program, "exec", "--json", "--skip-git-repo-check", sandbox, *arguments)
        code, out, err = await finished(*command, cwd=folder, env=environment)
        return Ran(code, [msgspec.json.decode(line) for line in out.splitlines()], err)

    return run


SIGNER = Signer(0)  # the simulator's own seed


def wants(name: str, arguments: dict[str, Any], call_id: str = "c1", prompt: int = 1) -> Answer:
    """Return an answer that calls a tool, signed as the simulated Gemini signs."""
    call = {"functionCall": {"name": name, "args": arguments, "id": call_id}}
    part = call | {"thoughtSignature": SIGNER.sign("ai_studio", "flash-3")}
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": 8, "totalTokenCount": prompt + 8}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    return frames_answer([{"candidates": [candidate], "usageMetadata": usage}])


def texts(request: Recorded) -> list[str]:
    """Return all that was said in a request, by the one or the other."""
    return [part["text"] for turn in request.json()["contents"] for part in turn["parts"] if "text" in part]


def kinds(part: dict[str, Any]) -> list[str]:
    """Return the kinds of media in a part, those of a tool's result too."""
    inner = part.get("functionResponse", {}).get("parts", [])
    return [each["inlineData"]["mimeType"] for each in (part, *inner) if "inlineData" in each]


# ---------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("model", "tool", "arguments"),
    [
        pytest.param(MODEL, "exec_command", {"cmd": "cat note.txt"}, id="a model that it does not know"),
        pytest.param(OLDER, "exec_command", {"cmd": "cat note.txt"}, id="an older one of its own"),
        pytest.param(NEWER, "functions.exec", {"input": SCRIPT}, id="a newer one, whose tools are an item"),
    ],
)
async def test_a_file_is_read(
    codex: Codex, simulator: Simulator, model: str, tool: str, arguments: dict[str, Any]
) -> None:
    simulator.script(wants(tool, arguments))
    ran = await codex("What does note.txt say?", model=model)
    assert ran.code == 0, ran.errors
    assert ran.said.startswith("The tools answered.")
    assert "plum" in ran.said
    assert statuses(simulator) == [200, 200]
    assert signed(simulator.generations[-1]) == ["real"]
    assert [(call["name"], call["args"]) for call in calls(simulator)] == [(tool, arguments)]


@pytest.mark.parametrize(
    ("model", "tool", "arguments"),
    [
        pytest.param(MODEL, "exec_command", HEREDOC, id="by its shell"),
        pytest.param(OLDER, "apply_patch", {"input": PATCH}, id="by its patch tool"),
        pytest.param(NEWER, "functions.exec", {"input": PATCHING}, id="by a script"),
    ],
)
async def test_a_file_is_edited(
    codex: Codex, simulator: Simulator, folder: Path, model: str, tool: str, arguments: dict[str, Any]
) -> None:
    simulator.script(wants(tool, arguments))
    ran = await codex("Make it say pear.", model=model)
    assert ran.code == 0, ran.errors
    assert (folder / "note.txt").read_text(encoding="utf-8") == "pear\n"
    [change] = [item for item in ran.items if item["type"] == "file_change"]
    assert (change["status"], change["changes"][0]["kind"]) == ("completed", "update")
    assert statuses(simulator) == [200, 200]
    assert signed(simulator.generations[-1]) == ["real"]


@pytest.mark.usefixtures("forgetful")
async def test_five_steps_without_a_memory_of_calls(codex: Codex, simulator: Simulator) -> None:
    for number in range(5):
        simulator.script(wants("exec_command", {"cmd": f"echo step {number}"}, f"c{number}"))
    ran = await codex("Count.")
    assert ran.code == 0, ran.errors
    assert [f"step {number}" in ran.said for number in range(5)] == [True] * 5
    assert [signed(request) for request in simulator.generations] == [["real"] * number for number in range(6)]
    assert statuses(simulator) == [200] * 6


async def test_a_search_of_what_it_keeps_itself_is_none_of_googles(codex: Codex, simulator: Simulator) -> None:
    ran = await codex("Hello", sandbox="--sandbox=read-only")
    assert ran.code == 0, ran.errors
    assert [set(offered) for offered in simulator.generations[0].json()["tools"]] == [{"functionDeclarations"}]


async def test_an_answer_keeps_to_a_schema(codex: Codex, simulator: Simulator, folder: Path) -> None:
    schema = {"type": "object", "properties": {"fruit": {"type": "string"}}, "required": ["fruit"]}
    (folder / "schema.json").write_bytes(msgspec.json.encode({**schema, "additionalProperties": False}))
    ran = await codex("--output-schema", "schema.json", "Which fruit?")
    assert ran.code == 0, ran.errors
    assert msgspec.json.decode(ran.said) == {"fruit": "sample fruit"}
    assert simulator.generations[0].json()["generationConfig"]["responseMimeType"] == "application/json"


async def test_pictures_are_seen(codex: Codex, simulator: Simulator, folder: Path) -> None:
    """One that the user shows, and one at which the model looks by a tool."""
    (folder / "dot.png").write_bytes(base64.b64decode(PIXEL))
    simulator.script(wants("view_image", {"path": str(folder / "dot.png")}))
    ran = await codex("--image=dot.png", "What is it?")
    assert ran.code == 0, ran.errors
    assert statuses(simulator) == [200, 200]
    turns = simulator.generations[-1].json()["contents"]
    shown = [kind for turn in turns for part in turn["parts"] for kind in kinds(part)]
    assert shown == ["image/png", "image/png"]


async def test_a_session_is_gone_on_with(codex: Codex, simulator: Simulator) -> None:
    simulator.script(wants("exec_command", {"cmd": "cat note.txt"}))
    first = await codex("What does note.txt say?")
    second = await codex("resume", "--last", "Thank you.")
    assert (first.code, second.code) == (0, 0), second.errors
    assert "You said: Thank you." in second.said
    assert first.said in texts(simulator.generations[-1])
    assert signed(simulator.generations[-1]) == ["real"]
    assert statuses(simulator) == [200] * 3


# -------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(f"{OWN}supports_websockets = true\n", id="by a provider of one's own"),
        pytest.param(BUILT_IN, id="in the place of OpenAI"),
    ],
)
async def test_a_websocket_is_tried_once_and_http_at_once(
    codex: Codex, caplog: pytest.LogCaptureFixture, settings: str
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.access")
    ran = await codex("Plums?", settings=settings)
    assert ran.code == 0, ran.errors
    assert "Plums?" in ran.said
    lines = [record.fields for record in caplog.records if record.name == "gemproxy.access"]  # type: ignore[attr-defined]
    assert [(line["method"], line["status"]) for line in lines] == [("GET", 426), ("POST", 200)]
    assert [event for event in ran.events if event["type"] == "error"] == []


LIMIT = sse(google_errors.quota(MODEL, "Minute", limit=5, delay="1s").body())


@pytest.mark.parametrize(
    ("step", "told"),
    [
        pytest.param(LIMIT, "rate limit exceeded", id="a limit, which is waited for"),
        pytest.param(
            Reset(),
            "stream disconnected before completion: The connection to the upstream was lost.",
            id="a broken connection",
        ),
    ],
)
async def test_what_breaks_off_is_asked_for_once_more(
    codex: Codex, simulator: Simulator, step: bytes | Reset, told: str
) -> None:
    half = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Half of it"}]}}]}
    simulator.script(frames_answer([half]).then(step))
    ran = await codex("Hello")
    assert ran.code == 0, ran.errors
    [error] = [event["message"] for event in ran.events if event["type"] == "error"]
    assert error.startswith(f"Reconnecting... 1/5 ({told}"), "once, and not before the limit was over"
    assert statuses(simulator) == [200, 200]
    assert "Half of it" not in texts(simulator.generations[-1])


async def test_what_is_too_long_ends_the_turn_at_once(codex: Codex, simulator: Simulator) -> None:
    message = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    simulator.script(error_answer(400, message), times=None)
    ran = await codex("Hello")
    assert ran.code != 0
    assert "context window" in ran.events[-1]["error"]["message"], ran.events
    assert statuses(simulator) == [400]


# ------------------------------------------------------------------------------------------------------ summing up


@pytest.mark.parametrize(
    ("settings", "asked", "given"),
    [
        pytest.param(OWN, "CONTEXT CHECKPOINT COMPACTION", "Another language model started", id="by Codex"),
        pytest.param(BUILT_IN, ASK, "The conversation up to here was summed up:", id="by the server"),
    ],
)
async def test_what_grew_long_is_summed_up(
    codex: Codex, simulator: Simulator, settings: str, asked: str, given: str
) -> None:
    simulator.script(wants("exec_command", {"cmd": "cat note.txt"}, prompt=50_000))
    simulator.script(text_answer("It was a matter of fruit."))
    ran = await codex("Look.", settings=f"model_auto_compact_token_limit = 20000\n{settings}")
    assert ran.code == 0, ran.errors
    assert statuses(simulator) == [200] * 3
    _, summing, after = simulator.generations
    assert asked in texts(summing)[-1]
    assert signed(summing) == ["real"]
    [summary] = [text for text in texts(after) if text.startswith(given)]
    assert summary.endswith("It was a matter of fruit.")
    assert signed(after) == []
