"""Clients that run on Node, and Codex: ``make test-node`` installs them, ``make test`` leaves them out.

In CI (the variable ``CI`` is set) a test fails where one is missing; at a desk it is skipped and says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.running import Running
from tests.system.conftest import find

HERE = Path(__file__).parent
MODULES = HERE.parent / "node_modules"
PATIENCE = 90  # seconds: a client that hangs fails its test and leaves nothing behind

Client = Callable[..., Awaitable[Any]]


def module(name: str) -> Path:
    """Return the folder of an installed module; without it the test fails in CI and is skipped elsewhere."""
    if not (MODULES / name).is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed: make test-node")
    return MODULES / name


async def finished(*command: str | Path, **options: Any) -> tuple[int, str, str]:
    """Run a program to its end; return its code and what it said on both ways."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True, **options
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # Codex is a script that started the program proper
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def client(request: pytest.FixtureRequest, server: Running, tmp_path: Path) -> Client:
    """Return what runs a case of the script that is named as the test's module is, and returns what it found."""
    module("zod")  # npm installs all or none
    script = HERE / f"{request.path.stem.removeprefix('test_node_')}.mjs"

    async def run(case: str, **given: Any) -> Any:
        asked = msgspec.json.encode({"case": case, "url": f"{server.url}/v1", **given}).decode()
        command = (find("node"), "--import", HERE / "only_loopback.mjs", script, asked)
        code, out, err = await finished(*command, cwd=HERE, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
        assert code == 0, err
        return msgspec.json.decode(out.splitlines()[-1])

    return run


@pytest.fixture
def forgetful(server: Running) -> None:
    """Let the server remember no call, as after a restart: signatures come from the client, or with what is kept."""
    server.forget_signatures()
