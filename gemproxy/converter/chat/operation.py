"""Chat completions as an ``Operation``: the first API, and the pattern for those that generate. Pure.

In: a request as it came. Out: what it asks for, and, once model and images are known, the call to Gemini with what
turns its answer into chunks or into one completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from gemproxy.converter.api import Format, Known, Operation, Options, Plan, Received, Settled, Wants
from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.media import remote_images
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.chat.params import param_of
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import Conversion, to_call
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.generation import generation, origin
from gemproxy.converter.openai import EVENTS, OPENAI, WHOLE, under_both
from gemproxy.converter.transcoder import Transcoder
from gemproxy.upstream.dialect import Dialect
from gemproxy.wire.openai_chat import ChatRequest

# Bytes of a body in which an image is looked for by its word, before it is walked: that is 1 % of a small request.
MAX_SEARCHED: Final = 1 << 11


class ChatAsked(Struct, frozen=True):
    """A chat request that was read, and the remote images that it names."""

    request: ChatRequest
    images: Sequence[RemoteImage] = ()

    @property
    def model(self) -> str:
        """Return the model's name as the client wrote it."""
        return self.request.model

    @property
    def stream(self) -> bool | None:
        """Return whether a stream is asked for; None: it does not say."""
        return self.request.stream

    def format(self, stream: bool, known: Known) -> Format:
        """Return what the answer looks like."""
        return EVENTS if stream else WHOLE

    def wants(self, known: Known) -> Wants | None:
        """Return the images that have to be fetched."""
        return Wants(self.images) if self.images and known.images is None else None

    def plan(self, known: Known, settled: Settled) -> Plan:
        """Return the one call; raises ``ClientFault`` 400, and what ``Effort`` raises."""
        request, options = self.request, known.options
        made = to_call(
            request, settled.model, known.images or {}, known.signatures, options, settled.stream, settled.effort
        )
        usage = request.stream_options is not None and bool(request.stream_options.include_usage)
        return Plan((made.call,), partial(_listen, known, made, settled, usage), ignored=made.ignored)


def read(received: Received, options: Options) -> ChatAsked:
    """Return what a body asks for; raises ``ClientFault`` 400."""
    body = received.body
    request = decode(body, options.bounds)
    if len(body) <= MAX_SEARCHED and b"image" not in body and b"\\u" not in body:  # an escape may hide the word
        return ChatAsked(request)
    return ChatAsked(request, remote_images(request, options.max_images))


def _listen(known: Known, made: Conversion, settled: Settled, usage: bool, number: int, dialect: Dialect) -> Transcoder:
    heading = Heading(
        f"chatcmpl-{known.id}",
        known.created,
        settled.shown,
        origin(dialect, settled),
        usage,
        made.legacy_functions,
        made.custom,
    )
    writer = ChatChunkWriter(heading) if settled.stream else ChatCompletionFold(heading)
    return generation(
        known, settled, dialect, writer, made.names, made.taken, declared=made.declared, grounded=made.grounded
    )


CHAT: Final = Operation(OPENAI, under_both("/chat/completions"), read, param_of)
