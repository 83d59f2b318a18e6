"""``serve --demo`` as somebody starts it who has keys of his own in the environment: none of them is used."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import aiohttp

AUTH = {"Authorization": "Bearer placeholder"}
HELLO = {"model": "gemini-3.5-flash", "messages": [{"role": "user", "content": "Hello!"}], "stream": False}


async def test_a_demo_answers_with_credentials_of_its_own(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gemproxy", "serve", "--demo", "--port", "0"),
        env=os.environ
        | {
            "GEMINI_API_KEY": "test-key-planted",
            "GEMPROXY_OAUTH_FILES": "/nowhere/login.json",
            "STATE_DIRECTORY": str(tmp_path),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20), aiohttp.ClientSession(headers=AUTH) as session:
        welcome = (await process.stdout.readuntil(b"Ctrl-C stops it.")).decode()
        [url] = set(re.findall(r"http://127\.0\.0\.1:\d+(?=/v1)", welcome))
        async with session.post(f"{url}/v1/chat/completions", json=HELLO) as response:
            assert (response.status, (await response.json())["model"]) == (200, HELLO["model"])
        async with session.get(f"{url}/v1/debug/cache") as response:
            rows = (await response.json())["credentials"]
        process.terminate()
        _, told = await process.communicate()
    assert [(row["name"], row["kind"]) for row in rows] == [("demo-1", "api_key"), ("demo-2", "api_key")]
    assert sum(row["served"] for row in rows) == 1
    assert HELLO["model"] in welcome
    assert "planted" not in welcome + told.decode()
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == [], "a demo leaves nothing behind"
