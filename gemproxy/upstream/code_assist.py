"""Code Assist, ``cloudcode-pa.googleapis.com``: Gemini with a person's OAuth token (docs/protocol.md 2).

In: calls, frames, rows. Out: requests in its envelope, unwrapped answers, verdicts. Holds its base URL and what it
learnt; no token. Finding a project is ``onboarding``'s affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from copy import copy
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from gemproxy.models import capabilities
from gemproxy.upstream import request_body
from gemproxy.upstream.dialect import GENERATES, Action, Call, HttpRequest, Method, Repair, Scope, Token
from gemproxy.upstream.gemini import Gemini
from gemproxy.upstream.refusals import rules
from gemproxy.upstream.refusals.error_body import Refusal
from gemproxy.upstream.refusals.verdicts import Length, Row, Table, when
from gemproxy.wire.gemini import Content, GenerateRequest, GenerateResponse, Part
from gemproxy.wire.long_answer import LongCandidate, LongResponse


def wrong_project(refused: Refusal) -> bool:
    """the permission to use Code Assist in the project"""
    return refused.metadata.get("permission", "cloudaicompanion.").startswith("cloudaicompanion.")


OWN_ROWS: Final[Table] = (
    rules.TOKEN_REFUSED,
    # Parked only if the newly found project is refused as well.
    *(
        Row(
            "wrong_project",
            condition,
            Action.REDISCOVER,
            Scope.CREDENTIAL,
            Length.FOREVER,
            status=503,
            code="no_upstream_credentials",
            words="An upstream credential has no right to its project; the operator has to look at it.",
        )
        for condition in (
            when(
                403,
                reasons=("CONSUMER_INVALID", "USER_PROJECT_DENIED"),
                begins=r"permission denied on resource project ",
            ),
            when(403, reasons=("IAM_PERMISSION_DENIED",), test=wrong_project),
        )
    ),
    rules.dead(
        "no_licence",
        403,
        reasons=("SUBSCRIPTION_REQUIRED", "UNSUPPORTED_CLIENT"),
        begins=r"you must be a named user|you do not have a valid license",
    ),
    # Its link is for the operator's terminal alone: ``onboarding.account_link``.
    rules.dead("verification", 403, reasons=("VALIDATION_REQUIRED",)),
)

# Quotas are per account and model (docs/protocol.md 3.3).
TABLE: Final = rules.table(OWN_ROWS, Scope.MODEL)


class Envelope(Struct):
    """What Code Assist wants around a ``request``; the mixed casing is its own (docs/protocol.md 2.3)."""

    model: str
    project: str
    user_prompt_id: str


class _Counted(Struct):
    model: str
    contents: list[Content]


class EnvelopedAnswer(GenerateResponse, rename="camel"):
    """An answer with or without its envelope: a gateway may have taken it off already."""

    response: GenerateResponse | None = None


class LongEnvelopedAnswer(EnvelopedAnswer):
    candidates: list[LongCandidate] | None = None  # type: ignore[assignment]
    response: LongResponse | None = None


_read: Final = request_body.reader(EnvelopedAnswer, LongEnvelopedAnswer)


def unwrapped(frame: bytes) -> GenerateResponse:
    """Return one frame or a whole unary body, out of its envelope; raises one of ``wire.UNREADABLE``.

    Without a ``response`` there are no candidates, which is no error; an error counts at either level.
    """
    outer = _read(frame)
    answer = outer.response
    if answer is None:
        return outer
    if outer.error is not None and answer.error is None:
        answer.error = outer.error
    return answer


class CodeAssist(Gemini):
    """The dialect of OAuth credentials."""

    name = "code_assist"
    methods: Set[Method] = frozenset((*GENERATES, "countTokens"))
    table = TABLE
    decode = staticmethod(unwrapped)

    def ask(self, call: Call, token: Token, now: float, repairs: Set[Repair] = frozenset()) -> HttpRequest:
        """Return the request to post, in its envelope."""
        body = self._fitted(call, now, repairs)
        if call.method == "countTokens":
            return self._count(call, body, token)
        if body.service_tier is not None:  # AI Studio's alone: an unknown field is refused (docs/protocol.md 0.4)
            body = copy(body)
            body.service_tier = None
        request = request_body.encode(body)
        head = request_body.encode(Envelope(_wire_name(call.model), token.project, prompt_id(request, now)))
        # put around as bytes: to encode megabytes of images once more would take three times as long
        enveloped = b"".join((head[:-1], b',"request":', request, b"}"))
        return HttpRequest(self._base + request_body.VERBS[call.method], self._signed(token), enveloped)

    def _count(self, call: Call, body: GenerateRequest, token: Token) -> HttpRequest:
        """Return the request for a count: of contents alone, so all else is said in them (docs/protocol.md 2.3)."""
        contents = [*_besides(body), *map(_without_thoughts, body.contents)]
        counted = {"request": _Counted(f"models/{_wire_name(call.model)}", contents)}
        return HttpRequest(
            self._base + request_body.VERBS[call.method], self._signed(token), request_body.encode(counted)
        )


def _wire_name(model: str) -> str:
    return capabilities(model).wire_name_code_assist or model


def _without_thoughts(content: Content) -> Content:
    """Return a content whose thoughts are plain text, as a count takes them."""
    if not any(part.thought for part in content.parts or ()):
        return content
    return Content([Part(text=part.text) if part.thought else part for part in content.parts or ()], content.role)


def _besides(body: GenerateRequest) -> Iterator[Content]:
    """Yield what stands beside the contents, as contents."""
    if body.system_instruction is not None:
        yield Content(body.system_instruction.parts, "user")
    if body.tools:
        yield Content([Part(text=request_body.encode(body.tools).decode())], "user")


def prompt_id(request: bytes, now: float) -> str:
    """Return an id for one prompt, 32 hex digits, from its bytes and the time: this room has no source of chance."""
    ends = request[:1024] + request[-4096:]  # megabytes of an image need not be hashed
    return blake2b(b"%d %r " % (len(request), now) + ends, digest_size=16).hexdigest()
