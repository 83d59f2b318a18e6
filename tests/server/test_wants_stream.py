"""JSON or a stream, by the headers that real clients send (docs/architecture.md 14.2)."""

from __future__ import annotations

import pytest

from gemproxy.config.sections import JSON_CLIENTS
from gemproxy.server.handlers.operation import wants_stream

CLIENTS = [
    # client, Accept, User-Agent, stream left out means a stream
    ("openai-python", "application/json", "OpenAI/Python 3.54.0", False),
    ("openai-node", "application/json", "OpenAI/JS 6.1.0", False),
    ("langchain-openai (httpx)", "application/json", "OpenAI/Python 2.8.0", False),
    ("vercel ai sdk", "*/*", "ai/5.0.0 ai-sdk/openai-compatible/1.0 runtime/node.js/22", False),
    ("ai-sdk alone", "*/*", "ai-sdk/provider-utils/3.0.0", False),
    ("async-openai (Rust)", "*/*", "async-openai/0.30", False),
    ("Guzzle (PHP)", "", "GuzzleHttp/7", False),
    ("Faraday (Ruby)", "*/*", "Faraday v2.9.0", False),
    ("curl", "*/*", "curl/7.88.1", True),
    ("httpx bare", "*/*", "python-httpx/0.28.1", True),
    ("requests bare", "*/*", "python-requests/2.32.3", True),
    ("aiohttp bare", "*/*", "Python/3.11 aiohttp/3.14.5", True),
    ("EventSource polyfill", "text/event-stream", "Mozilla/5.0", True),
    ("fetch-event-source", "text/event-stream", "ai/5.0", False),
    ("browser fetch", "*/*", "Mozilla/5.0", True),
    ("JSON and stream both named", "application/json, text/event-stream", "MCP/1", False),
    ("JSON in capitals", "Application/JSON", "x", False),
    ("no headers at all", "", "", True),
]


@pytest.mark.parametrize(("client", "accept", "agent", "stream"), CLIENTS, ids=[row[0] for row in CLIENTS])
def test_left_out_stream_depends_on_the_client(client: str, accept: str, agent: str, stream: bool) -> None:
    assert wants_stream(accept, agent, default=True, json_clients=JSON_CLIENTS) is stream


@pytest.mark.parametrize(("client", "accept", "agent", "_"), CLIENTS, ids=[row[0] for row in CLIENTS])
def test_openais_own_default_can_be_set(client: str, accept: str, agent: str, _: bool) -> None:
    assert wants_stream(accept, agent, default=False, json_clients=JSON_CLIENTS) is False
