"""Tools and the choice among them: OpenAI's chat -> Gemini's.

In: the request and the model. Out: a ``ToolSet``. Must not: look at messages. Facts: docs/protocol.md 1.4, 4.5.

Built-in tools (search, URLs, code) beside functions exist only from Gemini 3 on. For older models one that is listed in
``tools`` is refused, since the client counts on it; ``web_search_options``, which many clients send as a default, is
left out with a note.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gemproxy.converter.gemini.names import Names
from gemproxy.converter.gemini.tools import CODE, MAX_TOOLS, SEARCH, URLS, Offer, ToolSet, only, with_grammar
from gemproxy.converter.gemini.tools import tool_set as offered
from gemproxy.converter.schema import cache as schema
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort, Exhausted
from gemproxy.models import Model
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import FunctionCallingConfig
from gemproxy.wire.openai_chat import ChatRequest, CustomSpec, NamedFunction, Tool, ToolChoice

_BUILT_IN = {
    "google_search": SEARCH,
    "googleSearch": SEARCH,
    "web_search": SEARCH,
    "web_search_preview": SEARCH,
    "url_context": URLS,
    "urlContext": URLS,
    "code_execution": CODE,
    "codeExecution": CODE,
    "code_interpreter": CODE,
}


def tool_set(request: ChatRequest, model: Model, notes: list[str], effort: Effort) -> ToolSet:
    """Return the tools of a request. Raises ``ClientFault`` naming the tool or the choice."""
    if not (request.tools or request.functions or request.tool_choice or request.function_call) and (
        request.web_search_options is None
    ):
        return ToolSet(Names())
    try:
        offer = _offer(request, effort)
    except Exhausted:
        raise schema.too_much("functions" if request.functions else "tools", effort) from None
    built_in = _built_in(request, model, bool(offer.names), notes)
    return offered(offer, built_in, _calling(request, offer.names, bool(built_in), notes))


# --------------------------------------------------------------------------------------------------- declarations


def _offer(request: ChatRequest, effort: Effort) -> Offer:
    if request.tools and request.functions:
        raise ClientFault("Only one of tools and functions can be given.", param="functions")
    param = "functions" if request.functions else "tools"
    if len(request.functions or request.tools or ()) > MAX_TOOLS:
        raise ClientFault(f"{param} may hold at most {MAX_TOOLS}.", param=param, code="unsupported_value")
    offer = Offer(effort)
    for index, tool in enumerate(request.tools or ()):
        if tool.type not in _BUILT_IN:
            _add(offer, tool, f"tools[{index}]")
    for index, spec in enumerate(request.functions or ()):
        offer.function(spec.name, spec.description, spec.parameters, f"functions[{index}]")
    return offer


def _add(offer: Offer, tool: Tool, param: str) -> None:
    if tool.type == "function":
        if tool.function is None:
            raise ClientFault("A tool of type function needs a function.", param=f"{param}.function")
        offer.function(tool.function.name, tool.function.description, tool.function.parameters, f"{param}.function")
    elif tool.type == "custom":
        if tool.custom is None:
            raise ClientFault("A tool of type custom needs custom.", param=f"{param}.custom")
        offer.free_text(tool.custom.name, _custom_description(tool.custom), f"{param}.custom")
    else:
        raise ClientFault(
            "This type of tool is not offered: use function, custom, web_search, url_context or code_execution.",
            param=f"{param}.type",
            code="unsupported_value",
        )


class _Grammar(Struct):
    definition: str = ""
    syntax: str = ""


class _CustomFormat(Struct):
    type: str | None = None
    grammar: _Grammar | None = None


_decode_format = msgspec.json.Decoder(_CustomFormat | None).decode


def _custom_description(spec: CustomSpec) -> str | None:
    """Return the description; a grammar is told in words."""
    try:
        form = _decode_format(spec.format) if bytes(spec.format) else None
    except UNREADABLE:
        form = None
    if form is None or form.grammar is None:
        return spec.description
    return with_grammar(spec.description, form.grammar.syntax, form.grammar.definition)


def _built_in(request: ChatRequest, model: Model, with_functions: bool, notes: list[str]) -> list[str]:
    """Return the kinds of built-in tools, each once. ``tool_choice: none`` forbids those that are listed."""
    found: dict[str, None] = {}
    choice = request.tool_choice
    forbidden = choice == "none" or (isinstance(choice, ToolChoice) and choice.type == "none")
    for index, tool in enumerate(request.tools or ()):
        kind = _BUILT_IN.get(tool.type)
        if kind is None or forbidden:
            continue
        if with_functions and not model.modern:
            raise ClientFault(
                f"The model {model.id} cannot use {tool.type} together with functions.",
                param=f"tools[{index}].type",
                code="unsupported_value",
            )
        found[kind] = None
    if request.web_search_options is not None:
        if with_functions and not model.modern:
            notes.append("web_search_options")
        else:
            found[SEARCH] = None
    return list(found)


# --------------------------------------------------------------------------------------------------------- choice


def _calling(
    request: ChatRequest, declared: set[str], searching: bool, notes: list[str]
) -> FunctionCallingConfig | None:
    """Return how the model may choose, with the client's names; None: as it likes."""
    choice: str | ToolChoice | NamedFunction | None = request.tool_choice
    param = "tool_choice"
    if choice is None:
        choice, param = request.function_call, "function_call"
    if isinstance(choice, NamedFunction):
        return only([choice.name], "ANY", declared, f"{param}.name")
    if isinstance(choice, ToolChoice):
        if choice.type not in _MODES:
            return _by_object(choice, declared)
        choice = choice.type
    if choice is None:
        return None
    if choice not in _MODES:
        raise ClientFault(
            f"{param} must be none, auto, required or name a tool.", param=param, code="unsupported_value"
        )
    mode = _MODES[choice]
    if mode is None or declared:
        return FunctionCallingConfig(mode) if mode is not None else None
    if mode == "ANY" and not searching:
        raise ClientFault(f"{param} needs tools to choose from.", param=param)
    if mode == "ANY":
        notes.append(param)  # a built-in tool cannot be forced
    return None


_MODES: dict[str | None, str | None] = {"auto": None, "none": "NONE", "required": "ANY", "any": "ANY"}


def _by_object(choice: ToolChoice, declared: set[str]) -> FunctionCallingConfig:
    allowed = choice.allowed_tools
    if allowed is not None:
        param = "tool_choice.allowed_tools"
        if allowed.mode not in ("auto", "required"):
            raise ClientFault(f"{param}.mode must be auto or required.", param=f"{param}.mode")
        named = [tool.function or tool.custom for tool in allowed.tools if tool.type not in _BUILT_IN]
        names = [item.name for item in named if item is not None]
        if not names:
            raise ClientFault(f"{param}.tools names no function.", param=f"{param}.tools")
        # AUTO takes no names; VALIDATED is AUTO with names and checked arguments (docs/protocol.md 1.4)
        mode = "ANY" if allowed.mode == "required" else "VALIDATED"
        return only(names, mode, declared, f"{param}.tools")
    for key, item in (("function", choice.function), ("custom", choice.custom)):
        if item is not None:
            return only([item.name], "ANY", declared, f"tool_choice.{key}.name")
    raise ClientFault("tool_choice must name a function, a custom tool or allowed_tools.", param="tool_choice")
