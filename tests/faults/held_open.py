"""The rows of the table of cancellations: how a request is made to wait at one ``await`` of its way.

In: a stage. Out: a client whose request waits where the row says, and what lets it go on. No test by itself.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.responses import kept
from gemproxy.dispatch import retry
from gemproxy.fetch import resolver
from gemproxy.fetch.shares import Shares
from gemproxy.load import worker
from gemproxy.load.turns import go_on
from gemproxy.server.asking import own_key
from gemproxy.simulator import Answer, Recorded, Wait, error_answer, frames_answer, sse, unary_answer
from gemproxy.simulator.google_errors import overloaded
from gemproxy.simulator.script import SSE, Step, pretty
from tests.apis.remembers import KIND as LINKS
from tests.faults.client import KEY, MODEL, Bare, hello, post
from tests.faults.raw_upstream import END, RawUpstream, chunk, head
from tests.faults.stage import LONG, Stage
from tests.waiting import soon

UNARY, STREAM, TOLD, THRICE, THRICE_STREAM, IN_TURN = (
    *("unary", "stream", "stream, status told", "three calls", "three, stream", "three in turn"),
)
CHAT_FORMS, FORMS = (UNARY, STREAM), (UNARY, STREAM, TOLD, THRICE, THRICE_STREAM)
PATHS = {THRICE: "/thrice/{}", THRICE_STREAM: "/thrice/{}?stream", IN_TURN: "/in-turn/{}"}
TEXT = "Hello wide world."
CLOSE = "Connection: close\r\nx-request-id: ours\r\n"
LARGE = "x" * 200_000  # beyond what is done on the loop


class Row(Struct, frozen=True):
    """One ``await``, and how a request comes to wait there.

    ``at`` is the place (``awaits``); ``hold`` starts the server and asks. ``cannot`` says of a column why the request
    cannot end so. ``going_on``: whose tasks serve those who come later, and so outlive their first client; ``others``
    says that another request stands in the way. ``told`` is what comes of it where that is another status or code than
    the column's, and ``cut`` names columns in which the answer ends in its middle.
    """

    name: str
    at: str
    hold: Callable[[Stage, str], Awaitable[Bare]]
    forms: tuple[str, ...] = FORMS
    cannot: Mapping[str, str] = {}
    going_on: str = "-"
    others: bool = False
    told: Mapping[str, tuple[int, str]] = {}
    cut: tuple[str, ...] = ()


# --------------------------------------------------------------------------------------------- requests and answers


def request(form: str, text: str = "Hello", more: str = CLOSE, content: Any = None) -> bytes:
    """Return a request of this form as bytes."""
    if form in PATHS:
        return post(text.encode(), path=PATHS[form].format(MODEL), headers=more)
    body = hello(content or text, stream=form != UNARY)
    return post(msgspec.json.encode(body), headers=more)


async def ask(stage: Stage, form: str, **options: Any) -> Bare:
    client = await stage.connect()
    await client.say(request(form, **options))
    return client


async def start(stage: Stage, form: str, **options: Any) -> None:
    await stage.start(hold=0 if form == TOLD else 30_000, **options)


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, **more}]}


def streams(asked: Recorded) -> bool:
    return asked.call == "streamGenerateContent"


def whole(asked: Recorded) -> Answer:
    answer = said(TEXT, finishReason="STOP")
    return frames_answer([answer]) if streams(asked) else unary_answer(answer)


def begun(asked: Recorded, *steps: Step) -> Answer:
    """Return an answer with these steps behind its head, before any content."""
    answer = whole(asked)
    if streams(asked):
        return Answer((*steps, *answer.body), content_type=SSE)
    body = pretty(said(TEXT, finishReason="STOP"))
    return Answer((body[:20], *steps, body[20:]))


def halfway(asked: Recorded, *steps: Step) -> Answer:
    """Return a stream with these steps behind its first content."""
    frames = [sse(said("Hello ")), *steps, sse(said("wide world.", finishReason="STOP"))]
    return Answer(tuple(frames), content_type=SSE)


def calls(form: str) -> int:
    return 3 if form in PATHS else 1


# --------------------------------------------------------------------------------------------------- before dispatch


async def half_a_body(stage: Stage, form: str) -> Bare:
    await start(stage, form)
    client, whole_of_it = await stage.connect(), request(form)
    await client.say(whole_of_it[:-3])
    stage.releases.append(lambda: client.writer.write(whole_of_it[-3:]))
    return client


def _finding_waits(stage: Stage) -> None:
    """Have the state keep whoever asks it waiting."""
    state = stage.service.kept
    found = state.get

    async def waits(kind: str, key: str, *, patient: bool) -> bytes | None:
        await stage.gate.wait()
        return await found(kind, key, patient=patient)

    stage.monkeypatch.setattr(state, "get", waits)


def _mark(stage: Stage) -> str:
    return stage.service.door.auth.caller(KEY).mark


async def _remembering(stage: Stage, form: str, text: str = "Hello") -> Bare:
    client = await stage.connect()
    query = "?stream" if form != UNARY else ""
    await client.say(post(text.encode(), path=f"/remembers/{MODEL}{query}", headers=CLOSE))
    return client


async def its_turn(stage: Stage, form: str) -> Bare:
    """Have somebody else ask the same."""
    await start(stage, form)
    held = [await stage.service.turns.take(own_key(_mark(stage), f"{LINKS}\0alone"))]
    stage.releases.append(lambda: held and held.pop()())
    return await _remembering(stage, form, "alone")


async def stored(stage: Stage, form: str) -> Bare:
    """Have the state keep a request waiting that goes on from what it keeps."""
    await start(stage, form)
    _finding_waits(stage)
    return await _remembering(stage, form)


def much_stored(work: str) -> Any:
    """Return what goes on from so much that this piece of work is done in the worker's thread, and takes its time."""

    async def hold(stage: Stage, form: str) -> Bare:
        _work_waits(stage, work)
        await start(stage, form)
        stage.service.kept.put(LINKS, own_key(_mark(stage), "Hello"), LARGE.encode(), LONG)
        return await _remembering(stage, form)

    return hold


def looked_up(work: str = "", text: str = "Hello", *, deaf: bool = False) -> Any:
    """Return what asks for an earlier answer and waits for the state, for ``work``, or, deaf, for itself."""

    async def hold(stage: Stage, form: str) -> Bare:
        if work:
            _work_waits(stage, work)
        await start(stage, form)
        record = kept.Record(Raw(msgspec.json.encode(text)), [], Raw(b'{"output":[]}'))
        stage.service.kept.put(kept.KIND, own_key(_mark(stage), "resp_1"), kept.written(None, record), LONG)
        if not work and not deaf:
            _finding_waits(stage)
        client = await stage.connect(receive=1 << 12 if deaf else 0)
        if deaf:
            client.writer.transport.pause_reading()
        request = post(b"", path="/v1/responses/resp_1/input_items", headers=CLOSE)
        await client.say(request.replace(b"POST", b"GET", 1))
        return client

    return hold


def images(
    *, half: bool = False, count: int = 1, shares: tuple[int, int] | None = None, host: str = "127.0.0.1"
) -> Any:
    """Return what asks with images whose host says nothing, or half of one."""

    async def hold(stage: Stage, form: str) -> Bare:
        pixel, wait = b"\x89PNG\r\n\x1a\n" + bytes(40), Wait(stage.gate)
        start_of_it, rest = chunk(pixel[:20]), chunk(pixel[20:])
        raw = await stage.stack.enter_async_context(RawUpstream())
        answer = (head("image/png"), start_of_it, wait, rest, END)
        raw.script("pixel", answer if half else (wait, head("image/png"), start_of_it, rest, END))
        await start(stage, form)
        if shares is not None:
            stage.monkeypatch.setattr(stage.service.images, "_places", Shares(*shares))
        urls = [f"http://{host}:{raw.port}/models/pixel:{number}" for number in range(count)]
        content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return await ask(stage, form, content=[{"type": "text", "text": "What is it?"}, *content])

    return hold


def silent_name(count: int = 1) -> Any:
    """Return what asks with so many images whose name server says nothing; one is asked at a time."""

    async def hold(stage: Stage, form: str) -> Bare:
        opened, look = threading.Event(), socket.getaddrinfo

        def silent(host: Any, *arguments: Any, **options: Any) -> Any:
            if host == "images.test":
                opened.wait(60)
                host = "127.0.0.1"
            return look(host, *arguments, **options)

        stage.monkeypatch.setattr(socket, "getaddrinfo", silent)
        stage.monkeypatch.setattr(resolver, "_COUNTED_THREADS", 1)
        stage.releases.append(opened.set)
        return await images(count=count, host="images.test")(stage, form)

    return hold


# --------------------------------------------------------------------------------------------------------- dispatch


async def full_queue(stage: Stage, form: str) -> Bare:
    """Have somebody else hold the only credential."""
    stage.google.script(lambda asked: whole(asked).after(Wait(stage.gate)))
    await start(stage, form, most=1)
    await ask(stage, UNARY, more="")
    await soon(lambda: stage.google.generations)
    return await ask(stage, form)


def upstream(answer: Callable[..., Answer], **options: Any) -> Any:
    """Return what asks an upstream whose answer holds a ``Wait``."""

    async def hold(stage: Stage, form: str) -> Bare:
        stage.google.script(lambda asked: answer(asked, Wait(stage.gate)), times=calls(form))
        await start(stage, form)
        return await ask(stage, form, **options)

    return hold


def no_head(asked: Recorded, wait: Wait) -> Answer:
    return whole(asked).after(wait)


def refused(asked: Recorded, wait: Wait) -> Answer:
    body = pretty(overloaded().body())
    return Answer((body[:10], wait, body[10:]), status=503)


async def pause(stage: Stage, form: str) -> Bare:
    """Have the upstream refuse, so that it is left alone for a while."""
    stage.monkeypatch.setattr(retry, "CAPACITY_PAUSES", (LONG, LONG))
    stage.google.script(error_answer(503, overloaded().body()), times=calls(form))
    await start(stage, form)
    stage.releases.append(stage.limits.slept.set)
    return await ask(stage, form)


async def hint(stage: Stage, form: str) -> Bare:
    """Have the upstream send a head that is no answer yet."""
    raw = await stage.stack.enter_async_context(RawUpstream())
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    kind = "application/json" if form == UNARY else "text/event-stream"
    data = pretty(said(TEXT, finishReason="STOP")) if form == UNARY else sse(said(TEXT, finishReason="STOP"))
    raw.script(MODEL, (early, Wait(stage.gate), head(kind), chunk(data), END))
    stage.upstream = raw.ai_studio_url
    await start(stage, form)
    return await ask(stage, form)


async def slow_name(stage: Stage, form: str) -> Bare:
    """Have the upstream's name server take its time."""
    stage.upstream = stage.google.ai_studio_url.replace("127.0.0.1", "upstream.test")
    await start(stage, form)
    inner = stage.service.pool.lookout.resolver._inner
    found = inner.resolve

    async def resolve(host: str, *arguments: Any) -> Any:
        await stage.gate.wait()
        return await found("127.0.0.1", *arguments)

    stage.monkeypatch.setattr(inner, "resolve", resolve)
    return await ask(stage, form)


class Deaf(RawUpstream):
    """Reads nothing before ``gate`` opens."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self._gate = gate

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await self._gate.wait()
        await super()._answer(reader, writer)


async def unread(stage: Stage, form: str) -> Bare:
    """Ask with megabytes that the upstream does not read."""
    raw = await stage.stack.enter_async_context(Deaf(stage.gate))
    data = sse(said(TEXT, finishReason="STOP")) if form != UNARY else pretty(said(TEXT, finishReason="STOP"))
    raw.script(MODEL, (head("application/json" if form == UNARY else SSE), chunk(data), END))
    stage.upstream = raw.ai_studio_url
    await start(stage, form)
    return await ask(stage, form, text="x" * 4_500_000)


# ----------------------------------------------------------------------------------------------- beside the loop


def beside(work: str, *, answer: Callable[[Recorded], Answer] = whole, text: str = LARGE) -> Any:
    """Return what asks with so much that this piece of work is done in the worker's thread, and takes its time."""

    async def hold(stage: Stage, form: str, more: str = CLOSE) -> Bare:
        _work_waits(stage, work)
        stage.google.script(answer, times=calls(form))
        await start(stage, form)
        return await ask(stage, form, text=text, more=more)

    return hold


def _work_waits(stage: Stage, work: str) -> None:
    opened, undisturbed = threading.Event(), worker._undisturbed
    stage.releases.append(opened.set)

    def slowly(left: Callable[[], bool], doing: Any, *arguments: Any) -> Any:
        def until_let_go(*given: Any) -> Any:
            while not opened.wait(0.002):
                go_on()
            return doing(*given)

        name = getattr(doing, "__name__", "")
        return undisturbed(left, until_let_go if name == work else doing, *arguments)

    stage.monkeypatch.setattr(worker, "_undisturbed", slowly)


def refused_at_once(asked: Recorded) -> Answer:
    return error_answer(503, overloaded().body())


async def busy_worker(stage: Stage, form: str) -> Bare:
    """Have somebody else's request keep the thread."""
    await beside("weighed")(stage, UNARY, more="")
    await stage.waits_at("Worker.run: asyncio.shield(job)")
    return await ask(stage, form, text=LARGE)
