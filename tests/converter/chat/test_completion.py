"""The fold: what it keeps of an answer whose end does not come."""

from __future__ import annotations

import pytest

from gemproxy.converter.chat import completion
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.events import Event, Image, Logprobs, Text, Thought, TokenLogprob, ToolCall, TopToken
from gemproxy.errors import UpstreamFault

TEXT = "x" * 10_000
TOKENS = (TokenLogprob("a", -0.5, (TopToken("a", -0.5),) * 20),) * 2


@pytest.mark.parametrize(
    ("event", "times"),
    [
        pytest.param(Text(0, TEXT), 101, id="texts"),
        pytest.param(Thought(0, TEXT), 101, id="thoughts"),
        pytest.param(ToolCall(0, "i", "f", TEXT), 101, id="calls"),
        pytest.param(Image(0, "image/png", TEXT), 101, id="pictures"),
        pytest.param(Logprobs(0, TOKENS), 101, id="probabilities"),
        pytest.param(Text(0, ""), 16_000, id="empty texts"),
    ],
)
def test_an_answer_without_end_is_a_fault(event: Event, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_MOST_KEPT", 1_000_000)
    fold = ChatCompletionFold(Heading("i", 1, "m"))
    with pytest.raises(UpstreamFault, match="larger than 1000000 bytes"):
        for _ in range(times):
            fold.write(event)
