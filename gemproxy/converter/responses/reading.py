"""The bytes of a Responses request -> ``ResponsesRequest`` and its items. Pure.

In: a body. Out: the request and its items, or ``ClientFault`` (400) naming the field in ``param``. A body is read in
short steps (``converter.steps``): its outline, then item by item; long texts stay as they are. How many things it may
hold is settled before any of them becomes an object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.bounds import Bounds
from gemproxy.converter.responses.items import (
    Answered,
    Called,
    Compact,
    Compacted,
    Content,
    Drawn,
    Item,
    Offered,
    Referred,
    Said,
    Thought,
    path_of,
)
from gemproxy.converter.responses.tool_names import declared_name
from gemproxy.converter.steps import Kind, Reader, bound
from gemproxy.errors import ClientFault
from gemproxy.load import weigh
from gemproxy.load.turns import go_on
from gemproxy.wire import UNREADABLE
from gemproxy.wire.openai_responses import (
    InputImage,
    InputPart,
    InputText,
    ItemHead,
    LargePart,
    Outline,
    ResponsesRequest,
    SentCall,
    SentCallOutput,
    SentClientCall,
    SentClientOutput,
    SentCompaction,
    SentCustomCall,
    SentImageCall,
    SentMessage,
    SentReasoning,
    SentReference,
    SentScreenshot,
    SentText,
    SentTools,
    TextPart,
)
from gemproxy.wire.text import LONG_TEXT, is_long, quoted

ROLES: Final = ("user", "assistant", "system", "developer")
_LISTS: Final = ("input", "tools", "instructions")
_QUOTE, _BRACKET, _BRACE, _NULL = b'"[{n'
# Items of tools that run elsewhere, and what only other services understand: a conversation that holds them goes on.
LEFT_OUT: Final = frozenset(
    "web_search_call file_search_call code_interpreter_call mcp_list_tools mcp_approval_request mcp_approval_response"
    " mcp_call tool_search_call tool_search_output program program_output agent_message multi_agent_call"
    " multi_agent_call_output".split()
)
_reader: Final = Reader(
    {
        "type": "input_text, input_image, input_file, input_audio, output_text or refusal",
    }
)
_request = msgspec.json.Decoder(ResponsesRequest).decode
_outline: Callable[[bytes], Any] = msgspec.json.Decoder(Outline).decode
_heads = msgspec.json.Decoder(list[ItemHead]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_text = msgspec.json.Decoder(str | None).decode
_parts = msgspec.json.Decoder(list[InputPart]).decode
_arguments = msgspec.json.Decoder(str | dict[str, Any] | None).decode
_texts = msgspec.json.Decoder(list[SentText]).decode
_message = msgspec.json.Decoder(SentMessage).decode
_call = msgspec.json.Decoder(SentCall).decode
_custom_call = msgspec.json.Decoder(SentCustomCall).decode
_output = msgspec.json.Decoder(SentCallOutput).decode
_client_call = msgspec.json.Decoder(SentClientCall).decode
_client_output = msgspec.json.Decoder(SentClientOutput).decode
_screenshot = msgspec.json.Decoder(SentScreenshot).decode
_image_call = msgspec.json.Decoder(SentImageCall).decode
_reasoning = msgspec.json.Decoder(SentReasoning).decode
_reference = msgspec.json.Decoder(SentReference).decode
_tools = msgspec.json.Decoder(SentTools).decode
_compaction = msgspec.json.Decoder(SentCompaction).decode
_PARTS: Final = Kind(InputPart, LargePart)


class Asking(Struct, frozen=True):
    """A request that was read, and what it says; ``input`` is a part of its body, and keeps all of that."""

    request: ResponsesRequest
    items: Sequence[Item]
    instructions: str | Raw | None
    input: Raw


def decode(body: bytes, bounds: Bounds) -> Asking:
    """Return the request; raises ``ClientFault`` (400) naming the field in ``param``, or with code ``invalid_json``."""
    request, lists = _reader.request(body, _request, _outline, _LISTS)
    return Asking(request, _input(lists.input, bounds), _one_text("instructions", lists.instructions), lists.input)


def raws_of(sent: Raw) -> list[Raw]:
    """Return the items of an ``input`` as they came; a text is a message."""
    first = memoryview(sent)[0] if len(sent) else _NULL
    if first == _QUOTE:
        return [Raw(b'{"type":"message","role":"user","content":%b}' % bytes(sent))]
    return _raws(sent) if first == _BRACKET else []


def items_of(raws: Sequence[Raw], bounds: Bounds, *, kept: bool = False) -> list[Item]:
    """Return items; ``kept``: they stand in an earlier response, so that no path leads there."""
    heads = [msgspec.json.decode(raw, type=ItemHead) for raw in raws]
    return _Items(bounds).read(heads, raws, kept=kept)


def _input(raw: Raw, bounds: Bounds) -> list[Item]:
    first = memoryview(raw)[0] if len(raw) else _NULL
    if first == _NULL:
        return []
    if first == _QUOTE:
        return [Said(None, "user", _one_text("input", raw) or "")]
    if first != _BRACKET:
        raise ClientFault("input must be a text or a list of items.", param="input")
    if len(raw) < LONG_TEXT and (texts := _only_texts(raw)) is not None:
        bound("input", "messages", len(texts), bounds.messages)
        return texts
    heads = _reader.at("input", _heads, raw)
    bound("input", "messages", len(heads), bounds.messages)
    return _Items(bounds).read(heads, _reader.at("input", _raws, raw))


def _only_texts(raw: Raw) -> list[Item] | None:
    """Return items that are texts, every one: a short request often is, and this takes a third of the time."""
    try:
        return [Said(place, said.role, said.content) for place, said in enumerate(_texts(raw))]
    except UNREADABLE:  # why, and where, is told by who reads item by item
        return None


def _one_text(path: str, raw: Raw) -> str | Raw | None:
    return raw if is_long(raw) else _reader.at(path, _text, raw) if len(raw) else None


class _Items:
    """Reads items, and counts what all of them hold together."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._parts = 0
        self._calls = 0

    def read(self, heads: Sequence[ItemHead], raws: Sequence[Raw], *, kept: bool = False) -> list[Item]:
        found: list[Item] = []
        size = 0
        for place, (head, raw) in enumerate(zip(heads, raws, strict=True)):
            size += len(raw)
            if size > weigh.SMALL_SIZE:
                go_on()
                size = 0
            item = self._item(None if kept else place, head, raw)
            if item is not None:
                found.append(item)
        return found

    def _item(self, place: int | None, head: ItemHead, raw: Raw) -> Item | None:
        kind = head.type or ("message" if head.role is not None else "")
        read = _KINDS.get(kind)
        if read is not None:
            return read(self, place, raw)
        if kind in LEFT_OUT:
            return None
        raise ClientFault(
            f"{path_of(place)}.type is not that of an item that is taken here.",
            param=f"{path_of(place)}.type",
            code="unsupported_value",
        )

    def _message(self, place: int | None, raw: Raw) -> Item:
        path = path_of(place)
        message = _reader.at(path, _message, raw)
        if message.role not in ROLES:
            raise ClientFault(
                f"{path}.role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}.",
                param=f"{path}.role",
                code="unsupported_value",
            )
        return Said(place, message.role, self._content(f"{path}.content", message.content))

    def _call(self, place: int | None, raw: Raw) -> Item:
        path = path_of(place)
        call = _reader.at(path, _call, raw)
        self._count_call(path)
        sent = call.arguments
        kept = len(sent) >= LONG_TEXT and memoryview(sent)[0] in b'"{'
        arguments = sent if kept else _reader.at(f"{path}.arguments", _arguments, sent)
        return Called(place, call.call_id, declared_name(call.name, call.namespace), arguments)

    def _custom_call(self, place: int | None, raw: Raw) -> Item:
        path = path_of(place)
        call = _reader.at(path, _custom_call, raw)
        self._count_call(path)
        name = declared_name(call.name, call.namespace)
        return Called(place, call.call_id, name, _one_text(f"{path}.input", call.input), custom=True)

    def _count_call(self, path: str) -> None:
        self._calls += 1
        bound(path, "calls", self._calls, self._bounds.calls)

    def _output(self, place: int | None, raw: Raw) -> Item:
        path = path_of(place)
        output = _reader.at(path, _output, raw)
        name = declared_name(output.name, output.namespace) if output.name else None
        return Answered(place, output.call_id or "", self._content(f"{path}.output", output.output), name)

    def _client_call(self, place: int | None, raw: Raw, tool: str, field: str) -> Item:
        """Read a call of a tool that OpenAI defines: as one of a function, since Gemini knows none of them."""
        path = path_of(place)
        call = _reader.at(path, _client_call, raw)
        self._count_call(path)
        arguments: Raw = getattr(call, field)
        if memoryview(arguments)[0] == _NULL and memoryview(call.actions)[0] == _BRACKET:
            arguments = Raw(b'{"actions":%b}' % bytes(call.actions))
        if memoryview(arguments)[0] != _BRACE:
            raise ClientFault(f"{path}.{field} must be an object.", param=f"{path}.{field}")
        return Called(place, call.call_id, tool, arguments)

    def _client_output(self, place: int | None, raw: Raw, tool: str) -> Item:
        path = path_of(place)
        output = _reader.at(path, _client_output, raw)
        content = _CLIENT_OUTPUTS[tool](f"{path}.output", output)
        return Answered(place, output.call_id or output.id or "", content, tool, alone=True)

    def _drawn(self, place: int | None, raw: Raw) -> Item | None:
        data = _reader.at(path_of(place), _image_call, raw).result
        return Drawn(place, data) if data else None

    def _reasoning(self, place: int | None, raw: Raw) -> Item | None:
        sealed = _reader.at(path_of(place), _reasoning, raw).encrypted_content
        return Thought(place, sealed) if sealed else None

    def _reference(self, place: int | None, raw: Raw) -> Item:
        return Referred(place, _reader.at(path_of(place), _reference, raw).id)

    def _tools(self, place: int | None, raw: Raw) -> Item:
        path = path_of(place)
        return Offered(place, _reader.items(f"{path}.tools", _reader.at(path, _tools, raw).tools))

    def _compaction(self, place: int | None, raw: Raw) -> Item | None:
        sealed = _reader.at(path_of(place), _compaction, raw).encrypted_content
        return Compacted(place, sealed) if sealed else None

    def _trigger(self, place: int | None, raw: Raw) -> Item:
        return Compact(place)

    def _content(self, path: str, raw: Raw) -> Content:
        if not len(raw) or memoryview(raw)[0] != _BRACKET:
            return _one_text(path, raw) or ""
        if len(raw) <= weigh.SMALL_SIZE:
            found = _reader.at(path, _parts, raw)
        else:
            found = _reader.each(path, _reader.bounded(path, raw, "parts", self._bounds.parts), _PARTS, _part)
        self._parts += len(found)
        bound(path, "parts", self._parts, self._bounds.parts)
        return found


def _part(path: str, part: Any) -> Any:
    if isinstance(part, TextPart):
        _reader.settle_text(path, part, "text")
    return part


def _told(path: str, output: SentClientOutput) -> Content:
    """Return what the client says, and that it failed, which the text need not tell."""
    said = _one_text(path, output.output)
    if output.status == "failed":
        return [InputText("failed"), InputText(said)]
    return said or output.status or ""


def _chunks(path: str, output: SentClientOutput) -> Content:
    """Return what a shell wrote, with the way in which each command ended, as the JSON it came as."""
    chunks = output.output
    return _reader.at(path, quoted, chunks) if memoryview(chunks)[0] == _BRACKET else _one_text(path, chunks) or ""


def _seen(path: str, output: SentClientOutput) -> Content:
    shot = _reader.at(path, _screenshot, output.output)
    return [InputImage(shot.image_url, shot.file_id)]


_CLIENT_OUTPUTS: Final[dict[str, Callable[[str, SentClientOutput], Content]]] = {
    "local_shell": _told,
    "shell": _chunks,
    "apply_patch": _told,
    "computer": _seen,
}
_KINDS: Final[dict[str, Callable[[_Items, int | None, Raw], Item | None]]] = {
    "message": _Items._message,
    "function_call": _Items._call,
    "custom_tool_call": _Items._custom_call,
    "function_call_output": _Items._output,
    "custom_tool_call_output": _Items._output,
    "local_shell_call": partial(_Items._client_call, tool="local_shell", field="action"),
    "local_shell_call_output": partial(_Items._client_output, tool="local_shell"),
    "shell_call": partial(_Items._client_call, tool="shell", field="action"),
    "shell_call_output": partial(_Items._client_output, tool="shell"),
    "apply_patch_call": partial(_Items._client_call, tool="apply_patch", field="operation"),
    "apply_patch_call_output": partial(_Items._client_output, tool="apply_patch"),
    "computer_call": partial(_Items._client_call, tool="computer", field="action"),
    "computer_call_output": partial(_Items._client_output, tool="computer"),
    "image_generation_call": _Items._drawn,
    "reasoning": _Items._reasoning,
    "item_reference": _Items._reference,
    "additional_tools": _Items._tools,
    "compaction": _Items._compaction,
    "compaction_trigger": _Items._trigger,
}
