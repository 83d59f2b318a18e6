"""Which hosts can be reached: what stands in the way of each, and since when. Pure: what was tried and the time in.

Told of every connection that was tried, whoever wanted it. Out: whether the log shall have it, and which hosts are out
until a handshake succeeds. Times are seconds on the caller's clock. Knows neither sockets nor credentials.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import copy
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

FAILURES_UNTIL_OUT: Final = 3  # failures without a success between, after which a host is out
QUIET_TIME: Final = 60.0  # seconds in which the same cause at the same host, over and back again, is not told anew


class Reason(StrEnum):
    """Why no connection came about: labels of the metrics, and the words that clients may read."""

    DNS = "dns"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    TLS = "tls"
    CLOCK = "clock"

    @property
    def words(self) -> str:
        """Return what it means, without any address."""
        return _WORDS[self]


_WORDS: Final = {
    Reason.DNS: "the name does not resolve",
    Reason.REFUSED: "the connection is refused",
    Reason.TIMEOUT: "no answer within timeouts.connect",
    Reason.TLS: "the TLS handshake fails",
    Reason.CLOCK: "certificate not yet valid: is this machine's clock right?",
}


class Obstacle(Struct, frozen=True):
    """What stands in the way. ``detail`` is for operators: it may hold an address. ``plain`` is more exact than the
    words of the reason, and holds none.
    """

    reason: Reason
    detail: str = ""
    plain: str = ""

    @property
    def public(self) -> str:
        """Return what a client may read."""
        return self.plain or self.reason.words

    @property
    def status(self) -> int:
        """Return what the client is told by: silence is a timeout, all else a bad gateway."""
        return 504 if self.reason is Reason.TIMEOUT else 502

    @property
    def code(self) -> str:
        """Return the error's code that goes with the status."""
        return "upstream_timeout" if self.reason is Reason.TIMEOUT else "upstream_error"

    @property
    def words(self) -> str:
        """Return what the operator reads."""
        return f"{self.public} ({self.detail})" if self.detail else self.public


class Host(Struct):
    """How a host stands. ``failures`` counts those since the last success."""

    name: str
    failures: int = 0
    since: float = 0.0
    obstacle: Obstacle | None = None  # None: it was reached last
    told: dict[Reason, float] = field(default_factory=dict)  # when each reason was told last

    @property
    def heard(self) -> bool:
        """Return whether the log has this outage."""
        return any(told >= self.since for told in self.told.values())

    @property
    def out(self) -> bool:
        """Return whether it failed so often that only a handshake brings it back."""
        return self.failures >= FAILURES_UNTIL_OUT


class HostView(Struct, frozen=True, omit_defaults=True):
    """A host that could not be reached last. All but ``detail`` may be seen by everybody (``/ready``)."""

    host: str
    reason: Reason
    message: str
    failures: int
    since_seconds: float
    out: bool  # whether it counts as unreachable
    detail: str = ""


class Need(Struct, frozen=True):
    """The origins without which a credential is of no use: its upstream's, and where its tokens come from, or ""."""

    upstream: str
    tokens: str = ""


class Reach:
    """All hosts that connections were opened to, by their origin (``https://host:port``)."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}

    def failed(self, origin: str, name: str, obstacle: Obstacle, now: float) -> bool:
        """Count a failure; returns whether it is to be told: its cause is new to this host."""
        host = self._hosts.setdefault(origin, Host(name))
        if not host.failures:
            host.since = now
        host.failures += 1
        host.obstacle = obstacle
        told = host.told.get(obstacle.reason)
        if told is not None and (told >= host.since or now - told < QUIET_TIME):
            return False
        host.told[obstacle.reason] = now
        return True

    def reached(self, origin: str) -> Host | None:
        """Note a success; returns the host as it stood if that ends an outage."""
        host = self._hosts.get(origin)
        if host is None or not host.failures:
            return None
        before = copy(host)
        host.failures, host.obstacle = 0, None
        return before

    def out(self, origin: str) -> bool:
        """Return whether a host counts as unreachable."""
        host = self._hosts.get(origin)
        return host is not None and host.out

    def bars(self, need: Need, *, token_at_hand: bool) -> bool:
        """Return whether a credential is of no use now."""
        return self.out(need.upstream) or (not token_at_hand and self.out(need.tokens))

    def keep(self, origins: Collection[str]) -> None:
        """Forget all other hosts: no credential needs them any more."""
        self._hosts = {origin: host for origin, host in self._hosts.items() if origin in origins}

    def views(self, now: float) -> list[HostView]:
        """Return every host that could not be reached last."""
        return [
            HostView(
                host.name,
                host.obstacle.reason,
                host.obstacle.public,
                host.failures,
                round(max(0.0, now - host.since), 1),
                host.out,
                host.obstacle.detail,
            )
            for host in self._hosts.values()
            if host.obstacle is not None
        ]

    def causes(self) -> list[tuple[str, Reason, bool]]:
        """Return host, reason and whether that holds now, for every reason that was ever told."""
        return [
            (host.name, reason, host.obstacle is not None and host.obstacle.reason is reason)
            for host in self._hosts.values()
            for reason in host.told
        ]
