"""Gemini's generateContent as Structs: only the fields that gemproxy reads or writes.

One ``Part`` serves both directions. Answers are read tolerantly: proto3 leaves defaults out, unknown enum values and
fields come at any time (docs/protocol.md 1.6, 1.7), so every field has a default and reasons are plain strings.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct, field

# ------------------------------------------------------------------------------------------------- both directions


class Blob(Struct, rename="camel", omit_defaults=True, gc=False):
    mime_type: str = ""
    data: str = ""  # base64, standard alphabet


class FileData(Struct, rename="camel", omit_defaults=True, gc=False):
    file_uri: str = ""
    mime_type: str | None = None


class PartialArg(Struct, rename="camel", omit_defaults=True, gc=False):
    """A piece of an argument that Vertex streams when asked to (docs/protocol.md 1.4)."""

    json_path: str = ""
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None


class FunctionCall(Struct, rename="camel", omit_defaults=True, gc=False):
    name: str = ""
    args: Raw = Raw(b"")  # kept as bytes: numbers and key order reach the client as the model wrote them
    id: str | None = None
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class FunctionResponse(Struct, rename="camel", omit_defaults=True, gc=False):
    name: str = ""
    response: Any = None  # an object; ``output``/``error`` are understood, else the whole is the output
    id: str | None = None
    parts: list[Part] | None = None


class ExecutableCode(Struct, rename="camel", omit_defaults=True, gc=False):
    language: str = "PYTHON"
    code: str = ""


class CodeExecutionResult(Struct, rename="camel", omit_defaults=True, gc=False):
    output: str = ""


class PartMediaResolution(Struct, rename="camel", omit_defaults=True, gc=False):
    level: str | None = None


class Part(Struct, rename="camel", omit_defaults=True, gc=False):
    """Exactly one data field, plus modifiers (docs/protocol.md 1.3).

    A long ``text`` may be ``Raw``, the JSON string it came as (``wire.text``).
    ``origin`` never goes on the wire: it names the upstream and model that made ``thought_signature``
    ("" = unknown), and ``Dialect.ask`` takes it off.
    """

    text: str | Raw | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    executable_code: ExecutableCode | None = None
    code_execution_result: CodeExecutionResult | None = None
    media_resolution: PartMediaResolution | None = None
    origin: str = field(default="", name="x-gemproxy-origin")


class Content(Struct, rename="camel", omit_defaults=True, gc=False):
    parts: list[Part] | None = None
    role: str | None = None


# ------------------------------------------------------------------------------------------------------- requests


class FunctionDeclaration(Struct, rename="camel", omit_defaults=True, gc=False):
    name: str
    description: str | None = None
    parameters_json_schema: Raw = Raw(b"")


class Empty(Struct, gc=False):
    """A built-in tool without settings: ``{}``."""


class ToolSpec(Struct, rename="camel", omit_defaults=True, gc=False):
    function_declarations: list[FunctionDeclaration] | None = None
    google_search: Empty | None = None
    url_context: Empty | None = None
    code_execution: Empty | None = None


class FunctionCallingConfig(Struct, rename="camel", omit_defaults=True, gc=False):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Struct, rename="camel", omit_defaults=True, gc=False):
    function_calling_config: FunctionCallingConfig | None = None
    include_server_side_tool_invocations: bool | None = None


class ThinkingConfig(Struct, rename="camel", omit_defaults=True, gc=False):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(Struct, rename="camel", omit_defaults=True, gc=False):
    temperature: int | float | None = None
    top_p: int | float | None = None
    top_k: int | float | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    presence_penalty: int | float | None = None
    frequency_penalty: int | float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_json_schema: Raw = Raw(b"")
    response_modalities: list[str] | None = None
    thinking_config: ThinkingConfig | None = None


class SafetySetting(Struct, rename="camel", omit_defaults=True, gc=False):
    category: str
    threshold: str


class GenerateRequest(Struct, rename="camel", omit_defaults=True, gc=False):
    contents: list[Content] = []
    system_instruction: Content | None = None
    tools: list[ToolSpec] | None = None
    tool_config: ToolConfig | None = None
    safety_settings: list[SafetySetting] | None = None
    generation_config: GenerationConfig | None = None
    cached_content: str | None = None
    service_tier: str | None = None


# ------------------------------------------------------------------------------------------------------- answers


class Segment(Struct, rename="camel", gc=False):
    start_index: int | None = None  # bytes of UTF-8, within the part
    end_index: int | None = None
    text: str | None = None


class WebChunk(Struct, gc=False):
    uri: str | None = None
    title: str | None = None


class GroundingChunk(Struct, rename="camel", gc=False):
    web: WebChunk | None = None
    retrieved_context: WebChunk | None = None


class GroundingSupport(Struct, rename="camel", gc=False):
    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class GroundingMetadata(Struct, rename="camel", gc=False):
    grounding_chunks: list[GroundingChunk] | None = None
    grounding_supports: list[GroundingSupport] | None = None


class ChosenToken(Struct, rename="camel", gc=False):
    token: str = ""
    log_probability: float | None = None


class TopTokens(Struct, gc=False):
    candidates: list[ChosenToken] | None = None


class LogprobsResult(Struct, rename="camel", gc=False):
    chosen_candidates: list[ChosenToken] | None = None
    top_candidates: list[TopTokens] | None = None


class Candidate(Struct, rename="camel", gc=False):
    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    grounding_metadata: Raw = Raw(b"")  # a ``GroundingMetadata``: kept as bytes, since only the last one counts
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(Struct, rename="camel", gc=False):
    block_reason: str | None = None
    block_reason_message: str | None = None


class ModalityCount(Struct, rename="camel", gc=False):
    modality: str = ""
    token_count: int | None = None


class UsageMetadata(Struct, rename="camel", gc=False):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[ModalityCount] | None = None
    candidates_tokens_details: list[ModalityCount] | None = None


class GenerateResponse(Struct, rename="camel", gc=False):
    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    error: Any = None  # an error object inside a 200 (docs/protocol.md 1.2); a null is none
