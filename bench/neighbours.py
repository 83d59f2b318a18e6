"""Shows that no client and no upstream hurts the others: ``python bench/neighbours.py [--quick] [--rows NAME …]``.

Each row of the table (``rows``) is one kind of heavy question or hostile answer, sent to a server of its own. Meanwhile
another process asks ``/health`` every 5 ms (``prober``): the longest answer is the stall, beside it what the same
server shows when it is idle. Memory is that of the server and its children above the start, at its peak and afterwards.
``others`` are small chat requests of another client: how many were served. The worst of all runs is shown and judged;
exit status 1 if a bound was missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct, field

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file: modules are found from the root of the repository

from bench.fleet import START, await_health
from bench.memory import MemoryWatch
from bench.prober import KEY, Seen
from bench.processes import Child, Cores, free_port
from bench.rows import rows

MILLI = 1000.0
MIB = 1 << 20
LARGE = 2  # times the bound on stalls for what is as large as a body may be
CLIENTS = 64
KEYS = 8  # of the upstream: a hostile answer may rest one
IDLE = 0.7  # seconds in which the idle server is watched
CALM = 0.1  # seconds of stall below which a server is at rest
NO_END = "no end"
REST = 1.0  # seconds of rest before memory is looked at again
QUICK = (
    "results-of-one-id objects-in-metadata tools-128 percent text heads places-in-a-text argument-2mb packed "
    "unary-objects"
).split()
TWENTY = (
    "results-of-one-id media-in-a-result long-name calls tiny-images tiny-parts options percent picture text "
    "text-accents text-lines text-escapes objects-in-arguments objects-in-metadata objects-in-a-tool biases tools-128 "
    "tools-512 refs"
).split()
CONFIG = """
[server]
port = {port}
[auth]
keys = [{keys}]
[rotation]
base_rest = 0.1
max_unhinted = 0.2
[images]
allow_hosts = ["127.0.0.1"]
[state]
path = ""
[upstream]
ai_studio_url = "http://127.0.0.1:{upstream}/v1beta"
"""


class Found(Struct):
    """What one run of a row showed. Seconds and bytes; ``late``: it was cut off."""

    idle: float = 0.0
    stall: float = 0.0
    peak: int = 0
    left: int = 0
    others: Seen = field(default_factory=Seen)
    ends: Counter[str] = field(default_factory=Counter)
    late: float = 0.0  # the seconds after which it was cut off, 0 if it was not
    tracebacks: int = 0


class Bounds(Struct, frozen=True):
    """What is allowed: a stall in ms (``LARGE`` times as much for the largest), memory above the start in MiB."""

    stall: float
    memory: float

    def missed(self, found: Found, *, large: bool, many: bool = False) -> list[str]:
        """Return the names of what was missed; ``many`` clients may use up what small requests of others need."""
        stall = self.stall * (LARGE if large else 1)
        over = {
            "time": found.late > 0,
            "stall": found.stall * MILLI > stall,
            "memory": found.peak / MIB > self.memory,
            "others": found.others.wrong > 0 and not many,
            "traceback": found.tracebacks > 0,
        }
        return [name for name, missed in over.items() if missed]


class Probe:
    """A ``prober`` of its own process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.seen = Seen()

    def look(self) -> Seen:
        """Return what came since the last look."""
        self._child.tell(b"")
        now = msgspec.json.decode(self._child.line(START), type=Seen)
        self.seen = self.seen.and_then(now)
        return now

    def start(self) -> None:
        """Forget what was seen."""
        self.look()
        self.seen = Seen()


class House:
    """The processes: one upstream for all, a server and its probers for each run. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cores = Cores().all
        self._numbers = 0
        self._environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LANG": "C.UTF-8"}

    def __enter__(self) -> House:
        self._upstream = self.start("-m", "bench.hostile")
        self.upstream = int(self._upstream.line(START))
        return self

    def __exit__(self, *_: object) -> None:
        self._upstream.kill()

    def start(self, *arguments: str) -> Child:
        """Start a process."""
        self._numbers += 1
        return Child(arguments, self._cores, self._environ, self._folder / f"{self._numbers}.log")

    @contextmanager
    def serving(self, chat_every: int = 50) -> Iterator[Serving]:
        """Run a server; it is ended without ceremony, since it may stand still. ``chat_every``: ms between two of the
        small chat requests.
        """
        port = free_port()
        config = self._folder / f"{port}.toml"
        keys = ", ".join(f'"{key}"' for key in (KEY, *map(_key, range(CLIENTS))))
        credentials = "".join(
            f'[[credentials]]\nname = "bench-{number}"\nkind = "api_key"\nkey = "test-key-{number}"\n'
            for number in range(KEYS)
        )
        config.write_text(CONFIG.format(port=port, keys=keys, upstream=self.upstream) + credentials, encoding="utf-8")
        with ExitStack() as stack:
            server = self.start("-m", "gemproxy", "serve", "--config", str(config))
            stack.callback(server.kill)
            await_health(port, server)
            probes = []
            for every, kind in ((5, "health"), (chat_every, "chat")):
                child = self.start("-m", "bench.prober", str(port), str(every), kind)
                stack.callback(child.kill)
                probes.append(Probe(child))
            memory = stack.enter_context(MemoryWatch(server.pid))
            yield Serving(self, server, port, probes, memory)


class Serving:
    """One server and those who watch it."""

    def __init__(self, house: House, server: Child, port: int, probes: list[Probe], memory: MemoryWatch) -> None:
        self._house = house
        self._server = server
        self.port = port
        self.health, self.chat = probes
        self._memory = memory

    def measure(self, names: Sequence[str], patience: float) -> Found:
        """Send rows, all of them at once, and return what came of it; cut off after ``patience`` seconds."""
        found = Found()
        with ExitStack() as stack:
            senders = [stack.enter_context(self.sender(name, number)) for number, name in enumerate(names)]
            self._start()
            time.sleep(IDLE)
            found.idle = self.health.look().worst
            self._start()
            before = self._memory.start()
            begun = time.monotonic()
            for sender in senders:
                sender.tell(b"go")
            for sender in senders:
                for end, count in _ends(sender, begun + patience - time.monotonic()).items():
                    found.ends[end if len(names) == 1 else _short(end)] += count
        ended = self._settle(begun + patience) and NO_END not in found.ends
        found.late = 0.0 if ended else patience
        self.health.look(), self.chat.look()
        found.stall, found.others = self.health.seen.worst, self.chat.seen
        found.peak, found.left = self._memory.peak - before, self._memory.now() - before
        found.tracebacks = self._server.wrote().count("Traceback")
        return found

    @contextmanager
    def sender(self, name: str, number: int, seconds: float = 0.0) -> Iterator[Child]:
        """Run the clients of a row, whose body is made when this returns; they leave at the end."""
        child = self._house.start(
            "-m", "bench.sender", name, str(self.port), str(self._house.upstream), _key(number), str(seconds)
        )
        try:
            child.line(START)
            yield child
        finally:
            child.kill()

    def _start(self) -> None:
        self.health.start()
        self.chat.start()

    def _settle(self, until: float) -> bool:
        """Wait until the server is at rest; returns whether it came to that in time."""
        rested = time.monotonic() + REST
        until = max(until, rested + REST)
        while time.monotonic() < until:
            time.sleep(REST / 4)
            now = self.health.look()
            if not now.asked or now.worst > CALM:
                rested = time.monotonic() + REST
            elif time.monotonic() >= rested:
                return True
        return False


def _ends(sender: Child, seconds: float) -> Counter[str]:
    try:
        return Counter(msgspec.json.decode(sender.line(max(seconds, 0.0)), type=dict[str, int]))
    except RuntimeError:
        return Counter([NO_END])


def _short(end: str) -> str:
    """Return the status alone, so that the ends of many rows can be counted."""
    return end[:3] if end[:3].isdecimal() else end.partition(" (")[0]


def _key(number: int) -> str:
    return f"sk-bench-heavy-{number % CLIENTS}"


def worst(runs: Sequence[Found]) -> Found:
    """Return the worst of each figure; the ends and the others of all runs."""
    others, ends = Seen(), Counter[str]()
    for run in runs:
        others = others.and_then(run.others)
        ends.update(run.ends)
    return Found(
        max(run.idle for run in runs),
        max(run.stall for run in runs),
        max(run.peak for run in runs),
        max(run.left for run in runs),
        others,
        ends,
        max(run.late for run in runs),
        sum(run.tracebacks for run in runs),
    )


# ------------------------------------------------------------------------------------------------- the table

_FORM = "{:<21} {:>8} {:>8} {:>9} {:>9} {:>9}  {:<7} {}"
HEAD = _FORM.format("kind", "stall ms", "idle ms", "peak MiB", "left MiB", "others", "", "outcome")


def line(name: str, found: Found, missed: Sequence[str]) -> str:
    """Return a row as the table shows it; a stall that had not ended is shown with ``>``."""
    served = f"{found.others.asked - found.others.wrong}/{found.others.asked}"
    stall = f"{'>' if found.late and found.stall > CALM else ''}{found.stall * MILLI:.0f}"
    ends = [f"> {found.late:g} s"] if found.late else []
    ends += [f"{end}{f' (x {count})' if count > 1 else ''}" for end, count in found.ends.most_common(6)]
    ends += [f"{found.tracebacks} tracebacks in the log"] if found.tracebacks else []
    return _FORM.format(
        name,
        stall,
        f"{found.idle * MILLI:.1f}",
        f"{found.peak / MIB:.0f}",
        f"{found.left / MIB:.0f}",
        served,
        "MISS" if missed else "ok",
        "; ".join(ends),
    )


def _rows(house: House, asked: argparse.Namespace, bounds: Bounds) -> Iterator[tuple[str, Found, list[str]]]:
    known = rows()
    for name in asked.rows:
        found = worst([_run(house, [name], asked.patience) for _ in range(asked.runs)])
        yield name, found, bounds.missed(found, large=known[name].large)
    if asked.all_at_once:
        found = worst([_run(house, asked.rows, 3 * asked.patience) for _ in range(asked.runs)])
        yield "all at once", found, bounds.missed(found, large=True, many=True)


def _run(house: House, names: Sequence[str], patience: float) -> Found:
    with house.serving() as serving:
        return serving.measure(names, patience)


def beside(house: House, seconds: float, patience: float) -> tuple[Seen, Seen]:
    """Return small chat requests of a server that has nothing else to do, and beside twenty heavy ones at once."""
    with house.serving(chat_every=10) as serving, ExitStack() as stack:
        senders = [stack.enter_context(serving.sender(name, number, seconds)) for number, name in enumerate(TWENTY)]
        serving.chat.start()
        time.sleep(seconds)
        alone = serving.chat.look()
        for sender in senders:
            sender.tell(b"go")
        until = time.monotonic() + seconds + patience
        for sender in senders:
            _ends(sender, until - time.monotonic())
        return alone, serving.chat.look()


def main() -> int:
    """Measure what was asked for."""
    asked = _asked()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended too
    bounds = Bounds(asked.stall, asked.memory)
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gemproxy-neighbours-") as folder, House(Path(folder)) as house:
        print(HEAD, flush=True)
        for name, found, over in _rows(house, asked, bounds):
            print(line(name, found, over), flush=True)
            missed += [f"{name} ({', '.join(over)})"] if over else []
        if asked.beside:
            alone, heavy = beside(house, asked.beside, asked.patience)
            missed += _told(alone, heavy, asked.stall)
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nall bounds kept")
    return 1 if missed else 0


def _told(alone: Seen, beside: Seen, stall: float) -> list[str]:
    print("\nsmall chat requests   asked  wrong    p50 ms    p99 ms  worst ms")
    for name, seen in (("alone", alone), ("beside 20 heavy ones", beside)):
        times = "".join(f"{value * MILLI:10.1f}" for value in (seen.middle, seen.rank99, seen.worst))
        print(f"{name:<21} {seen.asked:>5} {seen.wrong:>6}{times}")
    late = beside.rank99 * MILLI > alone.rank99 * MILLI + stall
    return ["beside 20 heavy ones"] if late or beside.wrong else []


def _asked() -> argparse.Namespace:
    known = rows()
    about = "\n".join(f"  {name:<21} {row.sentence}" for name, row in known.items())
    parser = argparse.ArgumentParser(
        description="What one client or the upstream can do to all others.",
        epilog=f"rows:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", nargs="+", metavar="NAME", choices=list(known), help="all by default")
    parser.add_argument("--quick", action="store_true", help="less than a minute: some rows, once, wide bounds")
    parser.add_argument("--runs", type=int, metavar="N", help="of each row; the worst counts (3)")
    parser.add_argument("--patience", type=float, metavar="SECONDS", help="for one row, then it is cut off (20)")
    parser.add_argument("--stall", type=float, metavar="MS", help="the longest stall, twice that for large ones (50)")
    parser.add_argument("--memory", type=float, metavar="MIB", help="the most above the start (384)")
    parser.add_argument("--all-at-once", action="store_true", help="and all rows together")
    parser.add_argument("--beside", type=float, metavar="SECONDS", help="and small requests beside 20 heavy ones")
    asked = parser.parse_args()
    asked.rows = asked.rows or (QUICK if asked.quick else list(known))
    asked.runs = asked.runs or (1 if asked.quick else 3)
    asked.patience = asked.patience or (8.0 if asked.quick else 20.0)
    asked.stall = asked.stall or (500.0 if asked.quick else 50.0)
    asked.memory = asked.memory or (512.0 if asked.quick else 384.0)
    return asked


if __name__ == "__main__":
    sys.exit(main())
