"""The items of a conversation, as the converter looks at them: what a client sent, without what nothing depends on."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from gemproxy.wire.openai_responses import InputPart

Content = str | Raw | list[InputPart]  # Raw: a long text, as the JSON string it came as (``wire.text``)


class Said(Struct, frozen=True):
    """A message. ``place`` is where an item stands in ``input``; None: in what is kept of an earlier response."""

    place: int | None
    role: str
    content: Content


class Called(Struct, frozen=True):
    """A call of a tool; ``name`` is the declared one (``tools.declared_name``)."""

    place: int | None
    call_id: str
    name: str
    arguments: str | Raw | dict[str, Any] | None
    custom: bool = False


class Answered(Struct, frozen=True):
    """What came of a call; ``name`` is the declared one, where the client says it. ``alone``: no list was sent."""

    place: int | None
    call_id: str
    content: Content
    name: str | None = None
    alone: bool = False


class Drawn(Struct, frozen=True):
    """An image that the model made, in base64."""

    place: int | None
    data: str


class Thought(Struct, frozen=True):
    """A reasoning item, of which only what it carries for us counts."""

    place: int | None
    sealed: str


class Referred(Struct, frozen=True):
    """An item that the client knows by its id alone."""

    place: int | None
    id: str


class Offered(Struct, frozen=True):
    """Tools that come as an item."""

    place: int | None
    tools: list[Raw]


class Compacted(Struct, frozen=True):
    """A conversation that was summed up."""

    place: int | None
    sealed: str


class Compact(Struct, frozen=True):
    """The wish to have the conversation summed up."""

    place: int | None


Item = Said | Called | Answered | Drawn | Thought | Referred | Offered | Compacted | Compact


def path_of(place: int | None) -> str:
    """Return how the client names an item."""
    return "input" if place is None else f"input[{place}]"
