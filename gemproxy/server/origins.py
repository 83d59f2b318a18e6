"""Browsers: which pages may call (CORS), and which host names mean this server. Pure: headers in, headers out.

Without client keys the server is open to everybody on this machine; a page in a browser is not everybody. It cannot
send a bearer token across origins without asking first (CORS), and a name of its own that it points at 127.0.0.1 (DNS
rebinding) is refused here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from gemproxy.errors import ClientFault

ANY = "*"


def cors(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers for an answer to this ``Origin``; {} unless ``server.cors_origins`` names it."""
    if origin is None or not (origin in allowed or ANY in allowed):
        return {}
    return {
        "Access-Control-Allow-Origin": ANY if ANY in allowed else origin,
        "Access-Control-Expose-Headers": "x-request-id, retry-after",
        "Vary": "Origin",
    }


def preflight(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers for the question a browser asks before a call; {} means no."""
    headers = cors(origin, allowed)
    if headers:
        headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
        headers["Access-Control-Allow-Headers"] = "*, Authorization"
        headers["Access-Control-Max-Age"] = "600"
    return headers


def check_host(host: str) -> None:
    """Raise ``ClientFault`` 403 unless a ``Host`` header names this machine by address or as localhost."""
    name = _name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return
    try:
        if ipaddress.ip_address(name).is_loopback:
            return
    except ValueError:
        pass
    raise ClientFault(
        "Without client keys only callers on this machine are served, by the name localhost or its address; "
        "set auth.keys to be reached by another name.",
        status=403,
        type="permission_error",
        code="forbidden",
    )


def _name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")
