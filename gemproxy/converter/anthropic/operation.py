"""Messages as an ``Operation``: a request -> the call to Gemini, and what makes a message of its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec import Struct, field

from gemproxy.converter.anthropic.api import ANTHROPIC
from gemproxy.converter.anthropic.errors import failure_event
from gemproxy.converter.anthropic.heading import Heading, usage_out
from gemproxy.converter.anthropic.params import param_of
from gemproxy.converter.anthropic.parts import remote_images
from gemproxy.converter.anthropic.reading import Asking, decode
from gemproxy.converter.anthropic.request import Conversion, to_call
from gemproxy.converter.anthropic.stream import PING, Opening, Stream, message_start
from gemproxy.converter.anthropic.whole import Whole
from gemproxy.converter.api import Format, Known, Operation, Options, Plan, Received, Settled, Wants
from gemproxy.converter.events import Finish
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.generation import generation, origin
from gemproxy.converter.openai import WHOLE, under_both
from gemproxy.converter.transcoder import Transcoder
from gemproxy.converter.transcript import Part, Usage
from gemproxy.errors import ClientFault, Failure
from gemproxy.upstream.dialect import Dialect, Method

CALL_PREFIX: Final = "toolu_"


class MessagesAsked(Struct, frozen=True):
    """A request that was read, and the remote images that it names."""

    asking: Asking
    images: Sequence[RemoteImage] = ()
    opening: Opening = field(default_factory=Opening)

    @property
    def model(self) -> str:
        """Return the model's name as the client wrote it."""
        return self.asking.request.model

    @property
    def stream(self) -> bool | None:
        """Return whether a stream is asked for: only the body says so (docs/protocol.md 10.1)."""
        return bool(self.asking.request.stream)

    def format(self, stream: bool, known: Known) -> Format:
        """Return what the answer looks like; a stream whose status is told early begins before anything is counted."""
        if not stream:
            return WHOLE
        heading = Heading(known.id, self.model, known.new_id)  # alone: the request is not kept while it is answered
        return Format(
            "text/event-stream", PING, partial(_fail, known.request_id), partial(_begin, heading, self.opening)
        )

    def wants(self, known: Known) -> Wants | None:
        """Return the images that have to be fetched."""
        return Wants(self.images) if self.images and known.images is None else None

    def converted(self, known: Known, settled: Settled, method: Method) -> Conversion:
        """Return the call; raises as ``plan`` does."""
        return to_call(
            self.asking,
            settled.model,
            known.images or {},
            known.signatures,
            known.options,
            method,
            settled.effort,
        )

    def plan(self, known: Known, settled: Settled) -> Plan:
        """Return the one call; raises ``ClientFault`` 400, and what ``Effort`` raises.

        None for an answer of no token, which warms a cache of Anthropic's and asks nothing of Gemini.
        """
        made = self.converted(known, settled, settled.method)
        listen = partial(_listen, known, made, settled, self.opening)
        if self.asking.request.max_tokens == 0:
            return Plan((), listen, partial(_nothing, known, settled, self.opening), ignored=made.ignored)
        return Plan((made.call,), listen, ignored=made.ignored)


def read(received: Received, options: Options) -> MessagesAsked:
    """Return what a body asks for; raises ``ClientFault`` 400."""
    asking = decode(received.body, options.bounds)
    if asking.request.max_tokens is None:
        raise ClientFault("max_tokens is missing.", param="max_tokens")
    return MessagesAsked(asking, remote_images(asking.messages, options.max_images))


def _begin(heading: Heading, opening: Opening) -> bytes:
    return message_start(heading, usage_out(Usage())) if opening.take() else b""


def _fail(request_id: str, failure: Failure) -> bytes:
    return failure_event(failure, request_id)


def _listen(
    known: Known, made: Conversion, settled: Settled, opening: Opening, number: int, dialect: Dialect
) -> Transcoder:
    tools = made.tools
    heading = Heading(known.id, settled.shown, known.new_id, origin(dialect, settled), made.thinks, tools.built_in)
    writer = _writer(heading, settled, opening)
    return generation(
        known,
        settled,
        dialect,
        writer,
        tools.names.changed(),
        made.taken,
        call_prefix=CALL_PREFIX,
        declared=tools.declared,
        grounded=tools.built_in,
        every_call=True,
        alone=True,
        count_by=writer.count_by,
    )


def _writer(heading: Heading, settled: Settled, opening: Opening) -> Stream | Whole:
    return Stream(heading, opening) if settled.stream else Whole(heading)


def _nothing(known: Known, settled: Settled, opening: Opening, came: Sequence[Part | Failure]) -> bytes:
    """Return an answer that ends before its first token."""
    writer = _writer(Heading(known.id, settled.shown, known.new_id), settled, opening)
    return writer.write(Finish(0, "length")) + writer.finish()


MESSAGES: Final = Operation(ANTHROPIC, under_both("/messages"), read, param_of)
