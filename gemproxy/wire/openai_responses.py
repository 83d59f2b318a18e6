"""OpenAI's Responses API as Structs: requests and items as clients send them, answers and items as we write them.

Requests name the fields that gemproxy reads or whose type it checks; unknown fields are ignored, ``null`` means absent.
Answers use ``UNSET`` for a key that is left out and ``None`` for one that OpenAI sends as ``null``.
Source: OpenAI's schemas of ``CreateResponse``, ``Response`` and its events (docs/protocol.md 7).
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType, defstruct
from msgspec.structs import fields

from gemproxy.wire.openai_chat import Number, TokenLogprob, Unread

# ------------------------------------------------------------------------------------------------ answers: items


class UrlCitationOut(Struct, tag_field="type", tag="url_citation", frozen=True, gc=False):
    start_index: int
    end_index: int
    url: str
    title: str


class OutputText(Struct, tag_field="type", tag="output_text", gc=False):
    text: str | Raw = ""
    annotations: list[UrlCitationOut] = []
    logprobs: list[TokenLogprob] = []


class RefusalOut(Struct, tag_field="type", tag="refusal", gc=False):
    refusal: str = ""


class MessageOut(Struct, tag_field="type", tag="message", gc=False):
    id: str
    status: str
    content: list[OutputText | RefusalOut]
    role: str = "assistant"


class FunctionCallOut(Struct, tag_field="type", tag="function_call", gc=False):
    id: str
    call_id: str
    name: str
    arguments: str
    status: str
    namespace: str | UnsetType = UNSET


class CustomCallOut(Struct, tag_field="type", tag="custom_tool_call", gc=False):
    id: str
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


class SummaryText(Struct, tag_field="type", tag="summary_text", gc=False):
    text: str | Raw = ""


class ReasoningOut(Struct, tag_field="type", tag="reasoning", gc=False):
    id: str
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


class ImageCallOut(Struct, tag_field="type", tag="image_generation_call", gc=False):
    id: str
    status: str
    result: str | None


class CompactionOut(Struct, tag_field="type", tag="compaction", gc=False):
    id: str
    encrypted_content: str


ItemOut = MessageOut | FunctionCallOut | CustomCallOut | ReasoningOut | ImageCallOut | CompactionOut

# -------------------------------------------------------------------------------------- answers: the whole object


class InputDetails(Struct, gc=False):
    cached_tokens: int = 0


class OutputDetails(Struct, gc=False):
    reasoning_tokens: int = 0


class UsageOut(Struct, gc=False):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ErrorOut(Struct, gc=False):
    code: str
    message: str


class IncompleteDetails(Struct, gc=False):
    reason: str


class ReasoningEcho(Struct, frozen=True, gc=False):
    effort: str | None = None
    summary: str | None = None


class Echo(Struct, frozen=True):
    """What a response repeats of its request, with OpenAI's own words where nothing was said."""

    tools: Raw = Raw(b"[]")
    tool_choice: Raw = Raw(b'"auto"')
    parallel_tool_calls: bool = True
    background: bool = False
    instructions: str | Raw | None = None
    max_output_tokens: Number | None = None
    max_tool_calls: Number | None = None
    metadata: Raw = Raw(b"{}")
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: ReasoningEcho = ReasoningEcho()
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    temperature: Number | None = 1.0
    text: Raw = Raw(b'{"format":{"type":"text"},"verbosity":"medium"}')
    top_logprobs: int = 0
    top_p: Number | None = 1.0
    truncation: str = "disabled"
    user: str | None = None


# ----------------------------------------------------------------------------------------------- requests: parts


class InputText(Struct, tag_field="type", tag="input_text", gc=False):
    text: str | Raw | None = None


class SentOutputText(Struct, tag_field="type", tag="output_text", gc=False):
    text: str | Raw | None = None


class PlainText(Struct, tag_field="type", tag="text", gc=False):
    text: str | Raw | None = None


class SentSummaryText(Struct, tag_field="type", tag="summary_text", gc=False):
    text: str | Raw | None = None


class SentReasoningText(Struct, tag_field="type", tag="reasoning_text", gc=False):
    text: str | Raw | None = None


class SentRefusal(Struct, tag_field="type", tag="refusal", gc=False):
    refusal: str | None = None


class InputImage(Struct, tag_field="type", tag="input_image", gc=False):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(Struct, tag_field="type", tag="input_file", gc=False):
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Sound(Struct, gc=False):
    data: str
    format: str | None = None


class InputAudio(Struct, tag_field="type", tag="input_audio", gc=False):
    input_audio: Sound


TextPart = InputText | SentOutputText | PlainText | SentSummaryText | SentReasoningText
InputPart = TextPart | SentRefusal | InputImage | InputFile | InputAudio

# ----------------------------------------------------------------------------------------------- requests: items


class ItemHead(Struct, frozen=True, gc=False):
    """What tells which kind of item it is; a message need not say so."""

    type: str | None = None
    role: str | None = None


class SentText(Struct, frozen=True, gc=False):
    """A message that is one text."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str
    type: Literal["message"] | None = None


class SentMessage(Struct, frozen=True, gc=False):
    role: str
    content: Raw = Raw(b"null")


class SentCall(Struct, frozen=True, gc=False):
    call_id: str
    name: str
    arguments: Raw = Raw(b"null")
    namespace: str | None = None


class SentCustomCall(Struct, frozen=True, gc=False):
    call_id: str
    name: str
    input: Raw = Raw(b"null")
    namespace: str | None = None


class SentCallOutput(Struct, frozen=True, gc=False):
    call_id: str | None = None
    output: Raw = Raw(b"null")
    name: str | None = None
    namespace: str | None = None


class SentClientCall(Struct, frozen=True, gc=False):
    """A call of a tool that OpenAI defines and the client runs; which of the last three it has, its type tells."""

    call_id: str
    action: Raw = Raw(b"null")
    actions: Raw = Raw(b"null")
    operation: Raw = Raw(b"null")


class SentClientOutput(Struct, frozen=True, gc=False):
    """What came of such a call; that of a local shell names it in ``id``."""

    call_id: str | None = None
    id: str | None = None
    output: Raw = Raw(b"null")
    status: str | None = None


class SentScreenshot(Struct, frozen=True, gc=False):
    image_url: str | None = None
    file_id: str | None = None


class SentImageCall(Struct, frozen=True, gc=False):
    result: str | None = None


class SentReasoning(Struct, frozen=True, gc=False):
    encrypted_content: str | None = None


class SentReference(Struct, frozen=True, gc=False):
    id: str


class SentTools(Struct, frozen=True, gc=False):
    tools: Raw = Raw(b"[]")


class SentCompaction(Struct, frozen=True, gc=False):
    encrypted_content: str | None = None


# ----------------------------------------------------------------------------------------------- requests: tools


class SentTool(Struct, frozen=True, gc=False):
    """Any tool: ``type`` decides which of the others counts."""

    type: str = "function"
    name: str = ""
    description: str | None = None
    parameters: Raw = Raw(b"")  # kept as bytes: the schema walk caches by them
    strict: bool | None = None
    format: Raw = Raw(b"")
    tools: list[Raw] = []  # of a namespace
    external_web_access: bool | None = None
    defer_loading: bool | None = None


class Grammar(Struct, frozen=True, gc=False):
    """``format`` of a custom tool."""

    type: str | None = None
    syntax: str = ""
    definition: str = ""


class ChosenTool(Struct, frozen=True, gc=False):
    type: str | None = None
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: list[ChosenTool] | None = None


# -------------------------------------------------------------------------------------------- requests: the whole


class SentReasoningConfig(Struct, frozen=True, gc=False):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None  # its older name
    mode: str | None = None
    context: str | None = None


class TextFormat(Struct, frozen=True, gc=False):
    type: str = "text"
    schema: Raw = Raw(b"")
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(Struct, frozen=True, gc=False):
    format: TextFormat | None = None
    verbosity: str | None = None


class SentStreamOptions(Struct, frozen=True, gc=False):
    include_obfuscation: bool | None = None


class ResponsesRequest(Struct, frozen=True):
    """``POST /responses``. Ranges and combinations are the converter's to judge; types are judged here."""

    model: str
    input: Raw = Raw(b"")
    instructions: Raw = Raw(b"")
    tools: Raw = Raw(b"")
    tool_choice: Raw = Raw(b"null")
    stream: bool | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    max_output_tokens: Number | None = None
    max_tool_calls: Number | None = None
    parallel_tool_calls: bool | None = None
    text: Raw = Raw(b"null")
    reasoning: SentReasoningConfig | None = None
    include: list[str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Raw = Raw(b"")
    prompt: Raw = Raw(b"")
    background: bool | None = None
    top_logprobs: Number | None = None
    truncation: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Unread | None = None
    prompt_cache_retention: str | None = None
    stream_options: SentStreamOptions | None = None
    context_management: list[Unread] | None = None
    moderation: Unread | None = None


# ------------------------------------------------------------------------- requests too large to be read in one go

Outline: type[Any] = defstruct("Outline", [(field.encode_name, Raw, Raw(b"")) for field in fields(ResponsesRequest)])
"""A request of which nothing is read yet; a field that is not there is empty."""


class LargeInputText(InputText):
    text: Raw = Raw(b"null")  # until it is read


class LargeOutputText(SentOutputText):
    text: Raw = Raw(b"null")


class LargePlainText(PlainText):
    text: Raw = Raw(b"null")


LargePart = (
    LargeInputText
    | LargeOutputText
    | LargePlainText
    | SentSummaryText
    | SentReasoningText
    | SentRefusal
    | InputImage
    | InputFile
    | InputAudio
)
