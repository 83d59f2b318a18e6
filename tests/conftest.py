"""What every test has: no way out of this machine, a clock turned by hand, a simulated Gemini."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.clock import Clock
from tests.corpus import CORPUS
from tests.no_way_out.sitecustomize import __file__ as guard

pytest_plugins = ["tests.faults.figures", "tests.outgoing", "tests.turned_loop"]

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
for name in [name for name in os.environ if name.startswith(SAYINGS) and name != "GEMPROXY_PLAIN_AIOHTTP"]:
    del os.environ[name]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(guard).parent), os.environ.get("PYTHONPATH")]))


SYSTEM = Path(__file__).parent / "system"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs other programs (``make test-system``), unless it is named."""
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    wanted = any(path.is_relative_to(SYSTEM) for path in named)
    return True if collection_path == SYSTEM and not wanted else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not CORPUS.is_dir():
        terminalreporter.write_line(f"without recorded traffic: {CORPUS} is not there; WIRE=folder names another place")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator() -> AsyncIterator[Any]:
    """A started simulated Gemini on a free loopback port; ``.requests`` holds what it was asked."""
    from gemproxy.simulator import Simulator  # here, since most tests need no server

    async with Simulator() as running:
        yield running
