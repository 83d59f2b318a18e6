"""Items of Responses -> Gemini's ``contents`` and system parts.

In: items in any order that is legal, the model, the wire names of tools, fetched images, known signatures. Out: what
``gemini/contents`` makes of them. Must not: lose what a client said, or send a signature beside arguments that it was
not made for. Rules: docs/protocol.md 4.4, 7.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

import msgspec
from msgspec import Raw, Struct, field

from gemproxy.converter.gemini import media, signatures
from gemproxy.converter.gemini.contents import Contents, arguments_of, lines, opened, sign
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.gemini.names import Names
from gemproxy.converter.gemini.tool_results import Asked, Result
from gemproxy.converter.responses.items import (
    Answered,
    Called,
    Compacted,
    Drawn,
    Item,
    Offered,
    Said,
    Thought,
    path_of,
)
from gemproxy.converter.sealed import SUMMARY
from gemproxy.converter.sealed import opened as unsealed
from gemproxy.converter.signed_calls import SignedCalls
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import NamedPart
from gemproxy.wire.gemini import Blob, Content, FunctionCall, Part
from gemproxy.wire.openai_responses import InputAudio, InputFile, InputImage, InputPart, SentRefusal, TextPart

_encode = msgspec.json.encode
_SUMMARY = "The conversation up to here was summed up:\n"


class Setting(Struct, frozen=True):
    """What the items are read with; ``media`` gathers the parts that are no text, and what the client calls each.

    ``notes`` gathers what is left out. ``effort`` tells, before each medium and call, whether the client still waits.
    """

    model: Model
    names: Names
    images: Mapping[str, Blob]
    signatures: signatures.SignatureLookup | None = None
    media: list[NamedPart] = []
    notes: list[str] = []
    effort: Effort = field(default_factory=partial(Effort, 0))


class Conversation(Struct, frozen=True):
    system: list[Part]
    contents: list[Content]


def conversation(
    items: Sequence[Item], setting: Setting, first: str | Raw | None, last: str | None = None
) -> Conversation:
    """Return the contents, and what the model is told before them: ``first``, leading instructions, ``last``.

    Raises ``ClientFault``.
    """
    writer = _Writer(setting)
    system = [Part(text=first)] if first else []
    leading = True
    for item in items:
        if isinstance(item, Said) and item.role in ("system", "developer"):
            parts = writer.parts(item, item.content)
            if leading:
                system += parts
            else:
                writer.user(parts)  # it keeps its place: at the front it would speak of what is not yet said
            continue
        leading = leading and isinstance(item, Offered)  # which says nothing; Codex puts its tools before all else
        writer.add(item)
    if last:
        system.append(Part(text=last))
    contents = writer.finish()
    if not (system or contents):
        raise ClientFault("input must hold something that is said.", param="input")
    return Conversation(*opened(system, contents, setting.model))


def remote_images(items: Sequence[Item], most: int) -> list[RemoteImage]:
    """Return the http(s) images and files that items name, in order and at every mention; at most ``most`` and one."""
    return list(islice(_remote(items), most + 1))


def _remote(items: Sequence[Item]) -> Iterator[RemoteImage]:
    for item in items:
        if isinstance(item, (Said, Answered)) and isinstance(item.content, list):
            for position, part in enumerate(item.content):
                if (url := _address(part)) and media.is_remote(url):
                    yield RemoteImage(url, _part_path(item, position))


def _address(part: InputPart) -> str:
    """Return by which address a part is to be had, if by one."""
    if isinstance(part, InputImage):
        return (part.image_url or "").strip()
    if isinstance(part, InputFile) and not part.file_data:
        return (part.file_url or "").strip()
    return ""


def _part_path(item: Said | Answered, position: int) -> str:
    if isinstance(item, Said):
        return f"{path_of(item.place)}.content[{position}]"
    return f"{path_of(item.place)}.output" if item.alone else f"{path_of(item.place)}.output[{position}]"


class _Writer:
    """Hands each item on to the contents."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._contents = Contents(setting.model)
        self._signed = SignedCalls(setting.signatures)
        self._calling = False  # since a call that is signed, there were calls and results alone
        self.finish = self._contents.finish

    def user(self, parts: list[Part]) -> None:
        """Add what the user said."""
        self._calling = False
        self._contents.user(parts)

    def add(self, item: Item) -> None:
        if isinstance(item, Said):
            parts = self.parts(item, item.content)
            if item.role == "assistant":
                self._calling = False
                self._contents.model(parts, [])
            else:
                self.user(parts)
        elif isinstance(item, Called):
            self._call(item)
        elif isinstance(item, Answered):
            self._result(item)
        elif isinstance(item, Drawn):
            self._drawn(item)
        elif isinstance(item, Thought):
            self._calling = False
            self._signed.carry(item.sealed)
        elif isinstance(item, Compacted):
            summary = unsealed(SUMMARY, item.sealed, 1)
            if summary is not None:
                self.user([Part(text=_SUMMARY + summary[0])])
            else:
                self._setting.notes.append(f"{path_of(item.place)}.encrypted_content")

    def parts(self, item: Said | Answered, content: str | Raw | list[InputPart]) -> list[Part]:
        """Return the parts of a content; empty texts are left out, they are a 400 on some models."""
        if not isinstance(content, list):
            return [Part(text=content)] if content else []
        found: list[Part] = []
        for position, part in enumerate(content):
            if isinstance(part, TextPart):
                if part.text:
                    found.append(Part(text=part.text))
            elif isinstance(part, SentRefusal):
                if part.refusal:
                    found.append(Part(text=part.refusal))
            else:
                self._setting.effort.spend(0)
                param = _part_path(item, position)
                found.append(self._medium(part, param))
                self._setting.media.append(NamedPart(found[-1], param))
        return found

    def _medium(self, part: InputImage | InputFile | InputAudio, param: str) -> Part:
        if isinstance(part, InputAudio):
            return media.sound(part.input_audio.data, part.input_audio.format, param)
        url, setting = _address(part), self._setting
        if isinstance(part, InputImage):
            if url:
                return media.picture(url, part.detail, param, setting.images, setting.model)
        elif part.file_data:
            return media.document(part.file_data, part.filename, param)
        elif url:
            return media.document_at(url, part.filename, param, setting.images)
        if part.file_id:
            name = part.filename if isinstance(part, InputFile) else None
            return media.document_by_id(part.file_id, name, f"{param}.file_id")
        raise ClientFault("The part holds neither data nor an address.", param=param)

    def _call(self, item: Called) -> None:
        self._setting.effort.spend(0)
        given = Raw(_encode({"input": item.arguments or ""})) if item.custom else arguments_of(item.arguments)
        signed, given = self._signed.of(item.call_id, given)
        call = FunctionCall(self._setting.names.wire(item.name), given, item.call_id)
        part = Part(function_call=call)
        sign(part, signed)
        # Of the calls of one answer only the first is signed, and some clients put the result of each right behind it
        # (docs/protocol.md 7.5): as a step of its own, a call without a signature would be refused.
        beside = signed is None and self._calling
        self._contents.model([part], [Asked(call, item.call_id, item.name)], beside=beside)
        self._calling = self._calling or signed is not None

    def _result(self, item: Answered) -> None:
        parts = self.parts(item, item.content)
        texts = [part.text for part in parts if part.text is not None]
        self._contents.result(
            Result(item.call_id, item.name, lines(texts), [part for part in parts if part.text is None])
        )

    def _drawn(self, item: Drawn) -> None:
        """Give the model its image back, so that it can be asked to change it.

        One that sees none goes on without it, and so does a history in which no image is left of it.
        """
        self._calling = False
        self._setting.effort.spend(0)
        param = f"{path_of(item.place)}.result"
        with suppress(ClientFault):
            part = media.picture(f"data:;base64,{item.data}", None, param, {}, self._setting.model)
            self._setting.media.append(NamedPart(part, param))
            sign(part, signatures.known(None, self._setting.signatures, lambda: signatures.image_key(item.data)))
            self._contents.model([part], [])
