"""``/responses/input_tokens``: what a request would cost, counted by Gemini itself. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gemproxy.converter.api import Format, Known, Operation, Options, Plan, Received, Settled, Wants
from gemproxy.converter.document import Document
from gemproxy.converter.openai import OPENAI, WHOLE, under_both
from gemproxy.converter.responses.operation import ResponsesAsked
from gemproxy.converter.responses.operation import read as read_response
from gemproxy.converter.responses.params import param_of
from gemproxy.converter.transcript import Usage


class _Counted(Struct, rename="camel"):
    total_tokens: int = 0


class _Count(Struct):
    input_tokens: int
    object: str = "response.input_tokens"


class CountAsked(Struct, frozen=True):
    """A request whose tokens are to be counted."""

    of: ResponsesAsked

    @property
    def model(self) -> str:
        """Return the model's name as the client wrote it."""
        return self.of.model

    @property
    def stream(self) -> bool | None:
        """Return False: a count comes at once."""
        return False

    def format(self, stream: bool, known: Known) -> Format:
        """Return what the answer looks like."""
        return WHOLE

    def wants(self, known: Known) -> Wants | None:
        """Return what the request wants to know."""
        return self.of.wants(known)

    def plan(self, known: Known, settled: Settled) -> Plan:
        """Return the one call; raises ``ClientFault`` 400, and what ``Effort`` raises."""
        made = self.of.converted(known, settled, "countTokens")
        return Plan((made.call,), lambda number, dialect: Document(_write), ignored=made.ignored)


def _write(body: bytes) -> tuple[bytes, Usage]:
    counted = msgspec.json.decode(body, type=_Counted).total_tokens
    return msgspec.json.encode(_Count(counted)), Usage()


def _read(received: Received, options: Options) -> CountAsked:
    return CountAsked(read_response(received, options))


INPUT_TOKENS = Operation(OPENAI, under_both("/responses/input_tokens"), _read, param_of)
