"""``[compat]`` through the server: what becomes of a request that leaves ``stream`` out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gemproxy.simulator import Simulator
from tests.running import KEY, configuration, running

BODY = msgspec.json.encode({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}]})
STREAM, JSON = "text/event-stream", "application/json"


@pytest.mark.parametrize(
    ("compat", "agent", "kind"),
    [
        pytest.param("", "curl/8", STREAM, id="a stream by default"),
        pytest.param("", "ai-sdk/1", JSON, id="JSON for the clients that expect it"),
        pytest.param("stream_default = false", "curl/8", JSON, id="OpenAI's own default"),
        pytest.param('json_clients = ["curl/"]', "curl/8", JSON, id="a client of the operator's"),
        pytest.param('json_clients = ["curl/"]', "ai-sdk/1", STREAM, id="instead of the shipped ones"),
    ],
)
async def test_a_request_without_stream_gets_what_is_configured(
    simulator: Simulator, tmp_path: Path, compat: str, agent: str, kind: str
) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "User-Agent": agent}
    async with (
        running(simulator, configuration(simulator, tmp_path, f"[compat]\n{compat}\n")) as server,
        server.session.post(server.url + "/v1/chat/completions", data=BODY, headers=headers) as response,
    ):
        assert (response.status, response.content_type) == (200, kind)
        await response.read()
