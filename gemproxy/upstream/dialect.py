"""The terms that dispatch, rotator and dialects share. Pure; knows no client protocol and nothing of aiohttp."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence, Set
from typing import Final, Literal, Protocol

from msgspec import Struct
from msgspec.structs import force_setattr

from gemproxy.upstream.cause import Cause
from gemproxy.upstream.demand import Demand, MethodDemand
from gemproxy.wire.gemini import GenerateRequest, GenerateResponse, Part
from gemproxy.wire.gemini_methods import EmbedBatch, EmbedRequest, PredictRequest

Method = Literal[
    "generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents", "predict"
]
GENERATES: Final[Set[Method]] = frozenset(("generateContent", "streamGenerateContent"))
"""The methods by which a model says something; what is asked by others has quotas of its own."""

Body = GenerateRequest | EmbedRequest | EmbedBatch | PredictRequest


class NamedPart(Struct, frozen=True, gc=False):
    """A part that is no text, and what the client calls it: ``messages[0].content[1]``."""

    part: Part
    name: str


class Call(Struct, frozen=True):
    """What is asked, upstream-neutral: Gemini's own method names and body.

    ``body`` is that of the method; of ``countTokens`` it is the ``GenerateRequest`` whose tokens are counted. A
    ``GenerateRequest`` carries every call id and every known signature with its ``origin``; each dialect leaves out in
    ``ask`` what its upstream or the model would refuse. ``media`` holds the parts that are no text, each with the name
    that the client knows it by: a refusal may mean one of them.
    """

    method: Method
    model: str
    body: Body
    media: Sequence[NamedPart] = ()
    known_demand: Demand | None = None  # made when it is first asked for

    @property
    def demand(self) -> Demand:
        """Return what it asks of a quota beyond its model."""
        if self.known_demand is None:
            body = self.body if self.method in GENERATES else None
            demand = Demand(body) if isinstance(body, GenerateRequest) else MethodDemand(self.method)
            force_setattr(self, "known_demand", demand)
        assert self.known_demand is not None
        return self.known_demand


class Token(Struct, frozen=True):
    """What authenticates one request. ``project`` and ``location`` stay "" where the dialect needs none."""

    secret: str
    project: str = ""
    location: str = ""

    def __repr__(self) -> str:
        return "Token(...)"


class HttpRequest(Struct, frozen=True):
    """A request to be sent as it is. The repr shows no header and no body: both hold secrets."""

    url: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.url!r}, {len(self.body)} bytes)"


class Action(enum.Enum):
    """What to do next with the request."""

    OK = "ok"
    NEXT = "next"  # another credential
    ELSEWHERE = "elsewhere"  # a credential of another pool: those of this one are alike, and would refuse it too
    LATER = "later"  # another credential meanwhile: this one has no token yet, which costs neither of them anything
    REFRESH = "refresh"  # a new token, the same credential, once
    REDISCOVER = "rediscover"  # find the project anew, the same credential, once
    REPAIR = "repair"  # the same credential, ``Verdict.repair`` applied, once
    RETRY = "retry"  # Google's capacity: a short pause, few times; rotation does not help much
    STOP = "stop"  # the caller's fault, or nobody's here: tell the client


class Scope(enum.Enum):
    """What a verdict rests or parks."""

    NONE = "none"
    MODEL = "model"  # this model on this credential
    CREDENTIAL = "credential"  # the whole credential
    PROJECT = "project"  # this model on every credential of the same project
    UPSTREAM = "upstream"  # Google itself: no credential rests


class Repair(enum.Enum):
    """One-shot changes of a body that a model refused (docs/protocol.md 9)."""

    DROP_PENALTIES = "drop penalties"
    DROP_LOGPROBS = "drop logprobs"
    DROP_SAMPLING = "drop sampling parameters"
    RAISE_LEVEL = "lowest thinking level but one"
    DROP_LEVEL = "drop thinking level"
    DROP_BUDGET = "drop thinking budget"
    DROP_THINKING = "drop thinking config"
    DUMMY_SIGNATURES = "replace signatures"
    STRIP_CALL_IDS = "strip call ids"
    SCHEMA_AS_TEXT = "schema into the system text"
    SYSTEM_AS_USER = "system text into the first user content"
    END_WITH_USER = "a user content at the end"


class Suspect(Struct, frozen=True):
    """The part of the contents that a refusal is about, as far as it tells: where it is, or what kind of a medium."""

    path: str = ""  # Gemini's own, such as contents[0].parts[1]
    kind: str = ""  # how its type begins, or "file" for what lies elsewhere; "": any medium
    mime: str = ""
    place: int | None = None  # which of its kind


class Verdict(Struct, frozen=True):
    """What an upstream answer means: a row of the dialect's table.

    ``until`` is a deadline on the injected (wall) clock in seconds; None: no hint; ``math.inf``: parked until an
    operator acts. ``reason`` is a short stable word for logs and metrics; ``message`` is redacted text fit for the
    client; ``status``/``code``/``field`` are what the client gets if this verdict ends the request.

    The table does not know the request: whom a ``cause`` other than ANY concerns, and which part a ``suspect`` is, is
    settled by ``aim.aimed``, which writes ``kind``.
    """

    action: Action
    scope: Scope = Scope.NONE
    until: float | None = None
    reason: str = ""
    message: str = ""
    status: int = 502
    code: str = "upstream_error"
    field: str | None = None  # Gemini's, or the client's own name of a part
    repair: Repair | None = None
    daily: bool = False  # the quota of a day (or more) is used up
    cause: Cause = Cause.ANY
    limit: int = 0  # tokens, of a quota of these; 0: not told
    kind: str = ""  # which requests rest (``demand``); "": all of the scope
    suspect: Suspect | None = None
    answered: int = 0  # the HTTP status, or the error's own number where that counts; 0: no answer came


OK = Verdict(Action.OK, reason="ok", status=200, code="")


class Dialect(Protocol):
    """One upstream's way of speaking. Holds only its base URL and what it learnt per model (``learn``)."""

    name: str
    methods: Set[Method]  # those that it has; for others credentials of this upstream are passed over

    def ask(self, call: Call, token: Token, now: float, repairs: Set[Repair] = frozenset()) -> HttpRequest:
        """Return the request to post; all that depends on upstream or model is settled here, ``repairs`` included."""
        ...

    def decode(self, frame: bytes) -> GenerateResponse:
        """Return one frame (or a whole unary body), unwrapped; raises one of ``wire.UNREADABLE``."""
        ...

    def judge(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
        """Return what a refusal means. ``headers`` are found by lower-case names; ``body`` may be anything."""
        ...

    def learn(self, model: str, repair: Repair, now: float) -> None:
        """Remember for an hour that this repair made the model answer, so that ``ask`` applies it at once."""
        ...
