"""Plain text: a stream of events, or what they come to."""

from gemproxy.converter.api import Known, Operation, Plan, Settled
from gemproxy.converter.events import Event, Text
from gemproxy.converter.generation import generation
from tests.apis.words import WORDS, Prompt


class TextWriter:
    def __init__(self, stream: bool) -> None:
        self.kept, self._stream, self._said = 0, stream, b""

    def write(self, event: Event) -> bytes:
        self._said += event.text.encode() if isinstance(event, Text) else b""
        return self.finish() if self._stream else b""

    def finish(self) -> bytes:
        said, self._said = self._said, b""
        return said


class PlainText(Prompt):
    def plan(self, known: Known, settled: Settled) -> Plan:
        return Plan((self.call(settled),), lambda _, on: generation(known, settled, on, TextWriter(settled.stream)))


PLAIN_TEXT = Operation(WORDS, ("/plain/{model}",), PlainText.read)
