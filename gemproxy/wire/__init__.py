"""The wire formats as msgspec Structs: Gemini's and the clients'. Decides nothing; only msgspec is imported."""

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that decoding raises for bytes that are no such message."""
