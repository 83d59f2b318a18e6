"""What the events of one message, or the whole of it, say about it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import UNSET, Struct

from gemproxy.converter.transcript import Usage
from gemproxy.wire.anthropic_answers import BlockOut, MessageOut, OutputDetails, ServerToolsOut, StopOut, UsageOut

BEGUN: Final = StopOut()


class Heading(Struct, frozen=True):
    """``id`` without its prefix; ``new_id`` makes more of them. ``thinks``: the client takes blocks of thoughts, which
    ``origin`` signs; ``grounded``: sources may come, whose places are told within the text.
    """

    id: str
    model: str
    new_id: Callable[[], str]
    origin: str = ""
    thinks: bool = False
    grounded: bool = False

    def message(self, content: list[BlockOut], stop: StopOut, usage: UsageOut) -> MessageOut:
        """Return the message object."""
        return MessageOut(
            f"msg_{self.id}", self.model, content, stop.stop_reason, stop.stop_sequence, stop.stop_details, usage
        )


def usage_out(usage: Usage, searches: int = 0) -> UsageOut:
    """Return Anthropic's usage: of the input, what came from a cache is told by itself."""
    return UsageOut(
        max(0, usage.prompt - usage.cached),
        usage.cached,
        usage.completion,
        OutputDetails(usage.reasoning),
        server_tool_use=ServerToolsOut(searches) if searches else UNSET,
    )
