"""What must come out: every answer of every scenario is held against the script that the upstream played. Pure.

The floor must give the upstream's very bytes. Gemproxy must give OpenAI's form of them: all the text in order, one
finish, one id throughout, the usage, and ``[DONE]`` at the end of a stream and only there. Of Responses: every event in
its place, numbered, and all the text three times. Of Messages: every event in its place, and the usage at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from bench import script as scripts
from bench.script import Script

T = TypeVar("T")


class Wrong(Exception):  # noqa: N818 - a finding, not a failure of the benchmark
    """An answer is not what it must be; the sentence says how."""


class _Message(Struct):
    content: str | None = None
    role: str | None = None


class _Choice(Struct):
    index: int
    finish_reason: str | None
    message: _Message | None = None
    delta: _Message | None = None


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Object(Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: _Usage | None = None


class _Part(Struct):
    text: str


class _Item(Struct):
    type: str
    content: list[_Part] = []


class _Counts(Struct):
    input_tokens: int


class _Response(Struct):
    id: str
    object: str
    status: str
    model: str
    output: list[_Item]
    usage: _Counts | None = None


class _Tokens(Struct):
    input_tokens: int
    output_tokens: int


class _Told(Struct):
    type: str
    model: str
    content: list[_Part]
    usage: _Tokens
    stop_reason: str | None


class _Delta(Struct):
    text: str = ""
    stop_reason: str | None = None


class _Step(Struct):
    type: str
    index: int = 0
    message: _Told | None = None
    delta: _Delta | None = None
    usage: _Tokens | None = None


class _Event(Struct):
    type: str
    sequence_number: int
    delta: str = ""
    text: str | None = None
    response: _Response | None = None


_decode = msgspec.json.Decoder(_Object).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_told = msgspec.json.Decoder(_Told).decode
_decode_step = msgspec.json.Decoder(_Step).decode


def forwarded(script: Script, status: int, body: bytes) -> None:
    """Hold the floor's (or the upstream's own) answer against the script; raises ``Wrong``."""
    _status(status, body)
    expected = scripts.body(script)
    if body != expected:
        raise Wrong(f"{len(body)} bytes that differ from the upstream's {len(expected)}")


def translated(script: Script, status: int, body: bytes) -> None:
    """Hold gemproxy's answer against the script; raises ``Wrong``."""
    _status(status, body)
    if script.frames:
        _stream(script, body)
    else:
        _completion(script, _read(body, _decode))


def responded(script: Script, status: int, body: bytes) -> None:
    """Hold gemproxy's answer in the words of Responses against the script; raises ``Wrong``."""
    _status(status, body)
    if script.frames:
        _events(script, body)
    else:
        _response(script, _read(body, _decode_response))


def told(script: Script, status: int, body: bytes) -> None:
    """Hold gemproxy's answer in the words of Messages against the script; raises ``Wrong``."""
    _status(status, body)
    if script.frames:
        _steps(script, body)
    else:
        _told(script, _read(body, _decode_told))


TRANSLATED = {"chat": translated, "responses": responded, "messages": told}


def _status(status: int, body: bytes) -> None:
    if status != 200:
        raise Wrong(f"status {status}: {body[:300].decode(errors='replace')}")


def _read(data: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Wrong(f"not OpenAI's form: {data[:300].decode(errors='replace')}") from None


def _completion(script: Script, answer: _Object) -> None:
    message = answer.choices[0].message if len(answer.choices) == 1 else None
    _same("object", answer.object, "chat.completion")
    _same("model", answer.model, script.model)
    _same("text", message.content if message is not None else None, scripts.said(script))
    _same("finish", answer.choices[0].finish_reason, "stop")
    _same("prompt tokens", answer.usage.prompt_tokens if answer.usage is not None else 0, scripts.PROMPT_TOKENS)


def _stream(script: Script, body: bytes) -> None:
    if not body.endswith(b"data: [DONE]\n\n"):
        raise Wrong(f"the stream does not end in [DONE] but in {body[-60:]!r}")
    events = [event for event in body[:-2].split(b"\n\n")[:-1] if not event.startswith(b":")]
    text: list[str] = []
    finishes: list[str] = []
    ids = set()
    for event in events:
        if not event.startswith(b"data: "):
            raise Wrong(f"an event without data: {event[:60]!r}")
        chunk = _read(event[6:], _decode)
        ids.add((chunk.id, chunk.created, chunk.object, chunk.model))
        for choice in chunk.choices:
            if finishes:
                raise Wrong("a chunk follows the finish")
            if choice.delta is not None and choice.delta.content:
                text.append(choice.delta.content)
            if choice.finish_reason is not None:
                finishes.append(choice.finish_reason)
    _same("finishes", finishes, ["stop"])
    _same("text", "".join(text), scripts.said(script))
    _same("chunks with text", len(text), script.frames)
    if len(ids) != 1 or next(iter(ids))[2:] != ("chat.completion.chunk", script.model):
        raise Wrong(f"chunks differ in id, created, object or model: {sorted(ids)[:2]}")


def _response(script: Script, answer: _Response) -> None:
    _same("object", answer.object, "response")
    _same("status", answer.status, "completed")
    _same("model", answer.model, script.model)
    _same("items", [item.type for item in answer.output], ["message"])
    _same("text", "".join(part.text for part in answer.output[0].content), scripts.said(script))
    _same("prompt tokens", answer.usage.input_tokens if answer.usage is not None else 0, scripts.PROMPT_TOKENS)


def _events(script: Script, body: bytes) -> None:
    events = [_event(event) for event in body.split(b"\n\n") if event and not event.startswith(b":")]
    _same("numbers", [event.sequence_number for event in events], list(range(len(events))))
    kinds = [event.type.removeprefix("response.") for event in events]
    _same("kinds", kinds, [*_FIRST, *["output_text.delta"] * script.frames, *_LAST])
    _same("text", "".join(event.delta for event in events), scripts.said(script))
    _same("text at its end", events[-4].text, scripts.said(script))
    whole = [event.response for event in events if event.response is not None]
    _response(script, whole[-1])
    _same("ids", {response.id for response in whole}, {whole[0].id})


def _told(script: Script, answer: _Told) -> None:
    _same("type", answer.type, "message")
    _same("stop reason", answer.stop_reason, "end_turn")
    _same("model", answer.model, script.model)
    _same("text", "".join(part.text for part in answer.content), scripts.said(script))
    _same("prompt tokens", answer.usage.input_tokens, scripts.PROMPT_TOKENS)


def _steps(script: Script, body: bytes) -> None:
    steps = [_step(event) for event in body.split(b"\n\n") if event and not event.startswith(b"event: ping")]
    kinds = ["message_start", "content_block_start", *["content_block_delta"] * script.frames, "content_block_stop"]
    _same("kinds", [step.type for step in steps], [*kinds, "message_delta", "message_stop"])
    _same("text", "".join(step.delta.text for step in steps if step.delta is not None), scripts.said(script))
    _same("indices", {step.index for step in steps}, {0})
    first, last = steps[0].message, steps[-2]
    _same("model", first.model if first is not None else None, script.model)
    _same("stop reason", last.delta.stop_reason if last.delta is not None else None, "end_turn")
    _same("prompt tokens", last.usage.input_tokens if last.usage is not None else 0, scripts.PROMPT_TOKENS)


def _step(event: bytes) -> _Step:
    name, _, data = event.partition(b"\ndata: ")
    found = _read(data, _decode_step)
    _same("the name of an event", name, b"event: " + found.type.encode())
    return found


_FIRST = ("created", "in_progress", "output_item.added", "content_part.added")
_LAST = ("output_text.done", "content_part.done", "output_item.done", "completed")


def _event(event: bytes) -> _Event:
    name, _, data = event.partition(b"\ndata: ")
    found = _read(data, _decode_event)
    _same("the name of an event", name, b"event: " + found.type.encode())
    return found


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what}: {str(found)[:80]!r} instead of {str(expected)[:80]!r}")
