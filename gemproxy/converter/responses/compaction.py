"""A conversation summed up: asked of the model as one more question, given to the client as a sealed item. Pure.

In: the items of a conversation, and then the events of the model's summary. Out: items that ask for it; a writer that
makes one ``compaction`` item of all that is said. Where such an item comes back is ``conversation``'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter import events
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.items import Compact, Item, Offered, Said
from gemproxy.converter.responses.output import Output
from gemproxy.converter.sealed import SUMMARY, seal
from gemproxy.converter.transcript import Usage
from gemproxy.errors import BadAnswer, ClientFault
from gemproxy.wire.openai_responses import ItemOut, UsageOut
from gemproxy.wire.text import joined, plain

MOST_KEPT_WORDS: Final = 64 << 10  # bytes of the last messages of the user that ``/responses/compact`` gives back
ASK: Final = (
    "Sum up this conversation for an assistant that takes over from here and will see nothing else of it. Write down"
    " what the user wants and has decided, in their own words where these matter; what was done and found out, with"
    " names, paths, numbers and commands as they were given; what is still to be done, and what comes next. Answer with"
    " the summary alone."
)


def is_asked(items: Sequence[Item]) -> bool:
    """Return whether the last thing said is the wish for a summary."""
    return bool(items) and isinstance(items[-1], Compact)


def asking(items: Sequence[Item]) -> list[Item]:
    """Return the items that ask for the summary: no tool is of use for it. Raises ``ClientFault`` if there are none."""
    said = [item for item in items if not isinstance(item, Compact | Offered)]
    if not said:
        raise ClientFault("input must hold something that can be summed up.", param="input")
    return [*said, Said(None, "user", ASK)]


class Summing:
    """Takes the events of a summary, and tells them as one item by ``output``; a summary that was cut is none."""

    raw = True

    def __init__(self, output: Output) -> None:
        self._output = output
        self._pieces: list[str | Raw] = []
        self._size = 0
        self.finish = output.finish
        self.failure_event = getattr(output, "failure_event", lambda failure: None)

    @property
    def kept(self) -> int:
        """Return the bytes that wait for the end."""
        return self._output.kept + self._size

    def write(self, event: events.Event) -> bytes:
        """Return what the client must see of an event now."""
        if isinstance(event, events.Text):
            self._pieces.append(event.text)
            self._size += len(event.text)
        elif isinstance(event, events.Finish):
            if event.reason != "stop" or not self._pieces:
                raise BadAnswer("The model gave no whole summary of the conversation.")
            return self._output.compacted(seal(SUMMARY, plain(joined(self._pieces)))) + self._output.write(event)
        elif isinstance(event, Usage | events.Meta):
            return self._output.write(event)
        return b""


class _Resource(Struct):
    id: str
    created_at: int
    output: list[Raw | ItemOut]
    usage: UsageOut
    object: str = "response.compaction"


class Resource(Output):
    """The answer of ``/responses/compact``: what the user said last, and the summary."""

    def __init__(self, heading: Heading, said: Sequence[Raw]) -> None:
        super().__init__(heading)
        self._said = said

    def finish(self) -> bytes:
        """Return the whole answer as JSON."""
        usage = self.counted()
        assert usage is not None  # it comes before the end, whatever the model counted
        heading = self.heading
        output = [*self._said, *self.items]
        return msgspec.json.encode(_Resource(f"resp_{heading.id}", heading.created, output, usage))
