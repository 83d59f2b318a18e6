"""Events -> one message. Pure."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw

from gemproxy.converter.anthropic.heading import Heading
from gemproxy.converter.anthropic.output import Output
from gemproxy.wire.anthropic_answers import BlockOut, CitationOut, ServerToolUseOut, TextOut, ThinkingOut, ToolUseOut
from gemproxy.wire.text import joined


class Whole(Output):
    """Takes events, and returns the whole message at their end."""

    def __init__(self, heading: Heading) -> None:
        super().__init__(heading)
        self._content: list[BlockOut] = []
        self._pieces: list[str | Raw] = []

    def finish(self) -> bytes:
        """Return the message as JSON."""
        return msgspec.json.encode(self.heading.message(self._content, self._stop, self.usage))

    def _begin(self, block: BlockOut) -> bytes:
        self._keep(0)
        self._content.append(block)
        return b""

    def _grow(self, text: str | Raw) -> bytes:
        self._keep(len(text))
        self._pieces.append(text)
        return b""

    def _sign(self, signature: str) -> bytes:
        self._keep(len(signature))
        block = self._content[-1]
        assert isinstance(block, ThinkingOut)
        block.signature = signature
        return b""

    def _cite(self, citation: CitationOut) -> bytes:
        block = self._content[-1]
        assert isinstance(block, TextOut)
        if block.citations is UNSET:
            block.citations = []
        block.citations.append(citation)
        return b""

    def _fill(self, arguments: str) -> bytes:
        self._keep(len(arguments))
        block = self._content[-1]
        assert isinstance(block, ToolUseOut | ServerToolUseOut)
        block.input = Raw(arguments.encode())
        return b""

    def _end(self) -> bytes:
        block, pieces = self._content[-1], self._pieces
        self._pieces = []
        if pieces and isinstance(block, TextOut):
            block.text = joined(pieces)
        elif pieces and isinstance(block, ThinkingOut):
            block.thinking = joined(pieces)
        return b""
