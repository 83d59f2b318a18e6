"""A prompt that goes on from what the state keeps, link by link, and then from a remote image."""

from gemproxy.converter.api import Known, Operation, Plan, Settled, Wants
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.generation import generation
from tests.apis.plain_text import TextWriter
from tests.apis.words import WORDS, Prompt

KIND = "links"


class Remembers(Prompt):
    def wants(self, known: Known) -> Wants | None:
        if (KIND, self.text) not in known.stored:
            alone = self.text.startswith("alone")
            return Wants(stored=[(KIND, self.text)], before=lambda found: found.decode(), alone=alone)
        link = self._last(known)
        if link.startswith("http"):
            return Wants(images=[RemoteImage(link, "link")]) if known.images is None else None
        return None

    def _last(self, known: Known) -> str:
        link = self.text
        while (after := known.stored.get((KIND, link))) is not None:
            link = after.decode()
        return link

    def plan(self, known: Known, settled: Settled) -> Plan:
        images = [image.mime_type for image in (known.images or {}).values()]
        call = self.call(settled, f" -> {self._last(known)} {images}")
        return Plan((call,), lambda _, on: generation(known, settled, on, TextWriter(settled.stream)))


REMEMBERS = Operation(WORDS, ("/remembers/{model}",), Remembers.read)
