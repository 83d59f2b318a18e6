"""Tools and the choice among them: OpenAI's -> Gemini's.

In: the request and the model. Out: a ``ToolSet``: what is declared, how the model may choose, and the names that go
over the wire. Must not: look at messages. Facts: docs/protocol.md 1.4, 4.5.

Built-in tools (search, URLs, code) beside functions exist only from Gemini 3 on. For older models one that is listed in
``tools`` is refused, since the client counts on it; ``web_search_options``, which many clients send as a default, is
left out with a note.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.gemini.names import Names
from gemproxy.converter.schema import cache as schema
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort, Exhausted
from gemproxy.models import Model
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import Empty, FunctionCallingConfig, FunctionDeclaration, ToolConfig, ToolSpec
from gemproxy.wire.openai_chat import ChatRequest, CustomSpec, FunctionSpec, NamedFunction, Tool, ToolChoice

MAX_TOOLS = 512  # Google's own limit; what their schemas cost is counted by itself

_BUILDERS: dict[str, Callable[[], ToolSpec]] = {
    "google_search": lambda: ToolSpec(google_search=Empty()),
    "url_context": lambda: ToolSpec(url_context=Empty()),
    "code_execution": lambda: ToolSpec(code_execution=Empty()),
}
_BUILT_IN = {
    "google_search": "google_search",
    "googleSearch": "google_search",
    "web_search": "google_search",
    "web_search_preview": "google_search",
    "url_context": "url_context",
    "urlContext": "url_context",
    "code_execution": "code_execution",
    "codeExecution": "code_execution",
    "code_interpreter": "code_execution",
}
_CUSTOM_PARAMETERS = Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')


class ToolSet(Struct, frozen=True):
    """What the request offers the model. ``declared`` and ``custom`` hold the client's names; ``built_in``: Google's
    own tools are among the specs.
    """

    names: Names
    specs: list[ToolSpec] | None = None
    config: ToolConfig | None = None
    declared: frozenset[str] = frozenset()
    custom: frozenset[str] = frozenset()
    built_in: bool = False


def tool_set(request: ChatRequest, model: Model, notes: list[str], effort: Effort) -> ToolSet:
    """Return the tools of a request. Raises ``ClientFault`` naming the tool or the choice."""
    names = Names()
    if not (request.tools or request.functions or request.tool_choice or request.function_call) and (
        request.web_search_options is None
    ):
        return ToolSet(names)
    try:
        declarations, custom = _declarations(request, effort)
    except Exhausted:
        raise schema.too_much("functions" if request.functions else "tools", effort) from None
    declared = frozenset(item.name for item in declarations)
    builtin = _built_in(request, model, bool(declarations), notes)
    calling = _calling(request, declared, bool(builtin), notes)
    names.reserve([item.name for item in declarations])
    for item in declarations:
        item.name = names.wire(item.name)
    if calling is not None and calling.allowed_function_names is not None:
        calling.allowed_function_names = [names.wire(name) for name in calling.allowed_function_names]
    mixed = bool(declarations and builtin)
    config = ToolConfig(calling, mixed or None) if mixed or calling is not None else None
    specs = [ToolSpec(function_declarations=declarations)] if declarations else []
    specs += [_BUILDERS[kind]() for kind in builtin]  # one kind of tool a Tool object
    return ToolSet(names, specs or None, config, declared, custom, bool(builtin))


# --------------------------------------------------------------------------------------------------- declarations


def _declarations(request: ChatRequest, effort: Effort) -> tuple[list[FunctionDeclaration], frozenset[str]]:
    """Return the declared functions under the client's names, and the names of the custom tools among them."""
    if request.tools and request.functions:
        raise ClientFault("Only one of tools and functions can be given.", param="functions")
    param = "functions" if request.functions else "tools"
    if len(request.functions or request.tools or ()) > MAX_TOOLS:
        raise ClientFault(f"{param} may hold at most {MAX_TOOLS}.", param=param, code="unsupported_value")
    found: list[FunctionDeclaration] = []
    custom: set[str] = set()
    seen: set[str] = set()
    for index, tool in enumerate(request.tools or ()):
        if tool.type in _BUILT_IN:
            continue
        spec, param = _spec(tool, f"tools[{index}]")
        _claim(spec.name, seen, param)
        if isinstance(spec, CustomSpec):
            custom.add(spec.name)
            found.append(FunctionDeclaration(spec.name, _custom_description(spec), _CUSTOM_PARAMETERS))
        else:
            found.append(_function(spec, param, effort))
    for index, spec in enumerate(request.functions or ()):
        _claim(spec.name, seen, f"functions[{index}]")
        found.append(_function(spec, f"functions[{index}]", effort))
    return found, frozenset(custom)


def _spec(tool: Tool, param: str) -> tuple[FunctionSpec | CustomSpec, str]:
    if tool.type == "function":
        if tool.function is None:
            raise ClientFault("A tool of type function needs a function.", param=f"{param}.function")
        return tool.function, f"{param}.function"
    if tool.type == "custom":
        if tool.custom is None:
            raise ClientFault("A tool of type custom needs custom.", param=f"{param}.custom")
        return tool.custom, f"{param}.custom"
    raise ClientFault(
        "This type of tool is not offered: use function, custom, web_search, url_context or code_execution.",
        param=f"{param}.type",
        code="unsupported_value",
    )


def _claim(name: str, seen: set[str], param: str) -> None:
    if not name:
        raise ClientFault("A tool needs a name.", param=f"{param}.name")
    if name in seen:
        raise ClientFault("Another tool has this name already.", param=f"{param}.name")
    seen.add(name)


def _function(spec: FunctionSpec, param: str, effort: Effort) -> FunctionDeclaration:
    try:
        parameters = schema.tool_schema(bytes(spec.parameters), effort)
    except schema.Unusable as fault:
        raise ClientFault(f"{param}.parameters: {fault}.", param=f"{param}.parameters") from fault
    declaration = FunctionDeclaration(spec.name, spec.description)
    if parameters:
        declaration.parameters_json_schema = Raw(parameters)
    return declaration


class _Grammar(Struct):
    definition: str = ""
    syntax: str = ""


class _CustomFormat(Struct):
    type: str | None = None
    grammar: _Grammar | None = None


_decode_format = msgspec.json.Decoder(_CustomFormat | None).decode


def _custom_description(spec: CustomSpec) -> str | None:
    """Return the description; a grammar, which Gemini cannot be held to, is told in words."""
    try:
        form = _decode_format(spec.format) if bytes(spec.format) else None
    except UNREADABLE:
        form = None
    if form is None or form.grammar is None:
        return spec.description
    rule = f"The input must follow this {form.grammar.syntax} grammar:\n{form.grammar.definition}"
    return f"{spec.description}\n\n{rule}" if spec.description else rule


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
            found["google_search"] = None
    return list(found)


# --------------------------------------------------------------------------------------------------------- choice


def _calling(
    request: ChatRequest, declared: frozenset[str], searching: bool, notes: list[str]
) -> FunctionCallingConfig | None:
    """Return how the model may choose, with the client's names; None: as it likes."""
    choice: str | ToolChoice | NamedFunction | None = request.tool_choice
    param = "tool_choice"
    if choice is None:
        choice, param = request.function_call, "function_call"
    if isinstance(choice, NamedFunction):
        return _only([choice.name], "ANY", declared, f"{param}.name")
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


def _by_object(choice: ToolChoice, declared: frozenset[str]) -> FunctionCallingConfig:
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
        return _only(names, mode, declared, f"{param}.tools")
    for key, item in (("function", choice.function), ("custom", choice.custom)):
        if item is not None:
            return _only([item.name], "ANY", declared, f"tool_choice.{key}.name")
    raise ClientFault("tool_choice must name a function, a custom tool or allowed_tools.", param="tool_choice")


def _only(names: list[str], mode: str, declared: frozenset[str], param: str) -> FunctionCallingConfig:
    if not all(name in declared for name in names):
        raise ClientFault("The choice names a tool that is not among the tools.", param=param)
    return FunctionCallingConfig(mode, list(dict.fromkeys(names)))
