"""A name that does not resolve, on a machine whose resolver is asked nothing (``no_way_out`` would refuse it)."""

from __future__ import annotations

import socket
from typing import Any

import pytest

NAME = "gemini.invalid"


def without_names(patch: pytest.MonkeyPatch) -> None:
    """Let every name of the reserved domain ``invalid`` be unknown, as resolvers do (RFC 6761)."""
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **more: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **more)

    patch.setattr(socket, "getaddrinfo", look_up)
