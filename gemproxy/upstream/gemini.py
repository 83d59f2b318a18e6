"""What all three upstreams of Gemini have in common: headers, the memory of repairs, the reading of a refusal.

A dialect adds its name, its address, its verdict table, and what only it wants in a body. Holds no token.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import ClassVar

from gemproxy.upstream import request_body
from gemproxy.upstream.dialect import Call, Method, Repair, Token, Verdict
from gemproxy.upstream.refusals import verdicts
from gemproxy.upstream.refusals.verdicts import Table
from gemproxy.upstream.repairs import Learnt
from gemproxy.wire.gemini import GenerateRequest, GenerateResponse
from gemproxy.wire.long_answer import LongResponse


class Gemini:
    """The part of a dialect that is the same everywhere. ``base_url`` ends in the version, e.g. ``…/v1beta``."""

    name: str
    methods: Set[Method]
    table: ClassVar[Table]
    decode = staticmethod(request_body.reader(GenerateResponse, LongResponse))

    def __init__(self, base_url: str, user_agent: str) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", "user-agent": user_agent}
        self._learnt = Learnt()

    def judge(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
        """Return what a refusal means, by ``table``."""
        return verdicts.judge(self.table, status, headers, body, now)

    def learn(self, model: str, repair: Repair, now: float) -> None:
        """Remember that this repair made the model answer."""
        self._learnt.learn(model, repair, now)

    def _fitted(self, call: Call, now: float, repairs: Set[Repair]) -> GenerateRequest:
        """Return the body of a call that generates, or of one that counts what such a call would hold."""
        learnt = self._learnt.of(call.model, now)
        return request_body.fitted(call, self.name, learnt | repairs if repairs else learnt)

    def _signed(self, token: Token) -> dict[str, str]:
        return {**self._headers, "authorization": f"Bearer {token.secret}"}
