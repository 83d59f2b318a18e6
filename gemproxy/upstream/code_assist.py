"""Code Assist, ``cloudcode-pa.googleapis.com``: Gemini with a person's OAuth token (PROTOCOL 2).

In: calls, frames, rows. Out: requests in its envelope, unwrapped answers, verdicts. Holds its base URL and what it
learnt; no token. Finding a project is ``onboarding``'s affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Raw, Struct, field

from gemproxy.models import capabilities
from gemproxy.upstream import body as bodies
from gemproxy.upstream import rows, verdicts
from gemproxy.upstream.dialect import Action, Call, HttpRequest, Repair, Scope, Token, Verdict
from gemproxy.upstream.refusal import Refusal
from gemproxy.upstream.repairs import Learnt
from gemproxy.upstream.verdicts import Rest, Row, Table, when
from gemproxy.wire.gemini import GenerateResponse


def wrong_project(refused: Refusal) -> bool:
    """the permission to use Code Assist in the project"""
    return refused.metadata.get("permission", "cloudaicompanion.").startswith("cloudaicompanion.")


OWN_ROWS: Final[Table] = (
    rows.TOKEN_REFUSED,
    # Parked only if the newly found project is refused as well.
    *(
        Row(
            "wrong_project",
            condition,
            Action.REDISCOVER,
            Scope.CREDENTIAL,
            Rest.FOREVER,
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
    rows.dead(
        "no_licence",
        403,
        reasons=("SUBSCRIPTION_REQUIRED", "UNSUPPORTED_CLIENT"),
        begins=r"you must be a named user|you do not have a valid license",
    ),
    # Its link is for the operator's terminal alone: ``onboarding.account_link``.
    rows.dead("verification", 403, reasons=("VALIDATION_REQUIRED",)),
)

# Quotas are per account and model (PROTOCOL 3.3).
TABLE: Final = rows.table(OWN_ROWS, Scope.MODEL)


class Envelope(Struct):
    """What Code Assist wants around a request; the mixed casing is its own (PROTOCOL 2.3)."""

    model: str
    project: str
    user_prompt_id: str
    request: Raw


class EnvelopedAnswer(GenerateResponse, rename="camel"):
    """An answer with or without its envelope: a gateway may have taken it off already."""

    response: GenerateResponse | None = None
    trace_id: str | None = field(default=None, name="traceId")


_ANSWER: Final = msgspec.json.Decoder(EnvelopedAnswer)
_ANSWERS: Final = msgspec.json.Decoder(list[EnvelopedAnswer])


class CodeAssist:
    """The dialect of OAuth credentials. ``base_url`` ends in the version, e.g. ``…/v1internal``."""

    name = "code_assist"

    def __init__(self, base_url: str, user_agent: str) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", "user-agent": user_agent}
        self._learnt = Learnt()

    def ask(self, call: Call, token: Token, now: float) -> HttpRequest:
        """Return the request to post, in its envelope."""
        body = bodies.fitted(call, self.name, self._learnt.of(call.model, now))
        if body.service_tier is not None:  # AI Studio's alone: an unknown field is refused (PROTOCOL 0.4)
            body = copy(body)
            body.service_tier = None
        request = bodies.encode(body)
        model = capabilities(call.model).wire_name_code_assist or call.model
        envelope = Envelope(model, token.project, prompt_id(request, now), Raw(request))
        streams = "?alt=sse" if call.method == "streamGenerateContent" else ""
        return HttpRequest(
            f"{self._base}:{call.method}{streams}",
            {**self._headers, "authorization": f"Bearer {token.secret}"},
            bodies.encode(envelope),
        )

    def decode(self, frame: bytes) -> GenerateResponse:
        """Return one frame or a whole unary body, unwrapped; raises ``msgspec.DecodeError``.

        Without a ``response`` there are no candidates, which is no error; an error counts at either level.
        """
        outer = bodies.read(_ANSWER.decode, _ANSWERS.decode, frame)
        answer = outer.response
        if answer is None:
            answer = outer
        elif outer.error and not answer.error:
            answer.error = outer.error
        if answer.response_id is None:
            answer.response_id = outer.trace_id
        return answer

    def judge(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
        """Return what a refusal means, by ``TABLE``."""
        return verdicts.judge(TABLE, status, headers, body, now)

    def learn(self, model: str, repair: Repair, now: float) -> None:
        """Remember that this model needs this repair."""
        self._learnt.learn(model, repair, now)


def prompt_id(request: bytes, now: float) -> str:
    """Return an id for one prompt, 32 hex digits, from its bytes and the time: this room has no source of chance."""
    ends = request[:1024] + request[-4096:]  # megabytes of an image need not be hashed
    return blake2b(b"%d %r " % (len(request), now) + ends, digest_size=16).hexdigest()
