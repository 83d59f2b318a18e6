"""Events -> one ``chat.completion`` object: the unary answer is the folded stream. Pure."""

from __future__ import annotations

import msgspec

from gemproxy.converter import events
from gemproxy.converter.chunks import (
    Envelope,
    annotation,
    extra,
    finish_reason,
    image,
    logprobs,
    tool_call,
    usage_out,
)
from gemproxy.wire.openai import (
    ChatCompletion,
    Choice,
    ChoiceLogprobs,
    ExtraContent,
    FunctionOut,
    MessageOut,
    TokenLogprob,
)


class _Fold:
    """One choice, as far as it was said."""

    __slots__ = ("annotations", "calls", "extra", "images", "logprobs", "reason", "refusal", "text", "thoughts")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[events.ToolCall] = []
        self.images: list[events.Image] = []
        self.annotations: list[events.Annotation] = []
        self.logprobs: list[TokenLogprob] = []
        self.refusal: str | None = None
        self.extra: ExtraContent | None = None
        self.reason = "stop"


class ChatCompletionFold:
    """Takes events, writes nothing until ``finish``, which returns the whole answer as JSON."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._choices: dict[int, _Fold] = {}
        self._usage = events.Usage()
        self._fingerprint: str | None = None

    def write(self, event: events.Event) -> bytes:
        """Take one event; nothing goes out before the answer is known to be whole."""
        match event:
            case events.Meta():
                self._fingerprint = event.model_version
            case events.Usage():
                self._usage = event
            case _:
                self._add(self._choices.setdefault(event.choice, _Fold()), event)
        return b""

    def finish(self) -> bytes:
        """Return the ``chat.completion`` object."""
        envelope = self._envelope
        choices = [self._choice(index, fold) for index, fold in sorted(self._choices.items())]
        answer = ChatCompletion(envelope.id, envelope.created, envelope.model, choices, usage_out(self._usage))
        if self._fingerprint:
            answer.system_fingerprint = self._fingerprint
        return msgspec.json.encode(answer)

    def _add(self, fold: _Fold, event: events.Event) -> None:
        match event:
            case events.Text():
                fold.text.append(event.text)
                if event.signature is not None:
                    fold.extra = extra(event.signature, self._envelope.origin)
            case events.Thought():
                fold.thoughts.append(event.text)
            case events.ToolCall():
                fold.calls.append(event)
            case events.Image():
                fold.images.append(event)
            case events.Annotation():
                fold.annotations.append(event)
            case events.Logprobs():
                fold.logprobs += logprobs(event)
            case events.Refusal():
                fold.refusal = event.text
            case events.Finish():
                fold.reason = finish_reason(event.reason, self._envelope)

    def _choice(self, index: int, fold: _Fold) -> Choice:
        text = "".join(fold.text)
        # null only where the calls are the whole answer (PROTOCOL 4.8): SDKs index into content otherwise
        message = MessageOut(None if fold.calls and not text else text, fold.refusal)
        if fold.thoughts:
            message.reasoning_content = "".join(fold.thoughts)
        if fold.calls and self._envelope.legacy_functions:
            message.function_call = FunctionOut(fold.calls[0].name, fold.calls[0].arguments)
        elif fold.calls:
            message.tool_calls = [tool_call(call, self._envelope) for call in fold.calls]
        if fold.images:
            message.images = [image(shown, place, self._envelope.origin) for place, shown in enumerate(fold.images)]
        if fold.annotations:
            message.annotations = [annotation(source) for source in fold.annotations]
        if fold.extra is not None:
            message.extra_content = fold.extra
        return Choice(index, message, fold.reason, ChoiceLogprobs(fold.logprobs) if fold.logprobs else None)
