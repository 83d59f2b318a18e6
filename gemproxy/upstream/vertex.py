"""Vertex AI, ``aiplatform.googleapis.com``: Gemini in a project of one's own, with a service account (PROTOCOL 2.3, 3).

In: calls, frames, rows. Out: requests, answers, verdicts. Holds its address pattern and what it learnt; no token.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Final

import msgspec

from gemproxy.upstream import body as bodies
from gemproxy.upstream import rows, verdicts
from gemproxy.upstream.dialect import Action, Call, HttpRequest, Repair, Scope, Token, Verdict
from gemproxy.upstream.refusal import Refusal
from gemproxy.upstream.repairs import Learnt
from gemproxy.upstream.verdicts import Rest, Row, when
from gemproxy.wire.gemini import GenerateRequest, GenerateResponse

DEFAULT_LOCATION: Final = "global"

_GLOBAL_HOST: Final = "{location}-aiplatform.googleapis.com"
_ANSWER: Final = msgspec.json.Decoder(GenerateResponse)
_ANSWERS: Final = msgspec.json.Decoder(list[GenerateResponse])


def no_predict_permission(refused: Refusal) -> bool:
    """the permission to use models"""
    return refused.metadata.get("permission", "").startswith("aiplatform.endpoints.")


# Quotas are per project, model and location, so two slots of one project may well have different ones: only the slot
# that was refused rests.
TABLE: Final = rows.table(
    (
        rows.TOKEN_REFUSED,
        # Other permissions may be a client's doing (somebody else's cache or file): those park nothing.
        Row(
            "no_permission",
            when(403, reasons=("IAM_PERMISSION_DENIED",), test=no_predict_permission),
            Action.NEXT,
            Scope.CREDENTIAL,
            Rest.FOREVER,
            status=503,
            code="no_upstream_credentials",
            words="An upstream credential has no right to use models; the operator has to look at it.",
        ),
    ),
    Scope.MODEL,
)


class Vertex:
    """The dialect of service accounts. ``base_url`` may hold ``{location}``, e.g. ``https://{location}-aiplatform…``."""

    name = "vertex"

    def __init__(self, base_url: str, user_agent: str) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", "user-agent": user_agent}
        self._learnt = Learnt()

    def ask(self, call: Call, token: Token, now: float) -> HttpRequest:
        """Return the request to post; project and location come from the token."""
        place = token.location or DEFAULT_LOCATION
        resource = f"projects/{bodies.segment(token.project)}/locations/{bodies.segment(place)}"
        body = _own_fields(bodies.fitted(call, self.name, self._learnt.of(call.model, now)), resource)
        streams = "?alt=sse" if call.method == "streamGenerateContent" else ""
        return HttpRequest(
            f"{base_url(self._base, place)}/{resource}/publishers/google/models/"
            f"{bodies.segment(call.model)}:{call.method}{streams}",
            {**self._headers, "authorization": f"Bearer {token.secret}"},
            bodies.encode(body),
        )

    def decode(self, frame: bytes) -> GenerateResponse:
        """Return one frame or a whole unary body; raises ``msgspec.DecodeError``."""
        return bodies.read(_ANSWER.decode, _ANSWERS.decode, frame)

    def judge(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
        """Return what a refusal means, by ``TABLE``."""
        return verdicts.judge(TABLE, status, headers, body, now)

    def learn(self, model: str, repair: Repair, now: float) -> None:
        """Remember that this model needs this repair."""
        self._learnt.learn(model, repair, now)


def base_url(pattern: str, location: str) -> str:
    """Return the address for a location. Only Google's own host differs by kind of location: ``global`` has no prefix,
    and the multi-regions ``us`` and ``eu`` are served at ``aiplatform.us.rep.googleapis.com``.
    """
    if location == "global":
        pattern = pattern.replace(_GLOBAL_HOST, "aiplatform.googleapis.com")
    elif location in ("us", "eu"):
        pattern = pattern.replace(_GLOBAL_HOST, "aiplatform.{location}.rep.googleapis.com")
    return pattern.replace("{location}", bodies.segment(location))


def _own_fields(body: GenerateRequest, resource: str) -> GenerateRequest:
    """Leave out what only AI Studio has, and give a cache its full name."""
    tools, cache = body.tool_config, body.cached_content
    mixed = tools is not None and tools.include_server_side_tool_invocations is not None
    short = cache is not None and cache.startswith("cachedContents/")
    if body.service_tier is None and not mixed and not short:
        return body
    fresh = copy(body)
    fresh.service_tier = None
    if tools is not None and mixed:
        fresh.tool_config = copy(tools)
        fresh.tool_config.include_server_side_tool_invocations = None
    if short:
        fresh.cached_content = f"{resource}/{cache}"
    return fresh
