"""A worker tells of every test once, and of all phases in which something happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.fixture
def broken():
    raise ValueError

@pytest.fixture
def left():
    yield
    raise ValueError

def test_passes(): pass
def test_fails(): assert False
def test_begins(broken): pass
def test_ends(left): pass
def test_skips(): pytest.skip("no reason")
"""
HEARD = """
def pytest_runtest_logreport(report):
    if hasattr(report, "node"):
        print(f"heard {report.nodeid.partition('::')[2]} {report.when} {report.outcome}")

def pytest_runtest_logstart(nodeid):
    print("heard a start")
"""
HAPPENED = [
    *("test_begins setup failed", "test_ends call passed", "test_ends teardown failed"),
    *("test_fails call failed", "test_passes call passed", "test_skips call skipped"),
]


def run(folder: Path, *arguments: str) -> tuple[list[str], str]:
    """Run those tests on a worker; return what its controller heard, and how the run ended."""
    for name, text in (("test_all.py", TESTS), ("conftest.py", HEARD), ("pytest.ini", "[pytest]\n")):
        (folder / name).write_text(text, encoding="utf-8")
    plugins = ("-p", "xdist.plugin", "-p", "tests.said_to_controller", "-p", "no:cacheprovider")
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-n", "1", *plugins, "--rootdir", str(folder), str(folder), *arguments],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    heard = [line.partition("heard ")[2] for line in told.splitlines() if "heard " in line]
    return sorted(heard), told.splitlines()[-1]


@pytest.mark.parametrize(("arguments", "more"), [((), 0), (("--durations=3",), 14 - len(HAPPENED))])
def test_what_happened_is_told_and_nothing_else(tmp_path: Path, arguments: tuple[str, ...], more: int) -> None:
    heard, end = run(tmp_path, *arguments)
    told = [line for line in heard if line != "a start"]
    assert set(HAPPENED) <= set(told)
    assert len(told) == len(HAPPENED) + more
    assert ("a start" in heard) == bool(more)
    assert all(count in end for count in ("1 failed", "2 passed", "1 skipped", "2 errors"))
