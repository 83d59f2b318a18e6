"""Asks the simulated Gemini over its socket, and waits for what happens on the other side."""

from __future__ import annotations

import asyncio
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


async def soon(condition: Any) -> None:
    """Wait until the condition holds; two seconds at most."""
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another task without an event
            await asyncio.sleep(0.005)
