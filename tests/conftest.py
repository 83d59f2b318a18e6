"""What every test has: no way out of this machine, a clock turned by hand, a simulated Gemini."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.clock import Clock
from tests.corpus import HAS_WIRE, WIRE
from tests.no_way_out.sitecustomize import __file__ as guard

pytest_plugins = ["tests.faults.figures", "tests.outgoing", "tests.said_to_controller", "tests.turned_loop"]

hypothesis.settings.register_profile("gemproxy", deadline=None)  # a slow machine is not a bug
hypothesis.settings.load_profile("gemproxy")

# What the machine says to a service of its own must not reach the tests or the processes that they start.
SAYINGS = (
    "CLOUDSDK_CONFIG",
    "GEMINI_",
    "GEMPROXY_",
    "GOOGLE_",
    "HTTPS_PROXY",
    "https_proxy",
    "LISTEN_",
    "NOTIFY_SOCKET",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_",
    "STATE_DIRECTORY",
    "WATCHDOG_",
)
gc.disable()  # until all tests are collected: nothing of them is garbage, and looking again and again is a third of it

for name in [name for name in os.environ if name.startswith(SAYINGS) and name != "GEMPROXY_PLAIN_AIOHTTP"]:
    del os.environ[name]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(guard).parent), os.environ.get("PYTHONPATH")]))


LONGEST = ("process", "faults")
# What needs programs that Python's packages do not bring: make test-system, make test-node.
OTHERS = (Path(__file__).parent / "system", Path(__file__).parent / "clients" / "node")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs other programs, unless it is named."""
    if collection_path not in OTHERS:
        return None
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(collection_path) for path in named) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits longest: workers take a module after the other, and the last must not be a long one."""
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Set apart what lives as long as the run, thousands of tests: no collection looks at it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not HAS_WIRE:
        terminalreporter.write_line(f"recordings: those of tests/data/wire; there is no {WIRE} (tests/corpus.py)")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator() -> AsyncIterator[Any]:
    """A started simulated Gemini on a free loopback port; ``.requests`` holds what it was asked."""
    from gemproxy.simulator import Simulator  # here, since most tests need no server

    async with Simulator() as running:
        yield running
