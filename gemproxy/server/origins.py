"""Browsers and proxies: which pages may call (CORS), and what comes from this machine. Pure: headers in, headers out.

Without client keys the server is open to everybody on this machine; a page in a browser is not everybody. It cannot
send a bearer token across origins without asking first (CORS), and a name of its own that it points at 127.0.0.1 (DNS
rebinding) is refused here. So is what a reverse proxy passes on from anywhere, as far as it can be told.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from gemproxy.errors import ClientFault

ANY_ORIGIN = "*"
_PASSED_ON = re.compile(r"forwarded|x-forwarded-.*|x-real-ip|via", re.IGNORECASE)
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+:[0-9A-Fa-f:.]*)\]|(?P<v4>[0-9]+(?:\.[0-9]+){3})"
    r"|(?P<name>(?:[A-Za-z0-9_-]+\.)*[A-Za-z][A-Za-z0-9_-]*\.?))(?::[0-9]{1,5})?"
)


def cors(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers for an answer to this ``Origin``; {} unless ``server.cors_origins`` names it."""
    if origin is None or not (origin in allowed or ANY_ORIGIN in allowed):
        return {}
    return {
        "Access-Control-Allow-Origin": ANY_ORIGIN if ANY_ORIGIN in allowed else origin,
        "Access-Control-Expose-Headers": "x-request-id, request-id, retry-after",
        "Vary": "Origin",
    }


def preflight(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers for the question a browser asks before a call; {} means no."""
    headers = cors(origin, allowed)
    if headers:
        headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE, OPTIONS"
        headers["Access-Control-Allow-Headers"] = "*, Authorization"
        headers["Access-Control-Max-Age"] = "600"
    return headers


def check_host(host: str) -> None:
    """Raise ``ClientFault`` 403 unless a ``Host`` header names this machine by address or as localhost.

    Nothing may stand beside the name but a port: in ``localhost:80@evil.example`` and ``[::1].evil.example`` a lenient
    reader sees this machine, and a stricter one the other.
    """
    if not _names_this_machine(host):
        raise _refused(
            "Without client keys only callers on this machine are served, by the name localhost or its address; "
            "set auth.keys to be reached by another name."
        )


def check_direct(version: tuple[int, int], names: Iterable[str]) -> None:
    """Raise ``ClientFault`` 403 for a request that a proxy has passed on: by its HTTP version, or its headers' names.

    nginx's plain ``proxy_pass`` names the host 127.0.0.1 and adds no header, but speaks HTTP/1.0 up to 1.29.6; after
    that nothing tells. The other proxies name who asked them.
    """
    if version < (1, 1) or _passed_on(*names):
        raise _refused(
            "Without client keys only callers on this machine are served, and this request came through a proxy: "
            "over HTTP/1.0, or with a header Forwarded, X-Forwarded-*, X-Real-IP or Via. Set auth.keys to be reached "
            "through one."
        )


@lru_cache(maxsize=64)  # a client sends the same headers each time: saves 3 microseconds
def _passed_on(*names: str) -> bool:
    return any(_PASSED_ON.fullmatch(name) for name in names)


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


def _refused(message: str) -> ClientFault:
    return ClientFault(message, status=403, type="permission_error", code="forbidden")
