"""The two wire formats as msgspec Structs. Nothing here decides anything; only msgspec is imported."""

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that decoding raises for bytes that are no such message."""
