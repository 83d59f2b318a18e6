"""Reads an upstream's error answer, whatever shape it has, into one ``Refusal``.

In: status, headers (lower-case names) and body. Out: a ``Refusal``; never an exception. It judges nothing: the verdict
tables do. Shapes seen: an object, a one-element array around it, the object inside a Code Assist envelope, the inner
object alone, JSON as a string within ``message``, OAuth's ``{"error": "invalid_grant"}``, JSON with stray commas, HTML,
nothing (docs/protocol.md 1.2, 3.1, S3-S6, S40, S41).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Struct

from gemproxy.upstream.refusals import quota
from gemproxy.wire import UNREADABLE
from gemproxy.wire.incoming import whole

_LONGEST_BODY: Final = 1 << 18  # bytes; a larger one is not looked at: a real refusal has a few thousand
_LONGEST_TEXT: Final = 8_000  # characters kept of each: dozens of patterns are looked for in it, on the loop
_MOST_NAMED: Final = 64  # quotas, and fields
_MOST_NODES: Final = 200  # details, and what they list; a real refusal has a dozen
_LONGEST_NESTED: Final = 1 << 16  # characters of a message that may be JSON itself
_DEEPEST_NESTING: Final = 5  # errors within messages; gemini-cli un-nests as many
_QUOTA_SENTENCE: Final = re.compile(r"(?i)quota exceeded for metric: ([\w./-]{1,200}), limit: (\d{1,18})(?![\d.])")
# no groups that repeat: their ways back are a gigabyte for ten million commas, and possessive ones Python before 3.11.5
# reads wrongly
_STRAY_COMMA: Final = re.compile(rb",[\s,]*,")
_LAST_COMMA: Final = re.compile(rb",\s*+([}\]])")
_PARSER: Final = msgspec.json.Decoder()

# HTTP's number for google.rpc.Code, for errors inside a 200 that bring a name and no number.
_STATES: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class Quota(Struct, frozen=True):
    """A quota that was violated, as far as it is named; "" for what is not told."""

    id: str = ""  # e.g. GenerateRequestsPerDayPerProjectPerModel-FreeTier
    metric: str = ""  # e.g. generativelanguage.googleapis.com/generate_content_free_tier_requests
    limit: str = ""


class Refusal(Struct, frozen=True):
    """What an error answer says. ``text`` is the message in lower case, for matching; messages may hold secrets."""

    status: int
    state: str = ""
    message: str = ""
    text: str = ""
    reasons: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = {}
    quotas: tuple[Quota, ...] = ()  # of the violations, of ``metadata.quota_limit``, and of the message
    fields: tuple[str, ...] = ()  # BadRequest: paths that were refused
    debug: str = ""  # DebugInfo in lower case: it tells more than the message of a broken picture
    retry_delay: str = ""
    retry_after: str = ""

    def __repr__(self) -> str:
        return f"Refusal({self.status}, {self.state!r}, {sorted(self.reasons)})"

    def delay(self, now: float) -> float | None:
        """Return the seconds to wait that Google names; None if it names none (order: docs/protocol.md 3.5)."""
        reset = quota.timestamp(self.metadata.get("quotaResetTimeStamp", ""))
        return quota.first_delay(
            (
                quota.seconds(self.retry_delay),
                quota.seconds(self.metadata.get("quotaResetDelay", "")),
                None if reset is None else reset - now,
                quota.prose(self.message),
                quota.retry_after(self.retry_after, now),
            )
        )


def read(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Return the refusal; of HTML, text or nothing the status alone."""
    error = _find_error(body)
    if error is None:
        return Refusal(status, retry_after=headers.get("retry-after", ""))
    return _told(status, headers, error)


def inside(body: bytes) -> Refusal | None:
    """Return the refusal that a 200 holds; None if it holds none."""
    error = _find_error(body)
    return None if error is None else _told(200, {}, error)


def _told(status: int, headers: Mapping[str, str], error: Mapping[str, Any]) -> Refusal:
    message = _kept(error.get("message"))
    facts = _Facts()
    facts.collect(error)
    return Refusal(
        status=_status(status, error),
        state=_kept(error.get("status")),
        message=message,
        text=message.lower(),
        reasons=frozenset(facts.reasons),
        metadata=facts.metadata,
        quotas=tuple(islice(_with_limits(facts.quotas, message), _MOST_NAMED)),
        fields=tuple(facts.fields[:_MOST_NAMED]),
        debug=facts.debug.lower(),
        retry_delay=facts.retry_delay,
        retry_after=headers.get("retry-after", ""),
    )


def _with_limits(named: list[Quota], message: str) -> Iterator[Quota]:
    """Yield the quotas with limits that only the message tells, and those that only it names (docs/protocol.md S35)."""
    told: dict[str, str] = {}
    for metric, limit in _QUOTA_SENTENCE.findall(message):
        told[metric] = "0" if told.get(metric) == "0" else limit  # one metric may have several; of none is the worst
    known = {quota.metric for quota in named}
    yield from (Quota(quota.id, quota.metric, quota.limit or told.get(quota.metric, "")) for quota in named)
    yield from (Quota("", metric, limit) for metric, limit in told.items() if metric not in known)


def mend(body: bytes) -> bytes:
    """Return JSON without the stray commas that Code Assist's streams were seen to have (docs/protocol.md 1.2)."""
    return _LAST_COMMA.sub(rb"\1", _STRAY_COMMA.sub(b",", body))


def _mended(body: bytes) -> bytes:
    return mend(whole(body))


def _status(status: int, error: Mapping[str, Any]) -> int:
    """Return the HTTP status; inside a 200, or a 500 or 502 put around it, the error's own number counts."""
    if not (200 <= status < 300 or status in (500, 502)):
        return status
    code = _text(error.get("code"))
    if re.fullmatch(r"[3-5]\d\d", code, re.ASCII):
        return int(code)
    return _STATES.get(_text(error.get("status")), max(status, 500))


def _find_error(body: bytes) -> dict[str, Any] | None:
    """Return the innermost error object of a body."""
    error = _as_error(_parse(body) if len(body) <= _LONGEST_BODY else None)  # the beginning of one is no JSON
    for _ in range(_DEEPEST_NESTING):
        inner = _nested(error)
        if error is None or inner is None:
            break
        error = {**error, **inner}
    return error


def _nested(error: dict[str, Any] | None) -> dict[str, Any] | None:
    message = _text(error.get("message"))[:_LONGEST_NESTED].strip() if error else ""
    return _as_error(_parse(message.encode(errors="replace"))) if message[:1] in ("{", "[") else None


def _parse(body: bytes) -> Any:
    body = body.strip().removeprefix(b"data:").lstrip()
    if body[:1] not in (b"{", b"["):
        return None
    for heal in (bytes, whole, _mended):  # the dear ones only where they are needed
        try:
            return _PARSER.decode(heal(body))
        except UNREADABLE:
            continue
    return None


def _as_error(value: Any) -> dict[str, Any] | None:
    """Return the error object within any of its wrappings."""
    if isinstance(value, list):
        return next((error for error in map(_as_error, value[:4]) if error), None)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):  # OAuth: the word is the reason
        return {"message": _text(value.get("error_description")), "reason": error}
    if isinstance(value.get("response"), dict):
        return _as_error(value["response"])
    return value if "message" in value and "candidates" not in value else None


class _Facts:
    """What the details of one error say, as far as ``_MOST_NODES`` reach; filled by ``collect``."""

    def __init__(self) -> None:
        self._nodes = iter(range(_MOST_NODES))
        self.reasons: set[str] = set()
        self.metadata: dict[str, str] = {}
        self.quotas: list[Quota] = []
        self.fields: list[str] = []
        self.retry_delay = ""
        self.debug = ""

    def collect(self, error: Mapping[str, Any]) -> None:
        self._reason(error)
        for legacy in self._objects(error.get("errors")):
            self._reason(legacy)
        for detail in self._objects(error.get("details")):
            self._detail({str(key).strip(): value for key, value in self._first(detail.items())})

    def _detail(self, detail: Mapping[str, Any]) -> None:
        kind = _text(detail.get("@type")).strip(" ,").rpartition(".")[2]
        if kind == "ErrorInfo":
            self._reason(detail)
            self._metadata(detail.get("metadata"))
        elif kind == "QuotaFailure":
            for violation in self._objects(detail.get("violations")):
                self._quota(violation, "quotaId", "quotaMetric", "quotaValue")
        elif kind == "RetryInfo":
            self.retry_delay = _kept(detail.get("retryDelay"))
        elif kind == "DebugInfo":
            self.debug = _kept(detail.get("detail"))
        elif kind == "BadRequest":
            found = (_kept(violation.get("field")) for violation in self._objects(detail.get("fieldViolations")))
            self.fields.extend(field for field in found if field)

    def _reason(self, holder: Mapping[str, Any]) -> None:
        reason = _kept(holder.get("reason")).strip(" ,")
        if reason:
            self.reasons.add(reason)

    def _metadata(self, metadata: Any) -> None:
        if isinstance(metadata, dict):
            self.metadata.update({str(key).strip(): _kept(value) for key, value in self._first(metadata.items())})
            self._quota(self.metadata, "quota_limit", "quota_metric", "quota_limit_value")

    def _quota(self, holder: Mapping[str, Any], *names: str) -> None:
        quota = Quota(*(_kept(holder.get(name)) for name in names))
        if quota.id or quota.metric or quota.limit:
            self.quotas.append(quota)

    def _objects(self, value: Any) -> Iterator[dict[str, Any]]:
        return (item for item in self._first(value) if isinstance(item, dict)) if isinstance(value, list) else iter(())

    def _first(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield items while there are nodes left for them."""
        return (item for _, item in zip(self._nodes, items, strict=False))


def _kept(value: Any) -> str:
    return _text(value)[:_LONGEST_TEXT]


def _text(value: Any) -> str:
    """Return a string; small whole numbers as written, anything else as nothing."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int and abs(value) < 1 << 63 else ""
