"""All that an attempt knows of the answer that it brings: bytes in, bytes out, whatever API they are for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gemproxy.errors import Failure


class Usage(Struct, frozen=True, gc=False):
    """Token counts of the whole answer; ``completion`` includes ``reasoning``, ``prompt`` includes ``cached``."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    cached: int = 0
    prompt_audio: int = 0
    completion_audio: int = 0


class Part(Struct, frozen=True):
    """What came of one of several calls: the client's bytes of its whole answer, and what is known of that."""

    body: bytes
    credential: str
    attempts: int
    usage: Usage
    reasons: Sequence[str]

    def __repr__(self) -> str:
        return f"Part({len(self.body)} bytes)"


class ErrorFrame(Exception):  # noqa: N818 - a frame of the upstream, which its dialect judges; not a failure of ours
    """An error object inside a 200; ``body`` is judged like the body of a refusal (docs/protocol.md 1.2)."""

    def __init__(self, body: bytes) -> None:
        super().__init__("error frame")
        self.body = body


class Transcript(Protocol):
    """Turns the body of an upstream's answer into the client's; bytes that came out commit it.

    What takes long is put off: ``feed`` or ``finish`` then returns nothing, ``heavy`` is True, and ``work`` does it and
    returns the bytes. It may run in another thread; until it is done nothing else here may be used.
    """

    @property
    def heavy(self) -> bool:
        """Return whether ``work`` must be called before anything else."""
        ...

    @property
    def held(self) -> int:
        """Return how many bytes of the answer wait here for the rest of it."""
        ...

    @property
    def broken(self) -> bool:
        """Return whether ``check`` would raise."""
        ...

    @property
    def usage(self) -> Usage:
        """Return the tokens counted so far."""
        ...

    @property
    def reasons(self) -> Sequence[str]:
        """Return why the answer ended, a word for each choice."""
        ...

    def feed(self, piece: bytes) -> bytes:
        """Return the client's bytes for a piece of the body; raises ``UpstreamFault`` or ``ErrorFrame``."""
        ...

    def finish(self) -> bytes:
        """Return the last bytes; raises when the answer was cut, blank or malformed."""
        ...

    def work(self) -> bytes:
        """Do what was put off; returns and raises as ``feed`` does."""
        ...

    def check(self) -> None:
        """Raise the failure that came behind the bytes that ``feed`` or ``finish`` returned last."""
        ...

    def failure_event(self, failure: Failure) -> bytes | None:
        """Return how a stream ends that has told all this and then fails; None: as any other of its format."""
        ...
