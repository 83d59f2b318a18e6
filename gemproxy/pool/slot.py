"""The nouns of the pool: Slot, Lease and the operator's views. Pure values, no decisions.

In: nothing. Out: Structs that ``rotator`` writes and others read. Times are seconds on the injected wall clock
(cooldowns outlive the process). Nothing here holds a secret: a slot knows its credential by name and fingerprint only.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from gemproxy.pool.cooldown import ALL_MODELS, KIND_SEPARATOR, NO_END, Cooldown, Record, key_of
from gemproxy.upstream.demand import PLAIN_DEMAND, Demand

POOLS = ("primary", "backup")


class Slot(Struct, eq=False):
    """One credential. The first block is configuration; the second is state, and only ``Rotator`` writes it."""

    name: str
    tier: int = 0  # 0 primary, 1 backup; lower ones first
    dialect: str = ""
    project: str = ""  # slots with the same dialect and project share quotas; "" shares with nobody
    fingerprint: str = ""  # hash of what identifies the credential: state follows it, not the name
    models: frozenset[str] | None = None  # None: every model
    kind: str = ""  # api_key, oauth, service_account: shown to operators only

    cooldowns: dict[str, Cooldown] = field(default_factory=dict)  # by key: ALL_MODELS, or as ``key_of`` makes it
    parked: str | None = None  # the reason; until an operator acts
    probing: dict[str, int] = field(default_factory=dict)  # by key, the lease that probes it
    stamps: dict[str, float] = field(default_factory=dict)  # by key, when its state last changed
    narrow: bool = False  # whether some requests for a model rest apart; else nobody need know what kind a request is
    in_flight: int = 0
    served: int = 0
    failed: int = 0
    last_error: str = ""

    @property
    def identity(self) -> str:
        """Return what state is kept by."""
        return self.fingerprint or self.name

    @property
    def pool(self) -> str:
        """Return the configured name of the tier."""
        return POOLS[self.tier] if self.tier < len(POOLS) else f"tier {self.tier}"

    def keys(self, model: str, demand: Demand) -> tuple[str, ...]:
        """Return the keys of the cooldowns that such a request for a model may fall under."""
        if demand.apart:
            return (ALL_MODELS, *(key_of(model, kind) for kind in demand.kinds))
        return keys(model, demand.kinds) if self.narrow else (model, ALL_MODELS)

    def cooldown_left(self, model: str, now: float, demand: Demand = PLAIN_DEMAND) -> float:
        """Return the seconds that the slot still rests for such a request for ``model``; 0: it does not."""
        return self.longest(self.keys(model, demand), now)

    def longest(self, keys: Iterable[str], now: float) -> float:
        """Return the seconds that the longest cooldown of these keys has left; 0: none runs."""
        left = 0.0
        for key in keys:
            cooldown = self.cooldowns.get(key)
            if cooldown is not None and cooldown.until - now > left:
                left = cooldown.until - now
        return left

    def all_cooldowns(self) -> list[tuple[str, Cooldown]]:
        """Return every cooldown, the parking as one that never ends."""
        cooldowns = list(self.cooldowns.items())
        if self.parked is not None:
            cooldowns.append((ALL_MODELS, Cooldown(NO_END, self.stamps.get(ALL_MODELS, 0.0), self.parked)))
        return cooldowns

    def record(self, key: str, cooldown: Cooldown | None, changed: float) -> Record:
        """Return the record of a cooldown, or of its end (None)."""
        if cooldown is None:
            return Record(self.identity, key, 0.0, changed=changed)
        return Record(
            self.identity,
            key,
            cooldown.until,
            cooldown.since,
            cooldown.reason,
            cooldown.daily,
            cooldown.strikes,
            changed,
        )

    def view(self, now: float) -> SlotView:
        """Return the slot as operators see it."""
        cooling = [
            Cooling(
                key.replace(KIND_SEPARATOR, " "),
                finite(round(cooldown.until - now, 1)),
                cooldown.reason,
                cooldown.daily,
            )
            for key, cooldown in self.cooldowns.items()
            if cooldown.until > now
        ]
        return SlotView(
            name=self.name,
            kind=self.kind,
            dialect=self.dialect,
            pool=self.pool,
            state="parked" if self.parked is not None else "cooling" if cooling else "ready",
            parked=self.parked,
            cooling=cooling,
            in_flight=self.in_flight,
            served=self.served,
            failed=self.failed,
            last_error=self.last_error,
        )


class Lease(Struct, frozen=True, eq=False):
    """The right to send one request with one credential; reported exactly once.

    ``probes`` holds the keys of the cooldowns that have ended: it is the first request after them, on which hangs
    whether the credential is back.
    """

    slot: Slot
    model: str
    probes: tuple[str, ...] = ()
    id: int = 0

    @property
    def probe(self) -> bool:
        """Return whether something hangs on it."""
        return bool(self.probes)


class Cooling(Struct, frozen=True):
    """A running cooldown for the operator. ``seconds_left`` None: not before an operator acts."""

    model: str  # and which requests for it, if not all
    seconds_left: float | None
    reason: str
    daily: bool


class SlotView(Struct, frozen=True):
    """One credential as ``/v1/debug/cache`` shows it: never a key, token, e-mail or project."""

    name: str
    kind: str
    dialect: str
    pool: str
    state: str  # ready, cooling, parked
    parked: str | None
    cooling: list[Cooling]
    in_flight: int
    served: int
    failed: int
    last_error: str


class Readiness(Struct, frozen=True):
    """Whether anything can be served at all. ``returns_in`` seconds until something can; None: an operator must act."""

    ok: bool
    returns_in: float | None


def finite(seconds: float) -> float | None:
    """Return a wait as JSON can hold it; None: it never ends by itself."""
    return None if seconds == NO_END else seconds


def keys(model: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of all cooldowns that requests of these kinds for a model fall under."""
    return (model, ALL_MODELS, *(key_of(model, kind) for kind in kinds))
