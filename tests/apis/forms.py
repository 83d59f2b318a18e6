"""What was sent as a form, told back: fields and files as the seam hands them on."""

from typing import Self

from gemproxy.converter.api import Known, Operation, Options, Plan, Received, Settled
from gemproxy.converter.forms import read_form
from gemproxy.converter.generation import generation
from tests.apis.plain_text import TextWriter
from tests.apis.words import WORDS, Prompt


class FormPrompt(Prompt):
    @classmethod
    def read(cls, received: Received, options: Options) -> Self:
        if not received.is_form:
            return cls("gemini-2.5-flash", False, "no form: " + received.body.decode())
        form = read_form(received.body, received.headers["Content-Type"])
        files = [f"{file.field}={file.filename}:{file.content_type}:{file.data.hex()}" for file in form.files]
        return cls(dict(form.fields)["model"], False, " ".join([f"{form.fields}", *files]))

    def plan(self, known: Known, settled: Settled) -> Plan:
        return Plan((self.call(settled),), lambda _, on: generation(known, settled, on, TextWriter(settled.stream)))


FORMS = Operation(WORDS, ("/forms",), FormPrompt.read, forms=True)
