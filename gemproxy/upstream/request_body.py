"""The body that one upstream and one model take, and the reading of what comes back: the part all dialects share.

In: a ``Call`` and its repairs; a frame. Out: the ``GenerateRequest`` to send (``call.body`` itself when nothing has
to change; it is never changed, since the next attempt uses it again) and a ``GenerateResponse``. Must not know URLs,
headers or credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from copy import copy
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from gemproxy.errors import UpstreamFault
from gemproxy.load.turns import pass_turn
from gemproxy.upstream import repairs, signing
from gemproxy.upstream.dialect import Call, Method, Repair
from gemproxy.upstream.refusals.error_body import mend
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import GenerateRequest, GenerateResponse
from gemproxy.wire.incoming import UNBEARABLE, bearable, whole
from gemproxy.wire.text import LONG_TEXT

LONGEST_REFUSAL: Final = 1 << 18  # bytes; no error is longer, and to mend one takes a look at each comma
encode: Final = msgspec.json.Encoder().encode

Read = TypeVar("Read", bound=GenerateResponse)


def fitted(call: Call, dialect: str, needed: Set[Repair]) -> GenerateRequest:
    """Return the body of a call as this upstream and the call's model take it."""
    body = call.body
    assert isinstance(body, GenerateRequest)
    if needed:
        body = repairs.repaired(body, needed)
        terms = signing.terms(dialect, call.model, Repair.STRIP_CALL_IDS in needed, Repair.DUMMY_SIGNATURES in needed)
    else:
        terms = signing.terms(dialect, call.model)
    contents = signing.settle(body.contents, terms)
    if contents is not body.contents:
        body = copy(body)
        body.contents = contents
    return body


@lru_cache(maxsize=512)  # of names that are asked for again and again; saves 3 us
def segment(text: str) -> str:
    """Return a text as one URL path segment; whatever a client named its model, it stays a name (RFC 3986 2.1)."""
    return quote(text, safe="", errors="replace")


VERBS: Final[dict[Method, str]] = {
    "generateContent": ":generateContent",
    "streamGenerateContent": ":streamGenerateContent?alt=sse",
    "countTokens": ":countTokens",
    "embedContent": ":embedContent",
    "batchEmbedContents": ":batchEmbedContents",
    "predict": ":predict",
}
"""The ends of addresses; streams come as events, not as one long array (docs/protocol.md 1.2)."""


def reader(kind: type[Read], long: type[Read]) -> Callable[[bytes], Read]:
    """Return what decodes a frame or a whole unary body; it raises one of ``wire.UNREADABLE``, or ``UpstreamFault``.

    ``long`` is the same kind with long texts (``wire.text``).
    Characters that are cut in two are read as U+FFFD. Errors inside a stream come in odd shapes: wrapped in an array,
    or with stray commas (docs/protocol.md 1.2).
    """
    decode = msgspec.json.Decoder(kind).decode  # bound once: a fifth of a small frame's cost is finding what to call
    decode_long = msgspec.json.Decoder(long).decode
    decode_list: Callable[[bytes], list[Read]] = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]

    def read_long(frame: bytes) -> Read:
        if not bearable(frame):
            raise UpstreamFault(UNBEARABLE)
        pass_turn(len(frame))
        answer = decode_long(frame)
        pass_turn(len(frame))
        return answer

    def read(frame: bytes) -> Read:
        try:
            return decode(frame) if len(frame) < LONG_TEXT else read_long(frame)
        except UNREADABLE:
            mended = whole(frame)
            if mended == frame and b'"error"' not in frame:
                raise
        if mended != frame:
            return read(mended)
        if len(frame) > LONGEST_REFUSAL:
            raise UpstreamFault(UNBEARABLE)
        mended = mend(frame)
        if mended.lstrip()[:1] != b"[":
            return decode(mended)
        wrong = next((answer for answer in decode_list(mended) if answer.error is not None), None)
        if wrong is None:
            raise msgspec.DecodeError("an array of answers is not a frame")
        return wrong

    return read
