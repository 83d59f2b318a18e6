"""Measures gemproxy against the floor, prints a table, writes results.json: ``python bench/bench_proxy.py [--quick]``.

Exit status 1 if any answer was wrong; a missed target is told, and fails the run only with ``--strict``, since a busy
machine can miss one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file: modules are found from the root of the repository

from bench import report
from bench.fleet import Fleet, Unsound
from bench.scenarios import FULL, QUICK, SCENARIOS, Effort


def main() -> int:
    """Run the chosen scenarios."""
    asked = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended too
    begun = time.monotonic()
    print(report.HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="gemproxy-bench-") as folder, Fleet(Path(folder)) as fleet:
        rows, unsound = _measure(fleet, QUICK if asked.quick else FULL, asked.scenarios or list(SCENARIOS))
    missed = [row for row in rows if row.ok is False]
    judged = sum(row.ok is not None for row in rows)
    print(f"\n{judged - len(missed)} of {judged} targets kept, in {time.monotonic() - begun:.0f} s")
    if rows:
        report.write(rows, asked.output)
        print(f"written to {asked.output}")
    return 1 if unsound or (asked.strict and missed) else 0


def _parser() -> argparse.ArgumentParser:
    about = "\n".join(f"  {name:<11} {scenario.__doc__}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        description="gemproxy against a byte forwarder.",
        epilog=f"scenarios:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", choices=[[], *SCENARIOS], help="all by default")
    parser.add_argument("--quick", action="store_true", help="less than a minute, rougher figures, no 5,000 streams")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    parser.add_argument("--output", type=Path, default=report.RESULTS, metavar="FILE", help="JSON (%(default)s)")
    return parser


def _measure(fleet: Fleet, effort: Effort, names: list[str]) -> tuple[list[report.Row], bool]:
    rows: list[report.Row] = []
    unsound = False
    for name in names:
        try:
            for row in SCENARIOS[name](fleet, effort):
                rows.append(row)
                print(report.line(row), flush=True)
        except Unsound as wrong:
            unsound = True
            print(f"{name:<11} WRONG: {wrong}", flush=True)
    return rows, unsound


if __name__ == "__main__":
    sys.exit(main())
