"""Failures, pings and keys of its own: how a stream ends depends on what it has told; ``/cut/`` says nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from msgspec.structs import replace

from gemproxy import errors
from gemproxy.converter.api import Api, Format, Kept, Known, Operation, Plan, Settled
from gemproxy.converter.events import Event, Text
from gemproxy.converter.generation import generation
from gemproxy.errors import Failure
from tests.apis.plain_text import TextWriter
from tests.apis.words import WORDS, Prompt

KIND = "told"


def key(headers: Mapping[str, str], query: str) -> str:
    found = headers.get("x-key") or "".join(parse_qs(query).get("key", ()))
    if not found:
        raise errors.unauthorized("Show it as x-key.")
    return found


class Counting:
    """Numbers what it says."""

    kept = 0

    def __init__(self) -> None:
        self.told = 0

    def write(self, event: Event) -> bytes:
        if not isinstance(event, Text):
            return b""
        self.told += 1
        return f"{self.told}:{event.text}\n".encode()

    def finish(self) -> bytes:
        return b"."

    def failure_event(self, failure: Failure) -> bytes:
        return f"{self.told + 1}!{failure.code}".encode()


class Telling(Prompt):
    def format(self, stream: bool, known: Known) -> Format:
        return Format("text/event-stream", b"ping\n", lambda failure: f"0!{failure.code}".encode())

    def plan(self, known: Known, settled: Settled) -> Plan:
        def keep() -> Sequence[Kept]:
            return [Kept(KIND, "last", self.text.encode(), 60.0, 1 << 20)]

        return Plan(
            (self.call(settled),),
            lambda _, on: generation(known, settled, on, Counting()),
            keep=keep,
            ignored=("nothing",),
        )


class Cut(Prompt):
    def format(self, stream: bool, known: Known) -> Format:
        return Format("audio/mpeg")

    def plan(self, known: Known, settled: Settled) -> Plan:
        return Plan((self.call(settled),), lambda _, on: generation(known, settled, on, TextWriter(settled.stream)))


TELLING_API: Api = replace(WORDS, name="telling", key=key)
TELLING = Operation(TELLING_API, ("/telling/{model}",), Telling.read, lambda field: f"our {field}")
CUT = Operation(WORDS, ("/cut/{model}",), Cut.read)
