"""The bodies with which Google refuses, word for word where a recording or a quotation exists.

In: what went wrong and for whom. Out: a ``Refusal`` with status and body. Must not decide when to refuse.
Sources: docs/protocol.md 3.2-3.4, 6.2, A.4-A.7 and S.G.
"""

from __future__ import annotations

from typing import Any

Detail = dict[str, Any]
_TYPE = "type.googleapis.com/google.rpc."
_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Refusal(Exception):  # noqa: N818 - Google's answer, not an error of this program
    """A request that Google does not serve: HTTP status, its text, and typed details."""

    def __init__(self, status: int, message: str, *details: Detail, name: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details
        self.name = name or _NAMES[status]

    def body(self) -> dict[str, Any]:
        """Return the error object of ``google.rpc.Status`` in JSON."""
        error: dict[str, Any] = {"code": self.status, "message": self.message, "status": self.name}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}


def info(reason: str, domain: str = "googleapis.com", **metadata: str) -> Detail:
    """Return an ``ErrorInfo`` detail."""
    return {"@type": _TYPE + "ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}


def retry(delay: str) -> Detail:
    """Return a ``RetryInfo`` detail; ``delay`` as on the wire, such as ``"41s"``."""
    return {"@type": _TYPE + "RetryInfo", "retryDelay": delay}


def links(description: str, url: str) -> Detail:
    """Return a ``Help`` detail with one link."""
    return {"@type": _TYPE + "Help", "links": [{"description": description, "url": url}]}


def localized(message: str) -> Detail:
    """Return a ``LocalizedMessage`` detail."""
    return {"@type": _TYPE + "LocalizedMessage", "locale": "en-US", "message": message}


# ------------------------------------------------------------------------------------------------ the request's fault


def invalid(message: str) -> Refusal:
    """Return a plain 400."""
    return Refusal(400, message)


def broken(path: str, text: str) -> Refusal:
    """Return the 400 of a rule that a field breaks; the path in proto names."""
    return Refusal(400, f"* GenerateContentRequest.{path}: {text}\n")


def bad_fields(violations: list[tuple[str, str]]) -> Refusal:
    """Return the 400 of the JSON reader: (field, description) for everything it could not read."""
    fields = [{"field": field, "description": text} if field else {"description": text} for field, text in violations]
    message = "\n".join(text for _, text in violations)
    return Refusal(400, message, {"@type": _TYPE + "BadRequest", "fieldViolations": fields})


def unknown_model(model: str, method: str) -> Refusal:
    """Return AI Studio's 404."""
    return Refusal(
        404,
        f"models/{model} is not found for API version v1beta, or is not supported for {method}. "
        "Call ListModels to see the list of available models and their supported methods.",
    )


def unknown_vertex_model(resource: str) -> Refusal:
    """Return Vertex AI's 404."""
    return Refusal(
        404,
        f"Publisher Model `{resource}` was not found or your project does not have access to it. Please ensure you are "
        "using a valid model version. For more information, see: "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
    )


def unknown_entity() -> Refusal:
    """Return Code Assist's 404."""
    return Refusal(404, "Requested entity was not found.")


# ------------------------------------------------------------------------------------------------ who asks


def unregistered() -> Refusal:
    """Return the 403 for a request without a key."""
    return Refusal(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
        "form of API consumer identity to call this API.",
    )


def unauthenticated(reason: str, service: str) -> Refusal:
    """Return the 401 for an access token that is unknown or no longer valid."""
    return Refusal(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        info(reason, service=service),
    )


def wrong_scope() -> Refusal:
    """Return the 403 for a Code Assist token shown to AI Studio (docs/protocol.md 2.6)."""
    return Refusal(
        403,
        "Request had insufficient authentication scopes.",
        info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", service="generativelanguage.googleapis.com"),
    )


def bad_key(message: str = "API key not valid. Please pass a valid API key.") -> Refusal:
    """Return the 400 (not 401) for a key that is wrong or expired."""
    detail = info("API_KEY_INVALID", service="generativelanguage.googleapis.com")
    return Refusal(400, message, detail, localized(message))


def denied(message: str, reason: str = "", domain: str = "googleapis.com", **metadata: str) -> Refusal:
    """Return a 403, with an ``ErrorInfo`` if a reason is given."""
    return Refusal(403, message, *([info(reason, domain, **metadata)] if reason else []))


def location() -> Refusal:
    """Return the 400 for a server that stands in the wrong country."""
    return Refusal(400, "User location is not supported for the API use.", name="FAILED_PRECONDITION")


# ------------------------------------------------------------------------------------------------ quota and capacity

_METRIC = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
_QUOTA_TEXT = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)


def quota(model: str, period: str, *, limit: int, delay: str) -> Refusal:
    """Return AI Studio's 429; ``period`` is ``Minute`` or ``Day``, ``delay`` such as ``"38.9s"``.

    The daily one carries a delay of seconds too, which is of no use (docs/protocol.md S35).
    """
    message = (
        f"{_QUOTA_TEXT}\n* Quota exceeded for metric: {_METRIC}, limit: {limit}, model: {model}\n"
        f"Please retry in {delay}."
    )
    violation: Detail = {
        "quotaMetric": _METRIC,
        "quotaId": f"GenerateRequestsPer{period}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": model},
    }
    if limit:
        violation["quotaValue"] = str(limit)
    return Refusal(
        429,
        message,
        {"@type": _TYPE + "QuotaFailure", "violations": [violation]},
        links("Learn more about Gemini API quotas", "https://ai.google.dev/gemini-api/docs/rate-limits"),
        retry(delay),
    )


def exhausted() -> Refusal:
    """Return the 429 without any details."""
    return Refusal(429, "Resource has been exhausted (e.g. check quota).")


def overloaded() -> Refusal:
    """Return AI Studio's 503."""
    return Refusal(503, "The model is overloaded. Please try again later.")


def internal() -> Refusal:
    """Return Google's 500."""
    return Refusal(
        500,
        "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
    )


def code_assist_quota(model: str, reason: str, *, delay: str, resets: str, text: str) -> Refusal:
    """Return Code Assist's 429; ``delay`` in Google's notation, ``resets`` RFC 3339, ``text`` the delay in prose."""
    return Refusal(
        429,
        f"You have exhausted your capacity on this model. Your quota will reset after {text}.",
        info(
            reason,
            "cloudcode-pa.googleapis.com",
            uiMessage="true",
            model=model,
            quotaResetDelay=delay,
            quotaResetTimeStamp=resets,
        ),
        retry(delay),
    )


def no_capacity(model: str) -> Refusal:
    """Return Code Assist's 503 for a model that is full on Google's side."""
    return Refusal(
        503,
        f"No capacity available for model {model} on the server",
        info("MODEL_CAPACITY_EXHAUSTED", "cloudcode-pa.googleapis.com", model=model),
    )


_PAGE = """<!DOCTYPE html>
<html lang=en>
  <meta charset=utf-8>
  <title>Error {status} ({title})!!1</title>
  <p><b>{status}.</b> <ins>That\u2019s an error.</ins>
  <p>The requested URL <code>{path}</code> {why} on this server.  <ins>That\u2019s all we know.</ins>
"""


def html(status: int, path: str) -> bytes:
    """Return the page of Google's front end for a path it lacks (404) or a body it will not take (413)."""
    title, why = ("Not Found", "was not found") if status == 404 else ("Request Entity Too Large", "was too large")
    return _PAGE.format(status=status, title=title, path=_safe(path), why=why).encode()


def _safe(path: str) -> str:
    return path.replace("&", "&amp;").replace("<", "&lt;")
