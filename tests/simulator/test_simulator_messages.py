"""The tables of messages against the published description of the API."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.simulator.messages import BY_UPSTREAM, MESSAGES
from tests.gemini_schema import SCHEMA

RENAMED = {"PartResolution": None, "ResponsePart": "FunctionResponsePart", "Empty": None}
NEWER = {  # docs/protocol.md 1.3-1.5 has them; the description of 2026-04 does not
    "Blob": {"displayName"},
    "ResponsePart": {"fileData"},
    "GenerationConfig": {"responseFormat"},
    "GenerateContentRequest": {"continuationToken"},
}


def _published() -> dict[str, Any]:
    schemas: dict[str, Any] = msgspec.json.decode(SCHEMA.read_bytes())["components"]["schemas"]
    return schemas


@pytest.mark.parametrize("message", [name for name in MESSAGES if RENAMED.get(name, name)])
def test_message_has_exactly_the_published_names(message: str) -> None:
    published = _published()[RENAMED.get(message) or message]["properties"]
    assert set(MESSAGES[message]) - NEWER.get(message, set()) == set(published)


def test_every_type_that_is_named_exists() -> None:
    scalars = {"string", "bytes", "bool", "int32", "int64", "float", "double", "struct", "value"}
    for messages in BY_UPSTREAM.values():
        kinds = {
            kind.strip("[]{}") for fields in messages.values() for kind in fields.values() if isinstance(kind, str)
        }
        assert kinds <= scalars | set(messages)
