"""What one client may ask for at once and per minute. Pure: callers and times in, counts or a refusal out.

A bucket per caller holds ``requests_per_minute`` requests and fills evenly; a request takes one out. A reload may set,
change or lift the limits at any moment: what is open or used counts on.
"""

from __future__ import annotations

import math

from msgspec import Struct

from gemproxy.errors import Overload
from gemproxy.server.keyring import Caller


class Bucket(Struct):
    """One caller: what is left of the most that its minute holds, and what it has open.

    ``seen`` in seconds of one clock.
    """

    seen: float
    most: float = 0.0
    left: float = 0.0
    open: int = 0


class Allowances:
    """The counts of all callers, by name. ``enter`` and ``leave`` come in pairs."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def enter(self, caller: Caller, now: float) -> dict[str, str]:
        """Count a request and return OpenAI's ``x-ratelimit-*`` headers; raises ``Overload`` (429) beyond a limit."""
        bucket = self._buckets.get(caller.name)
        if bucket is None:
            bucket = self._buckets[caller.name] = Bucket(now)
        if not caller.requests_per_minute and not caller.max_concurrent:
            bucket.open += 1
            return {}
        _fill(bucket, float(caller.requests_per_minute), now)
        if 0 < caller.max_concurrent <= bucket.open:
            raise Overload(
                f"This key has {bucket.open} requests open, its limit (auth.clients.max_concurrent).", status=429
            )
        if caller.requests_per_minute:
            self._take(caller, bucket)
        bucket.open += 1
        return _headers(caller, bucket)

    def leave(self, caller: Caller) -> None:
        """A request of this caller has ended."""
        bucket = self._buckets.get(caller.name)
        if bucket is not None and bucket.open:
            bucket.open -= 1

    def _take(self, caller: Caller, bucket: Bucket) -> None:
        if bucket.left < 1:
            wait = (1 - bucket.left) * 60 / caller.requests_per_minute
            raise Overload(
                f"This key may ask {caller.requests_per_minute} times a minute (auth.clients.requests_per_minute).",
                status=429,
                retry_after=wait,
                headers=_headers(caller, bucket),
            )
        bucket.left -= 1


def _fill(bucket: Bucket, most: float, now: float) -> None:
    if bucket.most != most:
        bucket.left, bucket.most = max(0.0, most - (bucket.most - bucket.left)), most
    bucket.left = min(most, bucket.left + max(0.0, now - bucket.seen) * most / 60)
    bucket.seen = now


def _headers(caller: Caller, bucket: Bucket) -> dict[str, str]:
    most = caller.requests_per_minute
    if not most:
        return {}
    full_in = (most - bucket.left) * 60 / most
    return {
        "x-ratelimit-limit-requests": str(most),
        "x-ratelimit-remaining-requests": str(math.floor(bucket.left)),
        "x-ratelimit-reset-requests": _duration(full_in),
    }


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: ``12ms``, ``1s``, ``6m0s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
