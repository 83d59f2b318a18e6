"""Whether an answer is a stream or JSON. Pure: one function decides (SPEC 2, "stream left out")."""

from __future__ import annotations

from collections.abc import Sequence


def wants_stream(accept: str, user_agent: str, *, default: bool, json_clients: Sequence[str]) -> bool:
    """Return whether to stream when the request does not say.

    It is JSON for clients whose ``Accept`` names JSON (every OpenAI SDK) or whose ``User-Agent`` begins as
    one of ``json_clients`` (``compat.json_clients``); else what ``compat.stream_default`` says.
    """
    if not default or "application/json" in accept.lower():
        return False
    return not user_agent.startswith(tuple(json_clients))
