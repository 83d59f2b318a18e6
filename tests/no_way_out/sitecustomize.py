"""No way out of this machine, in this process: Python imports it by its name when the folder is on PYTHONPATH.

``tests/conftest.py`` imports it and puts the folder there, so that it holds in the processes that tests start too. The
audit hook stands below every library: a test that forgot its fake fails by name instead of reaching Google.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

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
