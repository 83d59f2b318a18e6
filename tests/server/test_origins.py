"""Browsers are let in only where the operator says so, and no foreign name or proxy leads to an open server."""

from __future__ import annotations

import pytest

from gemproxy.errors import ClientFault
from gemproxy.server.origins import check_direct, check_host, cors, preflight

PAGE = "https://page.example"


@pytest.mark.parametrize(
    ("origin", "allowed", "answer"),
    [
        (None, [PAGE], None),
        (PAGE, [], None),
        ("https://evil.example", [PAGE], None),
        (f"{PAGE}.evil.example", [PAGE], None),
        (PAGE, [PAGE], PAGE),
        (PAGE, ["*"], "*"),
    ],
)
def test_cors_names_only_what_is_configured(origin: str | None, allowed: list[str], answer: str | None) -> None:
    assert cors(origin, allowed).get("Access-Control-Allow-Origin") == answer
    asked = preflight(origin, allowed)
    assert asked.get("Access-Control-Allow-Origin") == answer
    assert ("Access-Control-Allow-Headers" in asked) == (answer is not None)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "api.localhost:1",
        "127.0.0.1:8080",
        "127.8.9.1",
        "[::1]:8080",
        "[::1]",
    ],
)
def test_names_of_this_machine_are_served(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:80", "", "0.0.0.0"),
        *("[::1].evil.example", "[::1]evil.example:80", "[::1", "::1", "[127.0.0.1]", "[localhost]", "[::1%lo]"),
        *("localhost:80@evil.example", "evil.example@localhost", "localhost@evil.example", "localhost:80:80"),
        *("localhost:", "localhost:x", "localhost:-1", "localhost: 80", "localhost/", "localhost?", "localhost#"),
        *("localhost..", "..localhost", ".localhost", "a..localhost", "127.0.0.1.", "127.1", "127.0.0.01", "0x7f.1"),
        *("localhost\n", " localhost", "localhost,evil.example", "localhost evil.example", "local\u017fhost"),
        *("127.0.0.\u0661", "notlocalhost", "evil-localhost", "[::ffff:127.0.0.1].evil.example", "[::1]:80@x"),
    ],
)
def test_any_other_name_needs_a_key(host: str) -> None:
    with pytest.raises(ClientFault, match=r"auth\.keys") as caught:
        check_host(host)
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("version", "names"),
    [
        pytest.param((1, 1), ["Host", "Authorization", "Content-Type"], id="a client of this machine"),
        pytest.param(
            (1, 1), ["Viable", "X-Via", "X-Forward", "X-Real-IPs", "Not-Forwarded"], id="names that look like it"
        ),
    ],
)
def test_who_comes_straight_is_served(version: tuple[int, int], names: list[str]) -> None:
    check_direct(version, names)


@pytest.mark.parametrize(
    ("version", "names"),
    [
        pytest.param((1, 0), ["Host", "Connection"], id="nginx with proxy_pass and nothing else"),
        pytest.param((0, 9), [], id="an older version yet"),
        pytest.param((1, 1), ["Host", "X-Forwarded-For"], id="HAProxy with option forwardfor"),
        pytest.param((1, 1), ["Host", "X-Forwarded-Proto"], id="Caddy"),
        pytest.param((1, 1), ["X-Forwarded-Server"], id="Apache"),
        pytest.param((1, 1), ["x-FORWARDED-host"], id="any case"),
        pytest.param((1, 1), ["Host", "X-Real-IP"], id="nginx as many pages show it"),
        pytest.param((1, 1), ["forwarded"], id="RFC 7239"),
        pytest.param((1, 1), ["via"], id="RFC 9110"),
    ],
)
def test_what_a_proxy_passes_on_needs_a_key(version: tuple[int, int], names: list[str]) -> None:
    with pytest.raises(ClientFault, match=r"auth\.keys") as caught:
        check_direct(version, names)
    assert caught.value.status == 403
