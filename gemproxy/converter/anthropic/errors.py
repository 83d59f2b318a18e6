"""Failures in Anthropic's words: its types, its 529, and places of a request as it writes them (docs/protocol.md 10.5).

Pure.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import UNSET, json

from gemproxy import errors
from gemproxy.converter.api import Reply
from gemproxy.errors import ClientFault, Failure
from gemproxy.wire.anthropic_answers import DetailsOut, ErrorBody, ErrorOut

OVERLOADED: Final = 529  # Anthropic's own status
_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
_THREAD: Final = "thread_unsupported_request"
_PLACE: Final = re.compile(r"\[(\d+)\]")
_NUMBER: Final = re.compile(r"\d{4,}")


def failure(fault: Failure, request_id: str) -> Reply:
    """Return a failure as Anthropic's error object."""
    return Reply(_status(fault), errors.headers(fault), error_object(fault, request_id))


def failure_event(fault: Failure, request_id: str) -> bytes:
    """Return a failure as the last event of a stream."""
    return b"event: error\ndata: " + error_object(fault, request_id) + b"\n\n"


def error_object(fault: Failure, request_id: str) -> bytes:
    """Return the body of an answer that failed."""
    status = _status(fault)
    kind = _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    details = DetailsOut(_THREAD, ["thread"]) if fault.code == _THREAD else UNSET
    return json.encode(ErrorBody(ErrorOut(kind, _words(fault), details), request_id or None))


def no_thread() -> ClientFault:
    """Return the fault of a request that goes on from what a server keeps; its client then sends all of it."""
    return ClientFault(
        "Threads are not kept here: send the whole conversation, without thread.", param="thread", code=_THREAD
    )


def _status(fault: Failure) -> int:
    return OVERLOADED if fault.code == "overloaded" and fault.status == 503 else fault.status


def _words(fault: Failure) -> str:
    if fault.code == "context_length_exceeded":
        return _too_long(fault.message)
    param = fault.param
    if not param:
        return fault.message
    said = fault.message.removeprefix(param).lstrip(": ")
    return f"{dotted(param)}: {'Field required' if said == 'is missing.' else said}"


def dotted(param: str) -> str:
    """Return a path as Anthropic writes it: ``messages.0.content``."""
    return _PLACE.sub(r".\1", param)


def _too_long(message: str) -> str:
    """Return the sentence by which clients know that they must shorten the conversation, with the model's numbers."""
    numbers = _NUMBER.findall(message)
    if len(numbers) < 2:
        return f"prompt is too long: {message}"
    return f"prompt is too long: {numbers[0]} tokens > {numbers[1]} maximum"
