"""(edge) The addresses of this machine's own interfaces, as they are now.

A public address of one's own is public to every table, and behind it stands what listens on this machine alone. Asked
of the kernel by ways that need neither a netlink socket nor the whole of /proc (the shipped units grant neither), and
small however many routes there are. What it cannot tell (another system, a route that makes a whole network local) is
seen by who compares both ends of a connection.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

Address = IPv4Address | IPv6Address

MAX_AGE = 1.0  # seconds; addresses come and go
_SIOCGIFCONF = 0x8912  # netdevice(7)
_IFREQ_SIZE = 16 + struct.calcsize("LLHBBB0L")  # bytes of a struct ifreq: a name, and the largest of a union
_V6_FILE = Path("/proc/self/net/if_inet6")


class Interfaces:
    """Knows the addresses, looked up anew when what it knows is older than ``MAX_AGE``; ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._known: frozenset[Address] = frozenset()

    def __contains__(self, address: object) -> bool:
        """Return whether an address is one of this machine's."""
        if self._clock() >= self._until:
            self._known = frozenset(addresses())
            self._until = self._clock() + MAX_AGE
        return address in self._known


def addresses() -> Iterator[Address]:
    """Yield the addresses of all interfaces; none on a system that tells of them in another way."""
    if sys.platform != "linux":
        return
    with suppress(OSError):
        yield from _v4()
    with suppress(OSError):  # no IPv6
        yield from (IPv6Address(bytes.fromhex(line.split()[0])) for line in _V6_FILE.read_text("ascii").splitlines())


def _v4() -> Iterator[IPv4Address]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        size, _ = struct.unpack("iP", fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iP", 0, 0)))
        found = array.array("B", bytes(size + 8 * _IFREQ_SIZE))  # some may have come in between
        asked = struct.pack("iP", len(found), found.buffer_info()[0])
        size, _ = struct.unpack("iP", fcntl.ioctl(sock, _SIOCGIFCONF, asked))
    for start in range(20, size, _IFREQ_SIZE):  # behind a name, a family and a port
        yield IPv4Address(bytes(found[start : start + 4]))
