"""Events -> OpenAI's stream: the bytes of ``chat.completion.chunk`` events. Pure.

``write`` takes one event and returns what the client must see of it now (often nothing); ``finish`` returns the usage
chunk, if asked for, and ``[DONE]``. Order and form: PROTOCOL 4.8.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import msgspec

from gemproxy.converter import events
from gemproxy.converter.sse import DONE
from gemproxy.wire.openai import (
    AnnotationOut,
    ChatChunk,
    ChoiceLogprobs,
    CompletionDetails,
    CustomOut,
    Delta,
    ExtraContent,
    FunctionOut,
    GoogleExtra,
    ImageOut,
    ImageUrl,
    PromptDetails,
    TokenLogprob,
    ToolCallOut,
    TopLogprob,
    UrlCitation,
    Usage,
)

_json = msgspec.json.encode


class Envelope(msgspec.Struct, frozen=True):
    """What every chunk of one answer, or the whole unary answer, says about it. ``created`` in Unix seconds."""

    id: str
    created: int
    model: str
    origin: str = ""  # "<dialect>/<model>": goes with signatures, so that they never cross upstreams
    include_usage: bool = False
    legacy_functions: bool = False  # the request used ``functions``: answer with ``function_call``
    custom: Container[str] = frozenset()  # names of custom tools


class ChatChunkWriter:
    """Writes one answer as a stream; one instance an attempt."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._head = b""
        self._tail = b',"usage":null}\n\n' if envelope.include_usage else b"}\n\n"
        self._text_end = b'},"logprobs":null,"finish_reason":null}]' + self._tail
        self._begun: dict[int, bytes] = {}  # choices whose role was told, and how their text chunks begin
        self._calls: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self._usage: events.Usage | None = None
        self._open(None)

    def write(self, event: events.Event) -> bytes:
        """Return the chunks that tell this event; b"" if it only counts later."""
        kind = type(event)
        if kind is events.Text and event.signature is None:  # type: ignore[union-attr]
            return self._text(event.choice, event.text)  # type: ignore[union-attr]
        return _WRITE[kind](self, event)

    def finish(self) -> bytes:
        """Return the end of a stream that ended well; the usage comes last, with no choices."""
        if not self._envelope.include_usage:
            return DONE
        usage = usage_out(self._usage or events.Usage())
        envelope = self._envelope
        return (
            b"data: "
            + _json(ChatChunk(envelope.id, envelope.created, envelope.model, [], usage=usage))
            + b"\n\n"
            + DONE
        )

    # ---------------------------------------------------------------------------------------------------- pieces

    def _open(self, fingerprint: str | None) -> None:
        envelope = self._envelope
        chunk = ChatChunk(envelope.id, envelope.created, envelope.model, [])
        if fingerprint:
            chunk.system_fingerprint = fingerprint
        fields = _json(chunk).replace(b'"choices":[],', b"", 1)
        # everything before the delta is the same in every chunk of a choice: encoded once
        self._head = b"data: " + fields[:-1].replace(b"%", b"%%") + b',"choices":[{"index":%d,"delta":'
        self._begun = {choice: self._head % choice + b'{"content":' for choice in self._begun}

    def _chunk(self, choice: int, delta: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        ending = b',"logprobs":' + logprobs + b',"finish_reason":' + finish + b"}]" + self._tail
        return self._role(choice) + self._head % choice + delta + ending

    def _role(self, choice: int) -> bytes:
        if choice in self._begun:
            return b""
        self._begun[choice] = self._head % choice + b'{"content":'
        return self._chunk(choice, b'{"role":"assistant","content":""}')

    def _text(self, choice: int, text: str) -> bytes:
        begin = self._begun.get(choice)
        if begin is None:
            return self._chunk(choice, b'{"content":' + _json(text) + b"}")
        # the common chunk, from a template: one encode of the text instead of four Structs
        return begin + _json(text) + self._text_end

    def _delta(self, choice: int, delta: Delta) -> bytes:
        return self._chunk(choice, _json(delta))

    # ---------------------------------------------------------------------------------------------------- events

    def _signed_text(self, event: events.Text) -> bytes:
        delta = Delta(extra_content=extra(event.signature, self._envelope.origin))
        if event.text:
            delta.content = event.text
        return self._delta(event.choice, delta)

    def _thought(self, event: events.Thought) -> bytes:
        return self._chunk(event.choice, b'{"reasoning_content":' + _json(event.text) + b"}")

    def _call(self, event: events.ToolCall) -> bytes:
        place = self._calls.get(event.choice, 0)  # counts over the whole reply, not per frame
        self._calls[event.choice] = place + 1
        if self._envelope.legacy_functions:
            return self._legacy_call(event) if place == 0 else b""
        call = tool_call(event, self._envelope)
        call.index = place
        return self._delta(event.choice, Delta(tool_calls=[call]))

    def _legacy_call(self, event: events.ToolCall) -> bytes:
        # the old form has room for one call; the model asks for the others again once it has this result
        return self._delta(event.choice, Delta(function_call=FunctionOut(event.name, event.arguments)))

    def _image(self, event: events.Image) -> bytes:
        place = self._images.get(event.choice, 0)
        self._images[event.choice] = place + 1
        return self._delta(event.choice, Delta(images=[image(event, place, self._envelope.origin)]))

    def _annotation(self, event: events.Annotation) -> bytes:
        return self._delta(event.choice, Delta(annotations=[annotation(event)]))

    def _logprobs(self, event: events.Logprobs) -> bytes:
        return self._chunk(event.choice, b"{}", logprobs=_json(ChoiceLogprobs(logprobs(event))))

    def _refusal(self, event: events.Refusal) -> bytes:
        return self._delta(event.choice, Delta(refusal=event.text))

    def _meta(self, event: events.Meta) -> bytes:
        self._open(event.model_version)
        return b""

    def _count(self, event: events.Usage) -> bytes:
        self._usage = event
        return b""

    def _finish(self, event: events.Finish) -> bytes:
        reason = finish_reason(event.reason, self._envelope)
        return self._chunk(event.choice, b"{}", finish=_json(reason))


_WRITE: dict[type, Callable[[ChatChunkWriter, Any], bytes]] = {
    events.Text: ChatChunkWriter._signed_text,
    events.Thought: ChatChunkWriter._thought,
    events.ToolCall: ChatChunkWriter._call,
    events.Image: ChatChunkWriter._image,
    events.Annotation: ChatChunkWriter._annotation,
    events.Logprobs: ChatChunkWriter._logprobs,
    events.Refusal: ChatChunkWriter._refusal,
    events.Meta: ChatChunkWriter._meta,
    events.Usage: ChatChunkWriter._count,
    events.Finish: ChatChunkWriter._finish,
}

# ------------------------------------------------------------------------ one event in OpenAI's words, both modes


def extra(signature: str | None, origin: str) -> ExtraContent:
    """Return Google's carrier for a signature (PROTOCOL 6.4), with our word on where it was made."""
    return ExtraContent(GoogleExtra(signature, origin or None))


def tool_call(event: events.ToolCall, envelope: Envelope) -> ToolCallOut:
    """Return the call; one of a custom tool gives back the text that its ``input`` holds."""
    if event.name in envelope.custom:
        call = ToolCallOut(event.id, custom=CustomOut(event.name, _custom_input(event.arguments)), type="custom")
    else:
        call = ToolCallOut(event.id, FunctionOut(event.name, event.arguments))
    if event.signature is not None:
        call.extra_content = extra(event.signature, envelope.origin)
    return call


def _custom_input(arguments: str) -> str:
    # a custom tool was declared as a function with one string, ``input``; what else the model made of it stays JSON
    found = msgspec.json.decode(arguments)
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments


def image(event: events.Image, place: int, origin: str) -> ImageOut:
    """Return inline media as a data URL, the form in which clients send it back."""
    shown = ImageOut(ImageUrl(f"data:{event.mime};base64,{event.data}"), index=place)
    if event.signature is not None:
        shown.extra_content = extra(event.signature, origin)
    return shown


def annotation(event: events.Annotation) -> AnnotationOut:
    """Return the source of a stretch of text as OpenAI's ``url_citation``."""
    return AnnotationOut(UrlCitation(event.start, event.end, event.url, event.title))


def logprobs(event: events.Logprobs) -> list[TokenLogprob]:
    """Return the tokens with their UTF-8 bytes."""
    return [
        TokenLogprob(
            token.token,
            list(token.token.encode()),
            token.logprob,
            [TopLogprob(top.token, list(top.token.encode()), top.logprob) for top in token.top],
        )
        for token in event.tokens
    ]


def finish_reason(reason: str, envelope: Envelope) -> str:
    """Return OpenAI's reason in the words of the request: legacy functions end in ``function_call``."""
    return "function_call" if envelope.legacy_functions and reason == "tool_calls" else reason


def usage_out(usage: events.Usage) -> Usage:
    """Return OpenAI's usage; the total is always the sum of the two (some of Google's own are not)."""
    return Usage(
        usage.prompt,
        usage.completion,
        usage.prompt + usage.completion,
        PromptDetails(usage.cached, usage.prompt_audio),
        CompletionDetails(usage.reasoning, usage.completion_audio),
    )
