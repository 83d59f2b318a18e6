"""AI Studio, ``generativelanguage.googleapis.com``: Gemini with an API key (PROTOCOL 1).

In: calls, frames, rows. Out: requests, answers, verdicts. Holds its base URL and what it learnt; no key.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

import msgspec
from msgspec import Struct

from gemproxy.upstream import request_body
from gemproxy.upstream.dialect import Call, HttpRequest, Repair, Scope, Token
from gemproxy.upstream.gemini import Gemini
from gemproxy.upstream.refusals import rules

# A key has no token to renew: 401 means that it is none. Keys of one project share its quotas (PROTOCOL 3.4).
TABLE: Final = rules.table((rules.dead("key_refused", 401),), Scope.PROJECT)

MODELS_PER_PAGE: Final = 1_000  # the most that Google gives (PROTOCOL 1.1)


class AiStudio(Gemini):
    """The dialect of API keys."""

    name = "ai_studio"
    table = TABLE

    def ask(self, call: Call, token: Token, now: float, repairs: Set[Repair] = frozenset()) -> HttpRequest:
        """Return the request to post."""
        url = f"{self._base}/models/{request_body.segment(call.model)}{request_body.VERBS[call.method]}"
        return HttpRequest(url, self._signed(token), request_body.encode(self._fitted(call, now, repairs)))

    def models_request(self, token: Token, page: str = "") -> HttpRequest:
        """Return the request for one page of the models this key may use; it spends no quota of any model."""
        after = f"&pageToken={request_body.segment(page)}" if page else ""
        return HttpRequest(f"{self._base}/models?pageSize={MODELS_PER_PAGE}{after}", self._signed(token), b"", "GET")

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
    """Return a page of ``GET /models`` (PROTOCOL 1.1); raises one of ``wire.UNREADABLE``."""
    page = _LIST.decode(body)
    listed = (
        ListedModel(model.name.removeprefix("models/"), tuple(model.supported_generation_methods or ()))
        for model in page.models or ()
    )
    return ModelsPage(tuple(model for model in listed if model.id), page.next_page_token or "")
