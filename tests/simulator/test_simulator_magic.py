"""Failures by word: each of them from the text of a request to the answer."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.simulator import Answer, CutOff, Pause, Reset, magic
from tests.simulator.asking import OLD_FLASH, frames, google, parts, post, read, refused, user

STREAM = "streamGenerateContent"


def said(text: str, method: str = STREAM, **how: Any) -> Answer:
    return post(google(), {"contents": [user(text)]}, method=method, **how)


@pytest.mark.parametrize(
    ("word", "status", "words"),
    [
        ("overloaded", 503, "The model is overloaded."),
        ("quota", 429, "Please retry in 41.2s."),
        ("quota-day", 429, "limit: 20, model: gemini-3.8-flash"),
        ("internal", 500, "An internal error has occurred."),
        ("capacity", 503, "No capacity available for model gemini-3.8-flash"),
    ],
)
@pytest.mark.parametrize("method", [STREAM, "generateContent"])
def test_word_is_refused(word: str, status: int, words: str, method: str) -> None:
    found, message = refused(said(f"simulate: {word}", method))
    assert found == status
    assert words in message


@pytest.mark.parametrize(
    ("words", "statuses"), [("overloaded 2", [503, 503, 200]), ("overloaded 0", [200] * 3), ("overloaded", [503] * 3)]
)
def test_number_limits_how_often_a_text_is_refused(words: str, statuses: list[int]) -> None:
    target = google()
    body = {"contents": [user(f"simulate: {words}")]}
    assert [post(target, body).status for _ in range(3)] == statuses


def test_texts_that_were_refused_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magic, "_REMEMBERED", 3)
    target = google()
    for number in range(10):
        assert post(target, {"contents": [user(f"simulate: overloaded 1 {number}")]}).status == 503
        assert post(target, {"contents": [user(f"simulate: overloaded, {number}")]}).status == 503
    assert len(target._refusals) <= 3


@pytest.mark.parametrize(
    ("word", "finish", "content"),
    [
        ("safety", "SAFETY", False),
        ("recitation", "RECITATION", False),
        ("malformed", "MALFORMED_FUNCTION_CALL", False),
        ("unexpected", "UNEXPECTED_TOOL_CALL", True),
        ("empty", "STOP", True),
    ],
)
def test_word_ends_the_answer_with_its_reason(word: str, finish: str, content: bool) -> None:
    last = frames(said(f"simulate: {word}"))[-1]["candidates"][0]
    assert last["finishReason"] == finish
    assert ("content" in last) == content


def test_empty_answer_has_no_part() -> None:
    (frame,) = frames(said("simulate: empty"))
    assert frame["candidates"][0]["content"] == {"role": "model"}


@pytest.mark.parametrize("method", [STREAM, "generateContent"])
def test_blocked_prompt_has_no_candidate(method: str) -> None:
    answer = said("simulate: blocked", method)
    frame = frames(answer)[0] if method == STREAM else read(answer)
    assert frame["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert "candidates" not in frame


def test_nothing_is_a_frame_without_candidate_and_reason() -> None:
    (frame,) = frames(said("simulate: nothing"))
    assert frame.keys() == {"usageMetadata", "modelVersion", "responseId"}


def test_truncated_stream_ends_without_a_reason() -> None:
    assert all("finishReason" not in frame["candidates"][0] for frame in frames(said("simulate: truncated")))


def test_lines_are_frames_of_one_line() -> None:
    stream = frames(said("simulate: lines 7", name=OLD_FLASH))
    assert [parts(frame)[0]["text"] for frame in stream] == [f"line {number}\n" for number in range(1, 8)]


def test_words_are_counted() -> None:
    assert read(said("simulate: words 12", "generateContent"))["usageMetadata"]["candidatesTokenCount"] == 12


def test_say_says_exactly_that() -> None:
    text = "  \u2028 naïve 🙂\n\n```"
    found = frames(said(f"simulate: say {text}"))
    assert "".join(part["text"] for frame in found for part in parts(frame)) == text


@pytest.mark.parametrize(("word", "step"), [("cut", CutOff), ("reset", Reset)])
@pytest.mark.parametrize("method", [STREAM, "generateContent"])
def test_word_breaks_the_answer_off_in_the_middle(word: str, step: type, method: str) -> None:
    body = said(f"simulate: {word}", method).body
    assert isinstance(body[0], bytes)
    assert len(body[0]) > 10
    assert isinstance(body[1], step)


def test_error_comes_as_a_frame_or_as_a_bare_tail() -> None:
    frame = said("simulate: error-frame").body[-1]
    tail = said("simulate: error-tail").body[-1]
    assert isinstance(frame, bytes)
    assert frame.startswith(b'data: {"error":{"code":503')
    assert isinstance(tail, bytes)
    assert tail.startswith(b'{\n  "error": {\n    "code": 503')
    assert said("simulate: error-frame", "generateContent").status == 503


def test_garbage_is_a_frame_that_is_no_json() -> None:
    assert said("simulate: garbage").body[-1] == b"data: {not json}\r\n\r\n"


def test_silences_are_where_the_word_says() -> None:
    assert said("simulate: think 2.5").body[0] == Pause(2.5)
    assert said("simulate: hold 3").before == (Pause(3.0),)
    slow = said("simulate: slow 0.1").body
    assert list(slow[1::2]) == [Pause(0.1)] * (len(slow) // 2)


def test_word_counts_only_in_the_last_user_text() -> None:
    body = {"contents": [user("simulate: overloaded"), {"role": "model", "parts": [{"text": "a"}]}, user("Hi")]}
    assert post(google(), body).status == 200


def test_unknown_word_is_only_text() -> None:
    assert said("simulate: rain").status == 200
