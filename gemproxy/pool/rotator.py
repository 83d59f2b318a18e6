"""Which credential serves the next request. Pure: slots, a policy and a clock in; leases and views out.

The only writer of credential state. Cooldowns are deadlines compared with the clock, never timers; whether a slot may
serve is derived, never stored. There are no locks: nothing here awaits (one loop, one rotator). It knows nothing of
HTTP: a verdict (``upstream/dialect``) says what an answer meant.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from copy import copy

from msgspec import Struct

from gemproxy.errors import NoCredential
from gemproxy.pool.cooldown import (
    ALL_MODELS,
    KIND_SEPARATOR,
    NO_END,
    Cooldown,
    Policy,
    Record,
    key_of,
    next_cooldown,
    restored,
    said,
    turn_back,
)
from gemproxy.pool.slot import Lease, Readiness, Slot, SlotView, finite
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.demand import PLAIN_DEMAND, Demand
from gemproxy.upstream.dialect import Action, Scope, Verdict
from gemproxy.upstream.refusals.rules import NO_MODEL

BUSY_WAIT = 1.0  # what to tell a client when only our own limits are in the way (docs/architecture.md 14.4)
MAX_COOLDOWNS = 512  # per slot; model names come from clients, so they must not grow without bound
Dialects = Container[str] | None  # the upstreams to choose from; None: all


class Tier(Struct):
    """The slots of one pool, and the place after the last pick."""

    slots: list[Slot]
    cursor: int = 0


class Rotator:
    """Leases credentials tier by tier, round-robin within a tier, and takes verdicts back.

    ``on_change`` is called with every Record that should outlive the process; it must not block or raise.
    """

    def __init__(self, slots: Sequence[Slot], policy: Policy, clock: Callable[[], float]) -> None:
        self.on_change: Callable[[Record], None] | None = None
        self.policy = policy
        self._clock = clock
        self._seen = clock()
        self._open: set[int] = set()
        self._last_id = 0
        self._slots: list[Slot] = []
        self._tiers: list[Tier] = []
        self._arrange(list(slots))

    # ---------------------------------------------------------------------------------------------- who serves

    def acquire(
        self, model: str, tried: Container[str] = (), dialects: Dialects = None, demand: Demand = PLAIN_DEMAND
    ) -> Lease:
        """Return a lease of the next slot that may serve such a request for ``model``; report it exactly once.

        ``tried`` names slots that already failed this request; ``dialects`` limits the choice to those upstreams.
        Raises ``NoCredential``.
        """
        now = self._now()
        for tier in self._tiers if _is_model(model) else ():
            count = len(tier.slots)
            for step in range(count):
                place = (tier.cursor + step) % count
                slot = tier.slots[place]
                if slot.name in tried or (dialects is not None and slot.dialect not in dialects):
                    continue
                if self._serves(slot, model, now, demand):
                    tier.cursor = place + 1
                    return self._lease(slot, model, demand)
        raise self._nobody(model, tried, dialects, now, demand)

    def _serves(self, slot: Slot, model: str, now: float, demand: Demand) -> bool:
        if slot.parked is not None or (slot.models is not None and model not in slot.models):
            return False
        if 0 < self.policy.max_in_flight <= slot.in_flight:
            return False
        cooldowns = slot.cooldowns
        if not cooldowns:
            return True
        for key in slot.keys(model, demand):
            cooldown = cooldowns.get(key)
            if cooldown is not None and (cooldown.until > now or key in slot.probing):
                return False
        return True

    def _lease(self, slot: Slot, model: str, demand: Demand) -> Lease:
        self._last_id = lease_id = self._last_id + 1
        self._open.add(lease_id)
        slot.in_flight += 1
        probes = tuple(key for key in slot.keys(model, demand) if key in slot.cooldowns) if slot.cooldowns else ()
        for key in probes:
            slot.probing[key] = lease_id
        return Lease(slot, model, probes, lease_id)

    # ---------------------------------------------------------------------------------------------- what came of it

    def report(self, lease: Lease, verdict: Verdict | None) -> None:
        """Take a lease back, with what the upstream's answer meant; None: the client left, which costs nothing.

        Raises ``ValueError`` when the lease was reported before: a bug in the caller.
        """
        if lease.id not in self._open:
            raise ValueError(f"lease {lease.id} of {lease.slot.name!r} was reported twice")
        self._open.discard(lease.id)
        slot = lease.slot
        slot.in_flight -= 1
        probed = _end_probe(lease) if lease.probes else ()
        if verdict is None or verdict.action is Action.LATER:
            return
        if verdict.action is Action.OK:
            slot.served += 1
            if probed:
                self._passed(slot, probed)
            return
        slot.last_error = verdict.reason
        if verdict.action not in (Action.STOP, Action.ELSEWHERE):
            slot.failed += 1
        self._suffer(lease, verdict)

    def confirm(self, lease: Lease) -> None:
        """Tell that content has begun to come: a probe has passed, and others need not wait for its end."""
        if lease.probes and lease.id in self._open:
            self._passed(lease.slot, _end_probe(lease))

    def _passed(self, slot: Slot, probed: Iterable[str]) -> None:
        now = self._now()
        for key in probed if slot in self._slots else ():
            cooldown = slot.cooldowns.get(key)
            # An older lease may have brought a new cooldown while the probe ran; its word is the later one.
            if cooldown is not None and cooldown.until <= now:
                self._change(slot, key, None, now)

    def _suffer(self, lease: Lease, verdict: Verdict) -> None:
        if verdict.scope is Scope.NONE or verdict.scope is Scope.UPSTREAM or lease.slot not in self._slots:
            return  # nobody's fault here, or a slot that a reload removed
        if verdict.cause is not Cause.ANY:
            return  # within an answer, whose request is no longer at hand: whom it concerns cannot be told
        now = self._now()
        key = ALL_MODELS if verdict.scope is Scope.CREDENTIAL else key_of(lease.model, verdict.kind)
        cooldown = next_cooldown(lease.slot.cooldowns.get(key), verdict, now, self.policy)
        shares = [lease.slot]
        if verdict.scope is Scope.PROJECT and lease.slot.project:
            shares = [slot for slot in self._slots if _same_project(slot, lease.slot)]
        for slot in shares:
            self._cool(slot, key, cooldown, now)

    def _cool(self, slot: Slot, key: str, cooldown: Cooldown, now: float) -> None:
        old = slot.cooldowns.get(key)
        if (key == ALL_MODELS and slot.parked is not None) or (old is not None and old.until >= cooldown.until):
            return  # the longer of two cooldowns holds
        self._change(slot, key, copy(cooldown), now)

    def _change(self, slot: Slot, key: str, cooldown: Cooldown | None, now: float) -> None:
        """Set or end (None) a cooldown, and tell it to whoever keeps it."""
        # Later than every change before it even if the clock went back: the newest record wins everywhere.
        changed = max(now, slot.stamps.get(key, 0.0) + 1e-6)
        _write(slot, key, cooldown, changed)
        if self.on_change is not None:
            self.on_change(slot.record(key, cooldown, changed))

    # ---------------------------------------------------------------------------------------------- nobody serves

    def earliest(self, model: str, dialects: Dialects = None, demand: Demand = PLAIN_DEMAND) -> float | None:
        """Return the seconds until the first slot may serve ``model``, 0 for now; None: an operator must act."""
        now = self._now()
        waits = [self._wait(slot, model, now, demand) for slot in self._fitting(model, dialects)]
        return finite(min(waits, default=NO_END))

    def held(self, model: str, demand: Demand) -> tuple[str, ...]:
        """Return the kinds of this request that any slot rests or tries apart from other requests for the model."""
        return tuple(
            kind for kind in demand.kinds if any(key_of(model, kind) in slot.cooldowns for slot in self._slots)
        )

    def peers(self, name: str, pooled: bool) -> set[str]:
        """Return the slots of the same upstream as this one, itself included: what it cannot reach they cannot.

        ``pooled``: those of the same pool only, which have like quotas.
        """
        own = [slot for slot in self._slots if slot.name == name]
        return {slot.name for slot in self._slots for like in own if _alike(slot, like, pooled)} | {name}

    def missing(self, model: str, dialects: Dialects = None, demand: Demand = PLAIN_DEMAND) -> bool:
        """Return whether every credential that might serve ``model`` was found to lack it; a parked one may have it."""
        now = self._now()
        fitting = list(self._fitting(model, dialects))
        return bool(fitting) and all(slot.parked is None and _lacks(slot, model, now, demand) for slot in fitting)

    def ready(self, models: Iterable[str], unreached: Container[str] = ()) -> Readiness:
        """Return whether any credential is neither parked nor resting for one of ``models`` at least.

        Caps and probes do not count: they pass by themselves. Without models only whole credentials are judged.
        ``unreached`` names slots whose upstream cannot be reached: they do not count either.
        """
        now = self._now()
        names = list(models)
        first = NO_END
        for slot in self._slots:
            if slot.parked is None and slot.name not in unreached:
                known = (
                    [name for name in names if slot.models is None or name in slot.models] if names else [ALL_MODELS]
                )
                first = min(first, min((slot.cooldown_left(name, now) for name in known), default=NO_END))
        return Readiness(first == 0.0, finite(first))

    def _fitting(self, model: str, dialects: Dialects) -> Iterator[Slot]:
        for slot in self._slots if _is_model(model) else ():
            if (dialects is None or slot.dialect in dialects) and (slot.models is None or model in slot.models):
                yield slot

    def _wait(self, slot: Slot, model: str, now: float, demand: Demand) -> float:
        if slot.parked is not None or _lacks(slot, model, now, demand):  # of these waiting makes none serve
            return NO_END
        return BUSY_WAIT if self._busy(slot, model, now, demand) else slot.cooldown_left(model, now, demand)

    def _busy(self, slot: Slot, model: str, now: float, demand: Demand) -> bool:
        """Return whether only its cap or a probe that is out keeps the slot: it may come back at any moment."""
        if slot.parked is not None or slot.cooldown_left(model, now, demand):
            return False
        return not self._serves(slot, model, now, demand)

    def _nobody(
        self, model: str, tried: Container[str], dialects: Dialects, now: float, demand: Demand
    ) -> NoCredential:
        fitting = list(self._fitting(model, dialects))
        first = finite(min((self._wait(slot, model, now, demand) for slot in fitting), default=NO_END))
        full = any(slot.name not in tried and self._busy(slot, model, now, demand) for slot in fitting)
        held = self.held(model, demand)
        which = f"{model!r} {held[-1]}" if held else repr(model)
        if not fitting and dialects is not None and any(self._fitting(model, None)):
            message = f"No configured credential for {model!r} is of an upstream that has what was asked for."
        elif not fitting:
            message = f"No configured credential offers the model {model!r}; see credentials.models."
        elif first is None:
            message = (
                f"Every credential for {which} is out of service until the operator acts; "
                "/v1/debug/cache shows the reasons, /v1/token-test or a reload brings mended ones back."
            )
        elif full:
            message = f"Every credential for {which} is at its limit (rotation.max_in_flight, or just being tried)."
        elif first == 0.0:
            message = f"Every credential for {which} that is not resting was already tried for this request."
        else:
            message = f"Every credential for {which} is resting; the first returns in {said(first, now, 'at')}."
        return NoCredential(message, returns_in=first, full=full)

    # ---------------------------------------------------------------------------------------------- operators, edges

    def snapshot(self) -> list[SlotView]:
        """Return every slot as operators see it, in the order of the configuration."""
        now = self._now()
        return [slot.view(now) for slot in self._slots]

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of every credential, by its name."""
        return {slot.name: slot.fingerprint for slot in self._slots}

    def offered(self, name: str) -> frozenset[str] | None:
        """Return the models that a credential is held to; None: all."""
        return next((slot.models for slot in self._slots if slot.name == name), None)

    def dialects(self, model: str) -> set[str]:
        """Return the upstreams of the credentials that offer a model, whatever keeps them at present."""
        return {slot.dialect for slot in self._fitting(model, None)}

    def restore(self, records: Iterable[Record]) -> None:
        """Take over records of an earlier run or another process; per credential and model the newest wins."""
        now = self._now()
        slots: dict[str, list[Slot]] = {}
        for slot in self._slots:
            slots.setdefault(slot.identity, []).append(slot)
        for record in records:
            for slot in slots.get(record.fingerprint, ()):
                if record.changed > slot.stamps.get(record.model, 0.0):
                    cooldown = restored(record, now, self.policy) if record.until else None
                    _write(slot, record.model, cooldown, record.changed)

    def replace(self, slots: Sequence[Slot], policy: Policy | None = None, records: Iterable[Record] = ()) -> None:
        """Take a new configuration. Credentials with an unchanged fingerprint keep their cooldowns, counts and leases.

        ``records`` tell of credentials that were here before and come back. A reload is the operator acting, so parked
        credentials and models are tried anew. Leases of removed slots end without effect.
        """
        self.policy = policy or self.policy
        known: dict[str, list[Slot]] = {}
        for slot in self._slots:
            known.setdefault(slot.identity, []).append(slot)
        kept = [_adopt(known.get(slot.identity, []), slot) for slot in slots]
        self._arrange(kept)
        self.restore(records)
        for slot in kept:
            self._unpark(slot)

    def unpark(self, name: str) -> None:
        """Bring a parked credential back, and models it was denied for ever: ``/v1/token-test`` found it well."""
        for slot in self._slots:
            if slot.name == name:
                self._unpark(slot)

    def _unpark(self, slot: Slot) -> None:
        now = self._now()
        for key in [key for key, cooldown in slot.all_cooldowns() if cooldown.until == NO_END]:
            self._change(slot, key, None, now)
        whole = slot.cooldowns.get(ALL_MODELS)
        if whole is not None and whole.until > now:
            # such as spent credits: the operator may have mended it, the next request is the probe that tells
            self._change(slot, ALL_MODELS, Cooldown(now, whole.since, whole.reason, whole.daily, whole.strikes), now)

    def _arrange(self, slots: list[Slot]) -> None:
        self._slots = slots
        tiers = sorted({slot.tier for slot in slots})
        self._tiers = [Tier([slot for slot in slots if slot.tier == tier]) for tier in tiers]

    def _now(self) -> float:
        now = self._clock()
        if now < self._seen:
            for slot in self._slots:
                for cooldown in slot.cooldowns.values():
                    turn_back(cooldown, self._seen - now, now, self.policy)
        self._seen = now
        return now


# -------------------------------------------------------------------------------------------------------- one slot


def _write(slot: Slot, key: str, cooldown: Cooldown | None, changed: float) -> None:
    """Set or end (None) a cooldown as of ``changed``. The one place that begins and ends cooldowns and parking."""
    if key == ALL_MODELS:
        slot.parked = None
    if cooldown is None:
        slot.cooldowns.pop(key, None)
    elif key == ALL_MODELS and cooldown.until == NO_END:
        slot.cooldowns.pop(key, None)
        slot.parked = cooldown.reason or "parked"
    else:
        slot.cooldowns[key] = cooldown
        if len(slot.cooldowns) > MAX_COOLDOWNS:
            _forget(slot)
    if KIND_SEPARATOR in key:
        slot.narrow = any(KIND_SEPARATOR in each for each in slot.cooldowns)
    slot.stamps[key] = changed
    if len(slot.stamps) > 2 * MAX_COOLDOWNS:
        _forget_ended(slot)


def _is_model(name: str) -> bool:
    """Return whether a client may mean this: it must not rest others by a name that is a key of their cooldowns."""
    return name != ALL_MODELS and KIND_SEPARATOR not in name


def _end_probe(lease: Lease) -> tuple[str, ...]:
    """Free what this lease probes and return it."""
    probing = lease.slot.probing
    ended = tuple(key for key in lease.probes if probing.get(key) == lease.id)
    for key in ended:
        del probing[key]
    return ended


def _lacks(slot: Slot, model: str, now: float, demand: Demand) -> bool:
    found = (slot.cooldowns.get(key) for key in slot.keys(model, demand))
    return any(cooldown is not None and cooldown.reason == NO_MODEL and cooldown.until > now for cooldown in found)


def _same_project(slot: Slot, other: Slot) -> bool:
    return slot.project == other.project and slot.dialect == other.dialect


def _alike(slot: Slot, other: Slot, pooled: bool) -> bool:
    return slot.dialect == other.dialect and (slot.tier == other.tier or not pooled)


def _forget(slot: Slot) -> None:
    """Drop half of the cooldowns; what is forgotten is only found out once more.

    First goes what clients can make as many of as they like: models that nobody has, then some requests for a model.
    """
    for key in sorted(slot.cooldowns, key=lambda key: _worth(key, slot.cooldowns[key]))[: MAX_COOLDOWNS // 2]:
        del slot.cooldowns[key]
    _forget_ended(slot)


def _forget_ended(slot: Slot) -> None:
    slot.stamps = {key: stamp for key, stamp in slot.stamps.items() if key in slot.cooldowns or key == ALL_MODELS}


def _worth(key: str, cooldown: Cooldown) -> tuple[bool, bool, bool, float]:
    return key == ALL_MODELS, cooldown.reason != NO_MODEL, KIND_SEPARATOR not in key, cooldown.until


def _adopt(known: list[Slot], fresh: Slot) -> Slot:
    """Return the slot known by this identity (of the same name if there is a choice), configured anew."""
    if not known:
        return fresh
    slot = next((slot for slot in known if slot.name == fresh.name), known[0])
    known.remove(slot)
    slot.name, slot.tier, slot.dialect, slot.kind = fresh.name, fresh.tier, fresh.dialect, fresh.kind
    slot.project, slot.models, slot.fingerprint = fresh.project, fresh.models, fresh.fingerprint
    return slot
