"""Responses as an ``Operation``: a request -> the call to Gemini, and what makes items of its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from gemproxy.converter.api import Format, Known, Operation, Options, Plan, Received, Settled, Wants
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.generation import generation, origin
from gemproxy.converter.openai import OPENAI, WHOLE, under_both
from gemproxy.converter.responses.conversation import remote_images
from gemproxy.converter.responses.echo import echo_of
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.output import Output
from gemproxy.converter.responses.reading import Asking, decode
from gemproxy.converter.responses.request import Conversion, to_call
from gemproxy.converter.responses.stream import Stream
from gemproxy.converter.transcoder import Transcoder
from gemproxy.errors import Failure
from gemproxy.upstream.dialect import Dialect

PING: Final = b": ping\n\n"


class ResponsesAsked(Struct, frozen=True):
    """A request that was read, and the remote images that it names."""

    asking: Asking
    images: Sequence[RemoteImage] = ()

    @property
    def model(self) -> str:
        """Return the model's name as the client wrote it."""
        return self.asking.request.model

    @property
    def stream(self) -> bool | None:
        """Return whether a stream is asked for: only the body says so (docs/protocol.md 7.6)."""
        return bool(self.asking.request.stream)

    def format(self, stream: bool, known: Known) -> Format:
        """Return what the answer looks like; a stream that fails before it has begun is one of a response, too."""
        if not stream:
            return WHOLE
        return Format("text/event-stream", PING, partial(self._fail, known))

    def _fail(self, known: Known, failure: Failure) -> bytes:
        heading = Heading(known.id, known.created, known.now, self.model, echo_of(self.asking))
        return Stream(heading).failure_event(failure)

    def wants(self, known: Known) -> Wants | None:
        """Return the images that have to be fetched."""
        return Wants(self.images) if self.images and known.images is None else None

    def plan(self, known: Known, settled: Settled) -> Plan:
        """Return the one call; raises ``ClientFault`` 400, and what ``Effort`` raises."""
        made = to_call(
            self.asking,
            self.asking.items,
            settled.model,
            known.images or {},
            known.signatures,
            known.options,
            settled.method,
            settled.effort,
        )
        return Plan((made.call,), partial(_listen, known, made, settled), ignored=made.ignored)


def read(received: Received, options: Options) -> ResponsesAsked:
    """Return what a body asks for; raises ``ClientFault`` 400."""
    asking = decode(received.body, options.bounds)
    return ResponsesAsked(asking, remote_images(asking.items, options.max_images))


def _listen(known: Known, made: Conversion, settled: Settled, number: int, dialect: Dialect) -> Transcoder:
    tools = made.tools.set
    heading = Heading(
        known.id,
        known.created,
        known.now,
        settled.shown,
        made.echo,
        origin(dialect, settled),
        tools.custom,
        made.tools.spaces,
        made.sealed,
    )
    writer = Stream(heading) if settled.stream else Output(heading)
    return generation(
        known,
        settled,
        dialect,
        writer,
        tools.names.changed(),
        made.taken,
        declared=tools.declared,
        grounded=tools.built_in,
    )


RESPONSES: Final = Operation(OPENAI, under_both("/responses"), read)
