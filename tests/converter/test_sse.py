"""Every body three ways: whole, byte by byte, in sevens; with CRLF and with LF (docs/protocol.md S.A)."""

from __future__ import annotations

import pytest

from gemproxy.converter.sse import SSEDecoder
from gemproxy.errors import UpstreamFault
from tests.growth import Task, check_linear

CUTS = pytest.mark.parametrize("step", [0, 1, 7], ids=["whole", "one byte", "seven bytes"])


def decode(body: bytes, step: int) -> tuple[list[bytes], bool]:
    decoder = SSEDecoder()
    pieces = [body[i : i + step] for i in range(0, len(body), step)] if step else [body]
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    return [frame.strip() for frame in frames + decoder.finish()], decoder.whole


@CUTS
@pytest.mark.parametrize(
    ("body", "frames"),
    [
        pytest.param(b'data: {"a":1}\n\ndata: {"b":2}\n\n', [b'{"a":1}', b'{"b":2}'], id="LF frames"),
        pytest.param(b'data: {"a":1}\r\n\r\ndata: {"b":2}\r\n\r\n', [b'{"a":1}', b'{"b":2}'], id="CRLF frames"),
        pytest.param(b'data:{"a":1}\n\n', [b'{"a":1}'], id="no space after the colon"),
        pytest.param(b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n 1}'], id="several data lines make one event"),
        pytest.param(b'data: {"a":\r\ndata: 1}\r\n\r\n', [b'{"a":\r\n 1}'], id="several data lines with CRLF"),
        pytest.param(b"data: 1\r\n\r\ndata: 2\n\ndata: 3\r\n\r\n", [b"1", b"2", b"3"], id="LF among CRLF"),
        pytest.param(b"data: 1\r\n\r\nid: 7\r\ndata: 2\r\n\r\n", [b"1", b"2"], id="a field among CRLF"),
        pytest.param(b"data:\ndata: 1\r\n\r\n", [b"1"], id="an empty data line first"),
        pytest.param(b'data: {"a":1}', [b'{"a":1}'], id="the last event lacks its blank line"),
        pytest.param(b'data: {"a":1}\n', [b'{"a":1}'], id="the last event ends at its line"),
        pytest.param(
            b': hi\nid: 3\nevent: x\nretry: 5\ndata: {"a":1}\n\n', [b'{"a":1}'], id="other fields mean nothing"
        ),
        pytest.param(b"\n\r\n\n", [], id="blank lines say nothing"),
        pytest.param(b"", [], id="an empty body says nothing"),
        pytest.param(
            'data: {"a":"\u2028\u0085é"}\n\n'.encode(), ['{"a":"\u2028\u0085é"}'.encode()], id="odd line ends"
        ),
    ],
)
def test_sse_body_gives_its_frames(body: bytes, frames: list[bytes], step: int) -> None:
    assert decode(body, step) == (frames, False)


@CUTS
@pytest.mark.parametrize(
    ("body", "frames"),
    [
        pytest.param(b'{"a":1}', [b'{"a":1}'], id="a unary body"),
        pytest.param(b'\n {\n "a": [\n1\n]}\n', [b'{\n "a": [\n1\n]}'], id="a pretty unary body"),
        pytest.param(b'[{"a":1}\n,\r\n{"b":2}\n]', [b'{"a":1}', b'{"b":2}'], id="one JSON array (no alt=sse)"),
        pytest.param(b"[]", [], id="an empty array"),
        pytest.param(
            b'data: {"a":1}\r\n\r\n{\n  "error": {\n    "code": 499\n  }\n}\n',
            [b'{"a":1}', b'{\n  "error": {\n    "code": 499\n  }\n}'],
            id="a bare error in the middle of a stream",
        ),
        pytest.param(b'data: {"a":1}\n\n[{"error":{}}]', [b'{"a":1}', b'{"error":{}}'], id="an error in an array"),
        pytest.param(b'data: {"a":1}\n{"error":\n{}}\n', [b'{"a":1}', b'{"error":\n{}}'], id="no blank line before it"),
    ],
)
def test_bare_json_is_read_and_known_to_be_whole(body: bytes, frames: list[bytes], step: int) -> None:
    assert decode(body, step) == (frames, True)


@CUTS
def test_half_a_character_costs_no_frame_of_an_array(step: int) -> None:
    assert decode(rb'[{"a":1},{"b":"\ud83d"}]', step)[0] == [b'{"a":1}', rb'{"b":"\ufffd"}']


@CUTS
def test_cut_array_is_a_fault(step: int) -> None:
    with pytest.raises(UpstreamFault, match="cut off or is not JSON"):
        decode(b'[{"a":1}\n,\n{"b"', step)


@CUTS
@pytest.mark.parametrize("body", [b'{"a":1', b"<html>502</html>", b'{"a":1}{"b":2}'])
def test_other_cut_or_foreign_bodies_are_one_frame_for_the_reader_to_refuse(body: bytes, step: int) -> None:
    assert decode(body, step) == ([body], True)


def test_a_huge_frame_in_small_pieces_takes_linear_time() -> None:
    def work(size: int) -> Task:
        frame = b"data: {" + b"x" * size + b"}\n\n"

        def feed() -> None:
            decoder = SSEDecoder()
            frames = [found for at in range(0, len(frame), 256) for found in decoder.feed(frame[at : at + 256])]
            assert [len(found) for found in frames] == [len(frame) - 7]

        return feed

    check_linear(work, 1 << 19)


@pytest.mark.parametrize("body", [b"data: " + b"x" * 200, b"data: x\n" * 80, b"{" + b" " * 200])
def test_a_frame_beyond_the_limit_is_a_fault(body: bytes) -> None:
    decoder = SSEDecoder(limit=100)
    with pytest.raises(UpstreamFault, match="more than 100 bytes"):
        for place in range(0, len(body), 8):
            decoder.feed(body[place : place + 8])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"data:\n", id="empty data lines"),
        pytest.param(b"data: 1\n", id="data lines"),
        pytest.param(b"data: 1\n: ping\n", id="data lines and comments"),
    ],
)
def test_lines_of_an_endless_event_are_counted_as_they_come(line: bytes) -> None:
    decoder = SSEDecoder(limit=100_000)
    with pytest.raises(UpstreamFault, match="more than 100000 bytes"):
        for _ in range(2_000):
            decoder.feed(line)
    assert decoder.held > 100_000


def test_json_behind_events_is_counted_from_its_beginning() -> None:
    decoder = SSEDecoder(limit=10_000)
    decoder.feed(b"data: 1\n\n{" + b" " * 9_800 + b"\n")
    assert decoder.held > 9_800
    with pytest.raises(UpstreamFault, match="more than 10000 bytes"):
        decoder.feed(b" " * 300)


@pytest.mark.parametrize(
    ("pieces", "held"),
    [
        pytest.param([], False, id="nothing came"),
        pytest.param([b"data: 1\r\n\r\n"], False, id="a whole event"),
        pytest.param([b"data: 1\n\n: ping\n"], False, id="an event and a comment"),
        pytest.param([b"data: 1"], True, id="half a line"),
        pytest.param([b"data: 1", b"\r\n\r\n"], False, id="a line in two pieces"),
        pytest.param([b"data: 1\n"], True, id="a line without its blank one"),
        pytest.param([b"data: 1\n", b"\n"], False, id="a line and its blank one"),
        pytest.param([b"data: 1\n\n", b": pi"], True, id="half a comment"),
        pytest.param([b'{"a":'], True, id="JSON"),
    ],
)
def test_held_tells_whether_something_is_unfinished(pieces: list[bytes], held: bool) -> None:
    decoder = SSEDecoder()
    for piece in pieces:
        decoder.feed(piece)
    assert bool(decoder.held) == held
    decoder.finish()
    assert decoder.held == 0


def test_an_array_of_more_answers_than_anybody_sends_is_a_fault() -> None:
    with pytest.raises(UpstreamFault, match="more pieces"):
        decode(b"[" + b"{}," * 300_000 + b"{}]", 0)


def test_many_small_frames_never_reach_the_limit() -> None:
    decoder = SSEDecoder(limit=100)
    assert sum(len(decoder.feed(b'data: {"a":1}\n\n')) for _ in range(100)) == 100
