"""Responses as an ``Operation``: a request -> the call to Gemini, and what makes items of its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec import Raw, Struct

from gemproxy.converter.api import (
    Format,
    Keeping,
    Kept,
    Known,
    Lookup,
    Operation,
    Options,
    Plan,
    Received,
    Settled,
    Wants,
)
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.generation import generation, origin
from gemproxy.converter.openai import OPENAI, WHOLE, under_both
from gemproxy.converter.responses import kept
from gemproxy.converter.responses.compaction import Summing
from gemproxy.converter.responses.conversation import remote_images
from gemproxy.converter.responses.echo import echo_of
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.items import Item
from gemproxy.converter.responses.output import Output
from gemproxy.converter.responses.reading import Asking, decode
from gemproxy.converter.responses.request import Conversion, to_call
from gemproxy.converter.responses.stream import Stream
from gemproxy.converter.transcoder import Transcoder
from gemproxy.errors import ClientFault, Failure
from gemproxy.upstream.dialect import Dialect, Method

MAX_SEARCHED: Final = 1 << 11  # bytes of a body in which an address is looked for by its word, before it is walked
PING: Final = b": ping\n\n"


class ResponsesAsked(Struct, frozen=True):
    """A request that was read, what its answer repeats of it, the remote images that it names, and its size in bytes.

    What stays until the answer ends is made of the second, never of the first: that holds the body.
    """

    asking: Asking
    echo: bytes
    images: Sequence[RemoteImage] = ()
    size: int = 0

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
        heading = Heading(known.id, known.created, known.now, self.model, self.echo)
        return Format("text/event-stream", PING, partial(_failed, heading))

    def wants(self, known: Known) -> Wants | None:
        """Return the earlier responses that it goes on from, and then the images that have to be fetched."""
        request = self.asking.request
        if request.previous_response_id and known.options.keeping is None:
            raise ClientFault(
                "No response is kept here: responses.keep is off.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        if known.options.keeping is not None and (stored := self._stored(known)):
            return Wants(stored=stored, before=kept.before)
        if known.images is None and (images := self._images(known)):
            return Wants(images)
        return None

    def _stored(self, known: Known) -> list[tuple[str, str]]:
        previous = self.asking.request.previous_response_id
        if not previous and not kept.refers(self.asking.items):
            return []
        named = [(kept.KIND, previous)] if previous else []
        return [key for key in (*kept.referred(self.asking.items), *named) if key not in known.stored]

    def _images(self, known: Known) -> Sequence[RemoteImage]:
        if not self.asking.request.previous_response_id:
            return self.images
        return remote_images(self._all(known), known.options.max_images)

    def _all(self, known: Known) -> Sequence[Item]:
        bounds, stored, items = known.options.bounds, known.stored, self.asking.items
        previous = self.asking.request.previous_response_id
        if not previous and not kept.refers(items):
            return items
        return [*kept.said_before(previous, stored, bounds), *kept.resolved(items, stored, bounds)]

    def converted(self, known: Known, settled: Settled, method: Method) -> Conversion:
        """Return the call of all that was said; raises as ``plan`` does."""
        return to_call(
            self.asking,
            self._all(known),
            settled.model,
            known.images or {},
            known.signatures,
            known.options,
            method,
            settled.effort,
        )

    def _said(self) -> tuple[Raw, int]:
        """Return the input, to be kept until the answer ends, and how many bytes are kept with it.

        It is a part of the body and keeps all of that, so one that is less than half of it is taken out.
        """
        said = self.asking.input
        return (said, self.size) if 2 * len(said) > self.size else (said.copy(), len(said))

    def plan(self, known: Known, settled: Settled) -> Plan:
        """Return the one call; raises ``ClientFault`` 400, and what ``Effort`` raises."""
        made = self.converted(known, settled, settled.method)
        request = self.asking.request
        keeping = known.options.keeping if request.store is not False else None
        said, held = self._said()
        last: list[Output] = []  # what listens to the last attempt, which is the one that ends well
        return Plan(
            (made.call,),
            partial(_listen, known, self.echo, made, settled, keeping is not None, last),
            keep=partial(_keep, request.previous_response_id, said, kept.PREFIX + known.id, keeping, last)
            if keeping is not None
            else tuple,
            held=held if keeping is not None else 0,
            ignored=made.ignored,
        )


def read(received: Received, options: Options) -> ResponsesAsked:
    """Return what a body asks for; raises ``ClientFault`` 400."""
    body = received.body
    asking = decode(body, options.bounds)
    if len(body) <= MAX_SEARCHED and b"_url" not in body and b"\\u" not in body:  # an escape may hide the word
        return ResponsesAsked(asking, echo_of(asking), (), len(body))
    return ResponsesAsked(asking, echo_of(asking), remote_images(asking.items, options.max_images), len(body))


def _failed(heading: Heading, failure: Failure) -> bytes:
    return Stream(heading).failure_event(failure)


def _listen(
    known: Known,
    echo: bytes,
    made: Conversion,
    settled: Settled,
    keeps: bool,
    last: list[Output],
    number: int,
    dialect: Dialect,
) -> Transcoder:
    tools = made.tools.set
    heading = Heading(
        known.id,
        known.created,
        known.now,
        settled.shown,
        echo,
        origin(dialect, settled),
        tools.custom,
        made.tools.spaces,
        made.sealed,
        keeps,
    )
    output = Stream(heading) if settled.stream else Output(heading)
    if keeps:
        last[:] = [output]
    writer = Summing(output) if made.compacts else output
    return generation(
        known,
        settled,
        dialect,
        writer,
        tools.names.changed(),
        made.taken,
        declared=tools.declared,
        grounded=tools.built_in,
        every_call=True,
    )


def _keep(previous: str | None, said: Raw, key: str, keeping: Keeping, last: list[Output]) -> Sequence[Kept]:
    [output] = last
    record = kept.Record(said if len(said) else Raw(b"null"), output.carried, Raw(output.whole))
    return (Kept(kept.KIND, key, kept.written(previous, record), keeping.lasts, keeping.limit),)


RESPONSES: Final = Operation(OPENAI, under_both("/responses"), read)
LOOKUPS: Final = (
    Lookup(OPENAI, "GET", under_both("/responses/{id}"), kept.KIND, kept.whole),
    Lookup(OPENAI, "DELETE", under_both("/responses/{id}"), kept.KIND, kept.deleted, drops=True),
    Lookup(OPENAI, "GET", under_both("/responses/{id}/input_items"), kept.KIND, kept.input_items),
    Lookup(OPENAI, "POST", under_both("/responses/{id}/cancel"), kept.KIND, kept.cancelled),
)
