"""``serve --demo`` as somebody starts it who has keys of his own in the environment: none of them is used."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from gemproxy.cli import main
from gemproxy.config import load
from gemproxy.process.demo import OUTAGES, outage_of, stage, welcome
from gemproxy.simulator import outages
from tests.running import Running, running_with
from tests.unresolved import without_names

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


async def test_what_a_demo_says_to_try_works_as_it_stands() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gemproxy", "serve", "--demo", "--port", "0"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        told = (await process.stdout.readuntil(b"The key is a placeholder")).decode()
        _, _, tries = told.rpartition(" Try:\n\n")
        pasted = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-e"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        answered, _ = await pasted.communicate(tries.rpartition("\n")[0].encode())
        process.terminate()
        await process.wait()
    assert pasted.returncode == 0
    text = answered.decode()
    assert ("data: [DONE]" in text, "event: response.completed" in text) == (True, True)
    assert text.count("\nHello from the simulated Gemini.") == 2, "of the package, by both APIs"


# ------------------------------------------------------------------------------------------------------------ faults

README = (Path(__file__).parents[2] / "README.md").read_text()
HURRIED = "[server]\nping_interval = 0.05\n[timeouts]\nhold = 0.05\n"


def rows() -> dict[str, str]:
    """Return what the README's table at three in the morning says that one sees, by the fault that shows it."""
    table = README.split("| you see | it is | do | try it |\n")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")[1:]]
    return {row[3].strip("` "): row[0] for row in cells if row[3].strip()}


def quoted(cell: str) -> list[str]:
    """Return what a cell quotes and the statuses that it names; a path is where something is seen."""
    found = ["".join(pair) for pair in re.findall(r'"([^"`]+)"|`([^`/]+)`', cell)]
    pieces = [piece.strip() for text in found for piece in text.split("…")]
    return [*pieces, *re.findall(r"\b[45]\d\d\b", cell)]


class Seen:
    """What clients and operators see of a fault: answers, and the log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.told: list[str] = []
        self._caplog = caplog

    @property
    def text(self) -> str:
        return "\n".join([*self.told, *(record.getMessage() for record in self._caplog.records)])

    async def look(self, server: Running) -> None:
        """Ask as clients and balancers do."""
        for stream in (False, True):
            self.told += map(str, await server.post("/v1/chat/completions", HELLO | {"stream": stream}))
        self.told += map(str, await server.get("/ready"))


@pytest.mark.parametrize("fault", sorted(OUTAGES))
async def test_a_fault_looks_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    monkeypatch.setattr(outages, "SILENCE", 0.3)
    monkeypatch.setattr(outages, "PACE", 0.001)
    without_names(monkeypatch)
    caplog.set_level(logging.INFO, "gemproxy")
    file, seen = tmp_path / "gemproxy.toml", Seen(caplog)
    file.write_text(HURRIED, encoding="utf-8")
    async with stage(outage_of(fault)) as against, running_with(against(load(file, {}, purpose="demo"))) as server:
        await seen.look(server)
    there, _, missing = rows()[fault].partition("instead of")
    assert quoted(there), "a row of the README says what is seen"
    assert [phrase for phrase in quoted(there) if phrase not in seen.text] == []
    assert [phrase for phrase in re.findall(r"^ `([^`]+)`", missing) if phrase in seen.text] == []


def test_every_fault_stands_in_the_readme_and_no_other() -> None:
    assert sorted(rows()) == sorted(OUTAGES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--demo", "--fault", "flood"], [*OUTAGES, "flood"], id="an unknown fault"),
        pytest.param(["--demo", "--fault", ""], [*OUTAGES], id="none at all"),
        pytest.param(["--fault", "dns"], ["--demo"], id="in front of the real Gemini"),
    ],
)
def test_what_is_no_fault_is_refused(options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *options]) == 2
    told = capsys.readouterr().err
    assert [word for word in words if word not in told] == []
    assert "Traceback" not in told


async def test_a_fault_is_made_by_the_command_and_told_at_its_start() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gemproxy", "serve", "--demo", "--fault", "quota-minute", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20), aiohttp.ClientSession(headers=AUTH) as session:
        told = (await process.stdout.readuntil(b"three in the morning.")).decode()
        [url] = set(re.findall(r"http://127\.0\.0\.1:\d+(?=/v1)", told))
        async with session.post(f"{url}/v1/chat/completions", json=HELLO) as response:
            assert response.status == 429
        process.terminate()
        assert await process.wait() == 0
    assert OUTAGES["quota-minute"].about in told


def test_without_a_fault_none_is_told() -> None:
    assert "FAULT" not in welcome("http://127.0.0.1:8080", "placeholder")
