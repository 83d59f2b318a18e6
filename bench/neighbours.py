"""Shows that no client and no upstream hurts the others: ``python bench/neighbours.py [--quick] [--rows NAME …]``.

Each row of the table (``rows``) is one kind of heavy question or hostile answer, sent to a server of its own. Meanwhile
another process asks ``/health`` every 5 ms (``prober``): the longest answer is the stall, beside it what the same
server shows when it is idle. Memory is that of the server and its children above the start, at its peak and afterwards.
``others`` are small chat requests of another client: how many were served. The worst of all runs is shown and judged;
exit status 1 if a bound was missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file: modules are found from the root of the repository

from bench.house import CALM, Found, House, result
from bench.prober import Seen
from bench.rows import rows

MILLI = 1000.0
MIB = 1 << 20
LARGE = 2  # times the bound on stalls for what is as large as a body may be
QUICK = (
    "results-of-one-id objects-in-metadata tools-128 percent text heads places-in-a-text argument-2mb packed "
    "unary-objects items-in-limits items-sealed-large"
).split()
TWENTY = (
    "results-of-one-id media-in-a-result long-name calls tiny-images tiny-parts options percent picture text "
    "text-accents text-lines text-escapes objects-in-arguments objects-in-metadata objects-in-a-tool biases tools-128 "
    "tools-512 refs"
).split()


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
            result(sender, until - time.monotonic())
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
