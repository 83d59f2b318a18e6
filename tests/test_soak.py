"""The soak's own judgement: what a run must not be forgiven, and that no answer ends it without a report."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from bench import crowd, soak
from bench.crowd import BEHAVIOURS, BURDENS, Crowd, Tally
from bench.faulty import FAULTS, FLOOD, FLOOD_FRAME, Faulty
from bench.soak import MIB, SPARE_AT_REST, SPARE_MEMORY, SPARE_PER_REQUEST, Reading, Run, verdict
from gemproxy.converter.chat.reading import decode
from gemproxy.simulator import Recorded
from tests.test_bench import served

MANNERS = BEHAVIOURS | BURDENS
LATER = 10_000  # requests between the middle and the end
ERROR = b'{"error":{"message":"No.","type":"x","param":null,"code":null}}'
ALLOWED = 60 * MIB + SPARE_MEMORY + LATER * SPARE_PER_REQUEST


def run(**more: Any) -> Run:
    """A run with nothing to find fault with, but for what is given."""
    readings = {
        "idle before": Reading(50 * MIB, 10),
        "middle": Reading(60 * MIB, 90, LATER),
        "end": Reading(ALLOWED, 90, 2 * LATER),
        "idle after": Reading(ALLOWED, 10, 2 * LATER),
    } | more.pop("readings", {})
    good = Run(60, list(readings.items()), [0.01], Counter({"200": 2 * LATER}), hangups=6, reloads=6)
    return msgspec.structs.replace(good, **{"peace": True, "exit": 0} | more)


def judged(run: Run, tally: Tally | None = None, behaviours: Any = MANNERS, faults: Any = FAULTS) -> set[str]:
    """Return what did not hold."""
    seen, upstream = crowd_of(None, ""), Faulty(random.Random(1))
    seen.tally = tally or Tally(started=2 * LATER, whole=2 * LATER)
    seen.behaviours.update(behaviours)
    upstream.faults.update(faults)
    return {what for what, held in verdict(run, seen, upstream).items() if not held}


def crowd_of(session: Any, url: str) -> Crowd:
    return Crowd(url, session, random.Random(1), burdens=True)


def test_a_good_run_holds() -> None:
    assert judged(run()) == set()


@pytest.mark.parametrize(
    ("bad", "missed"),
    [
        pytest.param({"readings": {"end": Reading(ALLOWED + 1, 90, 2 * LATER)}}, "memory flat", id="a leak"),
        pytest.param(
            {"readings": {"idle after": Reading(ALLOWED + 1, 10, 2 * LATER)}}, "memory flat", id="a leak seen at rest"
        ),
        pytest.param(
            {"readings": {"idle after": Reading(ALLOWED, 19, 2 * LATER)}}, "descriptors flat", id="lost descriptors"
        ),
        pytest.param(
            {"readings": {"idle before": Reading(ALLOWED - SPARE_AT_REST - 1, 10)}},
            "memory back at rest",
            id="memory that heavy requests took and that never came back",
        ),
        pytest.param({"reloads": 5}, "every reload done", id="a reload that never came"),
        pytest.param({"reloads": 0, "hangups": 0}, "every reload done", id="no reload at all"),
        pytest.param({"health": [0.01, 5.5]}, "/health always prompt", id="a server that stood still"),
        pytest.param({"peace": False}, "nothing left under way", id="a request without an end"),
        pytest.param({"exit": 1}, "exit status 0 after SIGTERM", id="a bad end"),
        pytest.param({"exit": None}, "exit status 0 after SIGTERM", id="no end"),
        pytest.param({"bugs": ["Traceback"]}, "no bug in the log", id="a traceback"),
        pytest.param({"statuses": Counter({"200": LATER})}, "the server's log agrees", id="requests not logged"),
    ],
)
def test_a_bad_run_is_seen(bad: dict[str, Any], missed: str) -> None:
    assert judged(run(**bad)) == {missed}


def test_a_long_run_has_seen_every_fault_and_every_behaviour() -> None:
    assert judged(run(), behaviours=["reads"]) == {"every behaviour seen"}
    assert judged(run(), faults=["reset"]) == {"every fault injected"}
    assert judged(run(seconds=5, hangups=0, reloads=0), behaviours=["reads"], faults=["reset"]) == set()


def test_lost_and_wrong_answers_are_seen() -> None:
    most = 2 * LATER - 1
    assert judged(run(), Tally(started=2 * LATER, whole=most, wrong=1)) == {"no wrong answer"}
    assert judged(run(), Tally(started=2 * LATER, whole=most, lost=1)) == {"no request lost"}
    assert judged(run(), Tally(started=2 * LATER, whole=most)) == {"no request lost"}


# ---------------------------------------------------------------------------------------------------- the clients


@asynccontextmanager
async def answering(
    status: int, body: bytes, content_type: str, delay: float, headers: dict[str, str] | None = None
) -> AsyncIterator[str]:
    async def answer(request: web.BaseRequest) -> web.Response:
        await request.content.read()
        await asyncio.sleep(delay)
        return web.Response(status=status, body=body, content_type=content_type, headers=headers)

    async with served(web.Server(answer)) as port:  # type: ignore[arg-type]
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("status", "body", "content_type", "delay"),
    [
        pytest.param(200, b"{", "application/json", 0, id="no JSON"),
        pytest.param(200, b"{}", "application/json", 0, id="no choices"),
        pytest.param(200, b'{"choices":[]}', "application/json", 0, id="no choice"),
        pytest.param(200, b"[1]", "application/json", 0, id="no object"),
        pytest.param(200, b"data: {\n\n", "text/event-stream", 0, id="an event that is no JSON"),
        pytest.param(200, b'data: {"choices":[{"delta":0}]}\n\n', "text/event-stream", 0, id="a delta of another kind"),
        pytest.param(502, b"7", "application/json", 0, id="an error that is a number"),
        pytest.param(200, b"", "application/json", 60, id="no answer in time"),
    ],
)
async def test_no_answer_ends_the_crowd(status, body, content_type, delay, monkeypatch) -> None:
    stop = asyncio.Event()

    async def reads_once(self: Crowd, number: int) -> None:
        stop.set()
        await self.reads(number)

    monkeypatch.setattr(crowd, "BEHAVIOURS", {"reads": (1, reads_once)})
    monkeypatch.setattr(crowd, "BURDENS", {})
    patience = aiohttp.ClientTimeout(total=0.05 if delay else 10)
    async with answering(status, body, content_type, delay) as url, aiohttp.ClientSession(timeout=patience) as session:
        clients = crowd_of(session, url)
        await clients.client(stop)
    assert (clients.tally.wrong, clients.tally.lost) == ((0, 1) if delay else (1, 0))
    assert "question 1:" in clients.tally.why[0]


async def test_a_complaint_names_the_question_that_it_is_about(monkeypatch) -> None:
    stop, both = asyncio.Event(), asyncio.Barrier(2)

    async def wrong_later(_crowd: Crowd, number: int) -> None:
        await both.wait()
        stop.set()
        raise crowd.Wrong(f"about {number}")

    monkeypatch.setattr(crowd, "BEHAVIOURS", {"reads": (1, wrong_later)})
    monkeypatch.setattr(crowd, "BURDENS", {})
    clients = crowd_of(None, "")
    await asyncio.gather(clients.client(stop), clients.client(stop))
    assert sorted(clients.tally.why) == ["reads, question 1: about 1", "reads, question 2: about 2"]


async def test_a_server_that_is_gone_is_not_well() -> None:
    async with aiohttp.ClientSession() as session:
        assert await soak._healthy("http://127.0.0.1:1", session) == float("inf")


# ------------------------------------------------------------------------------------------------- who asks heavily


@pytest.mark.parametrize("name", list(crowd.HEAVY))
def test_what_is_heavy_is_let_in(name: str) -> None:
    assert 100_000 < len(crowd.heavy_body(name)) < 4_000_000 < crowd.TOO_MUCH
    decode(crowd.heavy_body(name))


@pytest.mark.parametrize(
    ("status", "body", "judged"),
    [
        pytest.param(200, b"{}", {"whole": 1}, id="served"),
        pytest.param(400, ERROR, {"refused": {"heavy: text": 1}}, id="refused for what it is"),
        pytest.param(503, ERROR, {"told": {"503": 1}}, id="refused for now"),
        pytest.param(500, ERROR, {"wrong": 1}, id="a bug"),
        pytest.param(400, b"{}", {"wrong": 1}, id="refused without an error object"),
    ],
)
async def test_a_heavy_question_is_served_or_refused_honestly(status, body, judged, monkeypatch) -> None:
    monkeypatch.setattr(crowd, "HEAVY", {"text": lambda: b"x"})
    crowd.heavy_body.cache_clear()
    async with (
        answering(status, body, "application/json", 0, {"Retry-After": "1"}) as url,
        aiohttp.ClientSession() as session,
    ):
        clients = crowd_of(session, url)
        await clients._ask("asks heavily", 1)
    crowd.heavy_body.cache_clear()
    found = msgspec.structs.asdict(clients.tally)
    assert {name: value for name, value in found.items() if value and name != "why"} == judged


async def test_who_takes_nothing_leaves_and_who_sends_slowly_is_heard(monkeypatch) -> None:
    monkeypatch.setattr(crowd, "STAYS", (0, 0))
    monkeypatch.setattr(crowd, "PAUSE", 0)
    async with answering(200, b"x" * MIB, "text/event-stream", 0) as url, aiohttp.ClientSession() as session:
        clients = crowd_of(session, url)
        await clients._ask("never reads", 1)
        await clients._ask("uploads slowly", 2)
    assert (clients.tally.gone, clients.tally.whole, clients.tally.why) == (1, 1, [])


def recorded(call: str, body: bytes) -> Recorded:
    nothing: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
    return Recorded("POST", "", "", nothing, nothing, body, 0.0, call=call)


def test_a_flood_is_more_than_the_system_takes_for_a_client() -> None:
    faulty = Faulty(random.Random(1))
    body = crowd_of(None, "").body(2, messages=[{"role": "user", "content": FLOOD}])
    answer = faulty.answer(recorded("streamGenerateContent", body))
    assert sum(len(step) for step in answer.body if isinstance(step, bytes)) > 2 * FLOOD_FRAME
    assert not faulty.faults


def test_what_heavy_requests_hold_for_a_while_is_no_leak() -> None:
    tenths = [
        ("idle before", 50),
        ("1/10", 55),
        ("2/10", 60),
        ("middle", 90),
        ("6/10", 61),
        ("end", 95),
        ("idle after", 62),
    ]
    readings = [(name, Reading(size * MIB, 10, LATER)) for name, size in tenths]
    assert judged(msgspec.structs.replace(run(), readings=readings)) == set()
    leak = [(name, Reading((size + 20 * (name in ("6/10", "end"))) * MIB, 10, LATER)) for name, size in tenths]
    assert judged(msgspec.structs.replace(run(), readings=leak)) == {"memory flat"}
