"""What is said in a request, as the converter looks at it: messages, and the blocks that hold others."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

Content = (
    str | Raw | list[Any]
)  # Raw: a long text, as it came (``wire.text``); else blocks of ``wire.anthropic``, or these


class Message(Struct, frozen=True):
    """``place`` is where it stands among the messages. ``clear_at``: when a system message is no longer shown."""

    place: int
    role: str
    content: Content
    clear_at: str | None = None


class Answered(Struct, frozen=True):
    """What came of a call; ``failed``: it says what went wrong."""

    call_id: str
    content: Content
    failed: bool


class Enclosed(Struct, frozen=True):
    """A document, or a result of a search, that is written out; ``title`` says what it is."""

    title: str
    content: Content
