"""Asks the simulated Gemini over its socket."""

from __future__ import annotations

from typing import Any

import aiohttp

from gemproxy.simulator import Simulator

BODY = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
FRAME = {"candidates": [{"content": {"parts": [{"text": "x" * 100}]}}]}
STREAM = "/models/gemini-3.8-flash:streamGenerateContent?alt=sse"


def post(session: aiohttp.ClientSession, simulator: Simulator, **how: Any) -> Any:
    return session.post(simulator.ai_studio_url + STREAM, json=BODY, **how)


async def got(session: aiohttp.ClientSession, simulator: Simulator) -> bytes:
    async with post(session, simulator) as response:
        body: bytes = await response.read()
        return body
