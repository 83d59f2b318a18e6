"""Messages -> Gemini's ``contents`` and system parts.

In: messages, the model, the wire names of tools, fetched images, known signatures. Out: what ``gemini/contents`` makes
of them. Must not: lose what a client said, or send a signature beside arguments that it was not made for.
Rules: docs/protocol.md 4.4, 10.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gemproxy.converter.anthropic.parts import Setting, block_parts, parts_of, spoken
from gemproxy.converter.anthropic.said import Answered, Content, Message
from gemproxy.converter.gemini.contents import Contents, arguments_of, lines, opened, sign
from gemproxy.converter.gemini.tool_results import Asked, Result
from gemproxy.converter.signed_calls import SignedCalls
from gemproxy.errors import ClientFault
from gemproxy.wire import gemini
from gemproxy.wire.anthropic import TextBlock, ThinkingBlock, ToolUseBlock
from gemproxy.wire.gemini import FunctionCall, Part
from gemproxy.wire.text import joined

# Claude Code's word about its build, which is another in each turn: it would spoil the cache of all that follows
_ATTRIBUTION: Final = "x-anthropic-billing-header:"


class Conversation(Struct, frozen=True):
    system: list[Part]
    contents: list[gemini.Content]


def conversation(
    system: Content, messages: Sequence[Message], setting: Setting, instructions: Sequence[str]
) -> Conversation:
    """Return the contents, and what the model is told before them: ``system``, leading messages, ``instructions``.

    Raises ``ClientFault``.
    """
    writer = _Writer(setting)
    told = [part for part in parts_of(system, "system", setting) if not _attributes(part)]
    last_user = max((message.place for message in messages if message.role == "user"), default=-1)
    leading = True
    for message in messages:
        if message.role != "system":
            leading = False
            writer.add(message)
        elif message.clear_at != "next_user_message" or message.place > last_user:
            parts = parts_of(message.content, f"messages[{message.place}].content", setting)
            if leading:
                told += parts
            elif parts:
                writer.user([_reminder(parts)])
    told += [Part(text=instruction) for instruction in instructions]
    contents = writer.finish()
    if not (told or contents):
        raise ClientFault("messages must hold something that is said.", param="messages")
    return Conversation(*opened(told, contents, setting.model))


def _attributes(part: Part) -> bool:
    return isinstance(part.text, str) and part.text.startswith(_ATTRIBUTION)


def _reminder(parts: Sequence[Part]) -> Part:
    """Return instructions that keep their place, marked as such: at the front they would speak of what is not yet
    said, and what stands in the middle is a user's word to Gemini.
    """
    text = lines([part.text for part in parts if part.text is not None])
    return Part(text=joined(("<system-reminder>\n", text, "\n</system-reminder>")))


class _Writer:
    """Hands each message on to the contents."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._contents = Contents(setting.model)
        self._signed = SignedCalls(setting.signatures)
        self.finish = self._contents.finish
        self.user = self._contents.user

    def add(self, message: Message) -> None:
        path = f"messages[{message.place}].content"
        if message.role == "assistant":
            self._assistant(message.content, path)
        elif not isinstance(message.content, list):
            self.user(parts_of(message.content, path, self._setting))
        else:
            for place, block in enumerate(message.content):
                if isinstance(block, Answered):
                    self._result(block, f"{path}[{place}]")
                else:
                    self.user(block_parts(block, f"{path}[{place}]", self._setting))

    def _assistant(self, content: Content, path: str) -> None:
        if not isinstance(content, list):
            self._contents.model(spoken(content, path, self._setting), [])
            return
        parts: list[Part] = []
        asked: list[Asked] = []
        for place, block in enumerate(content):
            if isinstance(block, ThinkingBlock):
                self._signed.carry(block.signature or "")
            elif isinstance(block, ToolUseBlock):
                parts.append(self._call(block, asked))
            elif isinstance(block, TextBlock):
                parts += spoken(block.text, f"{path}[{place}]", self._setting)
            else:
                parts += block_parts(block, f"{path}[{place}]", self._setting)
        self._contents.model(parts, asked)

    def _call(self, block: ToolUseBlock, asked: list[Asked]) -> Part:
        self._setting.effort.spend(0)
        signed, given = self._signed.of(block.id, arguments_of(block.input))
        call = FunctionCall(self._setting.names.wire(block.name), given, block.id)
        part = Part(function_call=call)
        sign(part, signed)
        asked.append(Asked(call, block.id, block.name))
        return part

    def _result(self, block: Answered, path: str) -> None:
        parts = parts_of(block.content, f"{path}.content", self._setting)
        texts = [part.text for part in parts if part.text is not None]
        media = [part for part in parts if part.text is None]
        self._contents.result(Result(block.call_id, None, lines(texts), media, block.failed))
