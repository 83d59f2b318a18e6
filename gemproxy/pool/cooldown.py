"""How long a credential cools down: hints and their bounds, the ladder without hints, clocks that go back. Pure.

In: an old cooldown, a verdict, the time, the policy. Out: the new cooldown. Whom it concerns is the rotator's business.
Times are seconds on the injected wall clock, since cooldowns outlive the process.
"""

from __future__ import annotations

import datetime
import math

from msgspec import Struct

from gemproxy.upstream.dialect import Verdict

ALL_MODELS = "*"  # the key of a cooldown that holds for every model of a credential
KIND_SEPARATOR = "\t"  # in the key of a cooldown that holds for some requests for a model only: between model and kind
NO_END = math.inf  # a deadline that only the operator ends: a parked credential, a model it will never have
LONGEST_IN_SECONDS = 120.0  # seconds; a longer wait is said in minutes, hours and days
DAY = 86400.0
LONGEST_DAY = 25 * 3600.0  # the day on which summer time ends


def in_words(seconds: float) -> str:
    """Return a wait as people say it, rounded up: ``90 s``, ``13 h 35 min``, ``4 d 15 h``."""
    if seconds <= LONGEST_IN_SECONDS:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24) if hours > 48 else (0, hours)
    parts = ((days, "d"), (hours, "h"), (0 if days else minutes, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def said(seconds: float, now: float, word: str = "until") -> str:
    """Return a wait in words, a longer one with its end: ``13 h 35 min, until 08:00 UTC``."""
    if seconds <= LONGEST_IN_SECONDS:
        return in_words(seconds)
    end = datetime.datetime.fromtimestamp(math.ceil((now + seconds) / 60) * 60, datetime.UTC)
    return f"{in_words(seconds)}, {word} {end:{'%H:%M' if seconds < DAY else '%Y-%m-%d %H:%M'}} UTC"


def key_of(model: str, kind: str = "") -> str:
    """Return what the cooldown of a model is kept by; ``kind`` tells which requests for it rest, "": all of them."""
    return f"{model}{KIND_SEPARATOR}{kind}" if kind else model


class Cooldown(Struct, gc=False):
    """Why a credential is skipped for a model, and until when.

    It stays in the slot after its deadline, so that the first lease then is a single probe; success removes it.
    """

    until: float
    since: float
    reason: str = ""
    daily: bool = False  # a quota of a day (or more): its deadline is a time of day, not a length
    strikes: int = 0  # failures in a row that came without a hint


class Policy(Struct, frozen=True):
    """The limits of rotation, in seconds: ``rotation.*`` of the configuration (docs/architecture.md 14.4)."""

    base_rest: float = 5.0  # the first cooldown without a hint; doubled by every further strike
    max_unhinted: float = 300.0
    max_rest: float = 86400.0
    max_in_flight: int = 0  # per credential; 0: no cap


class Record(Struct, frozen=True):
    """What outlives the process: one cooldown of one credential, or its end (``until`` 0), as of ``changed``.

    ``model`` is a key: ALL_MODELS, or what ``key_of`` returns. A parked credential is the record of ALL_MODELS until
    NO_END.
    """

    fingerprint: str
    model: str
    until: float
    since: float = 0.0
    reason: str = ""
    daily: bool = False
    strikes: int = 0
    changed: float = 0.0


def next_cooldown(old: Cooldown | None, verdict: Verdict, now: float, policy: Policy) -> Cooldown:
    """Return the cooldown that a verdict asks for: its hint within bounds, else 5, 10, 20 ... seconds.

    Leases handed out before a cooldown began often fail together: they are one failure, and make one strike.
    """
    strikes = old.strikes if old is not None else 0
    hint = verdict.until
    if hint is not None and hint > now:
        return Cooldown(_bound(hint, verdict.daily, now, policy), now, verdict.reason, verdict.daily, strikes)
    if old is not None and old.until > now:
        return old
    length = min(policy.base_rest * 2.0 ** min(strikes, 32), policy.max_unhinted, policy.max_rest)
    return Cooldown(now + length, now, verdict.reason, strikes=strikes + 1)


def restored(record: Record, now: float, policy: Policy) -> Cooldown:
    """Return a recorded cooldown as it holds now.

    ``since`` in the future: the clock went back meanwhile. A length then counts from now; a time of day still holds.
    """
    cooldown = Cooldown(record.until, record.since, record.reason, record.daily, record.strikes)
    turn_back(cooldown, max(0.0, record.since - now), now, policy)
    return cooldown


def turn_back(cooldown: Cooldown, seconds: float, now: float, policy: Policy) -> None:
    """Move a cooldown along with a clock that went back, so that it gets no longer; a time of day stays."""
    cooldown.until = _bound(cooldown.until if cooldown.daily else cooldown.until - seconds, cooldown.daily, now, policy)
    cooldown.since -= seconds


def _bound(until: float, daily: bool, now: float, policy: Policy) -> float:
    if until == NO_END:
        return NO_END
    return min(until, now + (max(policy.max_rest, LONGEST_DAY) if daily else policy.max_rest))
