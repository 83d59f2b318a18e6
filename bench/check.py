"""What must come out: every answer of every scenario is held against the script that the upstream played. Pure.

The floor must give the upstream's very bytes. Gemproxy must give OpenAI's form of them: all the text in order, one
finish, one id throughout, the usage, and ``[DONE]`` at the end of a stream and only there.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from bench import script as scripts
from bench.script import Script


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


_decode = msgspec.json.Decoder(_Object).decode


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
        _completion(script, _read(body))


CHECKS = {"upstream": forwarded, "floor": forwarded, "gemproxy": translated}


def _status(status: int, body: bytes) -> None:
    if status != 200:
        raise Wrong(f"status {status}: {body[:300].decode(errors='replace')}")


def _read(data: bytes) -> _Object:
    try:
        return _decode(data)
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
        chunk = _read(event[6:])
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


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what}: {str(found)[:80]!r} instead of {str(expected)[:80]!r}")
