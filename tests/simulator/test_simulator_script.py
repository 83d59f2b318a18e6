"""Making answers: pieces, frames, recordings; and choosing the one a request gets."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gemproxy.simulator import Answer, CutOff, Pause, drip, error_answer, frames_answer, replay, sse, text_answer
from gemproxy.simulator.script import Rule, Script, array_pieces, unary_answer
from tests.simulator.asking import request

FRAME = {"a": 1}


def test_frames_are_written_as_google_does_or_with_bare_newlines() -> None:
    assert sse(FRAME) == b'data: {"a":1}\r\n\r\n'
    assert sse(b'{"raw": 1}', crlf=False) == b'data: {"raw": 1}\n\n'
    assert frames_answer([FRAME, b"{}"]).body == (sse(FRAME), sse(b"{}"))
    assert frames_answer([FRAME], crlf=False).body == (sse(FRAME, crlf=False),)


def test_array_is_json_and_has_googles_separators() -> None:
    pieces = array_pieces([FRAME, FRAME])
    assert pieces == (b'[{\n  "a": 1\n}\n', b',\r\n{\n  "a": 1\n}\n', b"]")
    assert array_pieces([]) == (b"[]",)
    assert frames_answer([FRAME], sse=False).content_type == "application/json; charset=UTF-8"


def test_drip_cuts_into_pieces_with_pauses_between() -> None:
    assert drip(b"abc") == (b"a", Pause(0.0), b"b", Pause(0.0), b"c")
    assert drip(b"abcde", 2, 0.1) == (b"ab", Pause(0.1), b"cd", Pause(0.1), b"e")


def test_answers_can_be_changed_without_touching_the_first() -> None:
    plain = Answer((b"a", b"b"))
    assert plain.after(Pause(1)).before == (Pause(1),)
    assert plain.then(CutOff()).body == (b"a", b"b", CutOff())
    assert plain.paced(1).body == (b"a", Pause(1), b"b")
    assert plain == Answer((b"a", b"b"))


def test_errors_come_from_texts_objects_and_bytes() -> None:
    assert msgspec.json.decode(error_answer(503, "busy").body[0])["error"]["message"] == "busy"  # type: ignore[arg-type]
    assert error_answer(400, {"error": "invalid_grant"}).body == (b'{\n  "error": "invalid_grant"\n}',)
    html = error_answer(502, b"<html>", content_type="text/html", headers={"Retry-After": "3"})
    assert (html.body, html.status, html.content_type) == ((b"<html>",), 502, "text/html")
    assert html.headers == {"Retry-After": "3"}


def test_text_is_one_frame_with_or_without_a_finish() -> None:
    whole, open_end = text_answer("a b"), text_answer("a b", finish=None)
    assert b'"finishReason":"STOP"' in whole.body[0]  # type: ignore[operator]
    assert b"finishReason" not in open_end.body[0]  # type: ignore[operator]
    assert b'"candidatesTokenCount":2' in whole.body[0]  # type: ignore[operator]


def test_unary_answer_keeps_bytes_as_they_are() -> None:
    assert unary_answer(b"[1]", status=201) == Answer((b"[1]",), status=201)
    assert unary_answer(FRAME).body == (b'{\n  "a": 1\n}',)


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("text__x.sse", 200, "text/event-stream"),
        ("json-array__x.json", 200, "application/json; charset=UTF-8"),
        ("429-quota__x.json", 429, "application/json; charset=UTF-8"),
        ("404__x.html", 404, "text/html; charset=UTF-8"),
        ("4294-is-no-status.json", 200, "application/json; charset=UTF-8"),
    ],
)
def test_recording_is_replayed_unchanged(tmp_path: Path, name: str, status: int, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"data: {}\r\n\r\n\xff")
    answer = replay(path)
    assert (answer.body, answer.status, answer.content_type) == ((b"data: {}\r\n\r\n\xff",), status, kind)
    assert replay(path, status=500, size=5).status == 500
    pieces = replay(path, size=5).body
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == path.read_bytes()
    assert len(pieces) == 5


def test_script_takes_the_first_that_fits_and_forgets_the_used() -> None:
    script = Script()
    script.add(Rule(text_answer("a"), model="x"))
    script.add(Rule(text_answer("b")))
    seen = request("POST", "/")
    seen.call, seen.model = "generateContent", "y"
    assert script.take(seen) == text_answer("b")
    assert script.take(seen) is None
    seen.model = "x"
    assert script.take(seen) == text_answer("a")
    assert script.rules == []
