"""A certificate for 127.0.0.1 and ``NAME``, made anew: Google is spoken to over TLS, and so must tests now and then."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from gemproxy.simulator.keys import certificate, server_context

NAME = "gemini.test"  # leads nowhere but through a proxy
HOUR = datetime.timedelta(hours=1)


def contexts(
    folder: Path, begin: datetime.timedelta = -HOUR, end: datetime.timedelta = HOUR
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what a server needs, and what a client that trusts it needs; both are in ``server.pem``, too."""
    key, made = certificate(begin, end, NAME)
    (folder / "server.pem").write_bytes(key + made)
    return server_context(key, made), ssl.create_default_context(cafile=str(folder / "server.pem"))
