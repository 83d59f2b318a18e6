"""What one request has been through, and what comes next. Pure: verdicts in, steps or failures out.

The loop in ``dispatcher`` does what this says. Nothing here knows a credential's state (the rotator does) or HTTP.
Rules: docs/architecture.md 14.4, docs/protocol.md 3.2; one refresh, one rediscovery and one repair of a kind are free,
all else is an attempt.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Set

from gemproxy.errors import ClientFault, Failure, NoCredential, UpstreamFault
from gemproxy.upstream.dialect import Action, Repair, Scope, Verdict
from gemproxy.upstream.reach import Reason
from gemproxy.upstream.refusals.rules import NO_MODEL

TOKEN_GRACE = 1.0  # seconds to wait for a token before the other credentials are asked: mostly it takes 0.2
CAPACITY_TRIES = 2  # further tries at an upstream that fails, before a credential is left that failed there
CAPACITY_PAUSES = (0.0, 0.5)  # seconds before each of them; a reset of an idle connection heals at once
NO_SLOTS: Set[str] = frozenset()
BAD_ANSWER = "bad_answer"  # the reason of a verdict on an empty or malformed answer: asked once more
UNREACHABLE_REASONS = {"unreachable", *Reason}  # reasons of verdicts that hold for whoever asks that upstream
OVERLOADED_RETRY = 5.0  # seconds, ``Retry-After`` when Google has no room and gave no hint


class Step(enum.Enum):
    """What the loop does next."""

    REFRESH = "a new token, the same credential"
    REDISCOVER = "the project anew, the same credential"
    REPAIR = "a changed body, the same credential"
    MOVE = "whichever credential comes next"


class Retry:
    """One request's way through the pool. ``started`` and every ``now`` in seconds of one clock.

    ``peers`` returns the slots of the same upstream as one of them, True: in its own pool only.
    """

    def __init__(
        self,
        *,
        attempts: int,
        budget: float,
        started: float,
        peers: Callable[[str, bool], Set[str]] = lambda slot, pooled: {slot},
    ) -> None:
        self.attempts = 0  # leases taken
        self.slot = ""  # the last of them
        self.tried: set[str] = set()  # slots that must not serve this request again
        self.asked = NO_SLOTS  # slots that failed it
        self.later = NO_SLOTS  # slots to be asked when no others are left
        self.repairs: dict[Repair, str] = {}  # of its body, and the dialect that asked for each
        self._most = attempts
        self._until = started + budget
        self._peers = peers
        self._free: set[tuple[str, Step]] = set()
        self._failed: dict[str, list[str]] = {}  # slots, each as often as it failed, by dialect
        self.grace = TOKEN_GRACE  # seconds that are left to wait for a token while others may serve
        self._troubled = False  # an upstream failed it for good
        self._denials = 0
        self._bad_answers = 0
        self._rested = False
        self._own = False  # the last refusal was the caller's own doing, wherever the limits are the same
        self._last: Failure | None = None

    def may_begin(self, now: float) -> bool:
        """Return whether another attempt may start: False when attempts or budget are used up."""
        return self._last is None or (self.attempts < self._most and now < self._until)

    def leased(self, slot: str) -> None:
        """An attempt starts, on this slot."""
        self.attempts += 1
        self.slot = slot

    def choices(self, without: Set[str] = NO_SLOTS) -> Iterator[tuple[Set[str], float]]:
        """Yield the slots to pass over besides ``tried`` in the search for the next one, the best choice first.

        A credential that this request has not met goes before one that failed it, whichever its pool, and those
        ``without`` a token come after the others. With each choice comes how long to wait for a token.
        """
        met = self.tried | self.asked
        if self.later:
            yield met | self.later | without, self.grace
        yield met | without, self.grace
        if without:
            yield met, math.inf  # nobody is left who could serve at once

    def with_attempts(self, failure: Failure) -> Failure:
        """Return the failure with what the operator wants to know of it: how many attempts, and where the last was."""
        failure.attempts, failure.credential = self.attempts, self.slot
        return failure

    def exhausted(self, earliest: float | None) -> Failure:
        """Return what to tell the client when no further attempt may start; ``earliest`` as the rotator knows it."""
        if self._last is not None and (self._own or self._last.status != 429):
            return self._last
        return NoCredential(
            f"{self.attempts} attempts were refused (rotation.attempts = {self._most}, rotation.budget).",
            returns_in=1.0 if earliest is None else max(earliest, 1.0),
        )

    def pause(self, dialect: str) -> float:
        """Return the seconds to wait before the same upstream is asked again; 0 once it is left."""
        tries = len(self._failed.get(dialect, ()))
        return CAPACITY_PAUSES[tries - 1] if 0 < tries <= CAPACITY_TRIES else 0.0

    def next(self, slot: str, dialect: str, verdict: Verdict) -> Step:
        """Return the next step after a refusal; raises the failure when there is none."""
        if verdict.action is Action.LATER:
            self.attempts -= 1
            self.grace = 0.0  # nor is anybody else waited for while there is one who has a token
            return Step.MOVE
        self.asked |= {slot}
        if self._last is None or not _lacks_model(verdict):  # which says the least of why the request fails
            self._last = failure(verdict)
        self._own = verdict.action is Action.ELSEWHERE
        match verdict.action:
            case Action.STOP | Action.OK:
                raise self._last
            case Action.REFRESH if self._once(slot, Step.REFRESH):
                return Step.REFRESH
            case Action.REDISCOVER if self._once(slot, Step.REDISCOVER):
                return Step.REDISCOVER
            case Action.REPAIR if verdict.repair is not None and verdict.repair not in self.repairs:
                self.repairs[verdict.repair] = dialect
                return Step.REPAIR
            case Action.REPAIR:
                raise self._last
            case Action.RETRY:
                self._retry(slot, dialect, verdict)
            case _:
                self._next_credential(slot, verdict)
        return Step.MOVE

    def outcome(self, none: NoCredential) -> Failure:
        """Return what to tell the client when nobody is left: the truest of what was seen on the way."""
        if self._last is None or (self._last.status == 429 and not self._own and none.returns_in):
            return none  # which knows how long the wait is
        if (self._own and not none.full) or self._troubled:
            return self._last
        if self._rested or none.full:
            return none
        if self._last.code == NO_MODEL and none.returns_in != 0.0:
            return none  # others may have the model, which rest or are parked
        return self._last if self._last.status != 429 else none

    def _once(self, whom: str, what: Step) -> bool:
        if (whom, what) in self._free:
            return False
        self._free.add((whom, what))
        return True

    def _retry(self, slot: str, dialect: str, verdict: Verdict) -> None:
        if verdict.reason == BAD_ANSWER:
            self._bad_answers += 1
            if self._bad_answers > 1 and self._last is not None:
                raise self._last
            return
        if verdict.reason in UNREACHABLE_REASONS:
            self.later |= self._peers(slot, False)
        failed = self._failed.setdefault(dialect, [])
        failed.append(slot)
        if len(failed) > CAPACITY_TRIES:  # from here on only those are asked that were not yet, of other pools first
            self._troubled = True
            self.tried.update(failed)
            self.later |= self._peers(slot, True)

    def _next_credential(self, slot: str, verdict: Verdict) -> None:
        self.tried.add(slot)
        if verdict.action is Action.ELSEWHERE:
            self.tried |= self._peers(slot, True)
            return
        if verdict.scope is Scope.UPSTREAM:  # no token for any of its kind, but for those that hold one
            self._troubled = True
            self.grace = 0.0
        if verdict.status == 403:  # no credential trouble: asked once elsewhere, then it is the client's to know
            self._denials += 1
            if self._denials > 1 and self._last is not None:
                raise self._last
        elif verdict.status == 404:
            return  # the next one may have the model, in the backup pool above all; each is asked once an hour
        elif verdict.scope is not Scope.NONE:
            self._rested = True


def _lacks_model(verdict: Verdict) -> bool:
    return verdict.status == 404 and verdict.code == NO_MODEL


def failure(verdict: Verdict) -> Failure:
    """Return what the client is told when this verdict ends its request."""
    if verdict.action is Action.ELSEWHERE:
        return _too_much(verdict)
    if verdict.status == 429:
        return NoCredential(verdict.message or "The upstream's quota is used up.", returns_in=60.0)
    if 400 <= verdict.status < 500:
        kind = "permission_error" if verdict.status == 403 else "invalid_request_error"
        return ClientFault(
            verdict.message, status=verdict.status, code=verdict.code or None, param=verdict.field, type=kind
        )
    upstream, final = verdict.scope is Scope.UPSTREAM, verdict.action is Action.STOP
    return UpstreamFault(
        verdict.message or "The upstream failed.",
        status=verdict.status,
        code=verdict.code,
        retry_after=OVERLOADED_RETRY if verdict.status == 503 and upstream and not final else None,
        retryable=False if upstream and final else None,
    )


def _too_much(verdict: Verdict) -> Failure:
    """Return the failure of a request that no waiting helps; 429 is what OpenAI says of one, too (tokens a minute)."""
    told = NoCredential(verdict.message, returns_in=0.0)
    told.param, told.code, told.retry_after, told.retryable = verdict.field, verdict.code, None, False
    return told
