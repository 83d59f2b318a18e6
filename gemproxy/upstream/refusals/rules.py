"""The rows that the verdict tables share: what Google's refusals mean on any of its upstreams.

Data, no code: read a group from the top, the first row that fits decides. A dialect puts its own rows before them.
Sources: docs/protocol.md 3.2-3.6, 9 and S.G; scopes and times: docs/architecture.md 14.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from gemproxy.upstream.blame import LOGPROBS, PENALTY
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.dialect import Action, Repair, Scope
from gemproxy.upstream.refusals.error_body import Quota, Refusal
from gemproxy.upstream.refusals.verdicts import Length, Row, Table, When, when

NO_MODEL: Final = "model_not_found"
"""The reason of a cooldown for a model that a credential does not have, and OpenAI's code for it."""

_CREDENTIAL_WORDS: Final = "An upstream credential was refused; the operator has to look at it."
_LIMIT_ZERO: Final = re.compile(r"\blimit: 0(?![\d.])")
_DAY_QUOTA: Final = re.compile(r"(?i)per_?day|daily")
_MINUTE_QUOTA: Final = re.compile(r"(?i)per_?minute")
_VAGUE_REASONS: Final = frozenset({"rateLimitExceeded", "RESOURCE_EXHAUSTED"})  # what any 429 may carry

# ---------------------------------------------------------------------------------------- the credential is to blame


def dead(reason: str, *statuses: int, reasons: tuple[str, ...] = (), begins: str = "") -> Row:
    """Return a row for a credential that no waiting brings back: the next one serves (docs/protocol.md 3.2, 3.3)."""
    return Row(
        reason,
        when(*statuses, reasons=reasons, begins=begins),
        Action.NEXT,
        Scope.CREDENTIAL,
        Length.FOREVER,
        status=503,
        code="no_upstream_credentials",
        words=_CREDENTIAL_WORDS,
    )


TOKEN_REFUSED: Final = Row(
    "token_refused",
    when(401),
    Action.REFRESH,
    Scope.CREDENTIAL,
    Length.FOREVER,
    status=503,
    code="no_upstream_credentials",
    words=_CREDENTIAL_WORDS,
)
"""OAuth's 401: a new token, once; refused again, the credential is dead (docs/protocol.md 3.3)."""

# A 401 is settled by each dialect's first row; the words of OAuth's own endpoint are ``credentials/token_errors``'s.
DEAD_CREDENTIALS: Final[Table] = (
    # A dead key is a 400 (docs/protocol.md S37).
    dead("key_invalid", 400, 403, reasons=("API_KEY_INVALID",), begins=r"api key (?:not valid|expired|not found)"),
    dead("key_leaked", 403, begins=r"your api key was reported as leaked"),
    dead(
        "suspended",
        403,
        reasons=("CONSUMER_SUSPENDED",),
        begins=r"(?:permission denied: )?consumer \S{1,200} has been suspended",
    ),
    dead("project_denied", 403, begins=r"your project has been denied access"),
    dead(
        "key_restricted",
        403,
        reasons=(
            "API_KEY_SERVICE_BLOCKED",
            "API_KEY_HTTP_REFERRER_BLOCKED",
            "API_KEY_IP_ADDRESS_BLOCKED",
            "API_KEY_ANDROID_APP_BLOCKED",
            "API_KEY_IOS_APP_BLOCKED",
        ),
        begins=r"requests to this api .{1,200} are blocked",
    ),
    dead("api_disabled", 403, reasons=("SERVICE_DISABLED",), begins=r"[\w .-]{1,80} has not been used in project "),
    dead(
        "billing",
        400,
        403,
        reasons=("BILLING_DISABLED",),
        begins=r"this api method requires billing|gemini api free tier is not available in your country",
    ),
    dead("no_key", 403, begins=r"method doesn't allow unregistered callers"),
    dead("token_scope", 403, reasons=("ACCESS_TOKEN_SCOPE_INSUFFICIENT",)),
    dead("project_invalid", 403, reasons=("CONSUMER_INVALID", "USER_PROJECT_DENIED")),
    dead("network_policy", 403, reasons=("SECURITY_POLICY_VIOLATED",)),
)

# --------------------------------------------------------------------------------------------- the server is to blame

LOCATION: Final[Table] = (
    # It is the server's address: every credential fails alike, so none rests and none is tried (docs/protocol.md S37).
    Row(
        "location",
        when(400, 403, begins=r"user location is not supported"),
        Action.STOP,
        Scope.UPSTREAM,
        status=503,
        code="upstream_unavailable",
        words="Google does not serve the Gemini API at the location of this server.",
    ),
)

# ------------------------------------------------------------------------------------------------------------ quotas


def _nothing(quota: Quota) -> bool:
    return quota.limit == "0"


def _daily(quota: Quota) -> bool:
    return _DAY_QUOTA.search(quota.id) is not None


def _minutely(quota: Quota) -> bool:
    return _MINUTE_QUOTA.search(quota.id) is not None


def _nothing_allowed(refused: Refusal) -> bool:
    """a limit of 0"""
    return any(map(_nothing, refused.quotas)) or _LIMIT_ZERO.search(refused.text) is not None


def _by_day(refused: Refusal) -> bool:
    """a quota per day"""
    if any(quota.id for quota in refused.quotas):
        return any(map(_daily, refused.quotas))
    return re.search(r"\bper day\b|\bdaily\b", refused.text) is not None


def _by_minute(refused: Refusal) -> bool:
    """a quota per minute"""
    return any(map(_minutely, refused.quotas))


def _untold(refused: Refusal) -> bool:
    """no quota named"""
    return not refused.quotas and refused.reasons <= _VAGUE_REASONS


def _any(_: Quota) -> bool:
    return True


def _used_up(
    reason: str,
    condition: When,
    scope: Scope,
    cooldown: Length,
    words: str,
    *,
    daily: bool = False,
    cause: Cause = Cause.ANY,
    counts: Callable[[Quota], bool] | None = None,
) -> Row:
    return Row(
        reason,
        condition,
        Action.NEXT,
        scope,
        cooldown,
        status=429,
        code="insufficient_quota" if daily else "rate_limit_exceeded",
        daily=daily,
        words=words,
        cause=cause,
        counts=counts,
    )


_NO_CREDITS: Final = "An upstream credential has no credits left."

# Rows that hold wherever quotas are counted; Google's lack of room is among them, since it looks like one.
_SPENT: Final[Table] = (
    _used_up("credits", when(402), Scope.CREDENTIAL, Length.LONG, _NO_CREDITS, daily=True),
    _used_up(
        "credits",
        when(429, reasons=("INSUFFICIENT_G1_CREDITS_BALANCE",), says=r"\bcredits?\b.{0,40}\b(?:deplet|exhaust)"),
        Scope.CREDENTIAL,
        Length.LONG,
        _NO_CREDITS,
        daily=True,
    ),
    # Not in this tier, or billing lost: waiting does not help, another credential may (docs/protocol.md 3.4).
    _used_up(
        "no_quota",
        when(429, 499, 503, test=_nothing_allowed),
        Scope.MODEL,
        Length.FOREVER,
        "An upstream credential has no quota for this model.",
        daily=True,
        counts=_nothing,
    ),
    # Google has no room: rotating accounts does not make any (docs/protocol.md S36).
    Row(
        "capacity",
        when(
            429,
            499,
            503,
            reasons=("MODEL_CAPACITY_EXHAUSTED", "MODEL_CAPACITY_EXCEEDED"),
            says=r"no capacity available|model_capacity_|capacity exceeded",
        ),
        Action.RETRY,
        Scope.UPSTREAM,
        Length.HINT,
        status=503,
        code="overloaded",
    ),
)


def quotas(scope: Scope) -> Table:
    """Return the quota rows; ``scope`` says who shares a quota: a project's keys, or one account alone."""
    return (*_SPENT, *_of_a_time(scope), *_rates(scope))


def _of_a_time(scope: Scope) -> Table:
    return (
        _used_up(
            "quota_exhausted",
            when(429, reasons=("QUOTA_EXHAUSTED",)),
            scope,
            Length.RESET,
            "The upstream's quota for this model is used up.",
            daily=True,
        ),
        # Its RetryInfo of some seconds misleads (docs/protocol.md S35), and of several violations the worst decides.
        _used_up(
            "quota_day",
            when(429, test=_by_day),
            scope,
            Length.DAY,
            "The upstream's quota per day for this model is used up.",
            daily=True,
            counts=_daily,
        ),
        _used_up(
            "quota_minute",
            when(429, test=_by_minute),
            scope,
            Length.MINUTE,
            "The upstream's quota per minute for this model is used up.",
            counts=_minutely,
        ),
    )


def _rates(scope: Scope) -> Table:
    limit = "The upstream's rate limit for this model is reached."
    return (
        # What a feature draws that a free key does not have looks just like this: it rests its like alone.
        _used_up("rate_limit", when(429, test=_untold), scope, Length.HINT, limit, cause=Cause.UNTOLD),
        _used_up("rate_limit", when(429), scope, Length.HINT, limit, counts=_any),
        # Google's older front ends say 403 for it.
        _used_up(
            "rate_limit",
            when(403, reasons=("RATE_LIMIT_EXCEEDED", "rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded")),
            scope,
            Length.HINT,
            limit,
        ),
    )


# -------------------------------------------------------------------------------------------- what a repair can mend


def _repairable(reason: str, repair: Repair, says: str = "", begins: str = "") -> Row:
    return Row(reason, when(400, says=says, begins=begins), Action.REPAIR, status=400, code="", repair=repair)


REPAIRS: Final[Table] = (
    _repairable("penalty", Repair.DROP_PENALTIES, PENALTY),
    _repairable("logprobs", Repair.DROP_LOGPROBS, LOGPROBS),
    _repairable(
        "sampling",
        Repair.DROP_SAMPLING,
        r"\b(?:temperature|top_?[pk]|sampling parameters?)\b.{0,40}\bnot (?:supported|enabled|allowed)",
    ),
    _repairable("thinking_level", Repair.RAISE_LEVEL, r"thinking level minimal is not supported"),
    # a higher one that is refused: the model's own default is nearer to what was asked than a guess
    _repairable("no_thinking_level", Repair.DROP_LEVEL, r"thinking level (?:\S+ )?is not supported"),
    _repairable(
        "thinking_budget",
        Repair.DROP_BUDGET,
        r"budget -?\d+ is invalid|only works in thinking mode|thinking budget .{0,80}\binvalid",
    ),
    _repairable("no_thinking", Repair.DROP_THINKING, r"thinking is not (?:enabled|supported)"),
    _repairable("signature", Repair.DUMMY_SIGNATURES, r"thought[_ ]?signature"),
    _repairable("call_id", Repair.STRIP_CALL_IDS, r'unknown name "id"|functionresponse\.id does not match'),
    _repairable("json_with_tools", Repair.SCHEMA_AS_TEXT, r"function calling with a response mime type"),
    # At the beginning only: a client that made Google quote this would turn everybody's system text into user text.
    _repairable(
        "system", Repair.SYSTEM_AS_USER, begins=r"(?:developer|system) instruction is not (?:enabled|supported)"
    ),
    _repairable(
        "model_turn",
        Repair.END_WITH_USER,
        begins=r"(?:unable to submit request because )?requests? ending with a model turn",
    ),
)

# --------------------------------------------------------------------------------------------- the request is to blame

REQUESTS: Final[Table] = (
    Row(
        "too_long",
        when(400, 413, says=r"input token count|exceeds the maximum number of tokens"),
        Action.STOP,
        status=400,
        code="context_length_exceeded",
        field="contents",
    ),
    Row(
        "too_large",
        when(400, says=r"payload size exceeds|request (?:entity |is |body )?too large"),
        Action.STOP,
        status=413,
        code="request_too_large",
    ),
    Row("too_large", when(413), Action.STOP, status=413, code="request_too_large"),
    Row(
        "candidates",
        when(400, says=r"multiple candidates is not enabled"),
        Action.STOP,
        status=400,
        code="unsupported_value",
        field="candidate_count",
    ),
    Row(
        "media_url",
        when(400, says=r"cannot fetch content from the provided url|invalid or unsupported file uri"),
        Action.STOP,
        status=400,
        code="invalid_image_url",
        field="contents",
    ),
    Row("bad_request", when(400, 422), Action.STOP, status=400, code=""),
    # 403 without a word on the credential: a file or a tuned model of somebody else, perhaps of another key here.
    Row("forbidden", when(403), Action.NEXT, status=403, code=""),
    # A client's own resource: no model may rest for it, or any client could take models out of service.
    Row(
        "resource_not_found",
        when(404, says=r"\bcached? ?contents?\b|\bcachedcontents?/|\bfiles?/"),
        Action.NEXT,
        status=404,
        code="not_found",
    ),
    *(
        Row(
            NO_MODEL,
            condition,
            Action.NEXT,
            Scope.MODEL,
            Length.HOUR,
            status=404,
            code=NO_MODEL,
            field="model",
            cause=cause,
        )
        for condition, cause in (
            (when(404, says=r"\bmodels?\b"), Cause.ANY),
            (when(404), Cause.MISSING),  # Code Assist's names nothing
        )
    ),
)

# ---------------------------------------------------------------------------------------------------- Google's trouble

TROUBLE: Final[Table] = (
    # 499 is Google cancelling its own work; gemini-cli treats it like 503 throughout (docs/protocol.md 3.5).
    Row(
        "overloaded", when(409, 499, 503, 529), Action.RETRY, Scope.UPSTREAM, Length.HINT, status=503, code="overloaded"
    ),
    Row("upstream_timeout", when(408, 504), Action.RETRY, Scope.UPSTREAM, status=504, code="upstream_timeout"),
    Row("upstream_error", when(500, 501, 502), Action.RETRY, Scope.UPSTREAM, status=502, code="upstream_error"),
    # Redirects, 405, 415 and whatever comes: not the client's doing and nothing a credential can mend.
    Row("unexpected", when(), Action.RETRY, Scope.UPSTREAM, status=502, code="upstream_error"),
)


def table(own: Table, quota_scope: Scope) -> Table:
    """Return a dialect's whole table: its own rows first, then those of all upstreams."""
    return (*own, *DEAD_CREDENTIALS, *LOCATION, *quotas(quota_scope), *REPAIRS, *REQUESTS, *TROUBLE)
