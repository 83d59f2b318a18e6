"""Claude Code in print mode: it reads and edits a file, asks again after failures, and is told what is too long.

Each run has a home and a folder of its own; what the model wants done is scripted, and the last word is the simulated
Gemini's, which refuses a history whose calls are not signed as it signed them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gemproxy.simulator import Answer, Reset, Simulator, error_answer, frames_answer
from gemproxy.simulator.signatures import Signer
from tests.clients.node.conftest import finished, module
from tests.clients.node.journey import MODEL, calls
from tests.clients.test_signature_journeys import signed, statuses
from tests.running import KEY, Running, configuration, running

ALIASES = f'[models.aliases]\n"claude-*" = "{MODEL}"\n"claude-*haiku*" = "gemini-3.5-flash-lite"\n'
NAMES = {"x86_64": "x64", "aarch64": "arm64"}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
SIGNER = Signer(0)  # the simulator's own seed


class Ran(Struct):
    """What a run came to: its exit code, what it printed, and the result among its events."""

    code: int
    result: dict[str, Any]
    errors: str


Claude = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def server(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(simulator, configuration(simulator, tmp_path, ALIASES)) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder in which it works."""
    made = tmp_path / "work"
    made.mkdir()
    (made / "note.txt").write_text("plum\n", encoding="utf-8")
    return made


@pytest.fixture
def claude(server: Running, folder: Path, tmp_path: Path) -> Claude:
    """Return what runs ``claude --print`` with a prompt; a way out of the machine would lead it to a closed port."""
    machine = NAMES.get(platform.machine(), platform.machine())
    program = module(f"@anthropic-ai/claude-code-linux-{machine}") / "claude"
    program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    closed = "http://127.0.0.1:9"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": server.url,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "DISABLE_AUTOUPDATER": "1",
        "HTTPS_PROXY": closed,
        "HTTP_PROXY": closed,
        "NO_PROXY": "127.0.0.1",
    }

    async def run(prompt: str, *arguments: str) -> Ran:
        # root may not go without being asked (--dangerously-skip-permissions), so each tool is named
        allowed = ("--allowedTools", "Read Edit Write Bash")
        command = (program, "--print", prompt, "--output-format", "json", *allowed, *arguments)
        code, out, err = await finished(*command, cwd=folder, env=environment)
        return Ran(code, msgspec.json.decode(out.splitlines()[-1]) if out else {}, err + out)

    return run


def wants(name: str, arguments: dict[str, Any], call_id: str = "c1", text: str = "") -> Answer:
    """Return an answer that calls a tool, signed as the simulated Gemini signs."""
    call = {"functionCall": {"name": name, "args": arguments, "id": call_id}}
    part = call | {"thoughtSignature": SIGNER.sign("ai_studio", "flash-3")}
    parts = [{"text": text}, part] if text else [part]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    return frames_answer([{"candidates": [candidate], "usageMetadata": {"promptTokenCount": 9}}])


async def test_a_file_is_read_and_edited(claude: Claude, simulator: Simulator, folder: Path) -> None:
    path = str(folder / "note.txt")
    edit = {"file_path": path, "old_string": "plum", "new_string": "pear"}
    simulator.script(wants("Read", {"file_path": path}))
    simulator.script(wants("Edit", edit, "c2", text="I change it."))
    ran = await claude("Make it say pear.")
    assert ran.code == 0, ran.errors
    assert (folder / "note.txt").read_text(encoding="utf-8") == "pear\n"
    assert "The tools answered." in ran.result["result"]
    assert statuses(simulator) == [200] * 3
    assert signed(simulator.generations[-1]) == ["real"] * 2
    assert [call["args"] for call in calls(simulator)] == [{"file_path": path}, edit], "as the model gave them"


async def test_five_steps_of_tools(claude: Claude, simulator: Simulator) -> None:
    for number in range(5):
        arguments = {"command": f"echo step {number}", "description": "count"}
        simulator.script(wants("Bash", arguments, f"c{number}"))
    ran = await claude("Count.")
    assert ran.code == 0, ran.errors
    assert [signed(request) for request in simulator.generations] == [["real"] * number for number in range(6)]
    assert statuses(simulator) == [200] * 6


async def test_its_small_model_is_another(claude: Claude, simulator: Simulator) -> None:
    ran = await claude("Hello", "--model", "haiku")
    assert ran.code == 0, ran.errors
    assert "You said: " in ran.result["result"]
    assert "/gemini-3.5-flash-lite:" in simulator.generations[-1].path


async def test_a_stream_that_breaks_is_asked_for_again(claude: Claude, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Reset()))
    ran = await claude("Hello")
    assert ran.code == 0, ran.errors
    assert "You said: " in ran.result["result"]


async def test_what_is_too_long_is_told_as_that(claude: Claude, simulator: Simulator) -> None:
    message = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    simulator.script(error_answer(400, message), times=None)
    ran = await claude("Hello")
    assert "rompt is too long" in ran.result["result"], ran.errors
