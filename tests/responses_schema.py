"""Checks responses and their events against OpenAI's own schema."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from tests.corpus import path_of
from tests.openai_schema import _or_null, validator

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
