"""A pool whose dialogue reads as a transcript."""

from __future__ import annotations

import pytest

from gemproxy.errors import NoCredential
from gemproxy.pool.cooldown import Policy, Record
from gemproxy.pool.rotator import Rotator
from gemproxy.pool.slot import Lease, Slot
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from tests.clock import Clock


def records(rotator: Rotator) -> list[Record]:
    """Return what outlives the process: the last word on every rest that there is."""
    found = [
        slot.record(key, rest, slot.stamps.get(key, 0.0))
        for slot in rotator._slots
        for key, rest in slot.all_cooldowns()
    ]
    return list({(record.fingerprint, record.model): record for record in found}.values())


class Pool:
    """A rotator whose dialogue can be written down: who served, what came of it, who is next."""

    def __init__(self, clock: Clock, *slots: Slot, policy: Policy | None = None) -> None:
        self.clock = clock
        self.rotator = Rotator(slots, policy or Policy(), clock)
        self.changes: list = []
        self.rotator.on_change = self.changes.append

    def acquire(self, model: str = "pro", **how: object) -> Lease:
        return self.rotator.acquire(model, **how)

    def serve(self, model: str = "pro", verdict: Verdict | None = OK, times: int = 1, **how: object) -> str:
        """Send ``times`` requests one after the other and return who took them, ``-`` for nobody."""
        names = []
        for _ in range(times):
            try:
                lease = self.rotator.acquire(model, **how)
            except NoCredential:
                names.append("-")
                continue
            names.append(lease.slot.name)
            self.rotator.report(lease, verdict)
        return " ".join(names)

    def records(self) -> list[Record]:
        return records(self.rotator)

    def refusal(self, model: str = "pro", **how: object) -> NoCredential:
        with pytest.raises(NoCredential) as caught:
            self.rotator.acquire(model, **how)
        return caught.value

    def view(self, name: str):
        return next(view for view in self.rotator.snapshot() if view.name == name)


def rests(
    seconds: float | None = None, *, now: float = 0.0, scope: Scope = Scope.MODEL, daily: bool = False
) -> Verdict:
    """Return the verdict of a 429; ``seconds`` from ``now`` as a hint, or none."""
    until = None if seconds is None else now + seconds
    return Verdict(Action.NEXT, scope, until, "rate_limit", status=429, daily=daily)


PARKS = Verdict(Action.NEXT, Scope.CREDENTIAL, float("inf"), "key_invalid")
NEVER_THIS_MODEL = Verdict(Action.NEXT, Scope.MODEL, float("inf"), "limit_zero")
OVERLOADED = Verdict(Action.RETRY, Scope.UPSTREAM, None, "overloaded", status=503)
CLIENT_FAULT = Verdict(Action.STOP, Scope.NONE, None, "invalid_argument", status=400)
UNHINTED = rests()
