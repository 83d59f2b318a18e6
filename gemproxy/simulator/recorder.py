"""What came in: one record per request, for tests to look at.

In: the parts of an HTTP request. Out: ``Recorded`` values. Must not decide anything.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from multidict import CIMultiDictProxy, MultiMapping


class Recorded(Struct, eq=False):
    """A request as it arrived. Times are seconds on the simulator's clock.

    ``call`` is the method in Google's words (``generateContent``, ``loadCodeAssist``, ``token`` …) and ``upstream``
    who was asked (``ai_studio``, ``code_assist``, ``vertex``, ``oauth``). ``credential`` is the key or token as sent,
    ``account`` the refresh token or service account that the access token belongs to.
    """

    method: str
    path: str
    raw_path: str
    headers: CIMultiDictProxy[str]
    query: MultiMapping[str]
    body: bytes
    arrived: float
    upstream: str = ""
    call: str = ""
    model: str = ""
    credential: str = ""
    account: str = ""
    status: int | None = None
    finished_at: float | None = None
    disconnected_at: float | None = None

    @property
    def disconnected(self) -> bool:
        """Whether the caller hung up before its answer was complete."""
        return self.disconnected_at is not None

    def json(self) -> Any:
        """Return the body decoded; raises ``msgspec.DecodeError``."""
        return msgspec.json.decode(self.body)

    def __repr__(self) -> str:
        return f"Recorded({self.method} {self.path}, status={self.status}, disconnected={self.disconnected})"


class Recorder:
    """Keeps the last ``keep`` requests; 0 keeps none, so that a server can run for months."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.requests: list[Recorded] = []

    def add(self, request: Recorded) -> None:
        """Remember a request; beyond twice the limit the older half is forgotten."""
        if not self.keep:
            return
        self.requests.append(request)
        if len(self.requests) > 2 * self.keep:
            del self.requests[: -self.keep]
