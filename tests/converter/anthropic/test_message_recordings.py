"""Requests that clients sent to Anthropic: each is converted, or refused for what the page says is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.errors import ClientFault
from tests.converter.anthropic.asking_messages import body_of
from tests.corpus import listed
from tests.faults.figures import note
from tests.gemini_schema import check_body

RECORDED = listed("surfaces/anthropic/*.request.json")
SEEN = [file for file in listed("surfaces/clients/*.json") if "message" in file.stem or "claude-code" in file.stem]
MODELS = ("gemini-2.5-flash", "gemini-3.5-flash")


def request_in(file: Path) -> dict[str, Any] | None:
    """Return a request, be it a body or one with its headers; None for a probe."""
    found: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    sent = found.get("body", found) if "method" in found else found
    return sent if isinstance(sent, dict) and "messages" in sent else None


def refusal_of(sent: dict[str, Any]) -> str:
    """Return for what a request is to be refused, by what stands in it."""
    if sent.get("mcp_servers"):
        return "mcp_servers"
    return "messages" if b'"file_id"' in msgspec.json.encode(sent) else ""


@pytest.mark.parametrize("model", MODELS)
def test_recorded_requests(model: str) -> None:
    counts: Counter[str] = Counter()
    wrong: dict[str, Any] = {}
    for file in (*RECORDED, *SEEN):
        sent = request_in(file)
        if sent is None:
            continue
        refused, problems = "", []
        try:
            problems = check_body(body_of(sent | {"model": model}))
        except ClientFault as fault:
            refused = (fault.param or "").partition("[")[0]
        counts[refused or "converted"] += 1
        if problems or refused != refusal_of(sent):
            wrong[file.name] = problems or refused
    note(f"/v1/messages: {counts.total()} requests of clients, asked of {model}: {dict(counts)}")
    assert wrong == {}
    assert counts["converted"] > 5
