"""``/messages/count_tokens``: what a request would cost, counted by Gemini itself, or guessed where it cannot be asked.

Pure. Clients ask for it in bursts, and the same again and again: an answer holds for a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from gemproxy.converter.anthropic.api import ANTHROPIC
from gemproxy.converter.anthropic.operation import MessagesAsked
from gemproxy.converter.anthropic.params import param_of
from gemproxy.converter.anthropic.parts import remote_images
from gemproxy.converter.anthropic.reading import decode
from gemproxy.converter.api import Format, Kept, Known, Operation, Options, Plan, Received, Settled, Wants
from gemproxy.converter.document import Document
from gemproxy.converter.openai import WHOLE, under_both
from gemproxy.converter.transcript import Part, Usage
from gemproxy.errors import Failure
from gemproxy.upstream.dialect import Call, Dialect
from gemproxy.wire.anthropic_answers import CountOut

KIND: Final = "count"
HOLDS: Final = 60.0  # seconds
GUESS_HOLDS: Final = 1.0  # for those who asked meanwhile: they need not all find out that nobody counts
KEPT_BYTES: Final = 1 << 20  # of all counts of a process; an answer has thirty
BYTES_PER_TOKEN: Final = 4
TOKENS_OF_A_MEDIUM: Final = 258  # of a picture, or of a page (docs/protocol.md 1.9)
_TOLD: Final = (400, 404)  # what is wrong with the question itself; all else is not its client's affair


class _Counted(Struct, rename="camel"):
    total_tokens: int = 0


class CountAsked(Struct, frozen=True):
    """A request whose tokens are to be counted; ``key`` is the same for the same question."""

    of: MessagesAsked
    key: str

    @property
    def model(self) -> str:
        """Return the model's name as the client wrote it."""
        return self.of.model

    @property
    def stream(self) -> bool | None:
        """Return False: a count comes at once."""
        return False

    def format(self, stream: bool, known: Known) -> Format:
        """Return what the answer looks like."""
        return WHOLE

    def wants(self, known: Known) -> Wants | None:
        """Return what was counted before; if nothing was, what the request wants to know."""
        if (KIND, self.key) not in known.stored:
            return Wants(stored=[(KIND, self.key)], alone=True)
        return self.of.wants(known) if known.stored[KIND, self.key] is None else None

    def plan(self, known: Known, settled: Settled) -> Plan:
        """Return the one call, or none if its answer is known; raises ``ClientFault`` 400, and what ``Effort`` does."""
        counted = known.stored.get((KIND, self.key))
        if counted is not None:
            return Plan((), _listen, lambda came: counted)
        made = self.of.converted(known, settled, "countTokens")
        told: list[Kept] = []
        return Plan(
            (made.call,),
            _listen,
            partial(_told, self.key, guess(self.of.asking.size, made.call), told),
            spares=lambda failure: failure.status not in _TOLD,
            in_its_place="estimate",
            keep=lambda: told,
            ignored=made.ignored,
        )


def guess(size: int, call: Call) -> int:
    """Return about how many tokens a body of this size has; of a picture its base64 tells nothing."""
    blobs = [each.part.inline_data for each in call.media]
    text = max(0, size - sum(len(blob.data) for blob in blobs if blob is not None))
    return max(1, text // BYTES_PER_TOKEN + TOKENS_OF_A_MEDIUM * len(blobs))


def _told(key: str, guessed: int, told: list[Kept], came: Sequence[Part | Failure]) -> bytes:
    """Return the count, or the guess where nobody could count."""
    [only] = came
    if isinstance(only, Part):
        body, holds = only.body, HOLDS
    else:
        body, holds = msgspec.json.encode(CountOut(guessed)), GUESS_HOLDS
    told[:] = [Kept(KIND, key, body, holds, KEPT_BYTES)]
    return body


def _listen(number: int, dialect: Dialect) -> Document:
    return Document(_write)


def _write(body: bytes) -> tuple[bytes, Usage]:
    counted = msgspec.json.decode(body, type=_Counted).total_tokens
    return msgspec.json.encode(CountOut(counted)), Usage()


def _read(received: Received, options: Options) -> CountAsked:
    asking = decode(received.body, options.bounds)
    asked = MessagesAsked(asking, remote_images(asking.messages, options.max_images))
    return CountAsked(asked, blake2b(received.body, digest_size=16).hexdigest())


COUNT_TOKENS: Final = Operation(ANTHROPIC, under_both("/messages/count_tokens"), _read, param_of)
