"""Single events in Responses' words: what a stream and a whole answer say alike. Pure."""

from __future__ import annotations

from msgspec import UNSET

from gemproxy.converter import events, transcript
from gemproxy.converter.gemini.tools import input_of
from gemproxy.converter.responses.heading import Heading
from gemproxy.wire.openai_chat import TokenLogprob, TopLogprob
from gemproxy.wire.openai_responses import (
    CustomCallOut,
    FunctionCallOut,
    InputDetails,
    OutputDetails,
    UrlCitationOut,
    UsageOut,
)


def call_item(event: events.ToolCall, item_id: str, heading: Heading) -> FunctionCallOut | CustomCallOut:
    """Return the item of a call, under the name and in the namespace in which the client offered the tool."""
    name, namespace = heading.spaces.get(event.name, (event.name, None))
    if event.name in heading.custom:
        return CustomCallOut(item_id, event.id, name, input_of(event.arguments), namespace or UNSET)
    return FunctionCallOut(item_id, event.id, name, event.arguments, "completed", namespace or UNSET)


def annotation(event: events.Annotation) -> UrlCitationOut:
    """Return the source of a stretch of text."""
    return UrlCitationOut(event.start, event.end, event.url, event.title)


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


def usage_out(usage: transcript.Usage) -> UsageOut:
    """Return OpenAI's usage; the total is always the sum of the two (some of Google's own are not)."""
    return UsageOut(
        usage.prompt,
        InputDetails(usage.cached),
        usage.completion,
        OutputDetails(usage.reasoning),
        usage.prompt + usage.completion,
    )
