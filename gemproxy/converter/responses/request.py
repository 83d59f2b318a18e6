"""A Responses request -> a Gemini call. Puts the rooms of the converter together.

In: a request that was read, its items with those of earlier responses, the model, fetched images, known signatures and
options. Out: a ``Conversion``: the call, and what the answer must be read and headed with. Must not: do I/O, know a
credential, or repeat what the client wrote in a message: only the path of a field, never its content.

Every field of OpenAI's request is mapped, approximated or knowingly ignored as docs/protocol.md 7.3 says. Ignored ones
whose loss a client may notice are named in ``Conversion.ignored``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.api import Options
from gemproxy.converter.gemini.generation_config import (
    FREE_TEXT,
    Format,
    answer_schema,
    ask_logprobs,
    json_format,
    limit,
    sample,
    top_logprobs,
)
from gemproxy.converter.gemini.names import Names
from gemproxy.converter.gemini.signatures import SignatureLookup
from gemproxy.converter.gemini.thinking import NO_WISH, of_effort, thinking_config
from gemproxy.converter.gemini.tools import ToolSet
from gemproxy.converter.responses import compaction
from gemproxy.converter.responses.conversation import Setting, conversation
from gemproxy.converter.responses.items import Called, Item, Offered, path_of
from gemproxy.converter.responses.reading import Asking
from gemproxy.converter.responses.tools import Tools, choice_of, offered
from gemproxy.converter.steps import Reader
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import Call, Method
from gemproxy.wire.gemini import Blob, Content, GenerateRequest, GenerationConfig
from gemproxy.wire.openai_responses import ResponsesRequest, SentReasoningConfig, TextConfig

SEALED: Final = "reasoning.encrypted_content"
_LOGPROBS: Final = "message.output_text.logprobs"
_SUMMARIES: Final = ("auto", "concise", "detailed")
_EMPTY_CONFIG: Final = GenerationConfig()
_reader: Final = Reader({})
_text = msgspec.json.Decoder(TextConfig | None).decode


class Conversion(Struct, frozen=True):
    """A call, what its answer is read with (``generation``), and the object that an answer repeats of the request."""

    call: Call
    tools: Tools
    taken: frozenset[str]
    sealed: bool
    compacts: bool
    ignored: tuple[str, ...]


def to_call(
    asking: Asking,
    items: Sequence[Item],
    model: Model,
    images: Mapping[str, Blob],
    signatures: SignatureLookup | None,
    options: Options,
    method: Method,
    effort: Effort,
) -> Conversion:
    """Return the call for a request. Raises ``ClientFault`` (400, naming ``param``) for what cannot be asked.

    ``items`` are all that was said, ``asking.items`` the last of them. ``images`` holds the remote images by address.
    ``Abandoned`` and ``Elsewhere`` of ``effort`` come out as they are.
    """
    request, notes = asking.request, _left_out(asking.request)
    refuse_what_is_kept_elsewhere(request)
    compacts, choice = compaction.is_asked(items), choice_of(request.tool_choice)
    if compacts:
        items, tools, text = compaction.asking(items), Tools(ToolSet(Names()), {}), TextConfig()
    else:
        tools = offered(_given(request, items), choice, model, notes, effort)
        text = _reader.at("text", _text, request.text) or TextConfig()
    wanted = _format(text, model, bool(tools.set.specs), effort)
    setting = Setting(model, tools.set.names, images, signatures, notes=notes, effort=effort)
    said = conversation(items, setting, asking.instructions, wanted.instruction)
    body = GenerateRequest(
        contents=said.contents,
        system_instruction=Content(said.system) if said.system else None,
        tools=tools.set.specs,
        tool_config=tools.set.config,
        generation_config=_config(request, model, wanted, tools.drawing, options.include_thoughts, notes),
        service_tier=request.service_tier if request.service_tier in ("flex", "priority") else None,
    )
    taken = frozenset(item.call_id for item in items if isinstance(item, Called)) if tools.set.declared else frozenset()
    return Conversion(
        call=Call(method, model.id, body, setting.media),
        tools=tools,
        taken=taken,
        compacts=compacts,
        sealed=SEALED in (request.include or ()),
        ignored=tuple(notes),
    )


def _given(request: ResponsesRequest, items: Sequence[Item]) -> list[list[tuple[str, Raw]]]:
    """Return all tools with the paths at which they stand: those of items in their order, then those of the request."""
    found = [_placed(f"{path_of(item.place)}.tools", item.tools) for item in items if isinstance(item, Offered)]
    return [*found, _placed("tools", _reader.items("tools", request.tools))]


def _placed(path: str, tools: Sequence[Raw]) -> list[tuple[str, Raw]]:
    return [(f"{path}[{place}]", raw) for place, raw in enumerate(tools)]


def refuse_what_is_kept_elsewhere(request: ResponsesRequest) -> None:
    """Raise ``ClientFault`` for what would need more of a conversation than a proxy has."""
    for name, raw in (("conversation", request.conversation), ("prompt", request.prompt)):
        if len(raw) and bytes(raw) != b"null":
            raise ClientFault(f"{name} is not offered here.", param=name, code="unsupported_parameter")
    if request.background:
        raise ClientFault("background is not offered here.", param="background", code="unsupported_parameter")


def _left_out(request: ResponsesRequest) -> list[str]:
    notes = ["parallel_tool_calls"] if request.parallel_tool_calls is False else []
    if request.service_tier not in (None, "auto", "default", "flex", "priority"):
        notes.append("service_tier")
    if request.max_tool_calls is not None:
        notes.append("max_tool_calls")
    return notes


def _format(text: TextConfig, model: Model, with_tools: bool, effort: Effort) -> Format:
    wanted = text.format
    if wanted is None or wanted.type == "text":
        return FREE_TEXT
    if wanted.type == "json_object":
        return json_format(b"", model, with_tools)
    if wanted.type == "json_schema":
        return json_format(answer_schema(wanted.schema, "text.format.schema", "text", effort), model, with_tools)
    raise ClientFault(
        "text.format.type must be text, json_object or json_schema.", param="text.format.type", code="unsupported_value"
    )


def _config(
    request: ResponsesRequest, model: Model, wanted: Format, drawing: bool, include_thoughts: bool, notes: list[str]
) -> GenerationConfig | None:
    config = GenerationConfig()
    most = None
    if request.max_output_tokens is not None:
        most = config.max_output_tokens = limit(request.max_output_tokens, "max_output_tokens", model)
    sample(config, model, notes, request.temperature, request.top_p)
    count = top_logprobs(request.top_logprobs) if request.top_logprobs is not None else None
    if _LOGPROBS in (request.include or ()):
        ask_logprobs(config, model, count, "include")
    elif count:
        ask_logprobs(config, model, count, "top_logprobs")
    if drawing:
        config.response_modalities = ["TEXT", "IMAGE"]
    wanted.write(config)
    reasoning = request.reasoning or SentReasoningConfig()
    wish = of_effort(model, reasoning.effort, "reasoning.effort") if reasoning.effort is not None else NO_WISH
    config.thinking_config = thinking_config(wish, model, most, _shown(reasoning, model, include_thoughts), False)
    return None if config == _EMPTY_CONFIG else config


def _shown(reasoning: SentReasoningConfig, model: Model, include_thoughts: bool) -> bool:
    """Return whether thoughts are asked for: OpenAI gives summaries of them only to those who want some."""
    summary, param = reasoning.summary, "reasoning.summary"
    if summary is None:
        summary, param = reasoning.generate_summary, "reasoning.generate_summary"
    if summary is None:
        return False
    if summary not in _SUMMARIES:
        raise ClientFault(f"{param} must be one of {', '.join(_SUMMARIES)}.", param=param, code="unsupported_value")
    return include_thoughts and model.thinks and reasoning.effort != "none"
