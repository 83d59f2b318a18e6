"""Tools and the choice among them: Anthropic's -> Gemini's.

In: the tools of the request, what its messages say of them, and the model. Out: a ``ToolSet``, and what has to be said
in words. Facts: docs/protocol.md 10.6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.anthropic.client_tools import known
from gemproxy.converter.anthropic.said import Answered, Message
from gemproxy.converter.gemini.names import Names
from gemproxy.converter.gemini.tools import CODE, MAX_TOOLS, SEARCH, URLS, Offer, ToolSet, only, tool_set
from gemproxy.converter.schema import cache as schema
from gemproxy.converter.steps import Reader
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort, Exhausted
from gemproxy.models import Model
from gemproxy.wire.anthropic import SentTool, ToolAdditionBlock, ToolChoice, ToolReferenceBlock, ToolRemovalBlock
from gemproxy.wire.gemini import FunctionCallingConfig

_reader: Final = Reader({})
_tool = msgspec.json.Decoder(SentTool).decode
_BUILT_IN: Final = {"web_search_": SEARCH, "web_fetch_": URLS, "code_execution_": CODE}
_FINDS_TOOLS: Final = "tool_search_tool_"
# Claude Code's own: it keeps a list of tools from being empty while all of them are still to be found
_PLACEHOLDER: Final = "DeferredToolPlaceholder"
_MODES: Final[dict[str, str | None]] = {"auto": None, "any": "ANY", "none": "NONE"}
_ONE_AT_A_TIME: Final = "Call at most one tool at a time, and wait for its result."


class Tools(Struct, frozen=True):
    """``instructions`` are for the system text: what the model cannot be held to otherwise."""

    set: ToolSet
    instructions: Sequence[str] = ()


class Changes(Struct):
    """What messages say of tools: which were found or added, which are gone, and which are defined there."""

    found: set[str] = set()
    gone: set[str] = set()
    defined: list[tuple[str, Raw]] = []


def offered(
    sent: Raw,
    messages: Sequence[Message],
    choice: ToolChoice | None,
    model: Model,
    notes: list[str],
    effort: Effort,
) -> Tools:
    """Return what a request offers. Raises ``ClientFault`` naming the tool or the choice."""
    raws = _reader.items("tools", sent)
    changes = _changes(messages)
    if not raws and not changes.defined:
        _check_choice(choice)
        return Tools(ToolSet(Names()))
    if len(raws) + len(changes.defined) > MAX_TOOLS:
        raise ClientFault(f"tools may hold at most {MAX_TOOLS}.", param="tools", code="unsupported_value")
    given = [(path, _reader.at(path, _tool, raw)) for path, raw in _all(raws, changes)]
    gathering = _Gathering(effort, notes, _wanted(given, changes, choice), changes.gone)
    try:
        for path, tool in given:
            gathering.add(tool, path)
    except Exhausted:
        raise schema.too_much("tools", effort) from None
    return gathering.tools(choice, model)


def _all(raws: Sequence[Raw], changes: Changes) -> Iterator[tuple[str, Raw]]:
    yield from ((f"tools[{place}]", raw) for place, raw in enumerate(raws))
    yield from changes.defined


def _wanted(given: Sequence[tuple[str, SentTool]], changes: Changes, choice: ToolChoice | None) -> Collection[str]:
    """Return the names of tools that are declared though their loading is deferred.

    Those that were found; all, where a service was to look for them that is not here.
    """
    if any((tool.type or "").startswith(_FINDS_TOOLS) for _, tool in given):
        return {tool.name for _, tool in given}
    return changes.found | ({choice.name} if choice is not None and choice.name else set())


def _changes(messages: Sequence[Message]) -> Changes:
    changes = Changes()
    for message in messages:
        if isinstance(message.content, list):
            for place, block in enumerate(message.content):
                _change(block, f"messages[{message.place}].content[{place}]", changes)
    return changes


def _change(block: Any, path: str, changes: Changes) -> None:
    if isinstance(block, Answered):
        if isinstance(block.content, list):
            names = {part.tool_name for part in block.content if isinstance(part, ToolReferenceBlock)}
            changes.found |= names
            changes.gone -= names
    elif isinstance(block, ToolAdditionBlock):
        if block.tool.name:
            changes.found.add(block.tool.name)
            changes.gone.discard(block.tool.name)
        elif len(block.tool.definition):
            changes.defined.append((f"{path}.tool.definition", block.tool.definition))
    elif isinstance(block, ToolRemovalBlock) and block.tool.name:
        changes.gone.add(block.tool.name)


class _Gathering:
    """Takes tools one by one."""

    def __init__(self, effort: Effort, notes: list[str], wanted: Collection[str], gone: Collection[str]) -> None:
        self.offer = Offer(effort)
        self._built_in: dict[str, str] = {}  # Gemini's kind by the client's name
        self._instructions: list[str] = []
        self._notes = notes
        self._wanted = wanted
        self._gone = gone

    def add(self, tool: SentTool, path: str) -> None:
        kind = tool.type or "custom"
        if tool.name in self._gone or (tool.defer_loading and tool.name not in self._wanted):
            return
        if kind == "custom":
            if tool.name != _PLACEHOLDER:
                self.offer.function(tool.name, tool.description, tool.input_schema, path, "input_schema")
        elif (built_in := _built_in(kind)) is not None:
            self._built_in[tool.name] = built_in
            self._instructions += _sites(tool)
        elif (own := known(kind)) is not None:
            self.offer.function(tool.name, own.description, own.parameters, path)
        elif not kind.startswith(_FINDS_TOOLS):
            raise ClientFault(
                f"{path}.type: the tool {kind[:60]} is not offered here.",
                param=f"{path}.type",
                code="unsupported_value",
            )

    def tools(self, choice: ToolChoice | None, model: Model) -> Tools:
        mode = choice.type if choice is not None else "auto"
        usable = mode != "none" and (model.modern or not self.offer.names)
        if self._built_in and not usable:
            self._notes.append("tools")  # models before 3 have either functions or tools of Google's own
        built_in = dict.fromkeys(self._built_in.values()) if usable else {}
        calling = self._calling(choice, bool(built_in))
        instructions = self._instructions if built_in else []
        if choice is not None and choice.disable_parallel_tool_use and self.offer.names:
            instructions = [*instructions, _ONE_AT_A_TIME]  # there is no switch
        return Tools(tool_set(self.offer, built_in, calling), instructions)

    def _calling(self, choice: ToolChoice | None, built_in: bool) -> FunctionCallingConfig | None:
        """Return how the model may choose, with the declared names; None: as it likes."""
        _check_kind(choice)
        if choice is None:
            return None
        forced = choice.type == "any" and not self.offer.names
        if built_in and (forced or (choice.type == "tool" and choice.name in self._built_in)):
            self._notes.append("tool_choice")  # a built-in tool cannot be forced
            return None
        if choice.type == "tool":
            return only([choice.name or ""], "ANY", self.offer.names, "tool_choice.name")
        if forced:
            raise _nothing_to_choose()
        mode = _MODES[choice.type]
        return FunctionCallingConfig(mode) if mode is not None and self.offer.names else None


def _built_in(kind: str) -> str | None:
    return next((found for start, found in _BUILT_IN.items() if kind.startswith(start)), None)


def _sites(tool: SentTool) -> Iterator[str]:
    """Yield in words on which sites to look: Gemini's own tools take no list of them."""
    if tool.allowed_domains:
        yield f"For {tool.name} use these sites and no others: {', '.join(tool.allowed_domains)}"
    if tool.blocked_domains:
        yield f"For {tool.name} never use these sites: {', '.join(tool.blocked_domains)}"


def _check_kind(choice: ToolChoice | None) -> None:
    if choice is not None and choice.type != "tool" and choice.type not in _MODES:
        raise ClientFault(
            "tool_choice.type must be auto, any, tool or none.", param="tool_choice.type", code="unsupported_value"
        )


def _check_choice(choice: ToolChoice | None) -> None:
    """Raise ``ClientFault`` for a choice that demands a tool where there is none."""
    _check_kind(choice)
    if choice is not None and choice.type in ("any", "tool"):
        raise _nothing_to_choose()


def _nothing_to_choose() -> ClientFault:
    return ClientFault("tool_choice needs tools to choose from.", param="tool_choice")
