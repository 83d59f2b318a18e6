"""Without client keys nginx, set up in one line, must not make the server public."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from gemproxy.simulator import Simulator
from tests.faults.client import ask, hello
from tests.server_process import configured, serving
from tests.system.conftest import Program
from tests.system.deployed import nginx

SHORTEST = """
events {{}}
http {{
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{to}; }}
  }}
}}
"""


async def test_plain_proxy_pass_is_refused_and_told_why(
    program: Program, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with (
        serving(tmp_path, configured(simulator.ai_studio_url)) as server,
        nginx(program, tmp_path, lambda port: SHORTEST.format(port=port, to=server.port)) as proxy,
    ):
        for stream in (False, True):
            got = await ask(session, proxy.url, hello(stream=stream))
            assert got.status == 403
            assert b"auth.keys" in got.body
        async with session.get(f"{proxy.url}/v1/models", headers={"Authorization": "Bearer x"}) as response:
            assert response.status == 403
        for path in ("/", "/health", "/ready"):
            async with session.get(proxy.url + path) as response:
                assert response.status == 200, path
        assert (await ask(session, server.url, hello())).whole, "who comes straight is served"
    assert len(simulator.generations) == 1
