"""Checks responses and their events against OpenAI's own schema."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from tests.corpus import path_of
from tests.openai_schema import _or_null, validator

WORDS = ("type", "status", "code", "role", "object", "reason")  # the fields whose texts the schema looks at
ACTED_UPON = ("context_length_exceeded", "insufficient_quota")  # codes that Codex knows, and the schema does not


@cache
def _validator(name: str) -> Any:
    described = _or_null(msgspec.json.decode(path_of("openapi.responses.json").read_bytes()))
    schemas = described["components"]["schemas"]
    schemas["ResponseErrorCode"]["enum"] += ACTED_UPON
    return validator(name, schemas)


def problems(name: str, value: Any) -> list[str]:
    """Return what is wrong with a value, by the schema of that name; [] if nothing is."""
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(name).iter_errors(value)]


def event_problems(value: Any) -> list[str]:
    """Return what is wrong with one event of a stream."""
    return problems("ResponseStreamEvent", value)


def response_problems(value: Any) -> list[str]:
    """Return what is wrong with a whole response."""
    return problems("Response", value)


class Checked(Struct):
    """Counts what was held against the schema: events, of how many shapes, and failures by a code of ``ACTED_UPON``."""

    events: int = 0
    shapes: set[Any] = set()
    beyond: int = 0

    def add(self, events: Iterable[Any]) -> None:
        """Check events; those of one shape need it once."""
        for event in events:
            self.events += 1
            self.beyond += ((event.get("response") or {}).get("error") or {}).get("code") in ACTED_UPON
            if (shape := _shape(event)) not in self.shapes:
                assert event_problems(event) == []
                self.shapes.add(shape)

    def __str__(self) -> str:
        return (
            f"{self.events} events of {len(self.shapes)} shapes are valid by OpenAI's schema,"
            f" {self.beyond} with a code that only Codex knows"
        )


def _shape(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return tuple((name, _shape(value[name], name)) for name in sorted(value))
    if isinstance(value, list):
        return frozenset(_shape(held) for held in value)
    return value if key in WORDS and isinstance(value, str) else type(value)
