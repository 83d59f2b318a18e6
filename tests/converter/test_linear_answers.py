"""Twice the answer takes twice the time, whatever it is made of: a row a kind, so large that a square would show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from gemproxy.converter.sse import SSEDecoder
from gemproxy.upstream import request_body
from gemproxy.upstream.refusals.error_body import mend
from gemproxy.wire.gemini import GenerateResponse
from gemproxy.wire.incoming import whole
from gemproxy.wire.long_answer import LongResponse
from tests.golden import converted, sse, transcoder
from tests.growth import Task, check_linear

decode = request_body.reader(GenerateResponse, LongResponse)


def frame(*parts: Any, **candidate: Any) -> bytes:
    return msgspec.json.encode({"candidates": [{"content": {"parts": parts}, **candidate}]})


END = frame({"text": "."}, finishReason="STOP")


def grounded(text: str, supports: list[dict[str, Any]]) -> list[bytes]:
    metadata = {"groundingChunks": [{"web": {"uri": "https://source.test"}}], "groundingSupports": supports}
    return [frame({"text": text}, finishReason="STOP", groundingMetadata=metadata)]


def support(first: int, last: int, text: str | None = None) -> dict[str, Any]:
    return {"segment": {"startIndex": first, "endIndex": last, "text": text}, "groundingChunkIndices": [0]}


def places(size: int) -> list[bytes]:
    return grounded("ä" * 30 * size, [support(2 * place, 50 * size + place) for place in range(size)])


def places_that_are_wrong(size: int) -> list[bytes]:
    return grounded("ä" * 30 * size, [support(place, place + 1, f"nowhere {place}") for place in range(size)])


def sources_of_a_place(size: int) -> list[bytes]:
    return grounded("Hi", [support(0, 2) | {"groundingChunkIndices": [0] * size * 10}] * 10)


def pieces_of_a_text(size: int) -> list[bytes]:
    piece = {
        "functionCall": {"partialArgs": [{"jsonPath": "$.text", "stringValue": "word " * 40}], "willContinue": True}
    }
    return [
        frame({"functionCall": {"name": "f", "willContinue": True}}),
        *[frame(piece)] * size,
        frame({"functionCall": {}}),
        END,
    ]


def pieces_of_a_list(size: int) -> list[bytes]:
    pieces = [{"jsonPath": f"$.list[{place}].name", "stringValue": "x"} for place in range(size)]
    return [frame({"functionCall": {"name": "f", "partialArgs": pieces}}), END]


def calls_of_one_id(size: int) -> list[bytes]:
    return [frame(*[{"functionCall": {"name": "f", "id": "same"}}] * size), END]


def tokens(size: int) -> list[bytes]:
    token = {"token": "é", "logProbability": -0.5}
    return [
        frame(
            {"text": "."},
            logprobsResult={"chosenCandidates": [token] * size, "topCandidates": [{"candidates": [token] * 3}] * size},
        ),
        END,
    ]


def counts(size: int) -> list[bytes]:
    return [msgspec.json.encode({"usageMetadata": {"promptTokensDetails": [{"modality": "AUDIO"}] * size}}), END]


KINDS: list[tuple[str, Callable[[int], list[bytes]], int]] = [
    ("texts, a frame each", lambda size: [frame({"text": "word "})] * size + [END], 8_000),
    ("texts in one frame", lambda size: [frame(*[{"text": "word "}] * size), END], 15_000),
    ("thoughts", lambda size: [frame(*[{"text": "word ", "thought": True}] * size), END], 15_000),
    ("one long text", lambda size: [frame({"text": "wörd " * size}), END], 150_000),
    ("signatures", lambda size: [frame(*[{"text": "", "thoughtSignature": "c2ln"}] * size), END], 15_000),
    ("code", lambda size: [frame(*[{"executableCode": {"code": "x"}}] * size), END], 10_000),
    ("calls of one id", calls_of_one_id, 4_000),
    ("pieces of a text", pieces_of_a_text, 6_000),
    ("pieces of a list", pieces_of_a_list, 8_000),
    ("pictures", lambda size: [frame(*[{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}] * size), END], 4_000),
    ("places of sources", places, 10_000),
    ("places of sources that are elsewhere", places_that_are_wrong, 10_000),
    ("sources of one place", sources_of_a_place, 400),
    ("probabilities", tokens, 4_000),
    ("counts", counts, 90_000),
]  # fmt: skip


def cut(body: bytes, step: int) -> Iterator[bytes]:
    return (body[place : place + step] for place in range(0, len(body), step))


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize(("make", "size"), [pytest.param(*row, id=name) for name, *row in KINDS])
def test_an_answer_is_told_in_linear_time(make: Callable[[int], list[bytes]], size: int, stream: bool) -> None:
    def work(size: int) -> Task:
        body = sse(make(size))
        return lambda: b"".join(converted(transcoder(stream=stream, decode=decode), cut(body, 1 << 16)))

    check_linear(work, size)


BODIES: list[tuple[str, Callable[[int], bytes], int]] = [
    ("data lines of one event", lambda size: b"data: 1,\n" * size, 100_000),
    ("empty data lines", lambda size: b"data:\n" * size, 100_000),
    ("comments", lambda size: b": ping\n\n" * size, 100_000),
    ("blank lines", lambda size: b"\r\n" * size, 200_000),
    ("one line without an end", lambda size: b"data: " + b"x" * size, 2_000_000),
    ("JSON without an end", lambda size: b"{" + b"\n" * size, 2_000_000),
    ("an array of answers", lambda size: b"[" + b",".join([b'{"x":1}'] * size) + b"]", 90_000),
    ("JSON behind events", lambda size: b"data: {}\n\n{" + b"\n1" * size, 1_000_000),
]


@pytest.mark.parametrize(("make", "size"), [pytest.param(*row, id=name) for name, *row in BODIES])
def test_a_body_is_cut_into_frames_in_linear_time(make: Callable[[int], bytes], size: int) -> None:
    def work(size: int) -> Task:
        body = make(size)

        def read() -> None:
            decoder = SSEDecoder()
            for piece in cut(body, 1 << 12):
                decoder.feed(piece)
            decoder.finish()

        return read

    check_linear(work, size)


FAULTS: list[tuple[str, Callable[[bytes], object], Callable[[int], bytes], int]] = [
    ("stray commas", mend, lambda size: b"," * size, 1_000_000),
    ("commas with room", mend, lambda size: b", \n" * size + b"x", 500_000),
    ("a comma and nothing", mend, lambda size: b"," + b" " * size, 1_000_000),
    ("halves", whole, lambda size: rb"\ud83d" * size, 40_000),
    ("pairs", whole, lambda size: rb"\ud83d\ude00" * size, 40_000),
    ("backslashes", whole, lambda size: rb"\\" * size + rb"\ud83d", 60_000),
    ("backslashes beyond the bound", whole, lambda size: rb"\\" * size + rb"\ud83d", 8_000_000),
]


@pytest.mark.parametrize(("heal", "make", "size"), [pytest.param(*row, id=name) for name, *row in FAULTS])
def test_what_is_broken_is_mended_in_linear_time(
    heal: Callable[[bytes], object], make: Callable[[int], bytes], size: int
) -> None:
    def work(size: int) -> Task:
        body = make(size)
        return lambda: heal(body)

    check_linear(work, size)
