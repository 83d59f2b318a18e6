"""The scenarios by name: what is asked of the servers, and which rows of the table come of it.

The targets stand here, beside what they judge. Every scenario takes a ``Fleet`` and an ``Effort`` and gives rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import quantiles

from msgspec import Struct
from msgspec.structs import replace

from bench.fleet import Fleet, Unsound
from bench.jobs import Closed, Held, Load, Paced, Target
from bench.processes import raise_descriptor_limit, resident_bytes
from bench.question import Api, Ask
from bench.report import Limit, Row
from bench.script import SCRIPTS

MICRO, MILLI, KIB = 1e6, 1e3, 1024
MANY = 5_000
FAR = 0.1  # so far from its pace a run of open streams says nothing: frames that pile up cost less each


class Effort(Struct, frozen=True):
    """How much is measured: rounds of floor and gemproxy in turn, seconds of one, questions by the clock, starts.

    ``tries`` is how often open streams are tried anew when they fell behind their pace.
    """

    rounds: int
    few_rounds: int
    seconds: float
    questions: int
    starts: int
    tries: int


QUICK = Effort(rounds=2, few_rounds=1, seconds=0.5, questions=80, starts=2, tries=2)
FULL = Effort(rounds=15, few_rounds=4, seconds=0.7, questions=1000, starts=9, tries=4)

Rows = Iterator[Row]


def unary(fleet: Fleet, effort: Effort) -> Rows:
    """32 clients ask for small JSON answers without a pause."""
    yield _closed("unary", "CPU of a small request, us", fleet, effort, "small", 32, 1.5)


def large(fleet: Fleet, effort: Effort) -> Rows:
    """8 clients get JSON answers of 64 KiB, then ask with 64 KiB, without a pause."""
    yield _closed("large", "CPU of a request with 64 KiB of answer, us", fleet, effort, "large", 8, 1.5)
    yield _closed("large", "CPU of a request with 64 KiB of question, us", fleet, effort, "small", 8, 1.5, "long")


def typed(fleet: Fleet, effort: Effort) -> Rows:
    """The same three with the smallest typed converter in gemproxy's place."""
    for measure, script, connections, question in _TYPED:
        yield _closed(
            "typed",
            f"the smallest converter: {measure}",
            fleet,
            effort,
            script,
            connections,
            None,
            question,
            fleet.typed,
        )


_TYPED: tuple[tuple[str, str, int, Ask], ...] = (
    ("small request, us", "small", 32, "plain"),
    ("64 KiB of answer, us", "large", 8, "plain"),
    ("64 KiB of question, us", "small", 8, "long"),
)


def tools(fleet: Fleet, effort: Effort) -> Rows:
    """8 clients send 80 kB with 30 tools, always the same ones, as an agent does."""
    yield _closed("tools", "CPU of a request of 80 kB with 30 tools, us", fleet, effort, "small", 8, 3.0, "tools")


def burst(fleet: Fleet, effort: Effort) -> Rows:
    """8 clients take streams of 1,000 frames as fast as they come."""
    yield _closed("burst", "CPU of a chunk back to back, us", fleet, effort, "burst", 8, 2.5)


def paced(fleet: Fleet, effort: Effort) -> Rows:
    """500 streams of 100 frames, 20 ms apart: 25,000 frames a second."""
    yield from _held("paced", fleet, effort, 500, 1.3)


def calm(fleet: Fleet, effort: Effort) -> Rows:
    """20 streams of 100 frames, 20 ms apart."""
    yield from _held("calm", fleet, effort, 20, None)


def memory(fleet: Fleet, _effort: Effort) -> Rows:
    """500 open streams that say little."""
    floor, proxy = (
        _resident(fleet, target, "nap", 500, 0.9) for target in (fleet.fresh_floor(), fleet.fresh_gemproxy())
    )
    yield Row("memory", "RSS of one of 500 open streams, KiB", [floor[0]], [proxy[0]], Limit("most", 40))


def thousands(fleet: Fleet, effort: Effort) -> Rows:
    """5,000 open streams in one process; left out of the quick run."""
    if effort is QUICK:
        return
    needed = 2 * MANY + 500
    if raise_descriptor_limit() < needed:
        raise Unsound(f"5,000 streams need {needed} descriptors: raise ulimit -Hn")
    floor, proxy = (
        _resident(fleet, target, "idle", MANY, 9.0) for target in (fleet.fresh_floor(), fleet.fresh_gemproxy())
    )
    yield Row("thousands", "RSS of one of 5,000 open streams, KiB", [floor[0]], [proxy[0]], Limit("most", 40))
    yield Row("thousands", "open at once and right to the end, streams", [floor[1]], [proxy[1]], Limit("least", MANY))


def responses(fleet: Fleet, effort: Effort) -> Rows:
    """What is asked of Responses against the same asked of chat, which stands in the column "floor"."""
    return _api_beside("responses", fleet, effort)


def messages(fleet: Fleet, effort: Effort) -> Rows:
    """The same of Anthropic's Messages."""
    return _api_beside("messages", fleet, effort)


def _api_beside(api: Api, fleet: Fleet, effort: Effort) -> Rows:
    yield _beside("CPU of a small request, us", api, fleet, effort, "small", 32, 1.15)
    yield _beside("CPU of a request of 80 kB with 30 tools, us", api, fleet, effort, "small", 8, None, "tools")
    yield _beside("CPU of a text delta back to back, us", api, fleet, effort, "burst", 8, 1.3)
    yield _open_beside("RSS of one of 500 open streams, KiB", api, fleet, 500, "plain", Limit("most", 44))
    yield _open_beside("RSS of one of 100 open streams, 80 kB asked, KiB", api, fleet, 100, "tools", None)


def latency(fleet: Fleet, effort: Effort) -> Rows:
    """50 small requests a second, each to the upstream itself, the floor and gemproxy in turn."""
    targets = (fleet.upstream, fleet.floor(), fleet.gemproxy())
    load = fleet.run(Paced(targets, "small", 50, effort.questions))
    straight, floor, proxy = ([_rank(found, 50), _rank(found, 99)] for found in load.latencies)
    yield Row("latency", "p50 straight to the upstream, ms", [], [straight[0] * MILLI])
    for place, name, limit in ((0, "p50", Limit("over", 0.3)), (1, "p99", Limit("ratio", 2.0))):
        added = [(found[place] - straight[0]) * MILLI for found in (floor, proxy)]
        yield Row("latency", f"{name} added at 50 requests/s, ms", [added[0]], [added[1]], limit)


def first(fleet: Fleet, effort: Effort) -> Rows:
    """Streams at 20 a second: the time to the first byte of the body, which is the first chunk."""
    load = fleet.run(Paced((fleet.floor(), fleet.gemproxy()), "brief", 20, effort.questions // 2))
    floor, proxy = ([_rank(found, 50) * MILLI, _rank(found, 99) * MILLI] for found in load.firsts)
    yield Row("first", "p50 to the first chunk, ms", [floor[0]], [proxy[0]])
    yield Row("first", "p99 to the first chunk, ms", [floor[1]], [proxy[1]])


def start(fleet: Fleet, effort: Effort) -> Rows:
    """From the start of the process to the first 200 of GET /health."""
    floor, proxy = [], []
    for _ in range(effort.starts):
        floor.append(_started(fleet, fleet.fresh_floor))
        proxy.append(_started(fleet, fleet.fresh_gemproxy))
    yield Row("start", "to the first 200 of /health, s", floor, proxy, Limit("most", 0.6))


def processes(fleet: Fleet, effort: Effort) -> Rows:
    """Two instances on one port (server.reuse_port) against one; the column "floor" is the one."""
    one, two = fleet.gemproxy(), fleet.fresh_gemproxy(instances=2)
    seen: dict[Target, list[Load]] = {one: [], two: []}
    try:
        for _ in range(effort.few_rounds):
            for target, loads in seen.items():
                fleet.spread(target is two)
                loads.append(fleet.run(Closed(target, "small", 64, effort.seconds)))
    finally:
        fleet.spread(False)
        fleet.retire(two)

    def row(measure: str, of: Callable[[Load], float], limit: Limit | None = None) -> Row:
        return Row("processes", measure, [of(load) for load in seen[one]], [of(load) for load in seen[two]], limit)

    # with a core each, two processes serve 2 / ratio as much as one
    yield row(
        "2 against 1: CPU of a request, us", lambda load: sum(load.cpu) / load.answers * MICRO, Limit("ratio", 1.1)
    )
    yield row("2 against 1: requests/s beside the load generator", lambda load: load.answers / load.window)


Scenario = Callable[[Fleet, Effort], Rows]
SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        unary,
        large,
        typed,
        tools,
        burst,
        paced,
        calm,
        responses,
        messages,
        latency,
        first,
        start,
        processes,
        memory,
        thousands,
    )
}


# ---------------------------------------------------------------------------------------------------------- measures


def _in_turn(
    fleet: Fleet, rounds: int, measure: Callable[[Target], float], server: Callable[[], Target] | None = None
) -> tuple[list[float], list[float]]:
    """Return what the floor and gemproxy (or ``server``) give, measured A B A B."""
    targets = (fleet.floor(), (server or fleet.gemproxy)())
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for target, values in zip(targets, found, strict=True):
            values.append(measure(target))
    return found


def _closed(
    name: str,
    measure: str,
    fleet: Fleet,
    effort: Effort,
    script: str,
    connections: int,
    limit: float | None,
    question: Ask = "plain",
    server: Callable[[], Target] | None = None,
) -> Row:
    def cpu(target: Target) -> float:
        return _cpu(fleet.run(Closed(target, script, connections, effort.seconds, question)), effort)

    found = _in_turn(fleet, effort.rounds, cpu, server)
    return Row(name, measure, *found, None if limit is None else Limit("ratio", limit))


def _beside(
    measure: str,
    api: Api,
    fleet: Fleet,
    effort: Effort,
    script: str,
    connections: int,
    limit: float | None,
    ask: Ask = "plain",
) -> Row:
    """Return what chat and another API cost, measured in turn on one server."""
    target = fleet.gemproxy()
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(effort.rounds):
        for each, values in zip(_both(api), found, strict=True):
            load = fleet.run(Closed(target, script, connections, effort.seconds, ask, each))
            values.append(_cpu(load, effort))
    return Row(api, measure, *found, None if limit is None else Limit("ratio", limit))


def _open_beside(measure: str, api: Api, fleet: Fleet, streams: int, ask: Ask, limit: Limit | None) -> Row:
    chat, other = (_resident(fleet, fleet.fresh_gemproxy(), "nap", streams, 0.9, ask, each) for each in _both(api))
    return Row(api, measure, [chat[0]], [other[0]], limit)


def _both(api: Api) -> tuple[Api, Api]:
    return "chat", api


def _cpu(load: Load, effort: Effort) -> float:
    """Return the microseconds of an answer, of a stream those of one of its events."""
    if not load.answers:
        raise Unsound(f"no answer within {effort.seconds} s")
    return sum(load.cpu) / (load.events or load.answers) * MICRO


def _held(name: str, fleet: Fleet, effort: Effort, streams: int, limit: float | None) -> Rows:
    script = SCRIPTS["paced"]
    whole: tuple[list[float], list[float]] = ([], [])
    paces: list[float] = []

    def cpu(target: Target) -> float:
        job = Held(target, script.name, streams, ramp=streams / 500)
        load = _all_open(fleet, job, effort.tries)
        paces.append(_pace(job, load))
        whole[target.kind == "gemproxy"].append(load.whole_cpu / (streams * script.frames) * MICRO)
        return sum(load.cpu) / load.events * MICRO

    open_at_once = _in_turn(fleet, effort.few_rounds, cpu)
    yield at_pace(Row(name, f"CPU of a chunk, {streams} streams, 20 ms apart, us", *open_at_once), paces, limit)
    yield Row(name, "the same, with the requests that opened them", *whole, None)


def at_pace(row: Row, paces: list[float], limit: float | None) -> Row:
    """Return the row with the most that its ratio may be, or with a run's pace instead of it if that was missed."""
    worst = max(paces, key=lambda pace: abs(pace - 1))
    if abs(worst - 1) >= FAR:
        return replace(row, measure=row.measure.replace("20 ms apart", f"{worst:.0%} of the pace"))
    return row if limit is None else replace(row, limit=Limit("ratio", limit))


def _pace(job: Held, load: Load) -> float:
    """Return how many of the frames that were due came while all streams were open; 1 is all of them."""
    return load.events / load.window * SCRIPTS[job.script].gap / job.streams


def _all_open(fleet: Fleet, job: Held, tries: int) -> Load:
    """Return what a job came to in which all streams were open at once, and nothing fell behind.

    On a busy machine frames pile up and are then passed on together, at less cost each than at their true pace; that
    needs another try. After the last try the one nearest to the pace counts.
    """
    best: tuple[float, Load] | None = None
    for _ in range(tries):
        load = fleet.run(job)
        if not load.window or not load.events:
            continue
        off = abs(_pace(job, load) - 1)
        if best is None or off < best[0]:
            best = (off, load)
        if off < FAR:
            break
    if best is None:
        raise Unsound(f"{job.streams} streams of {job.target.kind} were never open all at once")
    return best[1]


def _resident(
    fleet: Fleet, target: Target, script: str, streams: int, ramp: float, ask: Ask = "plain", api: Api = "chat"
) -> tuple[float, int]:
    """Return KiB of memory per open stream, above what the process holds after its first requests; right answers."""
    try:
        fleet.run(Closed(target, "brief", 1, 0.5, ask, api, warm=0.1))
        idle = sum(map(resident_bytes, target.pids))
        load = _all_open(fleet, Held(target, script, streams, ramp, ask, api), tries=2)
    finally:
        fleet.retire(target)
    return (load.resident - idle) / streams / KIB, load.right


def _started(fleet: Fleet, start_one: Callable[[], Target]) -> float:
    begun = time.perf_counter()
    target = start_one()
    seconds = time.perf_counter() - begun
    fleet.retire(target)
    return seconds


def _rank(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
