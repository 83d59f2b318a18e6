"""Signatures of calls that clients carry without reading them, and the arguments that each was made for. Pure.

In: what a history carries, what is remembered, and the calls as they came back. Out: the signature of a call and the
arguments to send with it. Must not: send a signature beside arguments that it was not made for (docs/protocol.md 7.5).
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct

from gemproxy.converter.events import ToolCall
from gemproxy.converter.gemini.signatures import SignatureLookup, Signed
from gemproxy.converter.sealed import SIGNATURE, digest, opened, seal

MOST_MADE: Final = 1 << 20  # bytes; no model writes larger arguments, and to look into them takes long


class _Carried(Struct, frozen=True):
    """A signature that the client carried, and the digest of the arguments that it was made for."""

    signed: Signed
    made_for: str


def carrier(call: ToolCall, origin: str) -> str:
    """Return what a client is to carry of a signed call, as one opaque text."""
    return seal(SIGNATURE, origin, call.id, call.signature or "", digest(call.arguments.encode()))


class SignedCalls:
    """Finds the signature of each call of one history."""

    def __init__(self, lookup: SignatureLookup | None) -> None:
        self._lookup = lookup
        self._carried: dict[str, _Carried] = {}  # by call id

    def carry(self, sealed: str) -> None:
        """Take what a client carried; what is none of ours is as if it were not there."""
        held = opened(SIGNATURE, sealed, 4)
        if held is not None:
            origin, call_id, signature, made_for = held
            self._carried[call_id] = _Carried(Signed(signature, origin), made_for)

    def of(self, call_id: str, given: Raw) -> tuple[Signed | None, Raw]:
        """Return the signature of a call and the arguments that it was made for.

        Some clients send a call back with other arguments (docs/protocol.md 7.5): then the remembered ones count, or
        the signature does not.
        """
        lookup, carried = self._lookup, self._carried.get(call_id)
        known = lookup.get(call_id) if lookup is not None else None
        if carried is None and known is None:
            return None, given
        wrote = digest(bytes(given)) if len(given) <= MOST_MADE else ""
        if known is not None and known.arguments:
            same = wrote == digest(known.arguments.encode())
            return known if known.signature else None, given if same else Raw(known.arguments.encode())
        if carried is not None and carried.made_for == wrote:
            return carried.signed, given
        return None, given
