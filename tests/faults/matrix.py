"""An API is put through every fault of ``upstream_faults``: the runs, side by side on turned time, and the verdict.

In: rows, kinds, and a client of the API. Out: a ``Matrix``, its table, and for each cell what must have come of it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec import Struct

from gemproxy.config import load
from gemproxy.converter.api import Operation
from gemproxy.dispatch.answer import Answer
from gemproxy.wiring.build import OPERATIONS
from tests.faults.client import Got, pool
from tests.faults.raw_upstream import RawUpstream
from tests.faults.upstream_faults import KINDS, ROWS, TEXTS, Column, Fault, Kind, Moment, Rows, good, wire
from tests.running import Running, running_with
from tests.turned_loop import turned_time
from tests.waiting import soon

AT_ONCE = 80  # cells under way together
PATIENCE = 40.0  # seconds after which a connection counts as stuck


class Cell(Struct):
    """One run: what the client got (None: no honest answer, ``outcome`` says why), after how many tries."""

    got: Got | None
    tries: int
    outcome: str

    def __str__(self) -> str:
        return f"{self.outcome[:25]} /{self.tries}"


class Matrix(Struct):
    """All cells; how many upstream answers there were, and how many of them were still in memory afterwards."""

    cells: dict[tuple[str, Moment, Column, str], Cell]
    answers: int
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
    configs = []
    with turned_time(), _answers() as answers:
        async with RawUpstream() as upstream:
            for hold in (30, 0):
                file = folder / f"hold-{hold}.toml"
                file.write_text(MORE.format(hold=hold, url=upstream.ai_studio_url), encoding="utf-8")
                configs.append(load(file, {}))
            async with running_with(configs[0], operations) as calm, running_with(configs[1], operations) as held:
                trial = Trial(upstream, calm, held, asking)
                keys = [(fault, moment, *kind) for (fault, moment), kind in itertools.product(rows, kinds)]
                cells = await asyncio.gather(*(trial.run(*key) for key in keys))
                await _nothing_is_stuck(upstream, calm, held)
                gc.collect()
                kept = sum(answer() is not None for answer in answers)
    found = {(fault.name, *rest): cell for (fault, *rest), cell in zip(keys, cells, strict=True)}
    return Matrix(found, len(answers), kept)


@contextmanager
def _answers() -> Iterator[list[weakref.ref[Answer]]]:
    """Give all upstream answers that are made meanwhile."""
    made: list[weakref.ref[Answer]] = []
    begin = Answer.__init__

    def watched(answer: Answer, *arguments: Any, **more: Any) -> None:
        made.append(weakref.ref(answer))
        begin(answer, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answer, "__init__", watched)
        yield made


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
