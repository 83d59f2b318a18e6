"""A running gemproxy in this process: the real application on a real socket, in front of the simulated Gemini."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from gemproxy.config import Config, load
from gemproxy.converter.api import Operation
from gemproxy.converter.gemini.signatures import SignatureCache
from gemproxy.process.connections import GuardedSite
from gemproxy.process.serve import make_runner
from gemproxy.process.sockets import base_url, bind
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Simulator
from gemproxy.transport.client import outgoing
from gemproxy.wiring.build import OPERATIONS, build_app
from tests import openai_package as openai

KEY = "sk-test"


class Running:
    """What tests need of a server: its address, its application, and clients."""

    def __init__(self, url: str, runner: web.AppRunner, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.runner = runner
        self.app = runner.app
        self.session = session

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        """Return the real client; it does not try again by itself."""
        plain = openai.DefaultAsyncHttpxClient(verify=False)  # reading every root certificate took most of a test
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, http_client=plain, **options)

    def forget_signatures(self) -> None:
        """Remember none from now on: there are those alone that clients carry, or that are kept with a response."""
        self.app[SERVICE].signatures = SignatureCache(lambda: 0.0, max_entries=0)

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Post JSON (or bytes as they are) and return status and body."""
        data = outgoing(body if isinstance(body, bytes) else msgspec.json.encode(body))
        async with self.session.post(self.url + path, data=data, headers=_headers(headers)) as response:
            return response.status, await response.read()

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Get a path and return status and decoded JSON."""
        async with self.session.get(self.url + path, headers=_headers(headers)) as response:
            return response.status, msgspec.json.decode(await response.read())


def _headers(more: dict[str, str] | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | (more or {})


def configuration(simulator: Simulator, folder: Path, more: str = "", keys: int = 1) -> Config:
    """Return a configuration with ``keys`` API keys in front of the simulator; ``more`` is TOML."""
    credentials = "".join(
        f'[[credentials]]\nname = "studio-{number}"\nkind = "api_key"\nkey = "test-key-{number}"\n'
        for number in range(1, keys + 1)
    )
    file = folder / "gemproxy.toml"
    file.write_text(
        f'{more}\n{credentials}\n[upstream]\nai_studio_url = "{simulator.ai_studio_url}"\n'
        f'code_assist_url = "{simulator.code_assist_url}"\nvertex_url = "{simulator.vertex_url}"\n'
        f'token_url = "{simulator.token_url}"\n',
        encoding="utf-8",
    )
    return load(file, {})


@asynccontextmanager
async def running(
    simulator: Simulator, config: Config | None = None, operations: Sequence[Operation] = OPERATIONS
) -> AsyncIterator[Running]:
    """Run gemproxy as the command line does, on a free port; ``operations`` are what it may be asked for."""
    if config is None:
        config = load(None, {"GEMINI_API_KEY": "test-key-1"}, port=0)
        config = msgspec.structs.replace(
            config, upstream=msgspec.structs.replace(config.upstream, ai_studio_url=simulator.ai_studio_url)
        )
    async with running_with(config, operations) as made:
        yield made


@asynccontextmanager
async def running_with(config: Config, operations: Sequence[Operation] = OPERATIONS) -> AsyncIterator[Running]:
    """Run gemproxy with a configuration, whatever it is in front of."""
    config = msgspec.structs.replace(config, timeouts=msgspec.structs.replace(config.timeouts, drain=1))
    runner = make_runner(config, build_app(config, operations))
    await runner.setup()
    try:
        for sock in bind("127.0.0.1", 0, reuse_port=False):
            await GuardedSite(runner, sock, limit=lambda: 0, patience=lambda: 30.0).start()
        async with aiohttp.ClientSession() as session:
            yield Running(base_url(runner), runner, session)
    finally:
        await runner.cleanup()
