"""What a client carries for us without reading it: signatures and summaries in ``encrypted_content``.

In: texts, and what kind of thing they are. Out: one opaque text, and back. A check value tells what another service
made, or what was changed on the way: both are as if they were not there. It is no secret, so every process reads what
any other wrote; whoever forges one misleads only the model that answers him.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from gemproxy.wire import UNREADABLE

SIGNATURE: Final = "s1"  # origin, call id, signature, digest of the arguments
SUMMARY: Final = "c1"  # the summary
MAX_SEALED: Final = 4 << 20  # bytes; the longest summary of a model is a tenth of that, and to decode takes 5 ms a MB
MAX_CANONICAL: Final = 1 << 18  # bytes of arguments; of larger ones only equal bytes are the same
_CHECK: Final = 12  # bytes
_texts = msgspec.json.Decoder(list[str]).decode


def seal(kind: str, *texts: str) -> str:
    """Return an opaque text that holds others."""
    held = msgspec.json.encode([kind, *texts])
    return urlsafe_b64encode(_check(held) + held).decode()


def opened(kind: str, sealed: str, count: int) -> Sequence[str] | None:
    """Return so many texts that were sealed as this kind; None for what is foreign or was changed."""
    if len(sealed) > MAX_SEALED:
        return None
    try:
        whole = urlsafe_b64decode(sealed.encode("ascii"))
        held = whole[_CHECK:]
        found = _texts(held) if whole[:_CHECK] == _check(held) else []
    except (ValueError, *UNREADABLE):  # binascii's and codecs' faults are a ValueError
        return None
    return found[1:] if len(found) == count + 1 and found[0] == kind else None


def digest(arguments: bytes) -> str:
    """Return what is the same for the same arguments, however they are written."""
    if len(arguments) > MAX_CANONICAL:
        return blake2b(arguments, digest_size=_CHECK).hexdigest()
    try:
        written = msgspec.json.encode(msgspec.json.decode(arguments), order="sorted")
    except UNREADABLE:
        written = arguments
    return blake2b(written, digest_size=_CHECK).hexdigest()


def _check(held: bytes) -> bytes:
    return blake2b(held, digest_size=_CHECK, person=b"gemproxy sealed").digest()
