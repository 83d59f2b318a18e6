"""OpenAI's chat request once more, for bodies that may hold a long text (``wire.text``).

Only what users and operators write is kept; results of tools and earlier answers have to be looked into. A request
that cannot be read this way is to be read as ``openai_chat.ChatRequest``, which names the fault and its place.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr

from gemproxy.wire.openai_chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    DeveloperMessage,
    FunctionMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from gemproxy.wire.text import is_long

_decode: Final = msgspec.json.Decoder(Content).decode


class LongSystemMessage(SystemMessage, frozen=True):
    content: Raw = Raw(b"null")

    def __post_init__(self) -> None:
        """Decode what is no long text."""
        _settle(self)


class LongDeveloperMessage(DeveloperMessage, frozen=True):
    content: Raw = Raw(b"null")

    def __post_init__(self) -> None:
        """Decode what is no long text."""
        _settle(self)


class LongUserMessage(UserMessage, frozen=True):
    content: Raw = Raw(b"null")

    def __post_init__(self) -> None:
        """Decode what is no long text."""
        _settle(self)


class LongChatRequest(ChatRequest, frozen=True):
    messages: list[  # type: ignore[assignment]  # nobody adds to the messages
        LongSystemMessage | LongDeveloperMessage | LongUserMessage | AssistantMessage | ToolMessage | FunctionMessage
    ]


def _settle(message: LongSystemMessage | LongDeveloperMessage | LongUserMessage) -> None:
    if not is_long(message.content):
        force_setattr(message, "content", _decode(message.content))
