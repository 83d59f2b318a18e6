"""An answer that is one JSON document, of a method that does not stream: counts, vectors, predictions. Pure.

In: the pieces of an upstream's body. Out: at its end, what ``write`` makes of the whole. An error object in its place
is judged like a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct, json

from gemproxy.converter.transcript import ErrorFrame, Usage
from gemproxy.errors import Failure, UpstreamFault
from gemproxy.load.weigh import SMALL_SIZE
from gemproxy.wire import UNREADABLE

MAX_BYTES = 64 << 20  # a batch of a hundred vectors is a tenth of that


class _Fault(Struct):
    error: object = None


_fault = json.Decoder(_Fault).decode


class Document:
    """A ``Transcript`` for one attempt. ``write`` returns the client's bytes and what was counted; it raises one of
    ``wire.UNREADABLE`` for what it cannot read. A large document is written beside the loop.
    """

    reasons: Sequence[str] = ()
    broken = False  # nothing comes out before the whole is known to be well

    def __init__(self, write: Callable[[bytes], tuple[bytes, Usage]]) -> None:
        self._write = write
        self._pieces: list[bytes] = []
        self.held = 0
        self.heavy = False
        self.usage = Usage()

    def feed(self, piece: bytes) -> bytes:
        """Keep a piece; raises ``UpstreamFault`` beyond ``MAX_BYTES``."""
        self.held += len(piece)
        if self.held > MAX_BYTES:
            raise UpstreamFault(f"The upstream's answer is larger than {MAX_BYTES} bytes.")
        self._pieces.append(piece)
        return b""

    def finish(self) -> bytes:
        """Return the client's bytes; raises ``UpstreamFault`` or ``ErrorFrame``."""
        if self.held > SMALL_SIZE:
            self.heavy = True
            return b""
        return self.work()

    def work(self) -> bytes:
        """Write the document; returns and raises as ``finish`` does."""
        self.heavy = False
        body = b"".join(self._pieces)
        self._pieces.clear()
        try:
            if b'"error"' in body and _fault(body).error is not None:
                raise ErrorFrame(body)
            data, self.usage = self._write(body)
        except UNREADABLE:
            raise UpstreamFault("The upstream sent an answer that cannot be read.") from None
        return data

    def check(self) -> None:
        """Do nothing: whatever is wrong was raised at once."""

    def failure_event(self, failure: Failure) -> bytes | None:
        """Return None: nothing was told before."""
        return None
