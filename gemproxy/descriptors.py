"""(edge) File descriptors: how many connections they carry, and what is said when they run out.

The kernel gives a new descriptor the lowest number that is free: so its number tells, at no cost, that at least as many
are in use, whoever has them.
"""

from __future__ import annotations

import errno
import resource
import sys
from pathlib import Path

from gemproxy.errors import Overload

RESERVE = 16  # for what is no stream: names, tokens, images, files, and connections that are told why they are refused
RESERVE_UNDER_WAY = RESERVE // 2  # of those, left to what is under way: a connection that gets one of them is refused
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # of this machine, not of another
NONE_LEFT = Overload("The server has no file descriptors left: LimitNOFILE (ulimit -n) says how many it may have.")


def raise_limit() -> None:
    """Allow as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def allowed() -> int:
    """Return how many this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def carried() -> int:
    """Return how many connections the free ones carry: a stream takes two, its client's and its upstream's."""
    return max(1, (allowed() - _open() - RESERVE) // 2)


def needed(connections: int) -> int:
    """Return how many so many connections take, beside what is open now."""
    return _open() + RESERVE + 2 * connections


def _open() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def is_shortage(fault: BaseException) -> bool:
    """Return whether something could not be opened for want of a descriptor."""
    return isinstance(fault, OSError) and fault.errno in (errno.EMFILE, errno.ENFILE)
