"""Which URLs and which addresses an image may be fetched from. Pure.

In: a URL as a client or a redirect wrote it, an address that is about to be connected to, and the operator's
exceptions (``images.allow_hosts``). Out: the URL to ask for, a yes, or ``Unfetchable``. Must not resolve a name or
connect. What a name resolves to may change at any time, so the judgement that counts is ``Allowed.opens``, on the
address really connected to; ``target`` only refuses early what can be seen in the URL.

Facts: docs/architecture.md 13.1 (what aiohttp and ``ipaddress`` let through), IANA's special-purpose registries (RFC
6890), and the WHATWG URL standard ("ends in a number": such a host is an IPv4 address or nothing).
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from msgspec import Struct
from yarl import URL

from gemproxy.errors import ConfigFault

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# One sentence for every refused address and for every host that does not resolve or answer: a client must not learn
# which internal names and ports exist.
UNREACHABLE = "its host cannot be reached, or is not public (images.allow_hosts names the exceptions)"
NO_HOST = "its URL names no valid host"

_LONGEST = 8192  # characters; signed URLs have up to some two thousand
_WEB_PORTS = (80, 443)
_LAST_SYSTEM_PORT = 1023  # below lie mail, shells and the like: no images, but servers that act on what is sent
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_BRACKETED = re.compile(r"\[[^\[\]]*:[^\[\]]*\](:[0-9]*)?")  # urlsplit overlooks what stands beside the brackets
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_KEPT = "!$%&'(*+),/:;=?@[]~"  # what a path or query keeps as it is written: signatures cover the exact bytes


def _networks(*written: str) -> tuple[Network, ...]:
    return tuple(ip_network(network) for network in written)


# What ``is_global`` knows depends on Python's version, and these were public to one or another.
_NOT_PUBLIC = _networks(
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4"),
    "168.63.129.16/32",  # Azure's host, seen from its guests
    "2001::/23",  # IETF protocols; Teredo carries an IPv4 address
    "2001:db8::/32",
    "2002::/16",  # 6to4 carries an IPv4 address
    "3fff::/20",
)
# All other IPv6 is not public, whatever it is called: loopback, link- and site-local, unique local, multicast, and
# IPv4 in disguise (::ffff:0:0/96, ::/96, NAT64's 64:ff9b::/96).
_GLOBAL_UNICAST = IPv6Network("2000::/3")

# What an allowed *name* may resolve to. Link-local and metadata addresses need an entry of their own: whoever can
# change the name's DNS must not reach the machine's credentials.
_INTERNAL = _networks(
    *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
_METADATA = _networks("100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::/64")  # Alibaba, AWS, Google


class Unfetchable(Exception):  # noqa: N818 - as in errors: what we raise is a fault, not an error
    """This image cannot be had; the text ends a sentence that begins with the part's name."""


class Target(Struct, frozen=True):
    """Where to ask. ``named``: the operator allowed this host by name."""

    url: URL
    named: bool


class Allowed:
    """The operator's exceptions: exact names, ".example.com" for all names below, addresses and networks."""

    def __init__(self, entries: Sequence[str] = (), own: Container[Address] = ()) -> None:
        """Raise ``ConfigFault`` for an entry that is none of these; ``own`` are this machine's addresses."""
        networks, names, suffixes = [], [], []
        for place, entry in enumerate(entries):
            try:
                if (network := _network(entry)) is not None:
                    networks.append(network)
                elif entry.startswith("."):
                    suffixes.append("." + _ascii(entry[1:]))
                else:
                    names.append(_ascii(entry))
            except (Unfetchable, ValueError):
                raise ConfigFault(
                    f'images.allow_hosts[{place}] = "{entry}": expected a name, ".example.com" for every name below '
                    'it, an address or a network like "10.0.0.0/8"'
                ) from None
        self._own = own
        self._networks = tuple(networks)
        self._names = frozenset(names)
        self._suffixes = tuple(suffixes)

    def names(self, host: str) -> bool:
        """Return whether a host (lower case, no trailing dot) may be internal."""
        return host in self._names or host.endswith(self._suffixes)

    def wrote(self, host: str) -> bool:
        """Return whether a host was written down, by a name or by its address."""
        literal = _literal(host)
        return self.names(host) if literal is None else self.lists(literal)

    def lists(self, address: Address) -> bool:
        """Return whether an address, or a network around it, was written down."""
        return _within(address, self._networks)

    def opens(self, written: str, *, named: bool) -> bool:
        """Return whether this address may be connected to; ``named``: for a host that ``names`` knows."""
        try:
            address = ip_address(written)
        except ValueError:
            return False
        if self.lists(address):
            return True
        if is_public(address):
            return named or address not in self._own
        return named and _within(address, _INTERNAL) and not _within(address, _METADATA)

    def excepts(self, written: str, *, named: bool) -> bool:
        """Return whether it is an exception that opens this address, even if it turns out to be this machine's."""
        return named or self.lists(ip_address(written))


def is_public(address: Address) -> bool:
    """Return whether an address belongs to somebody on the Internet, and to nobody nearer."""
    if not address.is_global or _within(address, _NOT_PUBLIC):
        return False
    return isinstance(address, IPv4Address) or (address in _GLOBAL_UNICAST and address.scope_id is None)


def target(written: str, allowed: Allowed) -> Target:
    """Return where a URL leads; raises ``Unfetchable`` if it may not be asked for."""
    parts = _split(written)
    host = _ascii(parts.hostname or "")
    literal = _literal(host)
    if literal is None:
        named = allowed.names(host)
        trusted = named
    else:
        named = False
        trusted = allowed.lists(literal)
        if not (trusted or is_public(literal)):
            raise Unfetchable(UNREACHABLE)
    port = _port(parts, trusted)
    return Target(_url(parts, host, port), named)


def redirected(origin: Target, location: str | None, allowed: Allowed) -> Target:
    """Return where a redirect leads, judged like a URL of its own."""
    if not location:
        raise Unfetchable("its server sends elsewhere without saying where")
    try:
        absolute = urljoin(str(origin.url), location)
    except ValueError:
        raise Unfetchable("its server sends to what is not a URL") from None
    onward = target(absolute, allowed)
    if origin.url.scheme == "https" and onward.url.scheme != "https":
        raise Unfetchable("its server sends from https to http")
    return onward


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _network(entry: str) -> Network | None:
    """Return an entry of ``allow_hosts`` as a network, None for a name; raises if it is neither."""
    bare = entry.removeprefix("[").removesuffix("]")
    if "/" in bare:
        return ip_network(bare)
    address = _literal(_ascii(bare.removeprefix(".")))
    return None if address is None else ip_network(address)


def _split(written: str) -> SplitResult:
    if len(written) > _LONGEST:
        raise Unfetchable(f"its URL is longer than {_LONGEST} characters")
    if not written.isprintable():
        raise Unfetchable("its URL holds characters that must be percent-encoded")
    try:
        parts = urlsplit(written)
    except ValueError:
        raise Unfetchable(NO_HOST) from None
    if parts.scheme not in ("http", "https"):
        raise Unfetchable("its URL must begin with https:// or http://")
    if "@" in parts.netloc:
        raise Unfetchable("its URL must not hold a user name or password")
    if "[" in parts.netloc and not _BRACKETED.fullmatch(parts.netloc):
        raise Unfetchable(NO_HOST)
    return parts


def _ascii(host: str) -> str:
    """Return a host in the form that is compared and asked for: lower case, IDNA, no trailing dot.

    yarl maps it (UTS 46), so that full-width digits and dots are judged as the address that they would become.
    """
    try:
        mapped = URL.build(scheme="http", host=host).raw_host if host else None
    except ValueError:
        mapped = None
    if not mapped:
        raise Unfetchable(NO_HOST)
    return mapped.removesuffix(".")


def _literal(host: str) -> Address | None:
    """Return the address that a host is, None if it is a name; what is neither is refused.

    Decimal, octal, hexadecimal and short forms (2130706433, 0177.0.0.1, 0x7f.1, 127.1) are addresses to
    ``getaddrinfo`` and names to everybody else.
    """
    if "%" in host:
        raise Unfetchable(UNREACHABLE)  # an IPv6 zone: only this machine's own links have those
    try:
        return ip_address(host)
    except ValueError:
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise Unfetchable(UNREACHABLE) from None
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise Unfetchable(NO_HOST)
    return None


def _port(parts: SplitResult, trusted: bool) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None or port in _WEB_PORTS or port > _LAST_SYSTEM_PORT or (trusted and port):
        return port
    raise Unfetchable("its URL names a port that serves no images (80, 443 and those from 1024 on may)")


def _url(parts: SplitResult, host: str, port: int | None) -> URL:
    authority = f"[{host}]" if ":" in host else host
    return URL.build(
        scheme=parts.scheme,
        authority=authority if port is None else f"{authority}:{port}",
        path=quote(parts.path, safe=_KEPT) or "/",
        query_string=quote(parts.query, safe=_KEPT),
        encoded=True,
    )
