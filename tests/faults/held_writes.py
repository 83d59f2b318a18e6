"""Rows of the table of cancellations where the answer is under way: it comes, or its client takes it."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.server.outlet import SLICE, EventStream, Whole
from gemproxy.simulator import Answer, Recorded, Wait, frames_answer, unary_answer
from tests.faults.client import Bare
from tests.faults.held_open import (
    IN_TURN,
    STREAM,
    THRICE_STREAM,
    TOLD,
    UNARY,
    Row,
    ask,
    begun,
    beside,
    halfway,
    no_head,
    request,
    said,
    start,
    streams,
    upstream,
    whole,
)
from tests.faults.stage import LONG, Stage

BIG = "x" * 2_000
HUGE = "x" * 400_000
FIRST_CAME = {"timeouts.first": "it ends with the first content, which has come"}
ANSWERED = {**FIRST_CAME, "timeouts.total": "it ends with the answer, which is being written"}
CUT = ("timeouts.total", "SIGTERM and timeouts.drain")  # within an event, or behind the head of a whole answer
HANDED_OVER = {"SIGTERM and timeouts.drain": (200, "-")}  # the answer, to the transport: its client may yet take it
STEP = "a status is told in one step, in which nothing ends: it is held open by hand"
ONE_STEP = dict.fromkeys(("timeouts.first", "timeouts.total", "SIGTERM and timeouts.drain"), STEP)


def deaf(*texts: str, ping: float = 30_000, reads: bool = False) -> Any:
    """Return what asks for an answer of these texts, and does not read it; or of ``reads`` no more than 128 KiB.

    What follows the first text comes once that is written: together they would be the first write.
    """

    async def hold(stage: Stage, form: str) -> Bare:
        first_written = asyncio.Event()

        def answer(asked: Recorded) -> Answer:
            last = said(texts[-1], finishReason="STOP")
            if not streams(asked):
                return unary_answer(last)
            first, *rest = [*map(said, texts[:-1]), last]
            return frames_answer([first]).then(Wait(first_written), *frames_answer(rest).body)

        stage.google.script(answer)
        await start(stage, form, ping=ping)
        client = await stage.connect(receive=1 << 12)
        if not reads:
            client.writer.transport.pause_reading()
        await client.say(request(form))
        if len(texts) > 1 and len(texts[0]) <= SLICE:
            await stage.waits_at("_Stream.run: answer.pour")
        first_written.set()
        return client

    return hold


async def two_answers(stage: Stage, form: str) -> Bare:
    """Ask twice on one connection, and read no answer."""
    answer = unary_answer(said("x" * 60_000, finishReason="STOP"))
    stage.google.script(answer, times=2)
    await start(stage, form)
    client = await stage.connect(receive=1 << 12)
    client.writer.transport.pause_reading()
    await client.say(request(form, more="") + request(form))
    return client


def status(kind: type, *, version: bytes = b"1.1", answer: Any = None) -> Any:
    """Return what asks where the status of such answers is held up; aiohttp itself says it in one step."""

    async def hold(stage: Stage, form: str) -> Bare:
        prepare = web.StreamResponse.prepare

        async def waits(self: web.StreamResponse, request: web.BaseRequest) -> Any:
            if type(self) is kind:
                await stage.gate.wait()
            return await prepare(self, request)

        stage.monkeypatch.setattr(web.StreamResponse, "prepare", waits)
        if answer is not None:
            stage.google.script(lambda asked: answer(asked, Wait(stage.gate)))
        await start(stage, form)
        client = await stage.connect()
        await client.say(request(form).replace(b"HTTP/1.1", b"HTTP/" + version))
        return client

    return hold


def huge(asked: Recorded) -> Answer:
    answer = said(HUGE, finishReason="STOP")
    return frames_answer([answer]) if streams(asked) else unary_answer(answer)


async def pinged(stage: Stage, form: str) -> Bare:
    """Have the first ping follow at once, and the second never."""
    begin = EventStream._begin_pings

    def begins(self: EventStream) -> None:
        self._interval = LONG
        begin(self)

    stage.monkeypatch.setattr(EventStream, "_begin_pings", begins)
    stage.google.script(lambda asked: begun(asked, Wait(stage.gate)))
    await start(stage, form, ping=0.01)
    return await ask(stage, form)


WRITE_ROWS = [
    Row("answer beside", "Answer._pump: self._burden.run", beside("work", answer=huge, text="Hello"), (UNARY, STREAM)),
    Row("more", "_Stream.run: answer.pour", upstream(halfway), (STREAM, TOLD), cannot=FIRST_CAME),
    Row("more of three", "fan_out _whole: answer.pour", upstream(halfway), (THRICE_STREAM,), cannot=FIRST_CAME),
    Row("place among three", "_came.one: places.acquire", upstream(no_head), (IN_TURN,)),
    Row("pings", "EventStream._pings: asyncio.sleep", pinged, (TOLD,)),
    Row(
        "drain",
        "_Stream.run: outlet.drain",
        deaf(*[BIG] * 200),
        (STREAM, TOLD),
        cannot=FIRST_CAME,
        cut=CUT if PLAIN else (),  # there one piece brings more events than one step writes
    ),
    Row(
        "piece",
        "Outlet.drain: self._writer.drain() (again)",
        deaf("Hello", HUGE, "end", reads=True),
        (STREAM, TOLD),
        cannot=FIRST_CAME,
        cut=CUT,
    ),
    Row("first write", "_Stream.run: outlet.write", deaf(HUGE, "end"), (STREAM, TOLD), cannot=FIRST_CAME, cut=CUT),
    Row("large write", "_write_large: response.write_eof", deaf(HUGE), (UNARY,), cannot=ANSWERED, cut=CUT),
    Row("small write", "Whole.prepare: request.writer.drain", two_answers, (UNARY,), cannot=ANSWERED, told=HANDED_OVER),
    Row("status", "_Stream._commit: self._prepare", status(EventStream), (STREAM,), cannot=ONE_STEP),
    Row(
        "status meanwhile",
        "_Stream._tell_status: self._prepare",
        status(EventStream, answer=lambda asked, wait: whole(asked).after(wait)),
        (TOLD,),
        cannot=ONE_STEP,
    ),
    Row("status early", "_Stream._commit: self._committed", status(EventStream), (TOLD,), cannot=ONE_STEP),
    Row(
        "status of much",
        "_write_large: response.prepare",
        status(web.Response, answer=lambda asked, _: huge(asked)),
        (UNARY,),
        cannot=ONE_STEP,
    ),
    Row("status of old", "Whole.prepare: super().prepare", status(Whole, version=b"1.0"), (UNARY,), cannot=ONE_STEP),
]
