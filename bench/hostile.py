"""An upstream that answers what no server should have to hear: a table of answers by name, and the process that gives
them (``python -m bench.hostile``: prints its port, ends when standard input does).

The name of an answer stands at the end of the model's name, behind ``heavy.FAMILY``. Any other path is that of a
picture. After all but the plain one the connection is closed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from msgspec import Struct

from bench import heavy
from bench.pouring import Pouring, slices
from bench.processes import raise_descriptor_limit, until_orphaned

MIB = 1 << 20
PICTURE = 20_000_000  # bytes; ``images.max_bytes`` is just above
NICE = 5
_FINISH = b'"finishReason":"STOP"'
_JSON = "Content-Type: application/json"
_SSE = "Content-Type: text/event-stream"
_CHUNKED = "Transfer-Encoding: chunked"

Pieces = Iterable[bytes | memoryview]


class Answer(Struct, frozen=True):
    """An answer as it goes over the wire."""

    sentence: str
    pieces: Callable[[], Pieces]


# ------------------------------------------------------------------------------------------------- how it is said


def _head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


def _unary(body: bytes, status: str = "200 OK") -> Iterator[bytes | memoryview]:
    yield _head(_JSON, f"Content-Length: {len(body)}", status=status)
    yield from slices(body)


def _stream(pieces: Pieces, *fields: str) -> Iterator[bytes]:
    """Give these pieces as the body of a stream, each as a chunk."""
    yield _head(_SSE, _CHUNKED, *fields)
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), bytes(piece))
    yield b"0\r\n\r\n"


def _event(frame: bytes) -> bytes:
    return b"data: %b\r\n\r\n" % frame


def _frame(*parts: bytes, more: bytes = b"") -> bytes:
    content = b'"content":{"role":"model","parts":[%b]}' % b",".join(parts)
    return b'{"candidates":[{%b}]}' % b",".join(filter(None, (content, more)))


def _text(text: bytes) -> bytes:
    return b'{"text":"%b"}' % text


def _last() -> bytes:
    return _event(_frame(_text(b"end"), more=_FINISH))


def _repeated(piece: bytes, count: int) -> Iterator[bytes]:
    return (piece for _ in range(count))


# ------------------------------------------------------------------------------------------------- sources


def _places_in_text(size: int, places: int) -> bytes:
    """Return a frame with places near the end of a long text in which a character is two bytes."""
    text = "ä" * (size // 2)
    supports = b",".join(
        b'{"segment":{"startIndex":%d,"endIndex":%d},"groundingChunkIndices":[0]}' % (size - 2 * at - 4, size - 2 * at)
        for at in range(places)
    )
    return _frame(_text(text.encode()), more=_grounding(b"https://example.com", supports))


def _places_of_one_source(size: int, places: int) -> bytes:
    """Return a frame whose one source has an address of ``size`` bytes, and many places."""
    address = b"https://example.com/" + b"a" * size
    supports = b",".join([b'{"segment":{"endIndex":1},"groundingChunkIndices":[0]}'] * places)
    return _frame(_text(b"Hello"), more=_grounding(address, supports))


def _grounding(address: bytes, supports: bytes) -> bytes:
    chunks = b'[{"web":{"uri":"%b","title":"t"}}]' % address
    return b'%b,"groundingMetadata":{"groundingChunks":%b,"groundingSupports":[%b]}' % (_FINISH, chunks, supports)


# ------------------------------------------------------------------------------------------------- calls


def _streamed_argument(size: int) -> Iterator[bytes]:
    """Give a call whose one argument comes in pieces of 16 characters, a thousand of them in a frame."""
    piece = b'{"jsonPath":"$.a","stringValue":"0123456789abcdef"}'
    pieces = b",".join([piece] * 1000)
    yield _event(_frame(b'{"functionCall":{"name":"f","willContinue":true,"partialArgs":[%b]}}' % piece))
    yield from _repeated(
        _event(_frame(b'{"functionCall":{"willContinue":true,"partialArgs":[%b]}}' % pieces)), size // 16_000
    )
    yield _event(_frame(b'{"functionCall":{}}', more=_FINISH))


def _call(arguments: bytes) -> bytes:
    return _frame(b'{"functionCall":{"name":"f","args":%b}}' % arguments, more=_FINISH)


def _response(held: bytes) -> bytes:
    """Return an answer with a part that is decoded and then left out."""
    return _frame(_text(b"Hello"), b'{"functionResponse":{"name":"f","response":{"held":%b}}}' % held, more=_FINISH)


def _deep_path(steps: int) -> Iterator[bytes]:
    piece = b'{"jsonPath":"$%b","stringValue":"x"}' % (b".a" * steps)
    yield _event(_frame(b'{"functionCall":{"name":"f","partialArgs":[%b]}}' % piece, more=_FINISH))


# ------------------------------------------------------------------------------------------------- below the frames


@cache
def packed(mebibytes: int) -> bytes:
    """Return a gzip of so many MiB of empty comments, made from one packed MiB that is repeated."""
    block = b":\n" * (MIB // 2)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # knows nothing of what came before it
    check = 0
    for _ in range(mebibytes):
        check = zlib.crc32(block, check)
    ending = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    size = mebibytes * MIB & 0xFFFFFFFF
    return first + again * (mebibytes - 1) + ending + check.to_bytes(4, "little") + size.to_bytes(4, "little")


def _endless_head(size: int) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    line = b"X-Padding: " + b"a" * 4000 + b"\r\n"
    yield from _repeated(line, size // len(line))


def _one_by_one(body: bytes) -> Iterator[bytes | memoryview]:
    """Give a stream in chunks of one byte."""
    yield _head(_SSE, _CHUNKED)
    yield from slices(b"".join(b"1\r\n%c\r\n" % byte for byte in body))
    yield b"0\r\n\r\n"


ANSWERS: dict[str, Answer] = {
    heavy.PLAIN: Answer("a short answer", lambda: _unary(_frame(_text(b"Hello"), more=_FINISH))),
    "places-in-a-text": Answer(
        "10,000 places of a source in a text of 2 MB", lambda: _unary(_places_in_text(2_000_000, 10_000))
    ),
    "places-of-one-source": Answer(
        "310 KB: one source with a long address and 2,000 places",
        lambda: _stream([_event(_places_of_one_source(200_000, 2_000))]),
    ),
    "argument-2mb": Answer(
        "a streamed argument of 2 MB in pieces of 16 characters", lambda: _stream(_streamed_argument(2_000_000))
    ),
    "argument-10mb": Answer(
        "a streamed argument of 10 MB in pieces of 16 characters", lambda: _stream(_streamed_argument(10_000_000))
    ),
    "deep-path": Answer("a piece of an argument a million levels deep", lambda: _stream(_deep_path(1_000_000))),
    "packed": Answer(
        "500 MB of comments in a gzip, though identity was asked for",
        lambda: _stream(slices(packed(500)), "Content-Encoding: gzip"),
    ),
    "comments": Answer("60 MB of empty comments", lambda: _stream([*_repeated(b":\n" * (MIB // 2), 57), _last()])),
    "data-lines": Answer(
        "60 MB of empty data: lines in one event",
        lambda: _stream([*_repeated(b"data:\n" * 100_000, 100), b"\n", _last()]),
    ),
    "tiny-frames": Answer(
        "a million frames of one character",
        lambda: _stream([*_repeated(_event(_frame(_text(b"a"))) * 1000, 1000), _last()]),
    ),
    "one-by-one": Answer(
        "a frame of 4 MB in chunks of one byte", lambda: _one_by_one(_event(_frame(_text(b"a" * 4_000_000))) + _last())
    ),
    "frame-8mb": Answer("a frame of 8 MB", lambda: _stream([_event(_frame(_text(b"a" * 8_000_000))), _last()])),
    "unary-text": Answer(
        "an answer of 30 MB that is one text", lambda: _unary(_frame(_text(b"a" * heavy.MOST), more=_FINISH))
    ),
    "unary-accents": Answer(
        "an answer of 30 MB that is one text of two-byte characters",
        lambda: _unary(_frame(_text("ä".encode() * (heavy.MOST // 2)), more=_FINISH)),
    ),
    "unary-picture": Answer(
        "an answer of 30 MB that is one image",
        lambda: _unary(
            _frame(
                b'{"inlineData":{"mimeType":"image/png","data":"%b"}}' % (b"AAAABBBB" * (heavy.MOST // 8)), more=_FINISH
            )
        ),
    ),
    "unary-parts": Answer(
        "an answer of 30 MB of tiny texts",
        lambda: _unary(_frame(*[_text(b"a")] * (heavy.MOST // 13), more=_FINISH)),
    ),
    "unary-objects": Answer(
        "an answer of 30 MB of {} in a call's arguments",
        lambda: _unary(_call(b'{"held":%b}' % heavy.objects(heavy.MOST))),
    ),
    "unread-objects": Answer(
        "an answer of 30 MB of {} in a part that is left out", lambda: _unary(_response(heavy.objects(heavy.MOST)))
    ),
    "deep-answer": Answer(
        "arguments ten million levels deep", lambda: _unary(_call(b'{"held":%b}' % heavy.deep(10_000_000)))
    ),
    "refusal": Answer(
        "a refusal of 100 MB",
        lambda: _unary(
            b'{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"%b"}}' % (b"no " * 33_000_000),
            status="400 Bad Request",
        ),
    ),
    "endless-head": Answer("64 MB of headers without an end", lambda: _endless_head(64_000_000)),
}


def _picture() -> Iterator[bytes | memoryview]:
    yield _head("Content-Type: image/png", f"Content-Length: {PICTURE}")
    yield from slices(b"\x89PNG\r\n\x1a\n" + bytes(PICTURE - 8))


def chosen(line: bytes) -> str:
    """Return the name of the answer that a request line asks for, "" for a picture."""
    _, _, name = line.partition(b":")[0].partition(heavy.FAMILY.encode() + b"-")
    return name.decode("ascii", "replace")


@cache
def made(name: str) -> tuple[bytes | memoryview, ...]:
    """Return the pieces of an answer: made once, so that this process costs little while it is asked."""
    return tuple(ANSWERS[name].pieces() if name in ANSWERS else _picture())


# ------------------------------------------------------------------------------------------------- the process


class Hostile(Pouring):
    """One connection; answers one request after the other, and reads no body."""

    def __init__(self) -> None:
        super().__init__()
        self._head = b""
        self._left: int | None = None  # bytes of the body; None: within the head
        self._answer = ""

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._answer, self._head, self._left = chosen(head), b"", _length(head)
        self._left -= len(data)
        if self._left <= 0:
            self._left = None
            self.pour(made(self._answer), self._end)

    def _end(self) -> None:
        if self._answer != heavy.PLAIN:
            self.transport.close()


def _length(head: bytes) -> int:
    for field in head.lower().split(b"\r\n"):
        if field.startswith(b"content-length:"):
            return int(field[15:])
    return 0


async def main() -> None:
    """Serve on a free port until the benchmark is gone."""
    raise_descriptor_limit()
    os.nice(NICE)
    server = await asyncio.get_running_loop().create_server(Hostile, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await until_orphaned()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
