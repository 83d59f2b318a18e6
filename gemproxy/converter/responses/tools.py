"""Tools and the choice among them: Responses' -> Gemini's.

In: the tools of the request and of its items, and the model. Out: a ``ToolSet``, and by which name and namespace the
client knows each. Must not: look at what was said. Facts: docs/protocol.md 7.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.gemini.names import Names
from gemproxy.converter.gemini.tools import MAX_TOOLS, SEARCH, Offer, ToolSet, only, tool_set, with_grammar
from gemproxy.converter.responses.tool_names import declared_name
from gemproxy.converter.schema import cache as schema
from gemproxy.converter.steps import Reader
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort, Exhausted
from gemproxy.models import Model
from gemproxy.wire.gemini import FunctionCallingConfig
from gemproxy.wire.openai_responses import ChosenTool, Grammar, SentTool

Choice = str | ChosenTool | None

_reader: Final = Reader({})
_tool = msgspec.json.Decoder(SentTool).decode
_grammar = msgspec.json.Decoder(Grammar | None).decode
_choice: Callable[[Raw], Choice] = msgspec.json.Decoder(str | ChosenTool | None).decode

_SEARCHES: Final = ("web_search", "web_search_preview", "web_search_2025_08_26", "web_search_preview_2025_03_11")
_DRAWING: Final = ("image_generation",)
_RUN_BY_CLIENT: Final = ("local_shell", "shell", "apply_patch")  # the client waits for calls of these
_NAMED: Final = ("function", "custom")  # tools that a choice names
_MODES: Final[dict[str, str | None]] = {"auto": None, "none": "NONE", "required": "ANY"}


class Tools(Struct, frozen=True):
    """``spaces`` holds, by declared name, the name and namespace that the client knows, where these are others.

    ``drawing``: images are asked for, of a model that makes them by itself.
    """

    set: ToolSet
    spaces: dict[str, tuple[str, str | None]]
    drawing: bool = False


def choice_of(sent: Raw) -> Choice:
    """Return what ``tool_choice`` says; raises ``ClientFault``."""
    return _reader.at("tool_choice", _choice, sent)


Placed = Sequence[tuple[str, Raw]]


def offered(given: Sequence[Placed], wanted: Choice, model: Model, notes: list[str], effort: Effort) -> Tools:
    """Return what a request offers. ``given`` are lists of tools, each tool with the path at which it stands.

    Raises ``ClientFault`` naming the tool or the choice. What Gemini has no counterpart for is left out with a note,
    unless the choice demands it.
    """
    if not any(given) and wanted is None:
        return Tools(ToolSet(Names()), {})
    gathering = _Gathering(model, effort, notes)
    try:
        for path, tool in _latest(given):
            gathering.add(tool, path, None)
    except Exhausted:
        raise schema.too_much("tools", effort) from None
    offer = gathering.offer
    _bound(len(offer.names))
    searching = gathering.searching and _may_use(_SEARCHES, wanted) and (model.modern or not offer.names)
    if gathering.searching and not searching:
        notes.append("web_search")
    drawing = gathering.drawing and _may_use(_DRAWING, wanted)
    built_in = (*(_SEARCHES if searching else ()), *(_DRAWING if drawing else ()))
    calling = _calling(wanted, offer, built_in, notes)
    return Tools(tool_set(offer, [SEARCH] if searching else [], calling), gathering.spaces, drawing)


def _latest(given: Sequence[Placed]) -> list[tuple[str, SentTool]]:
    """Return the tools, of those that several lists offer the last: a client that goes on may offer them anew."""
    found: list[tuple[str, SentTool]] = []
    later: set[tuple[str, str]] = set()
    for tools in reversed(given):
        _bound(len(tools))
        read = [(path, _reader.at(path, _tool, raw)) for path, raw in tools]
        found += [(path, tool) for path, tool in reversed(read) if _kind(tool) not in later]
        later.update(_kind(tool) for _, tool in read)
    return found[::-1]


def _kind(tool: SentTool) -> tuple[str, str]:
    """Return what tells a tool from others: of functions and custom ones the name alone, whichever of both it is."""
    return ("" if tool.name and tool.type in _NAMED else tool.type), tool.name


def _bound(count: int) -> None:
    if count > MAX_TOOLS:
        raise ClientFault(f"tools may hold at most {MAX_TOOLS}.", param="tools", code="unsupported_value")


class _Gathering:
    """Takes tools one by one."""

    def __init__(self, model: Model, effort: Effort, notes: list[str]) -> None:
        self.offer = Offer(effort)
        self.searching = self.drawing = False
        self._model = model
        self.spaces: dict[str, tuple[str, str | None]] = {}
        self._notes = notes

    def add(self, tool: SentTool, path: str, namespace: str | None) -> None:
        if tool.type == "function":
            self.offer.function(self._named(tool, namespace), tool.description, tool.parameters, path)
        elif tool.type == "custom":
            self.offer.free_text(self._named(tool, namespace), _custom_description(tool, path), path)
        elif tool.type == "namespace" and namespace is None:
            if not tool.name:
                raise ClientFault("A namespace needs a name.", param=f"{path}.name")
            for index, raw in enumerate(tool.tools):
                inner = f"{path}.tools[{index}]"
                self.add(_reader.at(inner, _tool, raw), inner, tool.name)
        elif tool.type in _SEARCHES:
            # Google's search is live and billed: a client that wants none from outside wants none of it
            self.searching = self.searching or tool.external_web_access is not False
        elif tool.type in _DRAWING and self._model.image_output:
            self.drawing = True
        elif tool.type in _RUN_BY_CLIENT:
            raise ClientFault(
                f"The tool {tool.type} is not offered: offer a function or a custom tool in its place.",
                param=f"{path}.type",
                code="unsupported_value",
            )
        else:
            self._notes.append(f"{path}.type")

    def _named(self, tool: SentTool, namespace: str | None) -> str:
        if namespace is None and tool.defer_loading:
            namespace = tool.name  # as which OpenAI calls what was found by a search of tools (docs/protocol.md 7.3)
        name = declared_name(tool.name, namespace) if tool.name else ""
        if namespace is not None:
            self.spaces[name] = (tool.name, namespace)
        return name


def _custom_description(tool: SentTool, path: str) -> str | None:
    form = _reader.at(f"{path}.format", _grammar, tool.format) if len(tool.format) else None
    if form is None or form.type != "grammar":
        return tool.description
    return with_grammar(tool.description, form.syntax, form.definition)


# --------------------------------------------------------------------------------------------------------- choice


def _may_use(kinds: Sequence[str], wanted: Choice) -> bool:
    """Return whether the choice leaves the model a tool of Google's own."""
    if isinstance(wanted, ChosenTool) and wanted.type == "allowed_tools":
        return any(tool.type in kinds for tool in wanted.tools or ())
    return wanted != "none"


def _calling(wanted: Choice, offer: Offer, built_in: Sequence[str], notes: list[str]) -> FunctionCallingConfig | None:
    """Return how the model may choose, with the declared names; None: as it likes.

    ``built_in`` are the types of Google's own tools that it may use: none of them can be forced.
    """
    if isinstance(wanted, ChosenTool):
        return _by_object(wanted, offer, built_in, notes)
    if wanted is None:
        return None
    if wanted not in _MODES:
        raise ClientFault(
            "tool_choice must be none, auto, required or name a tool.", param="tool_choice", code="unsupported_value"
        )
    mode = _MODES[wanted]
    if mode == "ANY" and not offer.names:
        if not built_in:
            raise ClientFault("tool_choice needs tools to choose from.", param="tool_choice")
        notes.append("tool_choice")
        return None
    return FunctionCallingConfig(mode) if mode is not None and offer.names else None


def _by_object(
    wanted: ChosenTool, offer: Offer, built_in: Sequence[str], notes: list[str]
) -> FunctionCallingConfig | None:
    if wanted.type in _NAMED:
        return only([_name_of(wanted, "tool_choice")], "ANY", offer.names, "tool_choice.name")
    if wanted.type == "allowed_tools":
        return _allowed(wanted, offer, built_in, notes)
    if wanted.type in built_in:
        notes.append("tool_choice")
        return None
    raise ClientFault(
        "tool_choice demands a tool that is not offered here.", param="tool_choice.type", code="unsupported_value"
    )


def _allowed(
    wanted: ChosenTool, offer: Offer, built_in: Sequence[str], notes: list[str]
) -> FunctionCallingConfig | None:
    if wanted.mode not in ("auto", "required"):
        raise ClientFault("tool_choice.mode must be auto or required.", param="tool_choice.mode")
    tools, required = wanted.tools or (), wanted.mode == "required"
    named = [
        _name_of(tool, f"tool_choice.tools[{place}]")
        for place, tool in enumerate(tools)
        if tool.type in (*_NAMED, None)
    ]
    if named:
        # AUTO takes no names; VALIDATED is AUTO with names and checked arguments (docs/protocol.md 1.4)
        return only(named, "ANY" if required else "VALIDATED", offer.names, "tool_choice.tools")
    if required and not built_in:
        raise ClientFault("tool_choice.tools names no tool that is offered here.", param="tool_choice.tools")
    if required:
        notes.append("tool_choice")
    return FunctionCallingConfig("NONE") if offer.names else None


def _name_of(tool: ChosenTool, path: str) -> str:
    if not tool.name:
        raise ClientFault(f"{path} must name a tool.", param=f"{path}.name")
    return declared_name(tool.name, tool.namespace)
