"""The proxy that the environment names for what goes out: ``HTTPS_PROXY``, but for hosts in ``NO_PROXY``. Pure.

In: the environment. Out: whether an address is asked through the proxy, and what the proxy wants to see. Only https://
goes through, in a tunnel (CONNECT): the proxy sees a host's name and no key. Must not show who we are to the proxy.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping, Sequence

from msgspec import Struct
from yarl import URL

from gemproxy.errors import ConfigFault

VARIABLES = ("https_proxy", "HTTPS_PROXY")  # the first one that is set, as with curl; so, too:
EXCEPTIONS = ("no_proxy", "NO_PROXY")


class Proxies(Struct, frozen=True):
    """``login`` is "user:password", ``exempt`` are the entries of ``NO_PROXY``. The repr shows nothing."""

    proxy: URL | None = None
    login: str = ""
    exempt: Sequence[str] = ()

    def __repr__(self) -> str:
        return "Proxies(...)"

    @property
    def shown(self) -> str:
        """Return the proxy's address without user and password, "" if there is none."""
        return "" if self.proxy is None else str(self.proxy.origin())

    @property
    def secrets(self) -> list[str]:
        """Return what must not get out."""
        return [self.login.partition(":")[2], _encoded(self.login)] if self.login else []

    @property
    def headers(self) -> dict[str, str]:
        """Return what authenticates at the proxy: for CONNECT alone."""
        return {"Proxy-Authorization": f"Basic {_encoded(self.login)}"} if self.login else {}

    def through(self, url: URL) -> bool:
        """Return whether a request goes through the proxy; what is on this machine is never asked elsewhere."""
        if self.proxy is None or url.scheme != "https":
            return False
        host = (url.host or "").rstrip(".").lower()
        return not (_is_here(host) or any(_covers(entry, host, url.port) for entry in self.exempt))


DIRECT = Proxies()


def proxies(environ: Mapping[str, str]) -> Proxies:
    """Return what the environment says. Raises ``ConfigFault`` for an address that no proxy can have."""
    name = next((name for name in VARIABLES if environ.get(name)), "")
    if not name:
        return DIRECT
    exempt = next((environ[name] for name in EXCEPTIONS if environ.get(name)), "")
    try:
        url = _address(environ[name].strip())
    except ValueError:  # the value is not shown: it may hold a password
        raise ConfigFault(f"{name}: expected the address of a proxy, as in http://proxy.example:3128") from None
    login = f"{url.user}:{url.password or ''}" if url.user else ""
    return Proxies(url.origin(), login, [entry.strip().lower() for entry in exempt.split(",")])


def _address(written: str) -> URL:
    url = URL(written if "://" in written else f"http://{written}")
    if url.scheme not in ("http", "https") or not url.host or ":" in (url.user or ""):
        raise ValueError(written)
    return url


def _encoded(login: str) -> str:
    return b64encode(login.encode()).decode()


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Return whether an entry of ``NO_PROXY`` names a host: itself or one above it, an address or a network."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name, _, named = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        name = name.removeprefix("*").strip(".")
        return bool(name) and named in ("", str(port)) and (host == name or host.endswith(f".{name}"))
