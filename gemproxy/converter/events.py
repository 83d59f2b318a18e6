"""The vocabulary in the middle: what a Gemini answer says, one small Struct an idea.

A stream *writes* these, a unary reply *folds* them; there is one mapping from Gemini, so the two cannot drift.
``choice`` is the index of the candidate. Nothing here knows any wire format.
"""

from __future__ import annotations

from msgspec import Struct

from gemproxy.converter.transcript import Usage


class Text(Struct, frozen=True, gc=False):
    """Visible text; a signature may come with an empty text, after the last word.

    To a writer that is ``raw`` a long one is ``msgspec.Raw``, the JSON string as it came (``wire.text``).
    """

    choice: int
    text: str
    signature: str | None = None


class Thought(Struct, frozen=True, gc=False):
    choice: int
    text: str  # as that of ``Text``


class ToolCall(Struct, frozen=True, gc=False):
    """A whole call; ``arguments`` is always a JSON object as text, ``id`` unique over the conversation."""

    choice: int
    id: str
    name: str
    arguments: str
    signature: str | None = None


class Image(Struct, frozen=True, gc=False):
    """Inline media the model made; ``data`` is base64."""

    choice: int
    mime: str
    data: str
    signature: str | None = None


class Annotation(Struct, frozen=True, gc=False):
    """A source of a stretch of the visible text, in characters of the whole text of its choice."""

    choice: int
    start: int
    end: int
    url: str
    title: str


class TopToken(Struct, frozen=True, gc=False):
    token: str
    logprob: float


class TokenLogprob(Struct, frozen=True):
    token: str
    logprob: float
    top: tuple[TopToken, ...] = ()


class Logprobs(Struct, frozen=True):
    choice: int
    tokens: tuple[TokenLogprob, ...]


class Refusal(Struct, frozen=True, gc=False):
    """Why nothing (more) is said: a sentence for the reader."""

    choice: int
    text: str


class Meta(Struct, frozen=True, gc=False):
    """The model that really answered, as the upstream names it."""

    model_version: str


class Finish(Struct, frozen=True, gc=False):
    """Why: ``stop``, ``length``, ``tool_calls`` or ``content_filter``; a writer has its own word for each."""

    choice: int
    reason: str


Event = Text | Thought | ToolCall | Image | Annotation | Logprobs | Refusal | Meta | Usage | Finish
