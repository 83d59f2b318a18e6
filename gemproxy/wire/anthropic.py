"""Anthropic's Messages API as Structs: requests and blocks as clients send them (``anthropic_answers`` is the rest).

Requests name the fields that gemproxy reads or whose type it checks; unknown fields are ignored, ``null`` means absent.
Source: the types of Anthropic's own packages (docs/protocol.md 10).
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct, defstruct
from msgspec.structs import fields

from gemproxy.wire.openai_chat import Number

# ----------------------------------------------------------------------------------------------- requests: blocks


class Source(Struct, frozen=True, gc=False):
    """Of an image or a document: ``type`` decides which of the others counts."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: Raw = Raw(b"null")


class TextBlock(Struct, tag_field="type", tag="text", gc=False):
    text: str | Raw | None = None  # Raw: a long text, as the JSON string it came as (``wire.text``)


class ImageBlock(Struct, tag_field="type", tag="image", frozen=True, gc=False):
    source: Source


class DocumentBlock(Struct, tag_field="type", tag="document", frozen=True, gc=False):
    source: Source
    title: str | None = None
    context: str | None = None


class SearchResultBlock(Struct, tag_field="type", tag="search_result", frozen=True, gc=False):
    source: str
    title: str = ""
    content: Raw = Raw(b"null")


class ToolReferenceBlock(Struct, tag_field="type", tag="tool_reference", frozen=True, gc=False):
    tool_name: str


class BrowserStateBlock(Struct, tag_field="type", tag="browser_state", frozen=True, gc=False):
    pass


class ThinkingBlock(Struct, tag_field="type", tag="thinking", frozen=True, gc=False):
    """What was thought is not read: it is not sent to Gemini."""

    signature: str | None = None


class ToolUseBlock(Struct, tag_field="type", tag="tool_use", frozen=True, gc=False):
    id: str
    name: str
    input: Raw = Raw(b"null")


class ToolResultBlock(Struct, tag_field="type", tag="tool_result", frozen=True, gc=False):
    tool_use_id: str
    content: Raw = Raw(b"null")
    is_error: bool | None = None


class CompactionBlock(Struct, tag_field="type", tag="compaction", frozen=True, gc=False):
    content: str | None = None


class ContainerUploadBlock(Struct, tag_field="type", tag="container_upload", frozen=True, gc=False):
    pass


class ChangedTool(Struct, frozen=True, gc=False):
    """A tool by name, or by what it is; of a toolset neither."""

    type: str
    name: str | None = None
    definition: Raw = Raw(b"")


class ToolAdditionBlock(Struct, tag_field="type", tag="tool_addition", frozen=True, gc=False):
    tool: ChangedTool


class ToolRemovalBlock(Struct, tag_field="type", tag="tool_removal", frozen=True, gc=False):
    tool: ChangedTool


class _Passed(Struct, tag_field="type", frozen=True, gc=False):
    """What other services have done, and only they understand: a conversation that holds it goes on."""


class RedactedThinking(_Passed, tag="redacted_thinking", frozen=True): ...


class ServerToolUse(_Passed, tag="server_tool_use", frozen=True): ...


class WebSearchResult(_Passed, tag="web_search_tool_result", frozen=True): ...


class WebFetchResult(_Passed, tag="web_fetch_tool_result", frozen=True): ...


class CodeResult(_Passed, tag="code_execution_tool_result", frozen=True): ...


class BashCodeResult(_Passed, tag="bash_code_execution_tool_result", frozen=True): ...


class EditorCodeResult(_Passed, tag="text_editor_code_execution_tool_result", frozen=True): ...


class ToolSearchResult(_Passed, tag="tool_search_tool_result", frozen=True): ...


class AdvisorResult(_Passed, tag="advisor_tool_result", frozen=True): ...


class McpToolUse(_Passed, tag="mcp_tool_use", frozen=True): ...


class McpToolResult(_Passed, tag="mcp_tool_result", frozen=True): ...


class McpToolListing(_Passed, tag="mcp_tool_listing", frozen=True): ...


class Fallback(_Passed, tag="fallback", frozen=True): ...


Passed = (
    RedactedThinking
    | ServerToolUse
    | WebSearchResult
    | WebFetchResult
    | CodeResult
    | BashCodeResult
    | EditorCodeResult
    | ToolSearchResult
    | AdvisorResult
    | McpToolUse
    | McpToolResult
    | McpToolListing
    | Fallback
)
_Said = (
    ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | CompactionBlock
    | ContainerUploadBlock
    | ToolAdditionBlock
    | ToolRemovalBlock
    | Passed
)
Block = TextBlock | _Said
ResultBlock = (
    TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock | BrowserStateBlock
)  # within a tool_result
EnclosedBlock = TextBlock | ImageBlock  # within a document


class LargeTextBlock(TextBlock):
    text: Raw = Raw(b"null")  # until it is read


LargeBlock = LargeTextBlock | _Said
LargeResultBlock = (
    LargeTextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock | BrowserStateBlock
)
LargeEnclosedBlock = LargeTextBlock | ImageBlock


class SentMessage(Struct, frozen=True, gc=False):
    role: str
    content: Raw = Raw(b"null")
    clear_at: str | None = None


# ----------------------------------------------------------------------------------------------- requests: tools


class SentTool(Struct, frozen=True, gc=False):
    """Any tool: ``type`` decides which of the others counts."""

    type: str | None = None
    name: str = ""
    description: str | None = None
    input_schema: Raw = Raw(b"")  # kept as bytes: the schema walk caches by them
    defer_loading: bool | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None


class ToolChoice(Struct, frozen=True, gc=False):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


# -------------------------------------------------------------------------------------------- requests: the whole


class ThinkingConfig(Struct, frozen=True, gc=False):
    type: str
    budget_tokens: Number | None = None
    display: str | None = None


class OutputFormat(Struct, frozen=True, gc=False):
    type: str
    schema: Raw = Raw(b"")


class OutputConfig(Struct, frozen=True, gc=False):
    effort: str | None = None
    format: OutputFormat | None = None


class MessagesRequest(Struct, frozen=True):
    """``POST /messages``, and with fewer fields its ``count_tokens``. What a value may be is the converter's to judge.

    What only a service that keeps or calls more can do stays ``Raw``: all that counts is whether it is there.
    """

    model: str
    max_tokens: Number | None = None
    messages: Raw = Raw(b"")
    system: Raw = Raw(b"null")
    tools: Raw = Raw(b"")
    tool_choice: ToolChoice | None = None
    stop_sequences: list[str] | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Number | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    stream: bool | None = None
    thread: Raw = Raw(b"null")
    mcp_servers: Raw = Raw(b"null")


# ------------------------------------------------------------------------- requests too large to be read in one go

Outline: type[Any] = defstruct("Outline", [(field.encode_name, Raw, Raw(b"")) for field in fields(MessagesRequest)])
"""A request of which nothing is read yet; a field that is not there is empty."""
