"""A failure as OpenAI's clients read it. Pure. Statuses, types and codes: PROTOCOL 3.7."""

from __future__ import annotations

from msgspec import json

from gemproxy.errors import Failure
from gemproxy.wire.openai_chat import ErrorBody, ErrorObject


def error_body(failure: Failure) -> bytes:
    """Return OpenAI's error object; all four keys are always written."""
    return json.encode(ErrorBody(ErrorObject(failure.message, failure.type, failure.param, failure.code)))


def error_event(failure: Failure) -> bytes:
    """Return a failure as the last event of a stream: no ``[DONE]`` and no made-up finish follows."""
    return b"data: " + error_body(failure) + b"\n\n"
