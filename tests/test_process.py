"""The real process, as an operator starts it: signals, clients that hang up, a second instance, a bad file."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import Answer, Hang, Pause, Simulator, frames_answer, text_answer

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}]}
AUTH = {"Authorization": "Bearer sk-test"}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
LAST = {"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]}


class Process:
    """A started ``gemproxy serve``."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def logged(self, words: str) -> str:
        """Wait for a line of the log."""
        for _ in range(500):
            for line in self.log.splitlines():
                if words in line:
                    return line
            await asyncio.sleep(0.01)
        raise AssertionError(f"no {words!r} in the log:\n{self.log}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def write_config(folder: Path, simulator: Simulator, port: int, more: str = "") -> Path:
    file = folder / "gemproxy.toml"
    file.write_text(
        f"""
[server]
port = {port}
[upstream]
ai_studio_url = "{simulator.ai_studio_url}"
[state]
path = "{folder}/state.db"
[[credentials]]
name = "studio-1"
kind = "api_key"
key = "test-key-1"
{more}
""",
        encoding="utf-8",
    )
    return file


@asynccontextmanager
async def started(config: Path, port: int, **environ: str) -> AsyncIterator[Process]:
    log = config.with_suffix(f".{port}.log")
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gemproxy", "serve", "--config", str(config), stderr=sink, env=os.environ | environ
        )
    running = Process(process, f"http://127.0.0.1:{port}", log)
    try:
        await running.logged("listens on")
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=AUTH) as made:
        yield made


async def soon(happened: Any, seconds: float = 3.0) -> float:
    """Wait until something is so; return how long that took."""
    begin = asyncio.get_running_loop().time()
    while not happened():
        assert asyncio.get_running_loop().time() - begin < seconds, "it did not happen"
        await asyncio.sleep(0.002)
    return asyncio.get_running_loop().time() - begin


@pytest.mark.parametrize("moment", ["before the answer", "before the first token", "in mid-stream"])
async def test_client_that_hangs_up_ends_the_upstream_request(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession, moment: str
) -> None:
    answers = {
        "before the answer": Answer().after(Hang()),
        "before the first token": Answer((Hang(),), content_type="text/event-stream"),
        "in mid-stream": frames_answer([FRAME]).then(Hang()),
    }
    simulator.script(answers[moment])
    port = free_port()
    async with started(write_config(tmp_path, simulator, port), port) as server:
        body = msgspec.json.encode(HELLO | {"stream": True})
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", "Authorization: Bearer x", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await soon(lambda: simulator.generations)
        if moment == "in mid-stream":
            await reader.readuntil(b"tick")
        writer.close()
        took = await soon(lambda: simulator.generations[0].disconnected)
        assert took < 0.5
        assert "status=499" in await server.logged("status=499")
        async with session.get(server.url + "/v1/debug/cache") as response:
            [row] = (await response.json())["credentials"]
        assert (row["in_flight"], row["failed"], row["state"]) == (0, 0, "ready")
        async with session.post(server.url + CHAT, json=HELLO | {"stream": False}) as response:
            assert response.status == 200


async def test_sigterm_lets_running_streams_finish(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    simulator.script(frames_answer([FRAME] * 5 + [LAST]).paced(0.15), times=10)
    port = free_port()
    async with started(write_config(tmp_path, simulator, port, "[timeouts]\ndrain_delay = 0.3\n"), port) as server:

        async def stream() -> bytes:
            async with session.post(server.url + CHAT, json=HELLO | {"stream": True}) as response:
                return await response.read()

        streams = [asyncio.get_running_loop().create_task(stream()) for _ in range(10)]
        await soon(lambda: len(simulator.generations) == 10)
        server.process.send_signal(signal.SIGTERM)
        await server.logged("draining")
        async with aiohttp.ClientSession(headers=AUTH) as late:
            async with late.get(server.url + "/ready") as response:
                assert response.status == 503
            async with late.get(server.url + "/health") as response:
                assert response.status == 200
            async with late.post(server.url + CHAT, json=HELLO) as response:
                assert response.status == 503
                assert response.headers["Connection"] == "close"
        assert all(body.endswith(b"data: [DONE]\n\n") for body in await asyncio.gather(*streams))
        assert await asyncio.wait_for(server.process.wait(), 5) == 0


@pytest.mark.parametrize("reload", [False, True], ids=["of the start", "of a reload"])
async def test_drain_ends_at_its_limit(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession, reload: bool
) -> None:
    simulator.script(frames_answer([FRAME]).then(Hang()))
    port = free_port()
    limit = "[timeouts]\ndrain = 0.3\n"
    config = write_config(tmp_path, simulator, port, "" if reload else limit)
    async with started(config, port) as server, session.post(server.url + CHAT, json=HELLO) as response:
        await response.content.readuntil(b"tick")
        if reload:
            write_config(tmp_path, simulator, port, limit)
            server.process.send_signal(signal.SIGHUP)
            await server.logged("configuration reloaded")
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.process.wait(), 5) == 0


async def test_sighup_takes_a_new_file_and_refuses_a_broken_one(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    port = free_port()
    config = write_config(tmp_path, simulator, port)
    async with started(config, port) as server:
        simulator.script(frames_answer([FRAME] * 8 + [LAST]).paced(0.1))
        async with session.post(server.url + CHAT, json=HELLO | {"stream": True}) as response:
            await response.content.readuntil(b"tick")
            write_config(
                tmp_path,
                simulator,
                port,
                '[auth]\nkeys = ["sk-new"]\n[[credentials]]\nname = "studio-2"\nkind = "api_key"\nkey = "test-key-2"\n'
                '[models.aliases]\nnewest = "gemini-3.5-flash"\n',
            )
            server.process.send_signal(signal.SIGHUP)
            await server.logged("configuration reloaded")
            assert (await response.read()).endswith(b"data: [DONE]\n\n"), "a stream under way is not touched"
        async with session.get(server.url + "/v1/models") as response:
            assert response.status == 401
        new = {"Authorization": "Bearer sk-new"}
        async with session.get(server.url + "/v1/debug/cache", headers=new) as response:
            assert [row["name"] for row in (await response.json())["credentials"]] == ["studio-1", "studio-2"]
        async with session.post(server.url + CHAT, json=HELLO | {"model": "newest"}, headers=new) as response:
            assert response.status == 200
        assert simulator.generations[-1].model == "gemini-3.5-flash"
        config.write_text("[server]\nprot = 1\n", encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        assert "server.prot" in await server.logged("reload refused")
        async with session.get(server.url + "/v1/models", headers=new) as response:
            assert response.status == 200


async def test_rests_survive_a_kill(simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession) -> None:
    from gemproxy.simulator import KeyState

    simulator.keys["test-key-1"] = KeyState.PER_DAY
    port = free_port()
    config = write_config(tmp_path, simulator, port)
    async with started(config, port) as server:
        async with session.post(server.url + CHAT, json=HELLO) as response:
            assert response.status == 429
        await asyncio.sleep(1.2)
        server.process.kill()
        await server.process.wait()
    async with started(config, port) as server:
        async with session.get(server.url + "/v1/debug/cache") as response:
            [row] = (await response.json())["credentials"]
        assert row["state"] == "cooling"
        async with session.post(server.url + CHAT, json=HELLO) as response:
            assert response.status == 429
    assert len(simulator.generations) == 1, "a key that rests is not asked after a restart either"


async def test_tokens_and_projects_survive_a_kill(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    file = tmp_path / "team.json"
    file.write_bytes(msgspec.json.encode({"refresh_token": "refresh-team", "expiry_date": 1}))
    more = (
        '[oauth]\nclient_id = "fake-client"\nclient_secret = "fake-secret"\n'
        f'[[credentials]]\nname = "team"\nkind = "oauth"\nfile = "{file}"\n'
    )
    port = free_port()
    config = write_config(tmp_path, simulator, port, more)
    urls = f'[upstream]\ncode_assist_url = "{simulator.code_assist_url}"\ntoken_url = "{simulator.token_url}"'
    config.write_text(config.read_text().replace("[upstream]", urls), encoding="utf-8")
    for _ in range(2):
        async with started(config, port) as server:
            for _ in range(4):
                async with session.post(server.url + CHAT, json=HELLO | {"stream": False}) as response:
                    assert response.status == 200
            await asyncio.sleep(0.6)  # what was learnt is written soon, not at the end: there is none
            server.process.kill()
            await server.process.wait()
    asked = [request.call for request in simulator.requests if request.upstream in ("oauth", "code_assist")]
    assert asked.count("token") == 1, "a token that lives is not refreshed after a restart"
    assert asked.count("loadCodeAssist") == 1
    assert asked.count("generateContent") == 4


async def test_uvloop_serves_as_well(simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession) -> None:
    port = free_port()
    config = write_config(tmp_path, simulator, port)
    config.write_text(config.read_text().replace("[server]", '[server]\nloop = "uvloop"'), encoding="utf-8")
    async with started(config, port) as server:
        async with session.post(server.url + CHAT, json=HELLO) as response:
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.process.wait(), 5) == 0


async def test_a_taken_port_is_told(simulator: Simulator, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = write_config(tmp_path, simulator, taken.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gemproxy", "serve", "--config", str(config), stderr=asyncio.subprocess.PIPE
        )
        _, told = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 1
    assert b"server.port" in told
    assert b"Traceback" not in told


async def test_systemd_hears_of_readiness_reload_and_stop(simulator: Simulator, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.setblocking(False)
        port = free_port()
        config = write_config(tmp_path, simulator, port)
        async with started(config, port, NOTIFY_SOCKET=address, WATCHDOG_USEC="200000") as server:
            loop = asyncio.get_running_loop()

            async def hear(words: bytes) -> bytes:
                async with asyncio.timeout(5):
                    while True:
                        message = await loop.sock_recv(heard, 4096)
                        if words in message:
                            return message

            await hear(b"READY=1")
            await hear(b"WATCHDOG=1")
            server.process.send_signal(signal.SIGHUP)
            assert b"MONOTONIC_USEC=" in await hear(b"RELOADING=1")
            await hear(b"READY=1")
            server.process.send_signal(signal.SIGTERM)
            await hear(b"STOPPING=1")
            assert await asyncio.wait_for(server.process.wait(), 5) == 0


async def test_slow_answer_of_a_held_stream_is_pinged(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    simulator.script(text_answer("Done.").after(Pause(1.0)))
    port = free_port()
    more = "[timeouts]\nhold = 0.2\n"
    config = write_config(tmp_path, simulator, port, more)
    config.write_text(config.read_text().replace("[server]", "[server]\nping_interval = 0.2"), encoding="utf-8")
    async with started(config, port) as server, session.post(server.url + CHAT, json=HELLO) as response:
        body = await response.read()
    assert body.startswith(b": ping\n\n")
    assert body.endswith(b"data: [DONE]\n\n")
