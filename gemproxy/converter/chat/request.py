"""An OpenAI chat request -> a Gemini call. Puts the rooms of the converter together.

In: a request (``reading``), the model, fetched images, known signatures and options. Out: a ``Conversion``: the call,
and what the answer must be read with. Must not: do I/O, know a credential, or repeat what the client wrote in a
message: only the path of a field, never its content.

Every field of OpenAI's request is mapped, approximated or knowingly ignored as docs/protocol.md 4.1 says. Ignored ones
whose loss a client may notice are named in ``Conversion.ignored``; those that have no effect on an answer (``user``,
``metadata``, ``store``, ``safety_identifier``, ``prompt_cache_*``, ``moderation``), hints (``prediction``,
``verbosity``) and unknown ones are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw, Struct

from gemproxy.converter.api import Options
from gemproxy.converter.chat.generation import answer_format, generation
from gemproxy.converter.chat.messages import Setting, conversation
from gemproxy.converter.chat.reading import NO_BIAS
from gemproxy.converter.chat.tools import tool_set
from gemproxy.converter.gemini.generation_config import FREE_TEXT
from gemproxy.converter.gemini.signatures import SignatureLookup
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import Call
from gemproxy.wire.gemini import Blob, Content, GenerateRequest
from gemproxy.wire.openai_chat import AssistantMessage, ChatRequest, ExtraBody, GoogleOptions

_EMPTY_BIAS = Raw(b"{}")


class Conversion(Struct, frozen=True):
    """A call and what its answer is read with.

    ``names``: wire name -> the client's name of a tool, where they differ. ``declared`` and ``custom`` hold the
    client's names of all tools and of the custom ones (one string, ``input``). ``taken`` holds the call ids of the
    history, if the answer may hold calls; ``grounded``: it may name sources. ``ignored`` names fields that were left
    out, for a debug log.
    """

    call: Call
    names: dict[str, str]
    declared: frozenset[str]
    taken: frozenset[str]
    grounded: bool
    legacy_functions: bool
    custom: frozenset[str]
    ignored: tuple[str, ...]


# --------------------------------------------------------------------------------------------------------- converting


def to_call(
    request: ChatRequest,
    model: Model,
    images: Mapping[str, Blob],
    signatures: SignatureLookup | None,
    options: Options,
    stream: bool,
    effort: Effort | None = None,
) -> Conversion:
    """Return the call for a request. Raises ``ClientFault`` (400, naming ``param``) for what cannot be asked.

    ``images`` holds the remote images by address (see ``remote_images``). ``effort`` (else one of
    ``options.max_schema_nodes``) is for those who may have to end the work: ``Abandoned`` comes out as it is.
    """
    notes = _left_out(request)
    effort = effort or Effort(options.max_schema_nodes)
    google = request.google or (_nested(request.extra_body) if request.extra_body is not None else None)
    tools = tool_set(request, model, notes, effort)
    wanted = FREE_TEXT if request.response_format is None else answer_format(request, model, bool(tools.specs), effort)
    setting = Setting(model, tools.names, images, signatures, effort=effort)
    said = conversation(request.messages, setting, wanted.instruction)
    body = GenerateRequest(
        contents=said.contents,
        system_instruction=Content(said.system) if said.system else None,
        tools=tools.specs,
        tool_config=tools.config,
        safety_settings=((google.safety_settings or google.safety_settings_camel) or None) if google else None,
        generation_config=generation(request, google, model, wanted, options.include_thoughts, notes),
        cached_content=(google.cached_content or google.cached_content_camel) if google is not None else None,
        service_tier=_tier(request.service_tier, notes) if request.service_tier is not None else None,
    )
    return Conversion(
        call=Call("streamGenerateContent" if stream else "generateContent", model.id, body, setting.media),
        names=tools.names.changed(),
        declared=tools.declared,
        # cached content may hold tools of its own
        taken=_call_ids(request) if tools.declared or body.cached_content else frozenset(),
        grounded=tools.built_in or body.cached_content is not None,
        legacy_functions=bool(request.functions),
        custom=tools.custom,
        ignored=tuple(notes),
    )


def _left_out(request: ChatRequest) -> list[str]:
    """Return the fields that nothing of Gemini's stands for."""
    notes = ["logit_bias"] if request.logit_bias not in (NO_BIAS, _EMPTY_BIAS) else []
    if request.parallel_tool_calls is False:
        # there is no switch, and to cut an answer to its first call would break the pairing of signatures
        notes.append("parallel_tool_calls")
    return notes


def _call_ids(request: ChatRequest) -> frozenset[str]:
    return frozenset(
        call.id
        for message in request.messages
        if isinstance(message, AssistantMessage) and message.tool_calls
        for call in message.tool_calls
        if call.id
    )


def _nested(extra: ExtraBody | None) -> GoogleOptions | None:
    """Return Google's own options from a literal ``extra_body``; the Python SDK puts them at the top."""
    while extra is not None and extra.google is None:
        extra = extra.extra_body
    return extra.google if extra is not None else None


def _tier(tier: str, notes: list[str]) -> str | None:
    if tier in ("flex", "priority"):
        return tier
    if tier not in ("auto", "default"):
        notes.append("service_tier")
    return None
