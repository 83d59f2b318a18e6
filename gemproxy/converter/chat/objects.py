"""Single events in OpenAI's words: what a stream and a whole answer say alike. Pure.

In: one event, and the heading of the answer where the words depend on it. Out: the Struct that stands in a delta or a
message. Must not: know what came before.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from gemproxy.converter import events, transcript
from gemproxy.converter.gemini.tools import input_of
from gemproxy.wire.openai_chat import (
    AnnotationOut,
    CompletionDetails,
    CustomOut,
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


class Heading(msgspec.Struct, frozen=True):
    """What every chunk of one answer, or the whole unary answer, says about it. ``created`` in Unix seconds."""

    id: str
    created: int
    model: str
    origin: str = ""  # "<dialect>/<model>": goes with signatures, so that they never cross upstreams
    include_usage: bool = False
    legacy_functions: bool = False  # the request used ``functions``: answer with ``function_call``
    custom: Container[str] = frozenset()  # names of custom tools


def extra(signature: str | None, origin: str) -> ExtraContent:
    """Return Google's carrier for a signature (docs/protocol.md 6.4), with our word on where it was made."""
    return ExtraContent(GoogleExtra(signature, origin or None))


def tool_call(event: events.ToolCall, heading: Heading) -> ToolCallOut:
    """Return the call; one of a custom tool gives back the text that its ``input`` holds."""
    if event.name in heading.custom:
        call = ToolCallOut(event.id, custom=CustomOut(event.name, input_of(event.arguments)), type="custom")
    else:
        call = ToolCallOut(event.id, FunctionOut(event.name, event.arguments))
    if event.signature is not None:
        call.extra_content = extra(event.signature, heading.origin)
    return call


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


def finish_reason(reason: str, heading: Heading) -> str:
    """Return OpenAI's reason in the words of the request: legacy functions end in ``function_call``."""
    return "function_call" if heading.legacy_functions and reason == "tool_calls" else reason


def usage_out(usage: transcript.Usage) -> Usage:
    """Return OpenAI's usage; the total is always the sum of the two (some of Google's own are not)."""
    return Usage(
        usage.prompt,
        usage.completion,
        usage.prompt + usage.completion,
        PromptDetails(usage.cached, usage.prompt_audio),
        CompletionDetails(usage.reasoning, usage.completion_audio),
    )
