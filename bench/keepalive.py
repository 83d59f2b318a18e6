"""Whether answers reach those who asked, in front of an upstream that keeps its connections badly.

    python -m bench.keepalive 20000    (SEED=1, or any other number)

Every question holds a nonce of its own, and so does every answer, the superfluous ones included: what comes out under
another nonce is a foreign byte. The upstream says too much, too early or too late, by chance, on purpose and in ways
that HTTP forbids. What it never does is to speak late while a question is on its way to it: whose answer that is,
nobody could tell. Both ways of posting, unary and streamed, go through the dispatcher as it is wired for service.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import select
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from gemproxy.config import load
from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.transcoder import Transcoder
from gemproxy.errors import Failure
from gemproxy.server.service import Service
from gemproxy.transport import connections
from gemproxy.transport.client import LARGEST_WRITE
from gemproxy.upstream.dialect import Call, Dialect, Method
from gemproxy.wire.gemini import Content, GenerateRequest, Part
from gemproxy.wiring.build import build_service

CLIENTS = 24
LARGE_EVERY = 50  # one question in so many goes out in slices
PATIENCE = 2.0  # seconds for an answer that will never come
LATE = 0.002  # seconds at most until the upstream says what nobody asked for
_NONCE = re.compile(rb"<\d{8}>")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_METHODS: tuple[Method, Method] = ("generateContent", "streamGenerateContent")


class Tally(Struct):
    """What came of all questions; ``foreign`` in bytes."""

    asked: int = 0
    right: int = 0
    failed: int = 0
    foreign: int = 0
    connections: int = 0
    behaviours: Counter[str] = Counter()


# -------------------------------------------------------------------------------------------------------- the upstream


def frame(nonce: bytes) -> bytes:
    """Return an answer that says a nonce ten times, the last frame of a stream."""
    return (
        b'{"candidates":[{"content":{"parts":[{"text":"%b"}],"role":"model"},"finishReason":"STOP"}],'
        b'"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2}}'
    ) % (nonce * 10)


def message(nonce: bytes, stream: bool, chunked: bool) -> bytes:
    """Return a whole answer with its head."""
    body = b"data: %b\r\n\r\n" % frame(nonce) if stream else frame(nonce)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n" % (b"text/event-stream" if stream else b"application/json")
    if chunked:
        return b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body)
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class Hostile(asyncio.Protocol):
    """One connection of the upstream."""

    def __init__(self, chance: random.Random, tally: Tally) -> None:
        self._chance = chance
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._got = bytearray()
        self._early = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._tally.connections += 1
        self._ears = select.poll()
        self._ears.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        if self._chance.random() < 0.01:
            self._unasked(message(b"<99999999>", False, False))

    def data_received(self, data: bytes) -> None:
        self._got += data
        while self._answer():
            pass

    def _answer(self) -> bool:
        """Answer the first question if it is here, or a little earlier; returns whether more may be here."""
        end = self._got.find(b"\r\n\r\n") + 4
        found = _NONCE.search(self._got, end)
        if end < 4 or found is None:
            return False
        nonce = bytes(found[0])
        head = bytes(self._got[:end])
        self._stream = b":streamGenerateContent" in head
        whole = end + int(_LENGTH.findall(head)[0])
        if len(self._got) < whole:
            if not self._early and self._chance.random() < 0.3:
                self._early = True
                self._say(message(nonce, self._stream, False))
            return False
        del self._got[:whole]
        if not self._early:
            self._behave(nonce)
        self._early = False
        return True

    def _behave(self, nonce: bytes) -> None:
        right = message(nonce, self._stream, self._chance.random() < 0.5)
        name, behave = self._chance.choice(BEHAVIOURS) if self._chance.random() < 0.3 else ("well", Hostile._say)
        self._tally.behaviours[name] += 1
        behave(self, right)

    def _say(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _late(self, data: bytes) -> None:
        """Say something after a while, unless a question has come meanwhile."""
        self._loop.call_later(self._chance.random() * LATE, self._unasked, data)

    def _unasked(self, data: bytes) -> None:
        if not self._got and not self._transport.is_closing() and not self._ears.poll(0):
            self._transport.write(data)

    def _twice(self, right: bytes) -> None:
        self._say(right + right)

    def _again_later(self, right: bytes) -> None:
        self._say(right)
        self._late(right)

    def _again_in_two_parts(self, right: bytes) -> None:
        cut = self._chance.randrange(1, len(right))
        self._say(right + right[:cut])
        self._late(right[cut:])

    def _in_two_segments(self, right: bytes) -> None:
        cut = self._chance.randrange(1, len(right))
        self._say(right[:cut])
        self._loop.call_later(self._chance.random() * LATE, self._say, right[cut:] + right)

    def _many(self, right: bytes) -> None:
        self._say(right * 100)

    def _line_end_behind(self, right: bytes) -> None:
        self._say(right + b"\r\n")

    def _garbage_behind(self, right: bytes) -> None:
        self._say(right + b"0\r\n\r\n")

    def _garbage_later(self, right: bytes) -> None:
        self._say(right)
        self._late(b"HTTP/1.1 200 OK\r\nX: ")

    def _continue_first(self, right: bytes) -> None:
        self._say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + right)

    def _continue_behind(self, right: bytes) -> None:
        self._say(right + b"HTTP/1.1 100 Continue\r\n\r\n")

    def _continue_for_ever(self, right: bytes) -> None:
        self._say(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000 + right)

    def _both_lengths(self, right: bytes) -> None:
        self._say(right.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 1) + right)

    def _no_content_with_content(self, right: bytes) -> None:
        head, end, body = right.partition(b"\r\n\r\n")
        self._say(head.replace(b"200 OK", self._chance.choice((b"204 x", b"304 x"))) + end + body + right)

    def _switch(self, right: bytes) -> None:
        more = self._chance.choice((b"", b"Connection: upgrade\r\nUpgrade: x\r\n"))
        self._say(b"HTTP/1.1 101 Switching\r\n%b\r\n%b" % (more, right))

    def _timeout(self, right: bytes) -> None:
        self._say(right)
        self._late(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def _hang_up(self, right: bytes) -> None:
        self._say(right)
        self._transport.close()

    def _hang_up_later(self, right: bytes) -> None:
        self._say(right)
        self._loop.call_later(self._chance.random() * LATE, self._transport.close)


BEHAVIOURS: list[tuple[str, Callable[[Hostile, bytes], None]]] = [
    ("the same answer twice", Hostile._twice),
    ("again on the idle connection", Hostile._again_later),
    ("again, cut by a segment", Hostile._again_in_two_parts),
    ("twice in two segments", Hostile._in_two_segments),
    ("a hundred times", Hostile._many),
    ("a line end behind it", Hostile._line_end_behind),
    ("garbage behind it", Hostile._garbage_behind),
    ("garbage on the idle connection", Hostile._garbage_later),
    ("100 and 103 before it", Hostile._continue_first),
    ("100 behind it", Hostile._continue_behind),
    ("100 ten thousand times", Hostile._continue_for_ever),
    ("both lengths", Hostile._both_lengths),
    ("204 or 304 with a body", Hostile._no_content_with_content),
    ("another protocol", Hostile._switch),
    ("408 on the idle connection", Hostile._timeout),
    ("closed behind it", Hostile._hang_up),
    ("closed while idle", Hostile._hang_up_later),
]


# --------------------------------------------------------------------------------------------------------- the clients


@asynccontextmanager
async def serving(tally: Tally, chance: random.Random, direct: bool) -> AsyncIterator[Service]:
    """All rooms in front of the hostile upstream; ``direct`` False leaves all posting to aiohttp."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Hostile, chance, tally), "127.0.0.1", 0, backlog=1024)
    config = load(None, {"GEMINI_API_KEY": "test-key-1"}, port=0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1beta"
    timeouts = replace(config.timeouts, first=PATIENCE, idle=PATIENCE)
    config = replace(config, upstream=replace(config.upstream, ai_studio_url=url), timeouts=timeouts)
    async with server, AsyncExitStack() as stack:
        service = await build_service(config, stack)
        poster: Any = service.dispatcher._post
        poster.__self__._direct = direct
        yield service


async def fuzz(questions: int, seed: int, *, direct: bool = True) -> Tally:
    """Ask so many questions and return what came of them."""
    tally, chance, numbers = Tally(asked=questions), random.Random(seed), iter(range(questions))
    trusting, connections.DISTRUST = connections.DISTRUST, 0.0  # else nothing would be kept after the first word
    try:
        async with serving(tally, chance, direct) as service, asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(_client(service, numbers, tally))
    finally:
        connections.DISTRUST = trusting
    return tally


async def _client(service: Service, numbers: Iterator[int], tally: Tally) -> None:
    for number in numbers:
        try:
            said = await _ask(service, number)
        except Failure:
            tally.failed += 1
            continue
        own, nonces = b"<%08d>" % number, _NONCE.findall(said)
        tally.foreign += sum(len(nonce) for nonce in nonces if nonce != own)
        tally.right += nonces == [own] * 10


async def _ask(service: Service, number: int) -> bytes:
    text = f"<{number:08d}>" + " " * (LARGEST_WRITE if number % LARGE_EVERY == 0 else 0)
    method = _METHODS[number % 2]
    call = Call(method, "gemini-3.5-flash", GenerateRequest([Content([Part(text=text)], "user")]))
    burden = service.load.burden("keepalive")
    try:
        answer = await service.dispatcher.open(call, partial(_listen, method), burden)
        try:
            said = [answer.head]
            if method == "generateContent":
                return answer.whole()
            await answer.pour(said.append)
            return b"".join(said)
        finally:
            answer.close()
    finally:
        burden.close()


def _listen(method: Method, dialect: Dialect) -> Transcoder:
    count, heading = itertools.count(), Heading("keepalive", 0, "keepalive")
    writer = ChatCompletionFold(heading) if method == "generateContent" else ChatChunkWriter(heading)
    return Transcoder(dialect.decode, AnswerReader(lambda: f"call_{next(count)}"), writer)


def main() -> int:
    """Ask both ways; the exit status is 1 if anybody got another one's bytes."""
    questions, seed = int((*sys.argv, "20000")[1]), int(os.environ.get("SEED", "1"))
    foreign = 0
    for direct in (True, False):
        begun = time.perf_counter()
        tally = asyncio.run(fuzz(questions // 2, seed, direct=direct))
        foreign += tally.foreign
        print(
            f"{'gemproxy posts' if direct else 'aiohttp posts':<15} {tally.asked} questions, {tally.right} right,"
            f" {tally.failed} failures, {tally.connections} connections, {time.perf_counter() - begun:.0f} s; "
            f"{tally.foreign} foreign bytes"
        )
    print(f"foreign bytes   {foreign}")
    return foreign != 0


if __name__ == "__main__":
    sys.exit(main())
