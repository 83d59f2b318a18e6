"""A Messages request -> a Gemini call. Puts the rooms of the converter together.

In: a request that was read, the model, fetched images, known signatures and options. Out: a ``Conversion``: the call,
and what the answer must be read and headed with. Must not: do I/O, know a credential, or repeat what the client wrote
in a message: only the path of a field, never its content.

Every field of Anthropic's request is mapped, approximated or knowingly ignored as docs/protocol.md 10.3 says. Ignored
ones whose loss a client may notice are named in ``Conversion.ignored``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from gemproxy.converter.anthropic.conversation import conversation
from gemproxy.converter.anthropic.errors import no_thread
from gemproxy.converter.anthropic.parts import Setting
from gemproxy.converter.anthropic.reading import Asking
from gemproxy.converter.anthropic.thinking import thoughts
from gemproxy.converter.anthropic.tools import offered
from gemproxy.converter.api import Options
from gemproxy.converter.gemini.generation_config import (
    FREE_TEXT,
    Format,
    answer_schema,
    json_format,
    limit,
    sample,
)
from gemproxy.converter.gemini.signatures import SignatureLookup
from gemproxy.converter.gemini.thinking import thinking_config
from gemproxy.converter.gemini.tools import ToolSet
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import Call, Method
from gemproxy.wire.anthropic import MessagesRequest, ToolUseBlock
from gemproxy.wire.gemini import Blob, Content, GenerateRequest, GenerationConfig

MAX_STOPS: Final = 5  # docs/protocol.md 1.5
_EMPTY_CONFIG: Final = GenerationConfig()
_ABSENT: Final = (b"", b"null", b"[]")


class Conversion(Struct, frozen=True):
    """A call, what its answer is read with (``generation``), and whether thoughts are told (``Heading``)."""

    call: Call
    tools: ToolSet
    taken: frozenset[str]
    thinks: bool
    ignored: tuple[str, ...]


def to_call(
    asking: Asking,
    model: Model,
    images: Mapping[str, Blob],
    signatures: SignatureLookup | None,
    options: Options,
    method: Method,
    effort: Effort,
) -> Conversion:
    """Return the call for a request. Raises ``ClientFault`` (400, naming ``param``) for what cannot be asked.

    ``images`` holds the remote images by address. ``Abandoned`` and ``Elsewhere`` of ``effort`` come out as they are.
    """
    request = asking.request
    notes: list[str] = []
    _refuse_what_runs_elsewhere(request)
    tools = offered(request.tools, asking.messages, request.tool_choice, model, notes, effort)
    wanted = _format(request, model, bool(tools.set.specs), effort)
    thought = thoughts(request, model, options.include_thoughts)
    instructions: Sequence[str] = [*tools.instructions, *filter(None, (wanted.instruction,))]
    setting = Setting(model, tools.set.names, images, signatures, effort=effort)
    said = conversation(asking.system, asking.messages, setting, instructions)
    config = _config(request, model, notes)
    wanted.write(config)
    config.thinking_config = thinking_config(thought.wish, model, config.max_output_tokens, thought.shown, False)
    body = GenerateRequest(
        contents=said.contents,
        system_instruction=Content(said.system) if said.system else None,
        tools=tools.set.specs,
        tool_config=tools.set.config,
        generation_config=None if config == _EMPTY_CONFIG else config,
    )
    return Conversion(
        call=Call(method, model.id, body, setting.media),
        tools=tools.set,
        taken=_call_ids(asking) if tools.set.declared else frozenset(),
        thinks=thought.told,
        ignored=tuple(notes),
    )


def _refuse_what_runs_elsewhere(request: MessagesRequest) -> None:
    if bytes(request.thread) not in _ABSENT:
        raise no_thread()
    if bytes(request.mcp_servers) not in _ABSENT:
        raise ClientFault(
            "MCP servers are not called from here: offer their tools as tools.",
            param="mcp_servers",
            code="unsupported_parameter",
        )


def _format(request: MessagesRequest, model: Model, with_tools: bool, effort: Effort) -> Format:
    wanted, param = request.output_format, "output_format"
    if request.output_config is not None and request.output_config.format is not None:
        wanted, param = request.output_config.format, "output_config.format"
    if wanted is None:
        return FREE_TEXT
    if wanted.type != "json_schema":
        raise ClientFault(f"{param}.type must be json_schema.", param=f"{param}.type", code="unsupported_value")
    return json_format(answer_schema(wanted.schema, f"{param}.schema", param, effort), model, with_tools)


def _config(request: MessagesRequest, model: Model, notes: list[str]) -> GenerationConfig:
    config = GenerationConfig()
    if request.max_tokens:
        config.max_output_tokens = limit(request.max_tokens, "max_tokens", model)
    sample(config, model, notes, request.temperature, request.top_p, request.top_k)
    if request.stop_sequences:
        config.stop_sequences = _stops(request.stop_sequences)
    return config


def _stops(stops: list[str]) -> list[str]:
    if not all(stop.strip() for stop in stops):
        raise ClientFault("each stop sequence must contain non-whitespace", param="stop_sequences")
    if len(stops) > MAX_STOPS:
        raise ClientFault(
            f"stop_sequences may hold at most {MAX_STOPS}.", param="stop_sequences", code="unsupported_value"
        )
    return stops


def _call_ids(asking: Asking) -> frozenset[str]:
    return frozenset(
        block.id
        for message in asking.messages
        if isinstance(message.content, list)
        for block in message.content
        if isinstance(block, ToolUseBlock)
    )
