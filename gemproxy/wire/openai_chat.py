"""OpenAI's chat API as Structs: requests as clients send them, answers, chunks and errors as we write them.

Requests name the fields that gemproxy reads or whose type it checks; unknown fields are ignored, ``null`` means absent.
Answers use ``UNSET`` for a key that is left out and ``None`` for one that OpenAI sends as ``null``.
Source: OpenAI's schema of ``CreateChatCompletionRequest`` and its answers; extensions: docs/protocol.md 4.1, 4.5.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType, field

from gemproxy.wire.gemini import SafetySetting

Number = int | float

# ---------------------------------------------------------------------------------------------- requests: content


class TextPart(Struct, tag_field="type", tag="text", frozen=True, gc=False):
    text: str | None = None


class ImageUrl(Struct, frozen=True, gc=False):
    url: str
    detail: str | None = None


class ImagePart(Struct, tag_field="type", tag="image_url", frozen=True, gc=False):
    image_url: ImageUrl | str


class InputAudio(Struct, frozen=True, gc=False):
    data: str
    format: str | None = None


class AudioPart(Struct, tag_field="type", tag="input_audio", frozen=True, gc=False):
    input_audio: InputAudio


class InputFile(Struct, frozen=True, gc=False):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Struct, tag_field="type", tag="file", frozen=True, gc=False):
    file: InputFile


class VideoUrl(Struct, frozen=True, gc=False):
    url: str


class VideoPart(Struct, tag_field="type", tag="video_url", frozen=True, gc=False):
    video_url: VideoUrl | str


class RefusalPart(Struct, tag_field="type", tag="refusal", frozen=True, gc=False):
    refusal: str | None = None


ContentPart = TextPart | ImagePart | AudioPart | FilePart | VideoPart | RefusalPart
Content = str | Raw | list[ContentPart] | None  # Raw: a long text, as the JSON string it came as (``wire.text``)

# --------------------------------------------------------------------------------------------- requests: messages


class GoogleExtra(Struct, omit_defaults=True, frozen=True, gc=False):
    thought_signature: str | None = None
    origin: str | None = None  # ours: "<dialect>/<model>" that made the signature; clients send it back untouched


class ExtraContent(Struct, omit_defaults=True, frozen=True, gc=False):
    """Google's carrier of what OpenAI's format has no room for (docs/protocol.md 6.4)."""

    google: GoogleExtra | None = None


class SentFunction(Struct, frozen=True, gc=False):
    name: str
    arguments: str | Raw | dict[str, Any] | None = None  # Raw: long, as the JSON it came as (``wire.text``)


class SentCustom(Struct, frozen=True, gc=False):
    name: str
    input: str | None = None


class ProviderFields(Struct, frozen=True, gc=False):
    thought_signature: str | None = None


class SentToolCall(Struct, frozen=True, gc=False):
    """A tool call as the client sends it back in the history."""

    id: str | None = None
    type: str | None = None
    function: SentFunction | None = None
    custom: SentCustom | None = None
    extra_content: ExtraContent | None = None
    provider_specific_fields: ProviderFields | None = None


class SentImage(Struct, frozen=True, gc=False):
    """An image of an earlier answer (``message.images``), sent back by clients that keep the extension."""

    image_url: ImageUrl | str
    extra_content: ExtraContent | None = None


class SystemMessage(Struct, tag_field="role", tag="system", frozen=True, gc=False):
    content: Content = None
    name: str | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer", frozen=True, gc=False):
    content: Content = None
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user", frozen=True, gc=False):
    content: Content = None
    name: str | None = None


class AssistantMessage(Struct, tag_field="role", tag="assistant", frozen=True, gc=False):
    content: Content = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[SentToolCall] | None = None
    function_call: SentFunction | None = None
    images: list[SentImage] | None = None
    extra_content: ExtraContent | None = None


class ToolMessage(Struct, tag_field="role", tag="tool", frozen=True, gc=False):
    content: Content = None
    tool_call_id: str | None = None
    name: str | None = None


class FunctionMessage(Struct, tag_field="role", tag="function", frozen=True, gc=False):
    content: Content = None
    name: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage

# ------------------------------------------------------------------------------------------------ requests: tools


class FunctionSpec(Struct, frozen=True, gc=False):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b"")  # kept as bytes: the schema walk caches by them
    strict: bool | None = None


class CustomSpec(Struct, frozen=True, gc=False):
    name: str
    description: str | None = None
    format: Raw = Raw(b"")


class Tool(Struct, frozen=True, gc=False):
    """``type`` decides which of the others counts; unknown types are judged by the converter, not here."""

    type: str = "function"
    function: FunctionSpec | None = None
    custom: CustomSpec | None = None


class NamedFunction(Struct, frozen=True, gc=False):
    name: str


class AllowedTool(Struct, frozen=True, gc=False):
    type: str = "function"
    function: NamedFunction | None = None
    custom: NamedFunction | None = None


class AllowedTools(Struct, frozen=True, gc=False):
    mode: str = "auto"
    tools: list[AllowedTool] = []


class ToolChoice(Struct, frozen=True, gc=False):
    type: str | None = None
    function: NamedFunction | None = None
    custom: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchemaFormat(Struct, frozen=True, gc=False):
    name: str | None = None
    description: str | None = None
    schema: Raw = Raw(b"")
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, gc=False):
    type: str
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(Struct, frozen=True, gc=False):
    include_usage: bool | None = None


# ------------------------------------------------------------------------------------------- requests: extensions


class ThinkingConfig(Struct, frozen=True, gc=False):
    """Google's ``thinking_config`` in either casing."""

    include_thoughts: bool | None = None
    thinking_budget: Number | None = None
    thinking_level: str | None = None
    include_thoughts_camel: bool | None = field(default=None, name="includeThoughts")
    thinking_budget_camel: Number | None = field(default=None, name="thinkingBudget")
    thinking_level_camel: str | None = field(default=None, name="thinkingLevel")


class GoogleOptions(Struct, frozen=True, gc=False):
    """Google's own options, in either casing."""

    thinking_config: ThinkingConfig | None = None
    cached_content: str | None = None
    safety_settings: list[SafetySetting] | None = None
    thinking_config_camel: ThinkingConfig | None = field(default=None, name="thinkingConfig")
    cached_content_camel: str | None = field(default=None, name="cachedContent")
    safety_settings_camel: list[SafetySetting] | None = field(default=None, name="safetySettings")


class ExtraBody(Struct, frozen=True, gc=False):
    google: GoogleOptions | None = None
    extra_body: ExtraBody | None = None  # a client that nests once too often (docs/protocol.md 4.1)


class Unread(Struct, frozen=True, gc=False):
    """An object of which only counts that it is there: nothing in it is kept."""


class Thinking(Struct, frozen=True, gc=False):
    """Anthropic's form, which several clients send to every provider."""

    type: str | None = None
    budget_tokens: Number | None = None


class ChatRequest(Struct, frozen=True, gc=False):
    """``POST /chat/completions``. Ranges and combinations are the converter's to judge; types are judged here."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Number | None = None
    max_completion_tokens: Number | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Number | None = None
    n: Number | None = None
    stop: str | list[str] | None = None
    seed: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    logprobs: bool | None = None
    top_logprobs: Number | None = None
    logit_bias: Raw = Raw(b"null")  # ``LogitBias`` judges it: nothing comes of it, and a dict of 28 MB takes 1.7 s
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionSpec] | None = None
    function_call: str | NamedFunction | None = None
    reasoning_effort: str | None = None
    thinking_budget: Number | None = None
    thinking: Thinking | None = None
    google: GoogleOptions | None = None
    extra_body: ExtraBody | None = None
    modalities: list[str] | None = None
    audio: Unread | None = None
    web_search_options: Unread | None = None
    service_tier: str | None = None
    user: str | None = None
    store: bool | None = None
    metadata: Unread | None = None


class LogitBias(Struct, frozen=True, gc=False):
    """A request's ``logit_bias`` with its types."""

    logit_bias: dict[str, Number] | None = None


# ------------------------------------------------------------------------------------------------------- answers


class FunctionOut(Struct, omit_defaults=True, gc=False):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class CustomOut(Struct, gc=False):
    name: str
    input: str


class ToolCallOut(Struct, gc=False):
    """A call in an answer; in a chunk ``index`` counts over the whole reply."""

    id: str
    function: FunctionOut | UnsetType = UNSET
    custom: CustomOut | UnsetType = UNSET
    type: str = "function"
    index: int | UnsetType = UNSET
    extra_content: ExtraContent | UnsetType = UNSET


class UrlCitation(Struct, gc=False):
    start_index: int
    end_index: int
    url: str
    title: str


class AnnotationOut(Struct, gc=False):
    url_citation: UrlCitation
    type: str = "url_citation"


class ImageOut(Struct, gc=False):
    image_url: ImageUrl
    index: int | UnsetType = UNSET
    type: str = "image_url"
    extra_content: ExtraContent | UnsetType = UNSET


class TopLogprob(Struct, gc=False):
    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(Struct, gc=False):
    token: str
    bytes: list[int] | None
    logprob: float
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct, gc=False):
    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None = None


class PromptDetails(Struct, gc=False):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Struct, gc=False):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class MessageOut(Struct, gc=False):
    content: str | Raw | None
    refusal: str | None = None
    role: str = "assistant"
    reasoning_content: str | Raw | UnsetType = UNSET
    tool_calls: list[ToolCallOut] | UnsetType = UNSET
    function_call: FunctionOut | UnsetType = UNSET
    annotations: list[AnnotationOut] | UnsetType = UNSET
    images: list[ImageOut] | UnsetType = UNSET
    extra_content: ExtraContent | UnsetType = UNSET


class Choice(Struct, gc=False):
    index: int
    message: MessageOut
    finish_reason: str
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(Struct, gc=False):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: str = "chat.completion"
    system_fingerprint: str | UnsetType = UNSET


class Delta(Struct, omit_defaults=True, gc=False):
    content: str | Raw | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallOut] | None = None
    function_call: FunctionOut | None = None
    annotations: list[AnnotationOut] | None = None
    images: list[ImageOut] | None = None
    extra_content: ExtraContent | None = None


class ChatChunk(Struct, gc=False):
    """What every chunk of a stream says of its answer; ``choices`` and ``usage`` are written behind it."""

    id: str
    created: int
    model: str
    object: str = "chat.completion.chunk"
    system_fingerprint: str | UnsetType = UNSET


# --------------------------------------------------------------------------------------------- models and errors


class ModelOut(Struct, gc=False):
    id: str
    created: int
    object: str = "model"
    owned_by: str = "google"
    shutdown_date: str | UnsetType = UNSET


class ModelList(Struct, gc=False):
    data: list[ModelOut]
    object: str = "list"


class ErrorObject(Struct, frozen=True, gc=False):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Struct, frozen=True, gc=False):
    error: ErrorObject
