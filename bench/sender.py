"""The clients of one row: a process of its own (``python -m bench.sender ROW PORT UPSTREAM KEY SECONDS``).

Makes the body, says ``ready``, waits for a line, then does what the row says, again and again for so many seconds (0:
once). What became of each request goes out as JSON: how often it ended how. Comes after everybody else on this machine,
so that it takes no time from the server.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator

import msgspec

from bench.pouring import Pouring, slices
from bench.processes import raise_descriptor_limit
from bench.rows import Row, rows

NICE = 10
HEAD_BYTES = 2_000_000  # of headers, from each client whose head does not end
SHORT = 100_000  # bytes that an upload lacks
MAX_BODY = 32 << 20  # bytes, the default of ``server.max_body``
KEPT = 4_000  # bytes of the beginning and of the end of an answer
_LITTLE = 4096  # bytes that the system may hold for a client that does not read
_CODE = re.compile(rb'"code":"(\w+)"')
_MESSAGE = re.compile(rb'"message":"((?:[^"\\]|\\.){0,70})')


class Client(Pouring):
    """One connection and one request; ``ended`` gives what became of it."""

    def __init__(self, row: Row, pieces: Iterator[bytes | memoryview]) -> None:
        super().__init__()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._row = row
        self._request = pieces
        self._first = b""
        self._last = b""
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.pour(self._request, self._sent)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end()

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        if len(self._first) < KEPT:
            self._first += data[:KEPT]
        self._last = (self._last + data[-KEPT:])[-KEPT:]
        if self._row.manner == "never reads" and self._first:
            self.transport.pause_reading()

    def _sent(self) -> None:
        if self._row.manner in ("stops short", "never reads", "never ends its head"):
            self._loop.call_later(self._row.hold, self._leave)

    def _leave(self) -> None:
        self._end(" (then left)")
        self.transport.abort()

    def _end(self, more: str = "") -> None:
        if not self.ended.done():
            self.ended.set_result(outcome(self._first, self._last, self._size, held=bool(more)) + more)


def outcome(first: bytes, last: bytes, size: int, *, held: bool = False) -> str:
    """Return what an answer came to, by its beginning, its end and its size; ``held``: nobody waited for its end."""
    if not first:
        return "no answer"
    status = first[9:12].decode("ascii", "replace")
    if status != "200":
        return f"{status} {_fault(first)}".rstrip()
    if held:
        return "200"
    if b"\r\ncontent-length:" in first.lower():
        head, _, _ = first.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        return f"200, {size / 1e6:.1f} MB" if size == len(head) + 4 + length else "200, then cut"
    if b"data: [DONE]" in last:
        return f"200, {size / 1e6:.1f} MB, [DONE]"
    event = last[last.rfind(b"data: {") :]
    return f"200, then {_fault(event)}" if event.startswith(b'data: {"error"') else "200, then cut"


def _fault(answer: bytes) -> str:
    code, message = _CODE.search(answer), _MESSAGE.search(answer)
    return ": ".join(found[1].decode(errors="replace") for found in (code, message) if found is not None)


def request(row: Row, body: bytes, key: str) -> Iterator[bytes | memoryview]:
    """Give what one client sends, in pieces."""
    if row.manner == "never ends its head":
        yield b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        line = b"X-Padding: " + b"a" * 4000 + b"\r\n"
        yield from (line for _ in range(HEAD_BYTES // len(line)))
        return
    chunked = row.manner == "in tiny chunks"
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    yield (
        f"POST {row.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n{length}\r\n\r\n"
    ).encode()
    yield from slices(body[:-SHORT] if row.manner == "stops short" else body)


def sent(row: Row) -> bytes:
    """Return the body as it goes over the wire; raises ``ValueError`` for one that no server takes by default."""
    body = row.body()
    if len(body) > MAX_BODY:
        raise ValueError(f"a body of {len(body)} bytes is larger than server.max_body")
    if row.manner == "in tiny chunks":
        return b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    return body


async def act(row: Row, body: bytes, port: int, key: str, seconds: float = 0.0) -> Counter[str]:
    """Do what the row says, and again until the seconds are over."""
    loop, ends = asyncio.get_running_loop(), Counter[str]()
    until = loop.time() + seconds
    while True:
        ends.update(await asyncio.gather(*(_one(row, body, port, key) for _ in range(row.clients))))
        if loop.time() >= until:
            return ends


async def _one(row: Row, body: bytes, port: int, key: str) -> str:
    plug = socket.socket()
    plug.setblocking(False)
    if row.manner == "never reads":
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(plug, ("127.0.0.1", port))
        _, made = await loop.create_connection(lambda: Client(row, request(row, body, key)), sock=plug)
    except OSError:
        plug.close()
        return "no connection"
    return await made.ended


def main() -> None:
    """Do one row."""
    os.nice(NICE)
    raise_descriptor_limit()
    name, port, upstream, key, seconds = sys.argv[1:]
    row = rows(int(upstream))[name]
    body = sent(row)
    print("ready", flush=True)
    sys.stdin.readline()
    ends = asyncio.run(act(row, body, int(port), key, float(seconds)))
    print(msgspec.json.encode(ends).decode(), flush=True)


if __name__ == "__main__":
    main()
