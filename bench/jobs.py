"""The jobs of the load generator and what comes of them: JSON lines between two processes. Times in seconds."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from bench.question import Api, Ask


class Target(Struct, frozen=True):
    """A server under load. ``pids`` are the processes whose CPU time counts."""

    kind: Literal["upstream", "floor", "gemproxy"]
    port: int
    pids: tuple[int, ...] = ()


class Closed(Struct, frozen=True, tag=True):
    """``connections`` clients that ask again as soon as they have their answer; ``most`` answers, ``seconds`` long."""

    target: Target
    script: str
    connections: int
    seconds: float
    question: Ask = "plain"
    api: Api = "chat"
    warm: float = 0.4
    most: int = 500_000


class Paced(Struct, frozen=True, tag=True):
    """Questions at fixed times, to each target in turn: ``rate`` a second to each of them, ``count`` to each."""

    targets: tuple[Target, ...]
    script: str
    rate: float
    count: int
    warm: int = 20


class Held(Struct, frozen=True, tag=True):
    """``streams`` open at once, each on a connection of its own, opened within ``ramp`` seconds."""

    target: Target
    script: str
    streams: int
    ramp: float
    question: Ask = "plain"
    api: Api = "chat"


Job = Closed | Paced | Held


class Load(Struct):
    """What a job came to. CPU in seconds, by process.

    ``window`` is the time that ``cpu``, ``answers`` and ``events`` belong to: without the warm-up for ``Closed``, from
    the moment when all streams were open to the end of the first one for ``Held`` (0: they were never all open).
    ``resident`` is the most memory seen in that time, in bytes.
    """

    window: float = 0.0
    answers: int = 0
    events: int = 0
    cpu: list[float] = []
    resident: int = 0
    whole_cpu: float = 0.0
    right: int = 0
    wrong: int = 0
    why: list[str] = []
    latencies: list[list[float]] = []
    firsts: list[list[float]] = []

    def note(self, why: str) -> None:
        """Count a wrong answer; the first few are told."""
        self.wrong += 1
        if len(self.why) < 3:
            self.why.append(why)
