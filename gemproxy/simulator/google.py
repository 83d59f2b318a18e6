"""The simulated Google without its socket: one recorded request in, one ``Answer`` out.

A scripted answer wins; else the credential, the law and then the model have their say, in Google's order. Must not
touch the network; ``app`` puts it on one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from gemproxy.simulator import code_assist, frames, law, magic, proto, vertex
from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.accounts import Account, Accounts
from gemproxy.simulator.ask import Ask
from gemproxy.simulator.catalogue import MODELS, Model, described, listed, lookup
from gemproxy.simulator.google_errors import Refusal
from gemproxy.simulator.model import Gemini
from gemproxy.simulator.oauth import TokenDesk, TokenError
from gemproxy.simulator.recorder import Recorded
from gemproxy.simulator.script import (
    GENERATING,
    JSON,
    SSE,
    Answer,
    Pause,
    Rule,
    Script,
    Scripted,
    error_answer,
    pretty,
    unary_answer,
)
from gemproxy.simulator.signatures import Signer

_PATHS = [
    (re.compile(r"/v1beta/models/(?P<model>.+):(?P<call>\w+)"), "POST", "ai_studio", ""),
    (re.compile(r"/v1beta/models/(?P<model>[^:]+)"), "GET", "ai_studio", "model"),
    (re.compile(r"/v1beta/models"), "GET", "ai_studio", "models"),
    (re.compile(r"/v1internal:(?P<call>\w+)"), "POST", "code_assist", ""),
    (re.compile(r"/v1internal/(?P<operation>operations/[\w-]+)"), "GET", "code_assist", "operation"),
    (
        re.compile(
            r"/vertex/v1/(?P<resource>projects/(?P<project>[^/]+)/locations/[^/]+/publishers/google/models/"
            r"(?P<model>[^/:]+)):(?P<call>\w+)"
        ),
        "POST",
        "vertex",
        "",
    ),
    (re.compile(r"/token"), "POST", "oauth", "token"),
    (re.compile(r"/auth"), "GET", "oauth", "auth"),
]
_SERVICES = {"code_assist": code_assist.DOMAIN, "vertex": "aiplatform.googleapis.com"}
Address = dict[str, str | None]


class _Named(msgspec.Struct):
    """As much of an envelope as is needed to know whom it is for."""

    model: str = ""


class Google:
    """All that stands behind the four addresses, and the switches with which tests change it.

    ``allow_models`` are names taken though the catalogue lacks them; ``accept_any_signature`` ends the check of
    signatures that were not made here; ``pace`` is a pause between frames, ``silence`` one before the first of them,
    ``token_delay`` one before tokens are given, all in seconds. Credentials: ``keys``, ``accounts``; OAuth clients:
    ``desk``.
    """

    def __init__(self, clock: Callable[[], float], seed: int = 0) -> None:
        self.clock = clock
        self.seed = seed
        self.accounts = Accounts(clock)
        self.keys = self.accounts.keys
        self.refreshes = self.accounts.refreshes
        self.desk = TokenDesk(self.accounts)
        self.allow_models: set[str] = set()
        self.accept_any_signature = False
        self.pace = 0.0
        self.silence = 0.0
        self.token_delay = 0.0
        self._script = Script()
        self._signer = Signer(seed)
        self._gemini = Gemini(self._signer)
        self._onboarding = code_assist.Onboarding()
        self._refusals: Counter[str] = Counter()
        self._answered = 0

    def script(
        self,
        answer: Scripted,
        *,
        times: int | None = 1,
        credential: str | None = None,
        model: str | None = None,
        method: str | None = None,
    ) -> None:
        """Queue an answer, first match first; ``times`` None is for ever.

        ``method`` is a ``Recorded.call``; left out, the two generating ones. ``credential`` is a key, an access
        token, or the refresh token or service account behind it.
        """
        self._script.add(Rule(answer, times, credential, model, method))

    def answer(self, request: Recorded) -> Answer:
        """Return what this request gets; fills in who was asked for what."""
        address = self._identify(request)
        if scripted := self._script.take(request):
            return scripted
        if address is None:
            return error_answer(404, errors.html(404, request.path), content_type="text/html; charset=UTF-8")
        try:
            return self._serve(request, address)
        except Refusal as refusal:
            return _refused(request, refusal)
        except TokenError as problem:
            return unary_answer(problem.body, status=problem.status).after(Pause(self.token_delay))

    # ------------------------------------------------------------------------------------------------ who, whom, what

    def _identify(self, request: Recorded) -> Address | None:
        for pattern, verb, upstream, call in _PATHS:
            found = pattern.fullmatch(request.path)
            if found and request.method == verb:
                address = found.groupdict()
                request.upstream = upstream
                request.call = call or address.get("call") or ""
                request.model = address.get("model") or self._enveloped(request)
                self._credential(request)
                return address
        return None

    def _enveloped(self, request: Recorded) -> str:
        if request.upstream != "code_assist" or request.call not in GENERATING:
            return ""
        try:
            return msgspec.json.decode(request.body, type=_Named).model
        except (ValueError, RecursionError):
            return ""

    def _credential(self, request: Recorded) -> None:
        if request.upstream == "oauth":
            form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
            request.credential = request.account = form.get("refresh_token", "")
            return
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        key = request.headers.get("x-goog-api-key", "") or request.query.get("key", "")
        request.credential = (key or bearer) if request.upstream == "ai_studio" else bearer
        access = self.accounts.access.get(bearer)
        request.account = access.account.name if access else ""

    # ------------------------------------------------------------------------------------------------ the upstreams

    def _serve(self, request: Recorded, address: Address) -> Answer:
        match request.upstream:
            case "ai_studio":
                return self._ai_studio(request)
            case "code_assist":
                return self._code_assist(request, address)
            case "vertex":
                return self._vertex(request, address)
            case _:
                return self._oauth(request)

    def _ai_studio(self, request: Recorded) -> Answer:
        if request.credential.startswith("sim-access-") and not request.headers.get("x-goog-api-key"):
            raise errors.wrong_scope()
        generating = request.call in GENERATING
        self.accounts.check_key(request.credential, request.model if generating else "")
        if request.call == "models":
            return unary_answer(listed(request.query.get("pageSize"), request.query.get("pageToken")))
        model = lookup(request.model, "ai_studio", self.allow_models)
        if model is None or request.call not in (*GENERATING, "countTokens", "model"):
            raise errors.unknown_model(request.model, request.call)
        if request.call == "model":
            return unary_answer(described(model))
        if request.call == "countTokens":
            return self._count(request, model)
        return self._generate(request, model, proto.read(request.body, "GenerateContentRequest", "ai_studio"))

    def _vertex(self, request: Recorded, address: Address) -> Answer:
        account = self.accounts.bearer(request.credential, _SERVICES["vertex"])
        resource = address["resource"] or ""
        vertex.check(account, address["project"] or "", resource)
        model = lookup(request.model, "vertex", self.allow_models)
        if model is None or request.call not in (*GENERATING, "countTokens"):
            raise errors.unknown_vertex_model(resource)
        if request.call == "countTokens":
            return self._count(request, model)
        return self._generate(request, model, proto.read(request.body, "GenerateContentRequest", "vertex"))

    def _code_assist(self, request: Recorded, address: Address) -> Answer:
        account = self.accounts.bearer(request.credential, _SERVICES["code_assist"])
        match request.call:
            case "operation":
                return unary_answer(self._onboarding.operation(address["operation"] or ""))
            case "loadCodeAssist":
                proto.read(request.body, "LoadCodeAssistRequest", "code_assist")
                return unary_answer(self._onboarding.load(account))
            case "onboardUser":
                body = proto.read(request.body, "OnboardUserRequest", "code_assist")
                return unary_answer(self._onboarding.onboard(account, body))
            case "retrieveUserQuota":
                proto.read(request.body, "QuotaRequest", "code_assist")
                return unary_answer(code_assist.quota(account, list(MODELS), self.clock()))
            case "countTokens":
                return self._count_enveloped(request)
            case "generateContent" | "streamGenerateContent":
                return self._enveloped_answer(request, account)
            case _:
                raise errors.unknown_entity()

    def _enveloped_answer(self, request: Recorded, account: Account) -> Answer:
        envelope = proto.read(request.body, "Envelope", "code_assist")
        code_assist.check(account, envelope.get("project", ""), request.model, self.clock())
        model = lookup(request.model, "code_assist", self.allow_models)
        if model is None:
            raise errors.unknown_entity()
        return self._generate(request, model, envelope.get("request") or {})

    def _oauth(self, request: Recorded) -> Answer:
        if request.call == "auth":
            return Answer(status=302, headers={"Location": self.desk.consent(request.query)})
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        return unary_answer(self.desk.token(form)).after(Pause(self.token_delay))

    # ------------------------------------------------------------------------------------------------ generation

    def _generate(self, request: Recorded, model: Model, body: dict[str, Any]) -> Answer:
        ask = Ask(request.upstream, request.call, request.model, model, body)
        law.judge(ask, None if self.accept_any_signature else self._signer)
        cast = magic.spell(ask)
        magic.refuse(ask, cast, self._refusals)
        self._answered += 1
        stamp = frames.Stamp.of(self.seed, self._answered, self.clock())
        speeches = magic.speech(self._gemini, ask, cast) or self._gemini.speak(ask)
        answer = magic.deliver(frames.answer(ask, speeches, stamp, sse=_sse(request)), cast)
        answer = answer.after(Pause(self.silence)) if self.silence else answer
        return answer.paced(self.pace) if self.pace else answer

    def _count(self, request: Recorded, model: Model) -> Answer:
        body = proto.read(request.body, "CountTokensRequest", request.upstream)
        inner = body.get("generateContentRequest") or body
        return _counted(Ask(request.upstream, request.call, request.model, model, inner))

    def _count_enveloped(self, request: Recorded) -> Answer:
        inner = proto.read(request.body, "CountEnvelope", "code_assist").get("request") or {}
        name = str(inner.get("model", ""))
        model = lookup(name.removeprefix("models/"), "code_assist", self.allow_models)
        if model is None or not name.startswith("models/"):
            raise errors.unknown_entity()
        return _counted(Ask("code_assist", request.call, name, model, inner))


def _sse(request: Recorded) -> bool:
    return request.query.get("alt") == "sse"


def _refused(request: Recorded, refusal: Refusal) -> Answer:
    """Return a refusal in the dress it gets on a stream (docs/protocol.md S3, S4)."""
    body: Any = refusal.body()
    streaming = request.call == "streamGenerateContent"
    if streaming and not _sse(request):
        body = [body]
    kind = SSE if streaming and _sse(request) and request.upstream != "vertex" else JSON
    return error_answer(refusal.status, pretty(body), content_type=kind)


def _counted(ask: Ask) -> Answer:
    total = ask.prompt_tokens()
    return unary_answer({"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]})
