"""Vertex AI, ``aiplatform.googleapis.com``: Gemini in a project of one's own, with a service account.

Facts: docs/protocol.md 2.8 and 3.

In: calls, frames, rows. Out: requests, answers, verdicts. Holds its address pattern and what it learnt; no token.
"""

from __future__ import annotations

from collections.abc import Set
from copy import copy
from typing import Final

from msgspec import Struct

from gemproxy.upstream import request_body
from gemproxy.upstream.dialect import GENERATES, Action, Call, HttpRequest, Method, Repair, Scope, Token
from gemproxy.upstream.gemini import Gemini
from gemproxy.upstream.refusals import rules
from gemproxy.upstream.refusals.error_body import Refusal
from gemproxy.upstream.refusals.verdicts import Length, Row, when
from gemproxy.wire.gemini import Content, GenerateRequest
from gemproxy.wire.gemini_methods import EmbedRequest

DEFAULT_LOCATION: Final = "global"

_GLOBAL_HOST: Final = "{location}-aiplatform.googleapis.com"


def no_predict_permission(refused: Refusal) -> bool:
    """the permission to use models"""
    return refused.metadata.get("permission", "").startswith("aiplatform.endpoints.")


# Quotas are per project, model and location, so two slots of one project may well have different ones: only the slot
# that was refused rests.
TABLE: Final = rules.table(
    (
        rules.TOKEN_REFUSED,
        # Other permissions may be a client's doing (somebody else's cache or file): those park nothing.
        Row(
            "no_permission",
            when(403, reasons=("IAM_PERMISSION_DENIED",), test=no_predict_permission),
            Action.NEXT,
            Scope.CREDENTIAL,
            Length.FOREVER,
            status=503,
            code="no_upstream_credentials",
            words="An upstream credential has no right to use models; the operator has to look at it.",
        ),
    ),
    Scope.MODEL,
)


class _EmbedConfig(Struct, rename="camel", omit_defaults=True):
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None


class _Embed(Struct, rename="camel", omit_defaults=True):
    content: Content
    embed_content_config: _EmbedConfig | None = None


class Vertex(Gemini):
    """The dialect of service accounts. ``base_url`` may hold ``{location}``, e.g. ``https://{location}-aiplatform…``."""

    name = "vertex"
    # embeddings go by ``predict``, of newer models by ``embedContent``; batches were never seen answered
    methods: Set[Method] = frozenset((*GENERATES, "countTokens", "embedContent", "predict"))
    table = TABLE

    def ask(self, call: Call, token: Token, now: float, repairs: Set[Repair] = frozenset()) -> HttpRequest:
        """Return the request to post; project and location come from the token."""
        place = token.location or DEFAULT_LOCATION
        resource = f"projects/{request_body.segment(token.project)}/locations/{request_body.segment(place)}"
        model = f"{resource}/publishers/google/models/{request_body.segment(call.model)}"
        return HttpRequest(
            f"{base_url(self._base, place)}/{model}{request_body.VERBS[call.method]}",
            self._signed(token),
            request_body.encode(self._body(call, resource, now, repairs)),
        )

    def _body(self, call: Call, resource: str, now: float, repairs: Set[Repair]) -> object:
        body = call.body
        if isinstance(body, EmbedRequest):
            wanted = _EmbedConfig(body.task_type, body.title, body.output_dimensionality)
            return _Embed(body.content, wanted if wanted != _EmbedConfig() else None)
        if not isinstance(body, GenerateRequest):
            return body
        fitted = self._fitted(call, now, repairs)
        if call.method in GENERATES:
            return _own_fields(fitted, resource)
        config = fitted.generation_config
        return GenerateRequest(fitted.contents, fitted.system_instruction, fitted.tools, generation_config=config)


def base_url(pattern: str, location: str) -> str:
    """Return the address for a location. Only Google's own host differs by kind of location: ``global`` has no prefix,
    and the multi-regions ``us`` and ``eu`` are served at ``aiplatform.us.rep.googleapis.com``.
    """
    if location == "global":
        pattern = pattern.replace(_GLOBAL_HOST, "aiplatform.googleapis.com")
    elif location in ("us", "eu"):
        pattern = pattern.replace(_GLOBAL_HOST, "aiplatform.{location}.rep.googleapis.com")
    return pattern.replace("{location}", request_body.segment(location))


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
