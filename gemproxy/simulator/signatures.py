"""Thought signatures of the simulated Gemini: made for one upstream and one model family, and recognised again.

In: who signs. Out: base64 text; and whether a text that comes back is genuine. Must not know where in a conversation
signatures are demanded: that is ``turns``. Rules: docs/protocol.md 6.
"""

from __future__ import annotations

import base64
import hashlib

from gemproxy.simulator.proto import decoded

DUMMIES = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_MARK = b"\x12sim"
_FILL = 96  # bytes of padding, so that a signature looks like one: real ones have hundreds of characters


class Signer:
    """Signs with a secret of its own; two simulators with one seed accept each other's signatures."""

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(8, "big", signed=True)
        self._made = 0

    def sign(self, upstream: str, family: str) -> str:
        """Return a fresh signature, standard base64."""
        self._made += 1
        nonce = self._made.to_bytes(8, "big")
        return base64.b64encode(_MARK + nonce + self._seal(upstream, family, nonce)).decode()

    def genuine(self, signature: str, upstream: str, family: str) -> bool:
        """Tell whether this signature was made here for that upstream and family, and is whole."""
        data = decoded(signature) or b""
        nonce = data[len(_MARK) : len(_MARK) + 8]
        return data == _MARK + nonce + self._seal(upstream, family, nonce)

    def _seal(self, upstream: str, family: str, nonce: bytes) -> bytes:
        text = f"{upstream}|{family}|".encode() + nonce
        return hashlib.shake_128(self._key + text).digest(_FILL)


def dummy(signature: str, upstream: str) -> bool:
    """Tell whether this is a documented value that skips the check, bare or as base64 (docs/protocol.md 6.3)."""
    known = DUMMIES if upstream == "ai_studio" else DUMMIES[:1]
    if signature in known:
        return True
    return (decoded(signature) or b"").decode("latin-1") in known
