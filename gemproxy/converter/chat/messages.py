"""The conversation: OpenAI's messages -> Gemini's ``contents`` and system parts.

In: the messages, the model, the wire names of tools, fetched images, known signatures. Out: what ``gemini/contents``
makes of them. Must not: lose what a client said; what fits nowhere becomes text. Rules: docs/protocol.md 4.4,
docs/architecture.md 14.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec import Raw, Struct, field

from gemproxy.converter.chat.media import media_part, picture
from gemproxy.converter.gemini import signatures
from gemproxy.converter.gemini.contents import Contents, arguments_of, lines, opened, sign, sign_text
from gemproxy.converter.gemini.names import Names
from gemproxy.converter.gemini.signatures import Signed
from gemproxy.converter.gemini.tool_results import Asked, Result
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import NamedPart
from gemproxy.wire.gemini import Blob, Content, FunctionCall, Part
from gemproxy.wire.openai_chat import (
    AssistantMessage,
    DeveloperMessage,
    ExtraContent,
    FunctionMessage,
    Message,
    RefusalPart,
    SentImage,
    SentToolCall,
    SystemMessage,
    TextPart,
    ToolMessage,
)

_encode = msgspec.json.encode
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
    contents = writer.finish()
    if not (system or contents):
        raise ClientFault("messages must hold at least one message that says something.", param="messages")
    return Conversation(*opened(system, contents, setting.model))


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


def _sent_calls(message: AssistantMessage) -> list[SentToolCall]:
    if message.tool_calls:
        return message.tool_calls
    return [SentToolCall(function=message.function_call)] if message.function_call is not None else []


# ------------------------------------------------------------------------------------------------------ the writer


class _Writer:
    """Hands each message on to the contents."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._contents = Contents(setting.model)
        self.finish = self._contents.finish
        self.user = self._contents.user

    def assistant(self, message: AssistantMessage, index: int) -> None:
        """Add what the model said: text, then images, then calls, each with its signature."""
        parts = _parts(message, index, self._setting)
        if message.refusal:
            parts.append(Part(text=message.refusal))
        signed = _carried_by(message.extra_content)
        if signed is not None and sign_text(parts, signed):
            signed = None
        parts += [self._image(image, index, place) for place, image in enumerate(message.images or ())]
        asked = [self._call(call, index, place, parts) for place, call in enumerate(_sent_calls(message))]
        if signed is not None and asked and not parts[-len(asked)].thought_signature:
            sign(parts[-len(asked)], signed)  # Google's compatible endpoint hangs a call's signature on the message
        self._contents.model(parts, asked)

    def result(self, message: ToolMessage | FunctionMessage, index: int) -> None:
        """Add the result of a call."""
        sent_id = message.tool_call_id if isinstance(message, ToolMessage) else None
        parts = _parts(message, index, self._setting)
        media = [part for part in parts if part.text is None]
        bare, _ = signatures.parted(sent_id or "")
        texts = [part.text for part in parts if part.text is not None]
        self._contents.result(Result(bare, message.name, lines(texts), media))

    def _image(self, image: SentImage, index: int, place: int) -> Part:
        param = f"messages[{index}].images[{place}]"
        part = picture(image.image_url, param, self._setting.images, self._setting.model)
        self._setting.media.append(NamedPart(part, param))
        data = part.inline_data.data if part.inline_data is not None else ""
        carried = _carried_by(image.extra_content)
        sign(part, signatures.known(carried, self._setting.signatures, lambda: signatures.image_key(data)))
        return part

    def _call(self, sent: SentToolCall, index: int, place: int, parts: list[Part]) -> Asked:
        self._setting.effort.spend(0)
        if sent.function is not None:
            name, arguments = sent.function.name, arguments_of(sent.function.arguments)
        elif sent.custom is not None:
            name, arguments = sent.custom.name, Raw(_encode({"input": sent.custom.input or ""}))
        else:
            raise ClientFault("A tool call needs a function.", param=f"messages[{index}].tool_calls[{place}].function")
        call_id, appended = signatures.parted(sent.id or "")
        call = FunctionCall(self._setting.names.wire(name), arguments, call_id or f"call_{index}_{place}")
        part = Part(function_call=call)
        carried = _carried_by_call(sent, appended)
        sign(part, signatures.known(carried, self._setting.signatures, lambda: call_id))
        parts.append(part)
        return Asked(call, call_id, name)


# ------------------------------------------------------------------------------------------------- signatures sent back


def _carried_by_call(call: SentToolCall, appended: str) -> Signed | None:
    """Return the signature that a call of the history carries in one of its fields, or behind its id; or None."""
    carried = _carried_by(call.extra_content)
    if carried is not None:
        return carried
    fields = call.provider_specific_fields
    signature = (fields.thought_signature if fields is not None else None) or appended
    return Signed(signature, "") if signature else None


def _carried_by(extra: ExtraContent | None) -> Signed | None:
    """Return the signature in Google's carrier, or None."""
    if extra is None or extra.google is None or not extra.google.thought_signature:
        return None
    origin = extra.google.origin or ""
    return Signed(extra.google.thought_signature, origin if len(origin) <= signatures.MAX_ORIGIN else "")
