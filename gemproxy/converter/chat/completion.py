"""Events -> one ``chat.completion`` object: the unary answer is the folded stream. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from gemproxy.converter import events
from gemproxy.converter.chat.objects import (
    Heading,
    annotation,
    extra,
    finish_reason,
    image,
    logprobs,
    tool_call,
    usage_out,
)
from gemproxy.converter.transcript import Usage
from gemproxy.errors import UpstreamFault
from gemproxy.wire.openai_chat import (
    ChatCompletion,
    Choice,
    ChoiceLogprobs,
    ExtraContent,
    FunctionOut,
    ImageOut,
    MessageOut,
    TokenLogprob,
)
from gemproxy.wire.text import joined

_MOST_KEPT = 128 << 20  # bytes: as much as one frame may have, however many frames an answer comes in
_EACH = 64  # bytes that an event costs beyond what it says
_TOKEN = 256  # bytes that a token costs with its probability


class _OfAChoice(Protocol):
    @property
    def choice(self) -> int: ...


class _Fold:
    """One choice, as far as it was said."""

    __slots__ = ("annotations", "calls", "extra", "images", "logprobs", "reason", "refusal", "text", "thoughts")

    def __init__(self) -> None:
        self.text: list[str | Raw] = []
        self.thoughts: list[str | Raw] = []
        self.calls: list[events.ToolCall] = []
        self.images: list[ImageOut] = []  # as they are written: to keep the base64 beside its URL is twice the memory
        self.annotations: list[events.Annotation] = []
        self.logprobs: list[TokenLogprob] = []
        self.refusal: str | None = None
        self.extra: ExtraContent | None = None
        self.reason = "stop"


class ChatCompletionFold:
    """Takes events, writes nothing until ``finish``, which returns the whole answer as JSON.

    ``kept`` counts the bytes of memory that wait here.
    """

    raw = True

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._choices: dict[int, _Fold] = {}
        self._usage = Usage()
        self._fingerprint: str | None = None
        self.kept = 0

    def write(self, event: events.Event) -> bytes:
        """Take one event; nothing goes out before the answer is known to be whole."""
        _TAKE[type(event)](self, event)
        return b""

    def finish(self) -> bytes:
        """Return the ``chat.completion`` object."""
        heading = self._heading
        choices = [self._choice(index, fold) for index, fold in sorted(self._choices.items())]
        answer = ChatCompletion(heading.id, heading.created, heading.model, choices, usage_out(self._usage))
        if self._fingerprint:
            answer.system_fingerprint = self._fingerprint
        return msgspec.json.encode(answer)

    def _fold(self, event: _OfAChoice, size: int = 0) -> _Fold:
        """Return what was said of the event's choice, which is about to grow by ``size`` bytes."""
        self.kept += size + _EACH
        if self.kept > _MOST_KEPT:
            raise UpstreamFault(f"The upstream's answer is larger than {_MOST_KEPT} bytes.")
        fold = self._choices.get(event.choice)
        if fold is None:
            fold = self._choices[event.choice] = _Fold()
        return fold

    def _text(self, event: events.Text) -> None:
        fold = self._fold(event, len(event.text))
        fold.text.append(event.text)
        if event.signature is not None:
            fold.extra = extra(event.signature, self._heading.origin)

    def _thought(self, event: events.Thought) -> None:
        self._fold(event, len(event.text)).thoughts.append(event.text)

    def _call(self, event: events.ToolCall) -> None:
        self._fold(event, len(event.arguments)).calls.append(event)

    def _image(self, event: events.Image) -> None:
        shown = self._fold(event, len(event.data)).images
        shown.append(image(event, len(shown), self._heading.origin))

    def _annotation(self, event: events.Annotation) -> None:
        self._fold(event).annotations.append(event)

    def _logprobs(self, event: events.Logprobs) -> None:
        tokens = sum(1 + len(token.top) for token in event.tokens)
        self._fold(event, _TOKEN * tokens).logprobs += logprobs(event)

    def _refusal(self, event: events.Refusal) -> None:
        self._fold(event).refusal = event.text

    def _finish(self, event: events.Finish) -> None:
        self._fold(event).reason = finish_reason(event.reason, self._heading)

    def _meta(self, event: events.Meta) -> None:
        self._fingerprint = event.model_version

    def _count(self, event: Usage) -> None:
        self._usage = event

    def _choice(self, index: int, fold: _Fold) -> Choice:
        text = joined(fold.text)
        # null only where the calls are the whole answer (docs/protocol.md 4.8): SDKs index into content otherwise
        message = MessageOut(None if fold.calls and not text else text, fold.refusal)
        if fold.thoughts:
            message.reasoning_content = joined(fold.thoughts)
        if fold.calls and self._heading.legacy_functions:
            message.function_call = FunctionOut(fold.calls[0].name, fold.calls[0].arguments)
        elif fold.calls:
            message.tool_calls = [tool_call(call, self._heading) for call in fold.calls]
        if fold.images:
            message.images = fold.images
        if fold.annotations:
            message.annotations = [annotation(source) for source in fold.annotations]
        if fold.extra is not None:
            message.extra_content = fold.extra
        return Choice(index, message, fold.reason, ChoiceLogprobs(fold.logprobs) if fold.logprobs else None)


_TAKE: dict[type, Callable[[ChatCompletionFold, Any], None]] = {
    events.Text: ChatCompletionFold._text,
    events.Thought: ChatCompletionFold._thought,
    events.ToolCall: ChatCompletionFold._call,
    events.Image: ChatCompletionFold._image,
    events.Annotation: ChatCompletionFold._annotation,
    events.Logprobs: ChatCompletionFold._logprobs,
    events.Refusal: ChatCompletionFold._refusal,
    events.Finish: ChatCompletionFold._finish,
    events.Meta: ChatCompletionFold._meta,
    Usage: ChatCompletionFold._count,
}
