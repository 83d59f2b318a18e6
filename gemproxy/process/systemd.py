"""(edge) What systemd is told and gives: readiness, watchdog, inherited sockets (sd_notify(3), sd_listen_fds(3)).

Without systemd every function here does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
UNNAMED = "unknown"  # what sd_listen_fds_with_names(3) calls a socket without a name


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send one state, such as ``READY=1``; returns whether somebody listens."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract name space
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.connect(address)
            channel.sendall(state.encode())
        except OSError:
            return False
    return True


def fall_silent() -> None:
    """Tell systemd no more: it has another main process."""
    os.environ.pop("NOTIFY_SOCKET", None)


def stopping(seconds: float) -> str:
    """Return the state that begins a stop which may take so long; systemd waits for it beyond TimeoutStopSec."""
    return f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}"


def reloading() -> str:
    """Return the state that begins a reload; Type=notify-reload wants the time of it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds between two signs of life (half of what systemd allows), or None."""
    owner = environ.get("WATCHDOG_PID")
    if owner is not None and owner != str(os.getpid()):
        return None
    try:
        return int(environ["WATCHDOG_USEC"]) / 2_000_000
    except (KeyError, ValueError):
        return None


def inherited_sockets(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd passed on (socket activation)."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(environ.get("LISTEN_FDS", "0"))
    except ValueError:
        return []
    found: list[socket.socket] = []
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count):
        os.set_inheritable(descriptor, False)
        found.append(socket.socket(fileno=descriptor))
    return found


def inherited_names(count: int, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of so many inherited sockets (``FileDescriptorName=``, or a predecessor's)."""
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return names if len(names) == count else [UNNAMED] * count
