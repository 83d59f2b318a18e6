"""Google's error bodies, of the parts that the tables look at. The texts are Google's own (docs/protocol.md 3, 9)."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

NOW = datetime.datetime(2026, 11, 22, 20, 0, tzinfo=datetime.UTC).timestamp()
"""Noon in Los Angeles, in winter: the day's quotas come back in twelve hours."""

TO_MIDNIGHT = 12 * 3600.0
TYPE = "type.googleapis.com/google.rpc."


def error(message: str = "", *details: dict[str, Any], code: int | None = None, state: str = "", **more: Any) -> bytes:
    """Return an error body as Google's front ends write it."""
    found = {"code": code, "message": message, "status": state, "details": list(details), **more}
    return msgspec.json.encode({"error": {name: value for name, value in found.items() if value not in ("", [], None)}})


def info(reason: str, domain: str = "googleapis.com", **metadata: str) -> dict[str, Any]:
    return {"@type": TYPE + "ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}


def retry(delay: str) -> dict[str, Any]:
    return {"@type": TYPE + "RetryInfo", "retryDelay": delay}


def violations(*quota_ids: str, value: str | None = None) -> dict[str, Any]:
    more = {} if value is None else {"quotaValue": value}
    return {"@type": TYPE + "QuotaFailure", "violations": [{"quotaId": name, **more} for name in quota_ids]}


def bad_field(path: str, description: str = "no good") -> dict[str, Any]:
    return {"@type": TYPE + "BadRequest", "fieldViolations": [{"field": path, "description": description}]}
