"""Requests that clients sent to OpenAI: each is converted, or refused for what the page of fields says is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.errors import ClientFault
from tests.converter.responses.responses_page import body_of, page
from tests.corpus import WIRE
from tests.faults.figures import note
from tests.gemini_schema import check_body

FOLDER = WIRE / "responses"
RECORDED = sorted(FOLDER.glob("*.request.json"))
MODELS = ("gemini-2.5-flash", "gemini-3.5-flash")
LEFT_OUT = {row.field for row in page() if row.table == "Tools" and row.becomes == "nothing"} - {"web_search"}


def request_in(file: Path) -> dict[str, Any]:
    """Return a recorded request; the answer that it goes on from is one that is kept."""
    found: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    return found | ({"previous_response_id": "resp_1"} if found.get("previous_response_id") else {})


def refused_for(sent: dict[str, Any]) -> str | None:
    """Return the field for which a request is to be refused."""
    if sent.get("background"):
        return "background"
    if sent.get("tool_choice") == "required" and all(tool["type"] in LEFT_OUT for tool in sent["tools"]):
        return "tool_choice"
    return None


@pytest.mark.skipif(not RECORDED, reason="the requests that were recorded lie beside the repository (tests/corpus.py)")
def test_recorded_requests() -> None:
    counts: Counter[str] = Counter()
    wrong: dict[str, Any] = {}
    for file in RECORDED:
        for model in MODELS:
            sent = request_in(file) | {"model": model}
            refused, problems = None, []
            try:
                problems = check_body(body_of(sent))
            except ClientFault as fault:
                refused = fault.param
            counts[f"refused for {refused}" if refused else "converted"] += 1
            if problems or refused != refused_for(sent):
                wrong[f"{file.name} {model}"] = problems or refused
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    note(f"/v1/responses: {len(RECORDED)} recorded requests, asked of {len(MODELS)} models: {told}")
    assert wrong == {}
    assert counts["converted"] > counts.total() // 2
