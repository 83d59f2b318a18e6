"""One chat request on its way: what an earlier answer to the same client has left for it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from gemproxy.simulator import Answer, Pause, Simulator, error_answer, unary_answer
from tests.running import configuration, running

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

CLIENTS = """
[[auth.clients]]
name = "one"
key = "sk-one"
[[auth.clients]]
name = "two"
key = "sk-two"
"""
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
USER = {"role": "user", "content": "Call f."}


def asking(*more: dict[str, Any]) -> dict[str, Any]:
    return {"model": "gemini-3.5-flash", "stream": False, "tools": TOOLS, "messages": [USER, *more]}


def told(part: dict[str, Any]) -> Answer:
    return unary_answer({"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}]})


async def test_clients_whose_calls_have_one_id_get_their_own_signatures_back(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Upstreams give ids of their own, and may give the same to two clients."""
    history = [
        {
            "role": "assistant",
            "tool_calls": [{"id": "same", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "same", "content": "done"},
    ]
    signatures = {"sk-one": "c2lnMQ==", "sk-two": "c2lnMg=="}
    async with running(simulator, configuration(simulator, tmp_path, CLIENTS)) as server:
        for key, signature in signatures.items():
            simulator.script(
                told({"functionCall": {"name": "f", "args": {}, "id": "same"}, "thoughtSignature": signature})
            )
            status, body = await server.post("/v1/chat/completions", asking(), {"Authorization": f"Bearer {key}"})
            assert status == 200, body
        for key in signatures:
            simulator.script(told({"text": "Done."}))
            status, body = await server.post(
                "/v1/chat/completions", asking(*history), {"Authorization": f"Bearer {key}"}
            )
            assert status == 200, body
    sent = [request.json()["contents"][1]["parts"][0]["thoughtSignature"] for request in simulator.generations[2:]]
    assert sent == list(signatures.values())


async def test_the_first_request_that_a_fallback_serves_is_a_warning(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.server")
    more = '[models.fallbacks]\n"gemini-3.5-flash" = ["gemini-3.5-flash-lite"]\n'
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        simulator.script(error_answer(404, "no such model"))
        for _ in range(2):
            assert (await server.post("/v1/chat/completions", asking()))[0] == 200
    levels = [record.levelname for record in caplog.records if "cannot serve" in record.msg]
    assert levels == ["WARNING", "INFO"]


async def test_without_a_fallback_there_is_nothing_to_warn_of(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.server")
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        simulator.script(error_answer(404, "no such model"))
        await server.post("/v1/chat/completions", asking())
    assert [record.levelname for record in caplog.records if "cannot serve" in record.msg] == ["INFO"]


async def test_fallbacks_do_not_have_a_budget_each(simulator: Simulator, tmp_path: Path) -> None:
    more = '[rotation]\nbudget = 1\n[models.fallbacks]\n"gemini-3.5-flash" = ["gemini-3.5-flash-lite"]\n'
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        simulator.script(lambda _: error_answer(500, "no luck").after(Pause(0.6)), times=None)
        assert (await server.post("/v1/chat/completions", asking()))[0] == 502
    asked = [request.path.rpartition("/")[2].partition(":")[0] for request in simulator.generations]
    assert asked.count("gemini-3.5-flash-lite") == 1, "once: the budget is used up, but this model was not asked yet"
