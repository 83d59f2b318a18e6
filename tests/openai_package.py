"""The ``openai`` package, imported when something of it is first used: it is the dearest import of all.

Every worker imports every module of tests, and few tests ask by a real client.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    import openai

    return getattr(openai, name)
