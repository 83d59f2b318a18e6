"""What every test has: no way out of this machine, a clock turned by hand, a simulated Gemini.

The audit hook stands below every library, so a test that forgot its fake fails by name instead of reaching Google.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import AsyncIterator
from typing import Any

import hypothesis
import pytest

pytest_plugins = ["tests.outgoing"]

hypothesis.settings.register_profile("gemproxy", deadline=None)  # a slow machine is not a bug
hypothesis.settings.load_profile("gemproxy")

LOOPBACK = ipaddress.ip_address("127.0.0.1")


class WayOutError(AssertionError):
    """A test tried to reach another machine."""


def _address(host: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _refuse_way_out(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        target = arguments[1]
        here = _address(target[0]) if isinstance(target, tuple) else LOOPBACK  # AF_UNIX: a path, or no address
        if here is None or not (here.is_loopback or here.is_unspecified):
            raise WayOutError(f"a test may only talk to this machine, not to {target[0]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
        if host not in (None, "", b"", "localhost", b"localhost") and _address(host) is None:
            raise WayOutError(f"a test may not look up {host!r}: give the code a resolver of its own")


sys.addaudithook(_refuse_way_out)


class Clock:
    """A wall clock in seconds that stands still until ``advance``."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Turn the clock and return the new time."""
        self.now += seconds
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator() -> AsyncIterator[Any]:
    """A started simulated Gemini on a free loopback port; ``.requests`` holds what it was asked."""
    from gemproxy.simulator import Simulator  # here, since most tests need no server

    async with Simulator() as running:
        yield running
