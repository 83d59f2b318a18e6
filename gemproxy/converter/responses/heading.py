"""What every event of one response, or the whole of it, says about it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.errors import ClientFault, Failure
from gemproxy.wire.openai_responses import ErrorOut, IncompleteDetails, ItemOut, UsageOut

_json: Final = msgspec.json.Encoder().encode
# Codes that clients act upon; not all of them stand in OpenAI's own list for a response (docs/protocol.md 7.4).
_CODES: Final = {"rate_limit_exceeded", "insufficient_quota", "context_length_exceeded"}
_HEAD: Final = (
    b'{"id":"resp_%b","object":"response","created_at":%d,"status":"%b","completed_at":%b,"model":%b,'
    b'"error":%b,"incomplete_details":%b,"output":'
)
_NULL: Final = b"null"


class Heading(Struct, frozen=True):
    """``id`` without its prefix; ``created`` in Unix seconds, ``now`` gives those of the end.

    ``echo`` is an object, encoded: what is repeated of the request. ``custom`` holds the declared names of custom
    tools, ``spaces`` the name and namespace of those whose declared name is another. ``sealed``: the client is to carry
    signatures, made by ``origin``; ``keeps``: the response is kept, and they with it.
    """

    id: str
    created: int
    now: Callable[[], float]
    model: str
    echo: bytes = b"{}"
    origin: str = ""
    custom: Container[str] = frozenset()
    spaces: Mapping[str, tuple[str, str | None]] = {}
    sealed: bool = False
    keeps: bool = False

    def item_id(self, kind: str, index: int) -> str:
        """Return the id of an item, from which that of its response can be told (``response_of``)."""
        return f"{kind}_{self.id}{index:04x}"

    def call_kind(self, name: str) -> str:
        """Return what the id of a call begins with."""
        return "ctc" if name in self.custom else "fc"

    def response(
        self,
        status: str,
        items: Sequence[ItemOut | Raw],
        usage: UsageOut | None,
        fault: ErrorOut | None,
        reason: IncompleteDetails | None,
    ) -> bytes:
        """Return the response object as JSON."""
        head = _HEAD % (
            self.id.encode(),
            self.created,
            status.encode(),
            b"%d" % self.now() if status == "completed" else _NULL,
            _json(self.model),
            _NULL if fault is None else _json(fault),
            _NULL if reason is None else _json(reason),
        )
        counted = _NULL if usage is None else _json(usage)
        return b"".join((head, _json(items), b',"usage":', counted, b",", memoryview(self.echo)[1:]))

    def error(self, failure: Failure) -> ErrorOut:
        """Return a failure in words that clients act upon: whether to wait, to give up, or to try again."""
        if failure.code in _CODES:
            wait = failure.retry_after
            hint = f" Please try again in {math.ceil(wait)}s." if failure.code == "rate_limit_exceeded" and wait else ""
            return ErrorOut(failure.code, failure.message + hint)
        return ErrorOut("invalid_prompt" if isinstance(failure, ClientFault) else "server_error", failure.message)


def response_of(item_id: str) -> str | None:
    """Return the id of the response that an item belongs to; None if it is none of ours."""
    _, found, rest = item_id.partition("_")
    return rest[:-4] if found and len(rest) > 4 else None
