"""What becomes of leases is told: counted for the metrics, and in the log where an operator should know.

In: a lease and its verdict (None: the client left), as the rotator hears them. Nothing is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gemproxy.pool.cooldown import said
from gemproxy.pool.slot import Lease, keys
from gemproxy.server.firsts import Firsts
from gemproxy.server.service import Operations
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.dialect import Action, Scope, Verdict
from gemproxy.upstream.reach import Reason

log = logging.getLogger("gemproxy")
_REASONS = frozenset(Reason)


def report(
    operations: Operations, firsts: Firsts, clock: Callable[[], float], lease: Lease, verdict: Verdict | None
) -> None:
    """Tell metrics and log what came of a lease."""
    if operations.metrics is not None:
        operations.metrics.attempt(lease.slot.dialect, "client_gone" if verdict is None else verdict.reason)
    if verdict is not None and verdict.action not in (Action.OK, Action.LATER):
        _log(firsts, clock, lease, verdict)


def _log(firsts: Firsts, clock: Callable[[], float], lease: Lease, verdict: Verdict) -> None:
    slot, reason = lease.slot, verdict.reason
    if verdict.scope is Scope.CREDENTIAL and slot.parked is not None:
        log.warning(
            "credential %s is parked (%s): it serves again after a change, a reload or /v1/token-test",
            *(slot.name, slot.parked),
        )
    elif verdict.scope in (Scope.MODEL, Scope.PROJECT, Scope.CREDENTIAL) and verdict.cause is Cause.ANY:
        now = clock()
        wait = said(slot.longest(keys(lease.model, (verdict.kind,)), now), now)
        wait += "," if "until" in wait else ""
        which = f"{lease.model} {verdict.kind}".rstrip()
        level = firsts.level("rest", slot.name, reason)
        log.log(level, "credential %s rests %s for %s (%s)", slot.name, wait, which, reason)
    elif reason in _REASONS:  # told once for its host, and counted there
        log.debug("credential %s: attempt at %s failed (%s)", slot.name, lease.model, reason)
    elif verdict.action is not Action.STOP or verdict.scope is Scope.UPSTREAM:  # else its client must change it
        answered = f", HTTP {verdict.answered}" if verdict.answered else ""  # one reason stands for several
        level = firsts.level("failure", slot.name, reason + answered)
        log.log(level, "credential %s: attempt at %s failed (%s%s)", slot.name, lease.model, reason, answered)
