"""Thought signatures on their way through clients that know only OpenAI's fields (docs/protocol.md 6).

In: what a history carries, and a bounded cache of what earlier answers carried. Out: the signature of a part and its
origin, "<dialect>/<model>" ("" = unknown). Must not: make one up: the documented skip value is the dialect's affair,
which knows whether upstream and model fit. A signature never stands in a log, an error or a repr.

Routes, first hit wins: ``extra_content.google`` (Google's own), ``provider_specific_fields``, the suffix of the call id
(both other proxies'), the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import NamedTuple, Protocol

MAX_ORIGIN = 200  # characters; a longer one is none of ours
_SUFFIXES = ("__thought__", "__sig__")


class Signed(NamedTuple):
    """A signature and where it was made; of a call that is remembered also the arguments that it was made for.

    A call without a signature, as the second of a step is, may be remembered for its arguments alone.
    """

    signature: str
    origin: str
    arguments: str = ""


class SignatureLookup(Protocol):
    """What remembers signatures by call id (or by ``image_key``)."""

    def get(self, call_id: str) -> Signed | None:
        """Return what is known, or None."""
        ...


class Signatures(SignatureLookup, Protocol):
    """The same, and remembers more."""

    def put(self, call_id: str, signed: Signed) -> None:
        """Remember the signature of a call."""
        ...


class _Entry(NamedTuple):
    signed: Signed
    until: float


class Key(NamedTuple):
    """Whose call it was: upstreams may give one id to the calls of two clients."""

    client: str
    call_id: str


class SignatureCache:
    """Signatures by client and call id, bounded in entries, bytes and age; the least recently used go first.

    ``clock`` gives seconds; ``ttl`` is in seconds and counts from ``put``.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        max_entries: int = 10_000,
        max_bytes: int = 32 * 1024 * 1024,
        ttl: float = 6 * 3600.0,
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()  # large requests and answers are converted in a thread

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"SignatureCache({len(self._entries)} entries, {self._bytes} bytes)"

    def of(self, client: str) -> ClientSignatures:
        """Return what is remembered for one client."""
        return ClientSignatures(self, client)

    def put(self, key: Key, signed: Signed) -> None:
        """Remember the signature of a call; one that is larger than the whole cache is not kept."""
        entry = _Entry(signed, self._clock() + self._ttl)
        with self._lock:
            self._drop(key)
            if _size(key, entry) > self._max_bytes:
                return
            self._entries[key] = entry
            self._bytes += _size(key, entry)
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def get(self, key: Key) -> Signed | None:
        """Return the signature of a call, or None if it is unknown or too old."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.until <= self._clock():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return entry.signed

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry)


class ClientSignatures(NamedTuple):
    """What a cache remembers for one client, by call id (or by ``image_key``)."""

    cache: SignatureCache
    client: str

    def put(self, call_id: str, signed: Signed) -> None:
        """Remember the signature of a call."""
        self.cache.put(Key(self.client, call_id), signed)

    def get(self, call_id: str) -> Signed | None:
        """Return the signature of a call, or None."""
        return self.cache.get(Key(self.client, call_id))


def _size(key: Key, entry: _Entry) -> int:
    return len(key.client) + len(key.call_id) + sum(map(len, entry.signed))


def image_key(data: str) -> str:
    """Return the key under which the signature of an image is cached: images have no id, so a digest of the base64."""
    return "image:" + blake2b(data.encode(), digest_size=16).hexdigest()


def parted(call_id: str) -> tuple[str, str]:
    """Return a call id and the signature that other proxies append to it ("" if there is none)."""
    for suffix in _SUFFIXES:
        bare, found, appended = call_id.partition(suffix)
        if found:
            return bare, appended
    return call_id, ""


def known(carried: Signed | None, lookup: SignatureLookup | None, key: Callable[[], str]) -> Signed | None:
    """Return the signature that came back, with the origin that a client lost on the way, else the cached one.

    ``key`` is asked only if the cache is: that of an image is a digest of all of it.
    """
    if carried is not None and carried.origin:
        return carried
    cached = lookup.get(key()) if lookup is not None else None
    if cached is not None and not cached.signature:
        cached = None
    if carried is None or (cached is not None and cached.signature == carried.signature):
        return cached
    return carried
