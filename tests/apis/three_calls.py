"""Three answers to one prompt, in the order of the calls."""

from collections.abc import Sequence

from gemproxy.converter.api import Known, Operation, Plan, Settled
from gemproxy.converter.generation import generation
from gemproxy.converter.transcript import Part
from gemproxy.errors import Failure
from tests.apis.plain_text import TextWriter
from tests.apis.words import WORDS, Prompt


def together(came: Sequence[Part | Failure]) -> bytes:
    return b" | ".join(part.body for part in came if isinstance(part, Part))


class ThreeCalls(Prompt):
    def plan(self, known: Known, settled: Settled) -> Plan:
        return Plan(
            [self.call(settled, f" {number}") for number in range(3)],
            lambda _, on: generation(known, settled, on, TextWriter(settled.stream)),
            gather=together,
        )


THREE_CALLS = Operation(WORDS, ("/thrice/{model}",), ThreeCalls.read)
