"""What may be fetched: addresses, the forms in which URLs hide them, the operator's exceptions, redirects."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, strategies

from gemproxy.errors import ConfigFault
from gemproxy.networks import UNREACHABLE, Allowed, Target, Unfetchable, is_public, redirected, target

NOBODY = Allowed()
HOST = "its URL names no valid host"
PORT = "its URL names a port that serves no images"
SCHEME = "its URL must begin with https:// or http://"
USER = "its URL must not hold a user name or password"
ENCODED = "its URL holds characters that must be percent-encoded"


def refusal(url: str, allowed: Allowed = NOBODY) -> str:
    with pytest.raises(Unfetchable) as caught:
        target(url, allowed)
    return str(caught.value)


INTERNAL = [
    pytest.param("0.0.0.0", id="unspecified"),
    pytest.param("0.1.2.3", id="this network"),
    pytest.param("10.1.2.3", id="private 10/8"),
    pytest.param("100.64.0.1", id="carrier-grade NAT"),
    pytest.param("100.100.100.200", id="Alibaba's metadata"),
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("127.255.255.254", id="the far end of loopback"),
    pytest.param("169.254.169.254", id="metadata"),
    pytest.param("169.254.170.2", id="ECS's metadata"),
    pytest.param("172.16.0.1", id="private 172.16/12"),
    pytest.param("172.31.255.255", id="the end of 172.16/12"),
    pytest.param("192.0.0.192", id="Oracle's metadata"),
    pytest.param("192.0.2.1", id="documentation"),
    pytest.param("192.88.99.1", id="6to4 relays"),
    pytest.param("192.168.1.1", id="private 192.168/16"),
    pytest.param("198.18.0.1", id="benchmarks"),
    pytest.param("224.0.0.1", id="multicast"),
    pytest.param("239.255.255.255", id="the end of multicast"),
    pytest.param("240.0.0.1", id="reserved"),
    pytest.param("255.255.255.255", id="broadcast"),
    pytest.param("168.63.129.16", id="Azure's host"),
    pytest.param("::", id="IPv6 unspecified"),
    pytest.param("::1", id="IPv6 loopback"),
    pytest.param("::ffff:127.0.0.1", id="IPv4-mapped loopback"),
    pytest.param("::ffff:8.8.8.8", id="IPv4-mapped, even when public"),
    pytest.param("::127.0.0.1", id="IPv4-compatible"),
    pytest.param("64:ff9b::7f00:1", id="NAT64"),
    pytest.param("64:ff9b:1::1", id="local NAT64"),
    pytest.param("100::1", id="discard"),
    pytest.param("2001::1", id="Teredo"),
    pytest.param("2001:20::1", id="ORCHID"),
    pytest.param("2001:db8::1", id="IPv6 documentation"),
    pytest.param("2002:7f00:1::", id="6to4"),
    pytest.param("3fff::1", id="newer documentation"),
    pytest.param("5f00::1", id="segment routing"),
    pytest.param("fc00::1", id="unique local"),
    pytest.param("fd00:ec2::254", id="AWS's metadata"),
    pytest.param("fe80::1", id="link-local"),
    pytest.param("fec0::1", id="site-local"),
    pytest.param("ff02::1", id="IPv6 multicast"),
]
PUBLIC = [
    pytest.param("1.1.1.1", id="a public address"),
    pytest.param("172.32.0.1", id="just behind 172.16/12"),
    pytest.param("100.128.0.1", id="just behind carrier-grade NAT"),
    pytest.param("2606:4700::1111", id="a public IPv6 address"),
    pytest.param("2a00:1450:4001::1", id="another"),
]


@pytest.mark.parametrize("written", INTERNAL)
def test_an_internal_address_is_neither_public_nor_asked_for(written) -> None:
    assert not is_public(ip_address(written))
    assert not NOBODY.opens(written, named=False)
    assert refusal(f"http://[{written}]/a.png" if ":" in written else f"http://{written}/a.png") == UNREACHABLE


@pytest.mark.parametrize("written", PUBLIC)
def test_a_public_address_is_asked_for(written) -> None:
    assert NOBODY.opens(written, named=False)
    literal = f"[{written}]" if ":" in written else written
    assert str(target(f"https://{literal}/a.png", NOBODY).url) == f"https://{literal}/a.png"


@given(strategies.ip_addresses())
def test_a_public_address_is_of_no_special_kind(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        special = ("is_multicast", "is_private", "is_reserved", "is_loopback", "is_link_local", "is_unspecified")
        assert not any(getattr(address, kind) for kind in special)
        assert not any(getattr(address, disguise, None) for disguise in ("ipv4_mapped", "sixtofour", "teredo"))


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("2606:4700::1%eth0", id="a zone"),
        pytest.param("example.com", id="a name"),
        pytest.param("2130706433", id="a number"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_not_a_plain_address_is_never_connected_to(written) -> None:
    assert not NOBODY.opens(written, named=True)


# ---------------------------------------------------------------------------------------------------- forms of URLs


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("2130706433", id="decimal"),
        pytest.param("0x7f000001", id="hexadecimal"),
        pytest.param("0X7F.1", id="hexadecimal, short, in capitals"),
        pytest.param("017700000001", id="octal"),
        pytest.param("0177.0.0.1", id="octal in the first number"),
        pytest.param("127.1", id="short"),
        pytest.param("127.0.1", id="three numbers"),
        pytest.param("127.0.0.1.", id="an address and a dot"),
        pytest.param("127.1.", id="short and a dot"),
        pytest.param("8.8.2056", id="a public address, short"),
        pytest.param("256.1.1.1", id="too large a number"),
        pytest.param("1.2.3.4.5", id="too many numbers"),
        pytest.param("example.0x", id="a last label that is an empty hexadecimal"),
        pytest.param("\uff11\uff12\uff17.0.0.1", id="full-width digits"),
        pytest.param("127\u30020\u30020\u30021", id="ideographic full stops"),
        pytest.param("\u2460\u2461\u2466.0.0.1", id="circled digits"),
        pytest.param("[::ffff:7f00:1]", id="IPv4-mapped in hexadecimal"),
        pytest.param("[0:0:0:0:0:0:0:1]", id="loopback in full"),
        pytest.param("[::1%25lo]", id="a zone"),
        pytest.param("[2606:4700::1%25eth0]", id="a zone on a public address"),
        pytest.param("[fe80::1%eth0]", id="a zone, not encoded"),
    ],
)
def test_a_host_that_is_a_number_in_disguise_is_refused(host) -> None:
    assert refusal(f"http://{host}/") == UNREACHABLE


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("ftp://example.com/a", SCHEME, id="ftp"),
        pytest.param("file:///etc/passwd", SCHEME, id="file"),
        pytest.param("data:image/png;base64,AA", SCHEME, id="data"),
        pytest.param("//example.com/a", SCHEME, id="no scheme"),
        pytest.param("", SCHEME, id="nothing"),
        pytest.param("http://user:pass@example.com/", USER, id="user and password"),
        pytest.param("http://@example.com/", USER, id="an empty user"),
        pytest.param("http://example.com\\@127.0.0.1/", USER, id="a backslash before the real host"),
        pytest.param("http://127.0.0.1\\.example.com/", HOST, id="a backslash in the host"),
        pytest.param("http:///a", HOST, id="no host"),
        pytest.param("http:example.com", HOST, id="no slashes"),
        pytest.param("http://./", HOST, id="only a dot"),
        pytest.param("http://a..b/", HOST, id="an empty label"),
        pytest.param("http://example.com../", HOST, id="two dots at the end"),
        pytest.param("http://exa mple.com/", HOST, id="a space in the host"),
        pytest.param(f"http://{'a' * 64}.com/", HOST, id="a long label"),
        pytest.param(f"http://{'a.' * 127}com/", HOST, id="a long name"),
        pytest.param("http://ex*mple.com/", HOST, id="a star"),
        pytest.param("http://[v1.a]/", HOST, id="an address of the future"),
        pytest.param("http://[example.com]/", HOST, id="a name in brackets"),
        pytest.param("http://[1.1.1.1]/", HOST, id="an IPv4 address in brackets"),
        pytest.param("http://example.com[2606:4700::1]/", HOST, id="a name before the brackets"),
        pytest.param("http://[2606:4700::1]example.com/", HOST, id="a name behind the brackets"),
        pytest.param("http://127.0.0.1%2f.example.com/", UNREACHABLE, id="an encoded slash in the host"),
        pytest.param("http://[::1/", HOST, id="an open bracket"),
        pytest.param("http://exa\u2100mple.com/", HOST, id="a letter that hides a slash"),
        pytest.param("http://example.com:0/", PORT, id="port 0"),
        pytest.param("http://example.com:22/", PORT, id="ssh"),
        pytest.param("http://example.com:25/", PORT, id="smtp"),
        pytest.param("http://example.com:65536/", PORT, id="a port that is none"),
        pytest.param("http://example.com:8_0/", PORT, id="a port that only int() reads"),
        pytest.param("http://example.com/\r\nX: y", ENCODED, id="a line break"),
        pytest.param("http://exam\tple.com/", ENCODED, id="a tab that urlsplit would drop"),
        pytest.param("http://example.com/\udcff", ENCODED, id="a lone surrogate"),
        pytest.param("http://example.com/" + "a" * 8192, "its URL is longer than 8192 characters", id="too long"),
    ],
)
def test_a_url_that_may_not_be_asked_for_says_why(url, reason) -> None:
    assert refusal(url).startswith(reason)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        pytest.param("HTTP://EXAMPLE.com", "http://example.com/", id="no path, capitals"),
        pytest.param("https://example.com./a", "https://example.com/a", id="a trailing dot"),
        pytest.param("https://b\u00fccher.example/a", "https://xn--bcher-kva.example/a", id="a name that is not ASCII"),
        pytest.param("https://example.com:443/a", "https://example.com/a", id="the scheme's own port"),
        pytest.param("https://example.com:8443/a", "https://example.com:8443/a", id="a high port"),
        pytest.param("https://example.com:/a", "https://example.com/a", id="an empty port"),
        pytest.param("https://example.com/a?b#c", "https://example.com/a?b", id="a fragment stays here"),
        pytest.param("https://example.com/a b\u00e9", "https://example.com/a%20b%C3%A9", id="a path to be encoded"),
        pytest.param("https://example.com/a#@127.0.0.1/", "https://example.com/a", id="an @ in the fragment"),
        pytest.param(
            "https://example.com/a%2Fb/../c?sig=a%2Bb%2F%3D+c&d=%7e",
            "https://example.com/a%2Fb/../c?sig=a%2Bb%2F%3D+c&d=%7e",
            id="a signed URL keeps every byte",
        ),
        pytest.param("https://my_host-1.example/a", "https://my_host-1.example/a", id="underscore and hyphen"),
    ],
)
def test_a_url_is_asked_for_as_it_was_written(url, asked) -> None:
    found = target(url, NOBODY)
    assert str(found.url) == asked
    assert not found.named


# ------------------------------------------------------------------------------------------------- the exceptions

OURS = Allowed(["Minio.Internal.", ".lan.example", "10.1.0.0/16", "127.0.0.1", "[::1]", "b\u00fccher.lan"])


@pytest.mark.parametrize(
    ("host", "named"),
    [
        pytest.param("minio.internal", True, id="the exact name"),
        pytest.param("MINIO.internal.", True, id="the same in capitals, with a dot"),
        pytest.param("b\u00fccher.lan", True, id="a name that is not ASCII"),
        pytest.param("a.b.lan.example", True, id="a name below"),
        pytest.param("lan.example", False, id="the name itself, when only those below are allowed"),
        pytest.param("evil-lan.example", False, id="a name that only ends alike"),
        pytest.param("x.minio.internal", False, id="below an exact name"),
        pytest.param("minio.internal.evil.example", False, id="a name that only begins alike"),
    ],
)
def test_an_allowed_name_is_known(host, named) -> None:
    assert target(f"http://{host}/", OURS).named is named


@pytest.mark.parametrize(
    ("address", "unnamed", "named"),
    [
        pytest.param("10.1.2.3", True, True, id="in an allowed network"),
        pytest.param("127.0.0.1", True, True, id="an allowed address"),
        pytest.param("::1", True, True, id="an allowed IPv6 address"),
        pytest.param("127.0.0.2", False, True, id="loopback by name"),
        pytest.param("192.168.0.1", False, True, id="private by name"),
        pytest.param("fd12::1", False, True, id="unique local by name"),
        pytest.param("1.1.1.1", True, True, id="public anyway"),
        pytest.param("::ffff:10.1.2.3", False, False, id="an allowed address in disguise"),
        pytest.param("169.254.169.254", False, False, id="metadata, even by name"),
        pytest.param("fd00:ec2::254", False, False, id="AWS's IPv6 metadata, even by name"),
        pytest.param("100.100.100.200", False, False, id="Alibaba's metadata, even by name"),
        pytest.param("168.63.129.16", False, False, id="Azure's host, even by name"),
        pytest.param("224.0.0.1", False, False, id="multicast, even by name"),
        pytest.param("0.0.0.0", False, False, id="unspecified, even by name"),
    ],
)
def test_an_exception_opens_no_more_than_it_says(address, unnamed, named) -> None:
    assert OURS.opens(address, named=False) is unnamed
    assert OURS.opens(address, named=True) is named


def test_metadata_is_reached_only_when_written_down() -> None:
    assert Allowed(["169.254.169.254"]).opens("169.254.169.254", named=False)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        pytest.param("http://minio.internal:81/", True, id="an allowed name"),
        pytest.param("http://10.1.2.3:81/", True, id="an allowed network"),
        pytest.param("http://[::1]:81/", True, id="an allowed IPv6 address"),
        pytest.param("http://1.1.1.1:81/", False, id="a public address"),
    ],
)
def test_a_low_port_is_for_allowed_hosts_only(url, trusted) -> None:
    if trusted:
        assert target(url, OURS).url.port == 81
    else:
        assert refusal(url, OURS).startswith(PORT)


def test_port_0_is_for_nobody() -> None:
    assert refusal("http://minio.internal:0/", OURS).startswith(PORT)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("10.0.0.1/8", id="host bits in a network"),
        pytest.param("10.0.0.0/33", id="no such prefix"),
        pytest.param("*.example.com", id="a star"),
        pytest.param("example.com:8080", id="a port"),
        pytest.param("http://example.com", id="a URL"),
        pytest.param("127.1", id="a short address"),
        pytest.param("fe80::1%eth0", id="a zone"),
        pytest.param("", id="nothing"),
        pytest.param(".", id="a dot"),
    ],
)
def test_an_exception_that_cannot_be_read_is_a_fault_of_the_configuration(entry) -> None:
    with pytest.raises(ConfigFault, match=r"images\.allow_hosts\[1\] = .*expected a name") as caught:
        Allowed(["10.0.0.0/8", entry])
    assert f'"{entry}"' in str(caught.value)


# -------------------------------------------------------------------------------------------------------- redirects


def redirect(origin: str, location: str | None) -> Target:
    return redirected(target(origin, OURS), location, OURS)


@pytest.mark.parametrize(
    ("location", "asked", "named"),
    [
        pytest.param("/b.png", "https://example.com/b.png", False, id="a path"),
        pytest.param("c.png?x=1", "https://example.com/a/c.png?x=1", False, id="a relative path"),
        pytest.param("//cdn.example/b", "https://cdn.example/b", False, id="another host, the same scheme"),
        pytest.param("https://minio.internal/b", "https://minio.internal/b", True, id="an allowed name"),
        pytest.param("/\u00e9", "https://example.com/%C3%A9", False, id="not encoded"),
    ],
)
def test_a_redirect_is_followed_to_where_it_leads(location, asked, named) -> None:
    onward = redirect("https://example.com/a/b.png", location)
    assert (str(onward.url), onward.named) == (asked, named)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        pytest.param("https://169.254.169.254/latest/meta-data/", UNREACHABLE, id="metadata"),
        pytest.param("//127.0.0.2/", UNREACHABLE, id="loopback"),
        pytest.param("https://[::ffff:127.0.0.1]/", UNREACHABLE, id="loopback in disguise"),
        pytest.param("https://0x7f.1/", UNREACHABLE, id="loopback in hexadecimal"),
        pytest.param("http://example.com/a.png", "its server sends from https to http", id="a downgrade"),
        pytest.param("file:///etc/passwd", SCHEME, id="a file"),
        pytest.param("https://user@example.com/", USER, id="a user"),
        pytest.param("https://example.com:22/", PORT, id="a port for others"),
        pytest.param("https://[::1", "its server sends to what is not a URL", id="an open bracket"),
        pytest.param("/\udcff", ENCODED, id="bytes that are not UTF-8"),
        pytest.param("", "its server sends elsewhere without saying where", id="an empty Location"),
        pytest.param(None, "its server sends elsewhere without saying where", id="no Location"),
    ],
)
def test_a_redirect_is_judged_like_a_url_of_its_own(location, reason) -> None:
    with pytest.raises(Unfetchable) as caught:
        redirect("https://example.com/a", location)
    assert str(caught.value).startswith(reason)


def test_a_redirect_from_http_may_lead_to_either() -> None:
    assert str(redirect("http://example.com/a", "https://example.com/b").url) == "https://example.com/b"
    assert str(redirect("http://example.com/a", "/b").url) == "http://example.com/b"
