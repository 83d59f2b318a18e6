"""What an upstream can do wrong, at every moment of an answer, and how every API is put through it.

Rows: a fault at a moment of the answer. Columns: unary, stream (status held), and stream whose status went out at once
(``timeouts.hold = 0``); each with a fault that happens once and one that stays.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct

from gemproxy.config import load
from gemproxy.converter.api import Operation
from gemproxy.dispatch.answer import Answer
from gemproxy.simulator import CutOff, Hang, Pause, Reset, drip, sse
from gemproxy.simulator.script import Step
from gemproxy.wiring.build import OPERATIONS
from tests.faults.client import Got, pool
from tests.faults.raw_upstream import END, RawUpstream, chunk, head
from tests.running import Running, running_with
from tests.waiting import soon

TEXTS = ("Hello ", "wide ", "world.")
TEXT = "".join(TEXTS)
HUGE = "x" * (8 << 20)
OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
PAGE = b"<html><head><title>502 Server Error</title></head><body>Bad Gateway</body></html>\n"
AT_ONCE = 80  # cells under way together
ARRIVED = Pause(0.25)  # so that what went before a fault has been read when it happens
PATIENCE = 40.0  # seconds after which a connection counts as stuck


class Moment(StrEnum):
    BEFORE = "before headers"
    HEADERS = "after headers"
    MID = "mid-frame"
    CHUNK = "after the first chunk"


class Column(StrEnum):
    UNARY = "unary"
    STREAM = "stream"
    HELD = "stream, hold 0"


def _candidate(text: str, *, last: bool) -> dict[str, object]:
    said: dict[str, object] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    return {"candidates": [said | ({"finishReason": "STOP"} if last else {})], "modelVersion": "gemini-test"}


def frames(texts: Iterable[str]) -> list[bytes]:
    """Return the frames of a stream that says these texts and ends well."""
    said = list(texts)
    return [sse(_candidate(text, last=number == len(said))) for number, text in enumerate(said, 1)]


class Wire(Struct, frozen=True):
    """A good answer, cut into what is sent before and after the fault."""

    stream: bool
    moment: Moment
    before: bytes
    after: bytes


def wire(stream: bool, moment: Moment, texts: tuple[str, ...] = TEXTS) -> Wire:
    """Return a good answer in two parts; half of the first frame is a chunk of its own."""
    if stream:
        pieces = frames(texts)
    else:
        body = msgspec.json.encode(_candidate("".join(texts), last=True))
        third = len(body) // 3
        pieces = [body[:third], body[third : 2 * third], body[2 * third :]]
    half = len(pieces[0]) // 2
    kind = "text/event-stream" if stream else "application/json; charset=UTF-8"
    coded = [head(kind), *map(chunk, (pieces[0][:half], pieces[0][half:], *pieces[1:])), END]
    cut = {Moment.BEFORE: 0, Moment.HEADERS: 1, Moment.MID: 2, Moment.CHUNK: 3}[moment]
    return Wire(stream, moment, b"".join(coded[:cut]), b"".join(coded[cut:]))


def good(stream: bool) -> tuple[Step, ...]:
    """Return the steps of an answer without any fault."""
    return (wire(stream, Moment.BEFORE).after,)


# ------------------------------------------------------------------------------------------------------- the faults


def plain(status: str, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def reset(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, Reset()


def hang(at: Wire) -> tuple[Step, ...]:
    return at.before, Hang()


def cut_off(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, CutOff()


def slow_drip(at: Wire) -> tuple[Step, ...]:
    return at.before, Pause(0.2), *drip(at.after, 40, 0.01)


def single_bytes(at: Wire) -> tuple[Step, ...]:
    return at.before, *drip(at.after, 1)


def invalid_json(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.BEFORE:
        return (plain("500 Internal Server Error", b'{"error": {"code": '),)
    nonsense = b"data: {nonsense}\r\n\r\n" if at.stream else b'\x01"nonsense}'  # invalid inside a string too
    return at.before, chunk(nonsense), at.after


def error_frame(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.BEFORE:
        return (plain("503 Service Unavailable", msgspec.json.encode(OVERLOADED)),)
    framed = at.stream and at.moment is not Moment.MID
    error = sse(OVERLOADED) if framed else b"\r\n" + msgspec.json.encode(OVERLOADED)
    return at.before, ARRIVED, chunk(error), END


def no_finish(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, END


def html(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.BEFORE:
        return (plain("502 Bad Gateway", PAGE, "text/html"),)
    if at.moment is Moment.HEADERS:
        return head("text/html"), chunk(PAGE), END
    return at.before, ARRIVED, chunk(PAGE), END


def wrong_type(at: Wire) -> tuple[Step, ...]:
    return head("application/octet-stream"), at.after


def huge_frame(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.HEADERS:
        return (wire(at.stream, Moment.BEFORE, (HUGE, TEXTS[-1])).after,)
    if at.moment is Moment.MID:
        return wire(at.stream, Moment.MID, (HUGE, TEXTS[-1])).before, CutOff()
    return (wire(at.stream, Moment.BEFORE, (TEXTS[0], HUGE, TEXTS[-1])).after,)


def gzipped(at: Wire) -> tuple[Step, ...]:
    """Return a packed answer although none was asked for; nothing of it is read."""
    if at.moment is Moment.BEFORE:
        refusal = gzip.compress(msgspec.json.encode(OVERLOADED))
        return (plain("503 Service Unavailable\r\nContent-Encoding: gzip", refusal),)
    answer = b"".join(frames(TEXTS)) if at.stream else msgspec.json.encode(_candidate(TEXT, last=True))
    begin = head("text/event-stream" if at.stream else "application/json", more="Content-Encoding: gzip\r\n")
    return begin, chunk(gzip.compress(answer)), END


def not_http(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, b"NONSENSE\r\n\r\n", CutOff()


def redirect(at: Wire) -> tuple[Step, ...]:
    return (plain("302 Found\r\nLocation: http://127.0.0.1:9/elsewhere", b""),)


def no_content(at: Wire) -> tuple[Step, ...]:
    return (b"HTTP/1.1 204 No Content\r\n\r\n",)


class Fault(Struct, frozen=True):
    """A fault and the status it comes to when it stays, by moment; 0: the answer is whole all the same."""

    name: str
    steps: Callable[[Wire], tuple[Step, ...]]
    status: dict[Moment, int]
    heals: bool = True  # if it happens once, before the content commit
    text: str = TEXT
    unary: int = 0  # where it comes to another status than in a stream

    @property
    def key(self) -> str:
        return self.name.replace(" ", "-")


def _all(status: int) -> dict[Moment, int]:
    return dict.fromkeys(Moment, status)


def _inside(status: int) -> dict[Moment, int]:
    return {moment: status for moment in Moment if moment is not Moment.BEFORE}


FAULTS = (
    Fault("reset", reset, _all(502)),
    # silence before the headers may be a model that thinks: only timeouts.first ends it, and nothing is repeated
    Fault("hang", hang, {Moment.BEFORE: 504}, heals=False),
    Fault("hang in the body", hang, _inside(504)),
    Fault("slow drip", slow_drip, _all(0)),
    Fault("1-byte writes", single_bytes, _all(0)),
    Fault("truncated body", cut_off, _all(502)),
    Fault("invalid JSON", invalid_json, _all(502)),
    Fault("error frame", error_frame, {Moment.BEFORE: 503, Moment.HEADERS: 503}),
    # inside half a frame an error cannot be read: all that is sure is that the answer is broken
    Fault("error in a frame", error_frame, {Moment.MID: 502}),
    Fault("error frame later", error_frame, {Moment.CHUNK: 503}, unary=502),
    Fault("end without finish", no_finish, _inside(502)),
    Fault("HTML 502", html, _all(502)),
    Fault("wrong content type", wrong_type, {Moment.HEADERS: 0}),
    Fault("huge frame", huge_frame, {Moment.HEADERS: 0}, text=HUGE + TEXTS[-1]),
    Fault("huge frame cut", huge_frame, {Moment.MID: 502}),
    Fault("huge frame second", huge_frame, {Moment.CHUNK: 0}, text=TEXTS[0] + HUGE + TEXTS[-1]),
    Fault("gzip", gzipped, {Moment.HEADERS: 502}),
    Fault("gzip refusal", gzipped, {Moment.BEFORE: 503}),
    Fault("not HTTP", not_http, {Moment.BEFORE: 502}),
    # aiohttp only closes the connection, and tells the body's reader nothing
    Fault("broken coding", not_http, _inside(502)),
    Fault("redirect", redirect, {Moment.BEFORE: 502}),
    Fault("204 without a body", no_content, {Moment.BEFORE: 502}),
)
ROWS = [(fault, moment) for fault in FAULTS for moment in fault.status]
KINDS = list(itertools.product(Column, ("once", "always")))
Rows = Sequence[tuple[Fault, Moment]]
Kind = tuple[Column, str]


# -------------------------------------------------------------------------------------------------------- the runs


class Cell(Struct):
    """One run: what the client got (None: no honest answer, ``outcome`` says why), after how many tries."""

    got: Got | None
    tries: int
    outcome: str

    def __str__(self) -> str:
        return f"{self.outcome[:25]} /{self.tries}"


class Matrix(Struct):
    """All cells, and how many answers were still in memory afterwards."""

    cells: dict[tuple[str, Moment, Column, str], Cell]
    kept: int


MORE = """
[server]
ping_interval = 0.2
[timeouts]
idle = 1.0
first = 6.0
hold = {hold}
[[credentials]]
name = "studio-1"
kind = "api_key"
key = "test-key-1"
[[credentials]]
name = "studio-2"
kind = "api_key"
key = "test-key-2"
[upstream]
ai_studio_url = "{url}"
"""


Asking = Callable[[Running, str, bool], Awaitable[Got]]  # a server, a model, and whether as a stream


class Trial:
    """Both servers and the upstream, and how a cell is run."""

    def __init__(self, upstream: RawUpstream, calm: Running, held: Running, asking: Asking) -> None:
        self.asking = asking
        self.upstream = upstream
        self.servers = {Column.UNARY: calm, Column.STREAM: calm, Column.HELD: held}
        self.gate = asyncio.Semaphore(AT_ONCE)

    async def run(self, fault: Fault, moment: Moment, column: Column, often: str) -> Cell:
        model = f"gemini-2.5-{fault.key}-{moment}-{column}-{often}".replace(" ", "-").replace(",", "").lower()
        stream = column is not Column.UNARY
        steps = fault.steps(wire(stream, moment))
        self.upstream.script(model, *([steps, good(stream)] if often == "once" else [steps]))
        server = self.servers[column]
        try:
            async with self.gate, asyncio.timeout(PATIENCE):
                got = await self.asking(server, model, stream)
        except (AssertionError, KeyError, TimeoutError, aiohttp.ClientError, msgspec.DecodeError) as lie:
            return Cell(None, self.upstream.asked[model], f"LIE: {lie!r}"[:200])
        got.body = b""
        return Cell(got, self.upstream.asked[model], got.outcome)


async def run(
    folder: Path,
    asking: Asking,
    operations: Sequence[Operation] = OPERATIONS,
    rows: Rows = ROWS,
    kinds: Sequence[Kind] = KINDS,
) -> Matrix:
    """Return what came of every row and kind, all run side by side."""
    async with RawUpstream() as upstream:
        configs = []
        for hold in (30, 0):
            file = folder / f"hold-{hold}.toml"
            file.write_text(MORE.format(hold=hold, url=upstream.ai_studio_url), encoding="utf-8")
            configs.append(load(file, {}))
        async with running_with(configs[0], operations) as calm, running_with(configs[1], operations) as held:
            trial = Trial(upstream, calm, held, asking)
            keys = [(fault, moment, *kind) for (fault, moment), kind in itertools.product(rows, kinds)]
            cells = await asyncio.gather(*(trial.run(*key) for key in keys))
            await _nothing_is_stuck(upstream, calm, held)
            kept = _kept_answers()
    return Matrix({(fault.name, *rest): cell for (fault, *rest), cell in zip(keys, cells, strict=True)}, kept)


def _kept_answers() -> int:
    """Return how many upstream answers are still in memory though they are over."""
    gc.collect()
    return sum(isinstance(thing, Answer) for thing in gc.get_objects())


async def _nothing_is_stuck(upstream: RawUpstream, *servers: Running) -> None:
    await soon(lambda: not upstream.playing.total(), what=f"upstream requests are stuck: {+upstream.playing}")
    for server in servers:
        rows = await pool(server.session, server.url)
        assert [(row["in_flight"], row["state"]) for row in rows] == [(0, "ready")] * 2


def table(matrix: Matrix, rows: Rows = ROWS, kinds: Sequence[Kind] = KINDS) -> str:
    """Return it as text."""
    lines = ["Upstream faults: what the client got / tries at the upstream; event: an error in a stream under way"]
    lines.append(f"{'':<19}{'':<22}" + "".join(f"{column + ', ' + often:<29}" for column, often in kinds))
    for fault, moment in rows:
        cells = [str(matrix.cells[fault.name, moment, column, often]) for column, often in kinds]
        lines.append(f"{fault.name:<19}{moment:<22}" + "".join(f"{cell:<29}" for cell in cells).rstrip())
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------ the verdict

EVENT_CODES = {502: "upstream_error", 503: "overloaded", 504: "upstream_timeout"}


def expected(fault: Fault, moment: Moment, column: Column, often: str) -> tuple[str, bool]:
    """Return the outcome in words, and whether the upstream was asked more than once."""
    status = (column is Column.UNARY and fault.unary) or fault.status[moment]
    if not status:
        return "whole", False
    if column is not Column.UNARY and moment is Moment.CHUNK:
        return f'"{TEXTS[0]}" + {EVENT_CODES[status]}', False
    if often == "once" and fault.heals:
        return "whole", True
    return (f"event {EVENT_CODES[status]}" if column is Column.HELD else str(status)), fault.heals
