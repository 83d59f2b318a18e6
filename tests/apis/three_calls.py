"""Three answers to one prompt, in the order of the calls."""

from gemproxy.converter.api import Known, Operation, Plan, Terms
from gemproxy.converter.generation import generation
from tests.apis.plain_text import TextWriter
from tests.apis.words import WORDS, Prompt


class ThreeCalls(Prompt):
    def plan(self, known: Known, terms: Terms) -> Plan:
        return Plan(
            [self.call(terms, f" {number}") for number in range(3)],
            lambda _, on: generation(known, terms, on, TextWriter(terms.stream)),
            gather=b" | ".join,
        )


THREE_CALLS = Operation(WORDS, ("/thrice/{model}",), ThreeCalls.read)
