"""Anthropic's Messages API as Structs: answers as we write them.

``UNSET`` is a key that is left out, ``None`` one that Anthropic sends as ``null``. Source: docs/protocol.md 10.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType

# ----------------------------------------------------------------------------------------------- answers: blocks


class CitationOut(Struct, tag_field="type", tag="web_search_result_location", frozen=True, gc=False):
    cited_text: str
    url: str
    title: str
    encrypted_index: str = ""


class TextOut(Struct, tag_field="type", tag="text", gc=False):
    text: str | Raw = ""
    citations: list[CitationOut] | UnsetType = UNSET


class ThinkingOut(Struct, tag_field="type", tag="thinking", gc=False):
    thinking: str | Raw = ""
    signature: str = ""


class ToolUseOut(Struct, tag_field="type", tag="tool_use", gc=False):
    id: str
    name: str
    input: Raw = Raw(b"{}")


class ServerToolUseOut(Struct, tag_field="type", tag="server_tool_use", gc=False):
    id: str
    name: str
    input: Raw = Raw(b"{}")


class SearchResultOut(Struct, tag_field="type", tag="web_search_result", frozen=True, gc=False):
    title: str
    url: str
    encrypted_content: str = ""
    page_age: str | None = None


class SearchResultsOut(Struct, tag_field="type", tag="web_search_tool_result", gc=False):
    tool_use_id: str
    content: list[SearchResultOut]


BlockOut = TextOut | ThinkingOut | ToolUseOut | ServerToolUseOut | SearchResultsOut

# -------------------------------------------------------------------------------------- answers: the whole message


class ServerToolsOut(Struct, frozen=True, gc=False):
    web_search_requests: int
    web_fetch_requests: int = 0


class OutputDetails(Struct, frozen=True, gc=False):
    thinking_tokens: int


class UsageOut(Struct, frozen=True, gc=False):
    """``input_tokens`` leaves out those that came from a cache."""

    input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputDetails
    cache_creation_input_tokens: int = 0
    server_tool_use: ServerToolsOut | UnsetType = UNSET


class StopDetails(Struct, tag_field="type", tag="refusal", frozen=True, gc=False):
    explanation: str | None
    category: str | None = None


class StopOut(Struct, frozen=True, gc=False):
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class MessageOut(Struct, tag_field="type", tag="message", frozen=True):
    id: str
    model: str
    content: list[BlockOut]
    stop_reason: str | None
    stop_sequence: str | None
    stop_details: StopDetails | None
    usage: UsageOut
    role: str = "assistant"


# --------------------------------------------------------------------------------------- answers: errors and models


class DetailsOut(Struct, frozen=True, gc=False):
    error_code: str
    unsupported: list[str]


class ErrorOut(Struct, frozen=True, gc=False):
    type: str
    message: str
    details: DetailsOut | UnsetType = UNSET


class ErrorBody(Struct, tag_field="type", tag="error", frozen=True, gc=False):
    error: ErrorOut
    request_id: str | None


class ModelOut(Struct, tag_field="type", tag="model", frozen=True, gc=False):
    id: str
    display_name: str
    created_at: str
    lifecycle: str
    max_input_tokens: int | None
    max_tokens: int
    retires_at: str | None = None


class ModelPage(Struct, frozen=True):
    data: list[ModelOut]
    has_more: bool
    first_id: str | None
    last_id: str | None


class CountOut(Struct, frozen=True, gc=False):
    input_tokens: int
