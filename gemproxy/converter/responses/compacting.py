"""``/responses/compact``: a conversation summed up for a client that goes on from there. Pure.

In: a request like one to ``/responses``. Out: what the user said last, as it was, and one sealed summary of it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.api import Format, Known, Operation, Options, Plan, Received, Settled, Wants
from gemproxy.converter.generation import generation
from gemproxy.converter.openai import OPENAI, WHOLE, under_both
from gemproxy.converter.responses.compaction import MOST_KEPT_WORDS, Resource, Summing
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.items import Compact
from gemproxy.converter.responses.kept import listed, sent_before
from gemproxy.converter.responses.operation import ResponsesAsked
from gemproxy.converter.responses.operation import read as read_response
from gemproxy.converter.responses.reading import raws_of
from gemproxy.converter.transcoder import Transcoder
from gemproxy.upstream.dialect import Dialect
from gemproxy.wire.openai_responses import ItemHead


class CompactAsked(Struct, frozen=True):
    """A conversation that is to be summed up."""

    of: ResponsesAsked

    @property
    def model(self) -> str:
        """Return the model's name as the client wrote it."""
        return self.of.model

    @property
    def stream(self) -> bool | None:
        """Return False: there is no stream of it."""
        return False

    def format(self, stream: bool, known: Known) -> Format:
        """Return what the answer looks like."""
        return WHOLE

    def wants(self, known: Known) -> Wants | None:
        """Return what the request wants to know."""
        return self.of.wants(known)

    def plan(self, known: Known, settled: Settled) -> Plan:
        """Return the one call; raises ``ClientFault`` 400, and what ``Effort`` raises."""
        made = self.of.converted(known, settled, settled.method)
        asking = self.of.asking
        before = sent_before(asking.request.previous_response_id, known.stored)
        words = last_words([*before, *raws_of(asking.input)])
        said = [Raw(msgspec.json.encode(listed(f"resp_{known.id}", place, raw))) for place, raw in enumerate(words)]
        return Plan((made.call,), partial(_listen, known, settled, said), ignored=made.ignored)


def last_words(raws: Sequence[Raw]) -> list[Raw]:
    """Return the last messages of the user, as many as ``MOST_KEPT_WORDS`` allows."""
    found: list[Raw] = []
    room = MOST_KEPT_WORDS
    for raw in reversed(raws):
        head = msgspec.json.decode(raw, type=ItemHead)
        if head.type in (None, "message") and head.role == "user":
            room -= len(raw)
            if room < 0:
                break
            found.append(raw)
    return found[::-1]


def _listen(known: Known, settled: Settled, said: Sequence[Raw], number: int, dialect: Dialect) -> Transcoder:
    heading = Heading(known.id, known.created, known.now, settled.shown)
    return generation(known, settled, dialect, Summing(Resource(heading, said)), grounded=False)


def _read(received: Received, options: Options) -> CompactAsked:
    asked = read_response(received, options)
    asking = msgspec.structs.replace(asked.asking, items=[*asked.asking.items, Compact(None)])
    return CompactAsked(msgspec.structs.replace(asked, asking=asking))


COMPACT = Operation(OPENAI, under_both("/responses/compact"), _read)
