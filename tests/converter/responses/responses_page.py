"""``docs/fields-responses.md``, and what becomes of its examples."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Raw

from gemproxy.converter.api import Plan
from gemproxy.converter.responses.kept import KIND, Record, written
from gemproxy.converter.sealed import SUMMARY, seal
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import Token
from tests.converter.responses.asking_responses import plan_of
from tests.fields_page import Row, rows_of

PLAIN: Final = {"model": "gemini-2.5-flash-lite", "input": "Hi"}
SEALED: Final = "sealed summary"  # what stands for one of ours in the examples: a real one differs each time

_SAID: Final = Raw(b'{"type":"message","id":"msg_10000","role":"assistant","content":"Ho"}')
_BEFORE: Final = Record(Raw(b'"Hi"'), [], Raw(b'{"output":[%b]}' % bytes(_SAID)))


@cache
def page() -> list[Row]:
    """Return the rows of the page."""
    return rows_of("fields-responses.md")


def planned(example: dict[str, Any]) -> Plan:
    """Return the plan for an example; ``resp_1`` is kept, and said "Ho" in ``msg_10000`` after "Hi"."""
    sent = msgspec.json.encode(PLAIN | example).replace(SEALED.encode(), seal(SUMMARY, "We said hello.").encode())
    return plan_of(msgspec.json.decode(sent), stored={(KIND, "resp_1"): written(None, _BEFORE)})


def body_of(example: dict[str, Any]) -> dict[str, Any]:
    """Return what AI Studio would be sent."""
    [call] = planned(example).calls
    asked = AiStudio("http://127.0.0.1:9", "test").ask(call, Token("fake"), 0.0)
    found: dict[str, Any] = msgspec.json.decode(asked.body)
    return found


def body_without(row: Row) -> dict[str, Any]:
    """Return what goes out without the field: the same model, and "Hi"."""
    return body_of({"model": row.example["model"]} if "model" in row.example else {})
