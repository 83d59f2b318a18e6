"""How answers are written: SSE, JSON array, envelope, usage; and that a stream says what the unary answer says."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from tests.simulator.asking import FLASH, OLD_FLASH, declare, frames, google, parts, post, read, user

TEXTS = [
    "Hi",
    "a  b\n\nc ",
    "call f and g",
    "simulate: lines 5",
    "simulate: image",
    "simulate: safety",
    "simulate: say ",
]


def folded(found: list[Any]) -> str:
    return "".join(part.get("text", "") for frame in found for part in parts(frame) if not part.get("thought"))


@pytest.mark.parametrize("name", [FLASH, OLD_FLASH])
@pytest.mark.parametrize("text", TEXTS)
def test_stream_and_unary_say_the_same(text: str, name: str) -> None:
    body = {"contents": [user(text)], "tools": declare("f", "g")}
    unary = read(post(google(), body, name=name))
    stream = frames(post(google(), body, name=name, method="streamGenerateContent"))
    assert folded(stream) == folded([unary])
    assert stream[-1]["usageMetadata"] == unary["usageMetadata"]
    assert [frame["candidates"][0].get("finishReason") for frame in stream][-1] == unary["candidates"][0][
        "finishReason"
    ]
    calls = [part["functionCall"] for frame in stream for part in parts(frame) if "functionCall" in part]
    assert calls == [part["functionCall"] for part in parts(unary) if "functionCall" in part]


def test_sse_frames_end_with_crlf_and_nothing_says_done() -> None:
    answer = post(google(), {"contents": [user()]}, method="streamGenerateContent")
    data = b"".join(piece for piece in answer.body if isinstance(piece, bytes))
    assert answer.content_type == "text/event-stream"
    assert data.count(b"\r\n\r\n") == len(answer.body)
    assert data.endswith(b"}\r\n\r\n")
    assert b"[DONE]" not in data


def test_without_alt_sse_there_is_one_pretty_array() -> None:
    answer = post(google(), {"contents": [user()]}, method="streamGenerateContent", alt="")
    data = b"".join(piece for piece in answer.body if isinstance(piece, bytes))
    assert answer.content_type == "application/json; charset=UTF-8"
    assert data.startswith(b'[{\n  "candidates"')
    assert b"\n,\r\n{" in data
    assert len(msgspec.json.decode(data)) == len(answer.body) - 1


def test_usage_of_ai_studio_grows_from_frame_to_frame() -> None:
    stream = frames(post(google(), {"contents": [user()]}, method="streamGenerateContent"))
    totals = [frame["usageMetadata"]["totalTokenCount"] for frame in stream]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]
    last = stream[-1]["usageMetadata"]
    parts_of_it = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    assert last["totalTokenCount"] == sum(last[key] for key in parts_of_it)


def test_shown_thoughts_come_before_any_answer_token_is_counted() -> None:
    body = {"contents": [user()], "generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    first = frames(post(google(), body, method="streamGenerateContent"))[0]
    assert parts(first)[0]["thought"] is True
    assert "candidatesTokenCount" not in first["usageMetadata"]


@pytest.mark.parametrize("upstream", ["vertex", "code_assist"])
def test_vertex_flavour_counts_only_in_the_last_frame(upstream: str) -> None:
    stream = frames(post(google(), {"contents": [user()]}, upstream=upstream, method="streamGenerateContent"))
    inner = [frame.get("response", frame) for frame in stream]
    assert [frame["usageMetadata"] for frame in inner[:-1]] == [{"trafficType": "ON_DEMAND"}] * (len(inner) - 1)
    assert inner[-1]["usageMetadata"]["totalTokenCount"] > 0
    assert all("index" not in frame["candidates"][0] for frame in inner)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+Z", inner[0]["createTime"])


def test_code_assist_wraps_each_frame_with_one_trace_id() -> None:
    stream = frames(post(google(), {"contents": [user()]}, upstream="code_assist", method="streamGenerateContent"))
    assert {tuple(frame) for frame in stream} == {("response", "traceId")}
    (trace,) = {frame["traceId"] for frame in stream}
    assert re.fullmatch("[0-9a-f]{16}", trace)


def test_answers_have_ids_of_their_own() -> None:
    target = google()
    found = [frames(post(target, {"contents": [user()]}, method="streamGenerateContent")) for _ in range(2)]
    ids = [{frame["responseId"] for frame in stream} for stream in found]
    assert len(ids[0]) == len(ids[1]) == 1
    assert ids[0] != ids[1]


def test_alias_answers_under_its_true_name() -> None:
    assert read(post(google(), {"contents": [user()]}, name="gemini-flash-latest"))["modelVersion"] == FLASH
