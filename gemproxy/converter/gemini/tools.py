"""The tools of a request as Gemini is told of them, whatever API they came by.

In: what a client offers, tool by tool, and the choice among them. Out: a ``ToolSet``: what is declared, how the model
may choose, and the names that go over the wire. Must not: know any client's format; ``param`` names a tool in faults.
Facts: docs/protocol.md 1.4, 4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.gemini.names import Names
from gemproxy.converter.schema import cache as schema
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import Empty, FunctionCallingConfig, FunctionDeclaration, ToolConfig, ToolSpec

MAX_TOOLS: Final = 512  # Google's own limit; what their schemas cost is counted by itself
SEARCH: Final = "google_search"
URLS: Final = "url_context"
CODE: Final = "code_execution"

_BUILDERS: dict[str, Callable[[], ToolSpec]] = {
    SEARCH: lambda: ToolSpec(google_search=Empty()),
    URLS: lambda: ToolSpec(url_context=Empty()),
    CODE: lambda: ToolSpec(code_execution=Empty()),
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


class Offer:
    """The functions that a client offers, under its own names. Each method raises ``ClientFault``."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self.declarations: list[FunctionDeclaration] = []
        self.names: set[str] = set()
        self.custom: set[str] = set()

    def function(
        self, name: str, description: str | None, parameters: Raw, param: str, field: str = "parameters"
    ) -> None:
        """Add a function with the JSON Schema of its parameters; raises ``Exhausted`` when all of them are too much.

        ``field`` is where the client has written the schema.
        """
        self._claim(name, param)
        try:
            found = schema.tool_schema(bytes(parameters), self._effort)
        except schema.Unusable as fault:
            raise ClientFault(f"{param}.{field}: {fault}.", param=f"{param}.{field}") from fault
        declaration = FunctionDeclaration(name, description)
        if found:
            declaration.parameters_json_schema = Raw(found)
        self.declarations.append(declaration)

    def free_text(self, name: str, description: str | None, param: str) -> None:
        """Add a custom tool, whose input is no JSON but a text: a function with one string, ``input``."""
        self._claim(name, param)
        self.custom.add(name)
        self.declarations.append(FunctionDeclaration(name, description, _CUSTOM_PARAMETERS))

    def _claim(self, name: str, param: str) -> None:
        if not name:
            raise ClientFault("A tool needs a name.", param=f"{param}.name")
        if name in self.names:
            raise ClientFault("Another tool has this name already.", param=f"{param}.name")
        self.names.add(name)


def tool_set(offer: Offer, built_in: Iterable[str], calling: FunctionCallingConfig | None) -> ToolSet:
    """Return the tools under their wire names. ``calling`` holds the client's names; None: the model is free."""
    names, kinds = Names(), list(built_in)
    names.reserve([item.name for item in offer.declarations])
    declared = frozenset(offer.names)
    for item in offer.declarations:
        item.name = names.wire(item.name)
    if calling is not None and calling.allowed_function_names is not None:
        calling.allowed_function_names = [names.wire(name) for name in calling.allowed_function_names]
    mixed = bool(offer.declarations and kinds)
    config = ToolConfig(calling, mixed or None) if mixed or calling is not None else None
    specs = [ToolSpec(function_declarations=offer.declarations)] if offer.declarations else []
    specs += [_BUILDERS[kind]() for kind in kinds]  # one kind of tool a Tool object
    return ToolSet(names, specs or None, config, declared, frozenset(offer.custom), bool(kinds))


def with_grammar(description: str | None, syntax: str, definition: str) -> str:
    """Return a description with the grammar of the input, which Gemini cannot be held to, told in words."""
    rule = f"The input must follow this {syntax} grammar:\n{definition}"
    return f"{description}\n\n{rule}" if description else rule


def input_of(arguments: str) -> str:
    """Return the text that a custom tool was called with; what else the model made of its one string stays JSON."""
    try:
        found = msgspec.json.decode(arguments)
    except UNREADABLE:
        return arguments  # too deep, or with a number too long to make a value of
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments


def only(names: Sequence[str], mode: str, declared: Container[str], param: str) -> FunctionCallingConfig:
    """Return the choice among some of the tools; raises ``ClientFault`` if one of them is none."""
    if not all(name in declared for name in names):
        raise ClientFault("The choice names a tool that is not among the tools.", param=param)
    return FunctionCallingConfig(mode, list(dict.fromkeys(names)))
