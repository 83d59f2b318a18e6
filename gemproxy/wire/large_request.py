"""OpenAI's chat request once more, for bodies too large to be read in one go (``converter.chat.reading``).

What may be long, or hold many things, stays the JSON it came as: each of them is read by itself.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, defstruct
from msgspec.structs import fields

from gemproxy.wire.openai_chat import (
    AssistantMessage,
    AudioPart,
    ChatRequest,
    DeveloperMessage,
    FilePart,
    FunctionMessage,
    ImagePart,
    RefusalPart,
    SentCustom,
    SentFunction,
    SentToolCall,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    VideoPart,
)

_NULL = Raw(b"null")

Outline: type[Any] = defstruct("Outline", [(field.encode_name, Raw, Raw(b"")) for field in fields(ChatRequest)])
"""A request of which nothing is read yet; a field that is not there is empty."""


class LargeSystemMessage(SystemMessage, frozen=True):
    content: Raw = _NULL


class LargeDeveloperMessage(DeveloperMessage, frozen=True):
    content: Raw = _NULL


class LargeUserMessage(UserMessage, frozen=True):
    content: Raw = _NULL


class LargeAssistantMessage(AssistantMessage, frozen=True):
    content: Raw = _NULL
    refusal: Raw = _NULL  # type: ignore[assignment]
    tool_calls: Raw = _NULL  # type: ignore[assignment]  # until it is read
    function_call: Raw = _NULL  # type: ignore[assignment]
    images: Raw = _NULL  # type: ignore[assignment]


class LargeToolMessage(ToolMessage, frozen=True):
    content: Raw = _NULL


class LargeFunctionMessage(FunctionMessage, frozen=True):
    content: Raw = _NULL


LargeMessage = (
    LargeSystemMessage
    | LargeDeveloperMessage
    | LargeUserMessage
    | LargeAssistantMessage
    | LargeToolMessage
    | LargeFunctionMessage
)


class LargeTextPart(TextPart, frozen=True):
    text: Raw = _NULL  # type: ignore[assignment]


class LargeRefusalPart(RefusalPart, frozen=True):
    refusal: Raw = _NULL  # type: ignore[assignment]


LargePart = LargeTextPart | ImagePart | AudioPart | FilePart | VideoPart | LargeRefusalPart


class LargeFunction(SentFunction, frozen=True):
    arguments: Raw = _NULL


class LargeCustom(SentCustom, frozen=True):
    input: Raw = _NULL  # type: ignore[assignment]


class LargeToolCall(SentToolCall, frozen=True):
    function: LargeFunction | None = None
    custom: LargeCustom | None = None
