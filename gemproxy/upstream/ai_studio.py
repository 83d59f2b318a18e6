"""AI Studio, ``generativelanguage.googleapis.com``: Gemini with an API key (docs/protocol.md 1).

In: calls, frames, rows. Out: requests, answers, verdicts. Holds its base URL and what it learnt; no key.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from gemproxy.upstream import request_body
from gemproxy.upstream.dialect import GENERATES, Call, HttpRequest, Method, Repair, Scope, Token
from gemproxy.upstream.gemini import Gemini
from gemproxy.upstream.refusals import rules
from gemproxy.wire.gemini import GenerateRequest
from gemproxy.wire.gemini_methods import EmbedBatch, EmbedRequest

# A key has no token to renew: 401 means that it is none. Keys of one project share its quotas (docs/protocol.md 3.4).
TABLE: Final = rules.table((rules.dead("key_refused", 401),), Scope.PROJECT)

MODELS_PER_PAGE: Final = 1_000  # the most that Google gives (docs/protocol.md 1.1)


class _Counted(GenerateRequest, rename="camel", omit_defaults=True, kw_only=True):
    model: str


class _Embed(EmbedRequest, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    model: str


class AiStudio(Gemini):
    """The dialect of API keys."""

    name = "ai_studio"
    methods: Set[Method] = frozenset(request_body.VERBS)
    table = TABLE

    def ask(self, call: Call, token: Token, now: float, repairs: Set[Repair] = frozenset()) -> HttpRequest:
        """Return the request to post."""
        url = f"{self._base}/models/{request_body.segment(call.model)}{request_body.VERBS[call.method]}"
        body = self._fitted(call, now, repairs) if call.method in GENERATES else self._other(call, now, repairs)
        return HttpRequest(url, self._signed(token), request_body.encode(body))

    def models_request(self, token: Token, page: str = "") -> HttpRequest:
        """Return the request for one page of the models this key may use; it spends no quota of any model."""
        after = f"&pageToken={request_body.segment(page)}" if page else ""
        return HttpRequest(f"{self._base}/models?pageSize={MODELS_PER_PAGE}{after}", self._signed(token), b"", "GET")

    def _other(self, call: Call, now: float, repairs: Set[Repair]) -> object:
        """Return the body of a method that generates nothing; it names the model once more (docs/protocol.md 1.9)."""
        model, body = f"models/{call.model}", call.body
        if isinstance(body, EmbedBatch):
            return EmbedBatch([_Embed(**asdict(each), model=model) for each in body.requests])
        if isinstance(body, GenerateRequest):
            return {"generateContentRequest": _Counted(**asdict(self._fitted(call, now, repairs)), model=model)}
        return body

    def _signed(self, token: Token) -> dict[str, str]:
        return {**self._headers, "x-goog-api-key": token.secret}


class ListedModel(Struct, frozen=True):
    """A model as AI Studio lists it."""

    id: str
    methods: tuple[str, ...] = ()

    @property
    def chats(self) -> bool:
        """Return whether the model answers ``generateContent``."""
        return "generateContent" in self.methods


class ModelsPage(Struct, frozen=True):
    """One page of the list; ``next_page`` is "" on the last."""

    models: tuple[ListedModel, ...] = ()
    next_page: str = ""


class _WireModel(Struct, rename="camel"):
    name: str = ""
    supported_generation_methods: list[str] | None = None


class _WireList(Struct, rename="camel"):
    models: list[_WireModel] | None = None
    next_page_token: str | None = None


_LIST: Final = msgspec.json.Decoder(_WireList)


def read_models(body: bytes) -> ModelsPage:
    """Return a page of ``GET /models`` (docs/protocol.md 1.1); raises one of ``wire.UNREADABLE``."""
    page = _LIST.decode(body)
    listed = (
        ListedModel(model.name.removeprefix("models/"), tuple(model.supported_generation_methods or ()))
        for model in page.models or ()
    )
    return ModelsPage(tuple(model for model in listed if model.id), page.next_page_token or "")
