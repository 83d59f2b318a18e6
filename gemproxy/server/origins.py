"""Browsers: which pages may call (CORS), and which host names mean this server. Pure: headers in, headers out.

Without client keys the server is open to everybody on this machine; a page in a browser is not everybody. It cannot
send a bearer token across origins without asking first (CORS), and a name of its own that it points at 127.0.0.1 (DNS
rebinding) is refused here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from gemproxy.errors import ClientFault

ANY = "*"
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+:[0-9A-Fa-f:.]*)\]|(?P<v4>[0-9]+(?:\.[0-9]+){3})"
    r"|(?P<name>(?:[A-Za-z0-9_-]+\.)*[A-Za-z][A-Za-z0-9_-]*\.?))(?::[0-9]{1,5})?"
)


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
    """Raise ``ClientFault`` 403 unless a ``Host`` header names this machine by address or as localhost.

    Nothing may stand beside the name but a port: in ``localhost:80@evil.example`` and ``[::1].evil.example`` a lenient
    reader sees this machine, and a stricter one the other.
    """
    if not _names_this_machine(host):
        raise ClientFault(
            "Without client keys only callers on this machine are served, by the name localhost or its address; "
            "set auth.keys to be reached by another name.",
            status=403,
            type="permission_error",
            code="forbidden",
        )


@lru_cache(maxsize=64)  # most ask by one and the same name: saves 5 microseconds
def _names_this_machine(host: str) -> bool:
    found = _HOST.fullmatch(host)
    return found is not None and _is_here(**found.groupdict())


def _is_here(v6: str | None, v4: str | None, name: str | None) -> bool:
    if name is not None:
        return name.lower().removesuffix(".").rpartition(".")[2] == "localhost"
    try:
        return ipaddress.ip_address(v6 or v4 or "").is_loopback
    except ValueError:
        return False
