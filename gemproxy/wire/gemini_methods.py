"""The requests of Gemini's methods beside ``generateContent``, as our upstreams may be asked (docs/protocol.md 1.9).

Each dialect writes them in its own form: names and places of the settings differ.
"""

from __future__ import annotations

from msgspec import Raw, Struct

from gemproxy.wire.gemini import Content


class EmbedRequest(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One content whose vector is asked for; parts of one content may become one vector (gemini-embedding-2)."""

    content: Content
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None


class EmbedBatch(Struct, frozen=True):
    """Contents of which each gets a vector, in order; Google takes 100 at most."""

    requests: list[EmbedRequest]


class PredictRequest(Struct, frozen=True, omit_defaults=True):
    """What models are asked that came before Gemini (embeddings on Vertex, Imagen): a form of their own each."""

    instances: list[Raw]
    parameters: Raw = Raw(b"")
