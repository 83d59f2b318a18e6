"""What the machine says to a configuration: packages that it wants, files that are there, or not.

In: a ``Config`` after ``load``, where its file lies, the environment. Out: a message each; ``check`` and ``serve`` say
the same. Looks only: nothing is made or changed.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from gemproxy.config.secret import is_there
from gemproxy.config.sections import Config


def faults(config: Config) -> Iterator[str]:
    """Return what keeps the server from running."""
    if config.server.loop == "uvloop" and not _installed("uvloop"):
        yield """server.loop = "uvloop": not installed; `pip install '.[speed]'`"""


def cautions(config: Config, path: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Return what is likely to be missed later; ``path`` is that of the configuration, if there is one."""
    if config.server.metrics_listen is not None and not _installed("prometheus_client"):
        yield "server.metrics_listen: no metrics without their library; `pip install '.[metrics]'`"
    folder = config.log.capture_dir
    if folder is not None and not _writable(Path(folder)):
        yield f"log.capture_dir = {folder}: cannot be written, so no frames are kept"
    authorities = environ.get("SSL_CERT_FILE")
    if authorities and (why := _no_authorities(authorities)):
        yield f"SSL_CERT_FILE = {authorities}: {why}, so its authorities are not known"
    ignored = (path.parent if path else Path()).absolute() / ".env"
    if is_there(ignored):
        yield f"{ignored} is ignored: gemproxy reads its environment and the file given with --config, no .env file"


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _writable(folder: Path) -> bool:
    """Return whether a folder can be written to, or be made."""
    there = next(place for place in (folder, *folder.parents) if is_there(place))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _no_authorities(file: str) -> str:
    """Return why a file gives no certificates of authorities, "" if it does."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError as error:  # an SSLError is one, too
        return "holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror or "cannot be read"
    return ""
