"""OpenAI's Responses API as Structs: requests and items as clients send them, answers and items as we write them.

Requests name the fields that gemproxy reads or whose type it checks; unknown fields are ignored, ``null`` means absent.
Answers use ``UNSET`` for a key that is left out and ``None`` for one that OpenAI sends as ``null``.
Source: OpenAI's schemas of ``CreateResponse``, ``Response`` and its events (docs/protocol.md 7).
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType

from gemproxy.wire.openai_chat import Number, TokenLogprob

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


ItemOut = MessageOut | FunctionCallOut | CustomCallOut | ReasoningOut | ImageCallOut

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
    max_tool_calls: int | None = None
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
