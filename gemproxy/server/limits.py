"""What one client may ask for at once and per minute. Pure: callers and times in, counts or a refusal out.

A bucket per caller holds ``requests_per_minute`` requests and fills evenly; a request takes one out. What is kept is
what was taken out and how many are open, under whatever limits: a reload may change them or bring the first.
"""

from __future__ import annotations

import math

from msgspec import Struct

from gemproxy.errors import Overload
from gemproxy.server.auth import Caller


class Bucket(Struct):
    """One caller: what it took of its minute, and what it has open. ``seen`` in seconds of one clock."""

    taken: float = 0.0
    seen: float = 0.0
    open: int = 0


class ClientLimits:
    """The counts of all callers, by name. ``enter`` and ``leave`` come in pairs."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def enter(self, caller: Caller, now: float) -> dict[str, str]:
        """Count a request and return OpenAI's ``x-ratelimit-*`` headers; raises ``Overload`` (429) beyond a limit."""
        bucket = self._buckets.get(caller.name)
        if bucket is None:
            bucket = self._buckets[caller.name] = Bucket(seen=now)
        if 0 < caller.max_concurrent <= bucket.open:
            raise Overload(
                f"This key has {bucket.open} requests open, its limit (auth.clients.max_concurrent).", status=429
            )
        if caller.requests_per_minute:
            _fill(bucket, caller.requests_per_minute, now)
            _take(caller, bucket)
        bucket.open += 1
        return _headers(caller, bucket)

    def leave(self, caller: Caller) -> None:
        """A request of this caller has ended."""
        bucket = self._buckets.get(caller.name)
        if bucket is not None and bucket.open:
            bucket.open -= 1


def _fill(bucket: Bucket, most: int, now: float) -> None:
    passed, bucket.seen = max(0.0, now - bucket.seen), now
    bucket.taken = max(0.0, min(bucket.taken, most) - passed * most / 60)


def _take(caller: Caller, bucket: Bucket) -> None:
    most = caller.requests_per_minute
    if most - bucket.taken < 1:
        raise Overload(
            f"This key may ask {most} times a minute (auth.clients.requests_per_minute).",
            status=429,
            retry_after=(1 - most + bucket.taken) * 60 / most,
            headers=_headers(caller, bucket),
        )
    bucket.taken += 1


def _headers(caller: Caller, bucket: Bucket) -> dict[str, str]:
    most = caller.requests_per_minute
    if not most:
        return {}
    return {
        "x-ratelimit-limit-requests": str(most),
        "x-ratelimit-remaining-requests": str(math.floor(most - bucket.taken)),
        "x-ratelimit-reset-requests": _duration(bucket.taken * 60 / most),
    }


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: ``12ms``, ``1s``, ``6m0s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
