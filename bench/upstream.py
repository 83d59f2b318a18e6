"""The fake upstream: as much HTTP/1.1 as aiohttp's client needs, and Gemini's answers as ready bytes.

A process of its own (``python -m bench.upstream``): prints its port, ends when standard input does. It must cost
little, so it reads no body and makes nothing while a request waits; which answer is meant stands in the path.
"""

from __future__ import annotations

import asyncio
import sys
from functools import cache, partial

from bench import script as scripts
from bench.processes import Wakefulness, raise_descriptor_limit, until_orphaned
from bench.script import SCRIPTS, Script

_END = b"0\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Disposition: attachment\r\n"
    b"Vary: Origin\r\nVary: X-Origin\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@cache
def chunks(script: Script) -> tuple[bytes, ...]:
    """Return the frames of a stream, each as a chunk of the transfer coding; the last one ends the body."""
    coded = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in scripts.frames(script)]
    coded[0] = _STREAM_HEAD + coded[0]
    coded[-1] += _END
    return tuple(coded)


@cache
def whole(script: Script) -> bytes:
    """Return all bytes of an answer that is given at once."""
    if script.frames:
        return b"".join(chunks(script))
    return _message("200 OK", scripts.body(script))


def _message(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_UNKNOWN = _message("404 Not Found", b'{"error":{"code":404,"message":"no such script","status":"NOT_FOUND"}}')
_NO_LENGTH = _message("411 Length Required", b'{"error":{"code":411,"message":"no length","status":"INVALID"}}')


class Upstream(asyncio.Protocol):
    """One connection; answers one request after the other."""

    def __init__(self, wakefulness: Wakefulness) -> None:
        self._loop = asyncio.get_running_loop()
        self._wakefulness = wakefulness
        self._head = b""
        self._line = b""
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self._line, _, fields = self._head[:end].partition(b"\r\n")
            self._left = _length(fields) - (len(self._head) - end - 4)
            self._head = b""
        if self._left == 0:
            self._answer()
        elif self._left < 0:  # more than one request: no client here does that
            self._transport.write(_NO_LENGTH)
            self._transport.close()

    def _answer(self) -> None:
        found = named(self._line)
        if found is None:
            self._transport.write(_UNKNOWN)
        elif found.gap:
            self._say(found, 0, self._loop.time())
        else:
            self._transport.write(whole(found))
            self._wakefulness.stir()

    def _say(self, script: Script, number: int, begun: float) -> None:
        said = chunks(script)
        self._transport.write(said[number])
        number += 1
        if number < len(said):
            # by the clock of the first frame, so that a late one does not delay the rest
            self._timer = self._loop.call_at(begun + number * script.gap, self._say, script, number, begun)


@cache
def named(line: bytes) -> Script | None:
    """Return the script that a request line names at the end of the model, None if there is none such."""
    _, _, name = line.partition(b":")[0].rpartition(b"-")
    return SCRIPTS.get(name.decode("ascii", "replace"))


def _length(fields: bytes) -> int:
    for field in fields.lower().split(b"\r\n"):
        if field.startswith(b"content-length:"):
            return int(field[15:])
    return -1 << 40


async def main() -> None:
    """Serve on a free port until the benchmark is gone."""
    raise_descriptor_limit()
    connection = partial(Upstream, Wakefulness())
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, backlog=4096)
    for script in SCRIPTS.values():
        chunks(script) if script.gap else whole(script)
    print(server.sockets[0].getsockname()[1], flush=True)
    await until_orphaned()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
