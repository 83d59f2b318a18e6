"""The conversation: OpenAI's messages -> Gemini's ``contents`` and system parts.

In: the messages, the model, the wire names of tools, fetched images, known signatures. Out: contents in which user and
model take turns, and in which the content after one with calls holds exactly their results, in order. Must not: lose
what a client said; what fits nowhere becomes text. Rules: PROTOCOL 4.4, SPEC 2 "Messages".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from gemproxy.converter.chat.tools import Names
from gemproxy.converter.gemini import signatures
from gemproxy.converter.gemini.media import media_part, picture
from gemproxy.converter.gemini.objects import LARGEST, spelt, unwieldy
from gemproxy.converter.gemini.tool_results import Asked, Result, Step, as_text
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import NamedPart
from gemproxy.upstream.repairs import CONTINUE
from gemproxy.wire.gemini import Blob, Content, FunctionCall, Part
from gemproxy.wire.openai_chat import (
    AssistantMessage,
    DeveloperMessage,
    FunctionMessage,
    Message,
    RefusalPart,
    SentImage,
    SentToolCall,
    SystemMessage,
    TextPart,
    ToolMessage,
)
from gemproxy.wire.text import is_long, joined, plain

_encode = msgspec.json.encode
_decode_any = msgspec.json.Decoder().decode
_NO_ARGUMENTS = Raw(b"{}")
_INSTRUCTIONS = (SystemMessage, DeveloperMessage)
_RESULTS = (ToolMessage, FunctionMessage)
_TEXT = (str, Raw)


class Setting(Struct, frozen=True):
    """What the messages are read with; ``media`` gathers the parts that are no text, and what the client calls each.

    ``effort`` tells, before each medium and call, whether the client still waits.
    """

    model: Model
    names: Names
    images: Mapping[str, Blob]
    signatures: signatures.SignatureLookup | None = None
    media: list[NamedPart] = []
    effort: Effort = field(default_factory=partial(Effort, 0))


class Conversation(Struct, frozen=True):
    system: list[Part]
    contents: list[Content]


def conversation(messages: Sequence[Message], setting: Setting, instruction: str | None = None) -> Conversation:
    """Return the contents, and the parts of the leading system and developer messages.

    ``instruction`` is one more thing to tell the model, after what the client tells it. Raises ``ClientFault``.
    """
    writer = _Writer(setting)
    system: list[Part] = []
    leading = True
    for index, message in enumerate(messages):
        if isinstance(message, _INSTRUCTIONS):
            if isinstance(message.content, list):
                _texts_only(message.content, index)
            parts = _parts(message, index, setting)
            if leading:
                system += parts
            else:
                writer.user(parts)  # it keeps its place: at the front it would speak of what is not yet said
            continue
        leading = False
        if isinstance(message, AssistantMessage):
            writer.assistant(message, index)
        elif isinstance(message, _RESULTS):
            writer.result(message, index)
        else:
            writer.user(_parts(message, index, setting))
    if instruction:
        system.append(Part(text=instruction))
    return _opened(system, writer.finish(), setting.model)


def _opened(system: list[Part], contents: list[Content], model: Model) -> Conversation:
    """See to it that there are contents, that the user opens them (PROTOCOL 4.4 rule 11), and ends them if need be."""
    if not contents:
        if not system:
            raise ClientFault("messages must hold at least one message that says something.", param="messages")
        return Conversation([], [Content(system, "user")])  # a conversation of instructions only
    if contents[-1].role == "model" and not model.prefill:
        contents.append(Content([Part(text=CONTINUE)], "user"))
    first = contents[0]
    if system and not model.system_instruction:
        if first.role == "user":
            first.parts = system + (first.parts or [])
            return Conversation([], contents)
        return Conversation([], [Content(system, "user"), *contents])
    if first.role != "user":
        contents.insert(0, Content([Part(text=" ")], "user"))
    return Conversation(system, contents)


# ------------------------------------------------------------------------------------------------- single messages


def _parts(message: Message, index: int, setting: Setting) -> list[Part]:
    """Return the parts of a message's content; empty texts are left out, they are a 400 on some models."""
    content = message.content
    if not content:
        return []
    if isinstance(content, _TEXT):
        return [Part(text=content)]
    parts: list[Part] = []
    for position, part in enumerate(content):
        if isinstance(part, TextPart):
            if part.text:
                parts.append(Part(text=part.text))
        elif isinstance(part, RefusalPart):
            if part.refusal:
                parts.append(Part(text=part.refusal))
        else:
            setting.effort.spend(0)
            param = f"messages[{index}].content[{position}]"
            parts.append(media_part(part, param, setting.images, setting.model))
            setting.media.append(NamedPart(parts[-1], param))
    return parts


def _texts_only(content: Sequence[object], index: int) -> None:
    for position, part in enumerate(content):
        if not isinstance(part, TextPart):
            raise ClientFault(
                "System and developer messages hold text only.",
                param=f"messages[{index}].content[{position}].type",
                code="unsupported_value",
            )


def _arguments(sent: str | Raw | dict[str, Any] | None) -> Raw:
    """Return the arguments of a call as an object, as it is written where it can be (PROTOCOL 4.4 rule 6)."""
    text = _written(sent)
    if not text or text.isspace():
        return _NO_ARGUMENTS
    return spelt(text) or _wrapped(text)


def _lines(texts: list[str | Raw]) -> str | Raw:
    """Return texts one below the other; as JSON if they are too long to be looked into."""
    if sum(map(len, texts)) <= LARGEST:
        return "\n".join(map(plain, texts))
    return joined([piece for text in texts for piece in (text, "\n")][:-1])


def _written(sent: str | Raw | dict[str, Any] | None) -> str | None:
    if isinstance(sent, Raw):
        return plain(sent) if is_long(sent) else bytes(sent).decode()
    return _encode(sent).decode() if isinstance(sent, dict) else sent


def _wrapped(sent: str) -> Raw:
    if unwieldy(sent):
        return _raw(sent)
    try:
        value = _decode_any(sent)
    except (msgspec.DecodeError, RecursionError):
        return _raw(sent)
    return _NO_ARGUMENTS if value is None else spelt(f'{{"value":{sent}}}') or Raw(_encode({"value": value}))


def _raw(sent: str) -> Raw:
    """Return what the model wrote though it made no object of it: it may still learn from that."""
    return Raw(_encode({"_raw": sent}))


def _sent_calls(message: AssistantMessage) -> list[SentToolCall]:
    if message.tool_calls:
        return message.tool_calls
    return [SentToolCall(function=message.function_call)] if message.function_call is not None else []


# ------------------------------------------------------------------------------------------------------ the writer


class _Writer:
    """Builds the contents; ``step`` is open from a content with calls until the model speaks again."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._contents: list[Content] = []
        self._step: Step | None = None

    def finish(self) -> list[Content]:
        if self._step is not None:
            self._close(self._step)
        return self._contents

    def user(self, parts: list[Part]) -> None:
        if self._step is not None:
            self._step.defer(parts)
        elif parts:
            self._say("user", parts)

    def assistant(self, message: AssistantMessage, index: int) -> None:
        """Add what the model said: text, then images, then calls, each with its signature."""
        parts = _parts(message, index, self._setting)
        if message.refusal:
            parts.append(Part(text=message.refusal))
        signed = signatures.carried_by(message.extra_content)
        if signed is not None and self._sign(parts, signed):
            signed = None
        parts += [self._image(image, index, place) for place, image in enumerate(message.images or ())]
        asked = [self._call(call, index, place, parts) for place, call in enumerate(_sent_calls(message))]
        if not parts:
            return
        if signed is not None and asked and not parts[-len(asked)].thought_signature:
            _put(parts[-len(asked)], signed)  # Google's compatible endpoint hangs a call's signature on the message
        if self._step is not None and self._step.begun:
            self._close(self._step)
        self._say("model", parts)
        if asked:
            self._step = self._step or Step(self._setting.model.modern)
            self._step.ask(asked)

    def result(self, message: ToolMessage | FunctionMessage, index: int) -> None:
        sent_id = message.tool_call_id if isinstance(message, ToolMessage) else None
        parts = _parts(message, index, self._setting)
        media = [part for part in parts if part.text is None]
        bare, _ = signatures.parted(sent_id or "")
        result = Result(bare, message.name, _lines([part.text for part in parts if part.text is not None]), media)
        if self._step is not None:
            self._step.answer(result)
        else:
            self.user(as_text(result))

    def _image(self, image: SentImage, index: int, place: int) -> Part:
        param = f"messages[{index}].images[{place}]"
        part = picture(image.image_url, param, self._setting.images, self._setting.model)
        self._setting.media.append(NamedPart(part, param))
        data = part.inline_data.data if part.inline_data is not None else ""
        carried = signatures.carried_by(image.extra_content)
        _put(part, signatures.known(carried, self._setting.signatures, lambda: signatures.image_key(data)))
        return part

    def _call(self, sent: SentToolCall, index: int, place: int, parts: list[Part]) -> Asked:
        self._setting.effort.spend(0)
        if sent.function is not None:
            name, arguments = sent.function.name, _arguments(sent.function.arguments)
        elif sent.custom is not None:
            name, arguments = sent.custom.name, Raw(_encode({"input": sent.custom.input or ""}))
        else:
            raise ClientFault("A tool call needs a function.", param=f"messages[{index}].tool_calls[{place}].function")
        call_id, appended = signatures.parted(sent.id or "")
        call = FunctionCall(self._setting.names.wire(name), arguments, call_id or f"call_{index}_{place}")
        part = Part(function_call=call)
        carried = signatures.carried_by_call(sent, appended)
        _put(part, signatures.known(carried, self._setting.signatures, lambda: call_id))
        parts.append(part)
        return Asked(call, call_id, name)

    @staticmethod
    def _sign(parts: list[Part], signed: signatures.Signed) -> bool:
        """Put the signature of a text answer on its last text (PROTOCOL 6.1); False if there is none."""
        last = next((part for part in reversed(parts) if part.text is not None), None)
        _put(last, signed)
        return last is not None

    def _say(self, role: str, parts: list[Part]) -> None:
        """Add a content, or go on with the last one: contents merge, parts never do, signatures hang on them."""
        last = self._contents[-1] if self._contents else None
        if last is not None and last.role == role and last.parts is not None:
            last.parts += parts
        else:
            self._contents.append(Content(parts, role))

    def _close(self, step: Step) -> None:
        self._step = None
        self._say("user", step.close())


def _put(part: Part | None, signed: signatures.Signed | None) -> None:
    if part is not None and signed is not None:
        part.thought_signature, part.origin = signed
