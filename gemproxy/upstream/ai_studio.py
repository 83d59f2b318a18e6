"""AI Studio, ``generativelanguage.googleapis.com``: Gemini with an API key (PROTOCOL 1).

In: calls, frames, rows. Out: requests, answers, verdicts. Holds its base URL and what it learnt; no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from gemproxy.upstream import body as bodies
from gemproxy.upstream import rows, verdicts
from gemproxy.upstream.dialect import Call, HttpRequest, Repair, Scope, Token, Verdict
from gemproxy.upstream.repairs import Learnt
from gemproxy.wire.gemini import GenerateResponse

# A key has no token to renew: 401 means that it is none. Keys of one project share its quotas (PROTOCOL 3.4).
TABLE: Final = rows.table((rows.dead("key_refused", 401),), Scope.PROJECT)

MODELS_PER_PAGE: Final = 1_000  # the most that Google gives (PROTOCOL 1.1)

_ANSWER: Final = msgspec.json.Decoder(GenerateResponse)
_decode: Final = _ANSWER.decode
_ANSWERS: Final = msgspec.json.Decoder(list[GenerateResponse])


class AiStudio:
    """The dialect of API keys. ``base_url`` ends in the version, e.g. ``…/v1beta``."""

    name = "ai_studio"

    def __init__(self, base_url: str, user_agent: str) -> None:
        self._models = base_url.rstrip("/") + "/models"
        self._headers = {"content-type": "application/json", "user-agent": user_agent}
        self._learnt = Learnt()

    def ask(self, call: Call, token: Token, now: float) -> HttpRequest:
        """Return the request to post."""
        body = bodies.fitted(call, self.name, self._learnt.of(call.model, now))
        streams = "?alt=sse" if call.method == "streamGenerateContent" else ""
        return HttpRequest(
            f"{self._models}/{bodies.segment(call.model)}:{call.method}{streams}",
            {**self._headers, "x-goog-api-key": token.secret},
            bodies.encode(body),
        )

    def decode(self, frame: bytes) -> GenerateResponse:
        """Return one frame or a whole unary body; raises ``msgspec.DecodeError``."""
        try:
            return _decode(frame)  # bound once: a fifth of the cost of a small frame is finding what to call
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return bodies.read(_decode, _ANSWERS.decode, frame)

    def judge(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
        """Return what a refusal means, by ``TABLE``."""
        return verdicts.judge(TABLE, status, headers, body, now)

    def learn(self, model: str, repair: Repair, now: float) -> None:
        """Remember that this model needs this repair."""
        self._learnt.learn(model, repair, now)

    def models_request(self, token: Token, page: str = "") -> HttpRequest:
        """Return the request for one page of the models this key may use; it spends no quota of any model."""
        after = f"&pageToken={bodies.segment(page)}" if page else ""
        return HttpRequest(
            f"{self._models}?pageSize={MODELS_PER_PAGE}{after}",
            {**self._headers, "x-goog-api-key": token.secret},
            b"",
            "GET",
        )


class ListedModel(Struct, frozen=True):
    """A model as AI Studio lists it; limits in tokens."""

    id: str
    in_limit: int | None = None
    out_limit: int | None = None
    thinking: bool = False
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
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    thinking: bool | None = None
    supported_generation_methods: list[str] | None = None


class _WireList(Struct, rename="camel"):
    models: list[_WireModel] | None = None
    next_page_token: str | None = None


_LIST: Final = msgspec.json.Decoder(_WireList)


def read_models(body: bytes) -> ModelsPage:
    """Return a page of ``GET /models`` (PROTOCOL 1.1); raises ``msgspec.DecodeError``."""
    page = _LIST.decode(body)
    listed = (
        ListedModel(
            model.name.removeprefix("models/"),
            model.input_token_limit,
            model.output_token_limit,
            bool(model.thinking),
            tuple(model.supported_generation_methods or ()),
        )
        for model in page.models or ()
    )
    return ModelsPage(tuple(model for model in listed if model.id), page.next_page_token or "")
