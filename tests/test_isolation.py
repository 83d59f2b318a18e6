"""The tests cannot leave this machine: an audit hook, seen at work."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("family", "address"),
    [
        pytest.param(socket.AF_INET, ("192.0.2.1", 443), id="an address of another machine"),
        pytest.param(socket.AF_INET, ("169.254.169.254", 80), id="the metadata address"),
        pytest.param(socket.AF_INET6, ("2001:db8::1", 443), id="an IPv6 address"),
    ],
)
def test_connecting_to_another_machine_is_refused(family: int, address: tuple[str, int]) -> None:
    with socket.socket(family) as leaving, pytest.raises(AssertionError, match="only talk to this machine"):
        leaving.connect(address)


def test_sending_a_datagram_to_another_machine_is_refused() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as leaving,
        pytest.raises(AssertionError, match="only talk to this machine"),
    ):
        leaving.sendto(b"x", ("192.0.2.1", 53))


def test_looking_up_a_name_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"may not look up .example\.invalid"):
        socket.getaddrinfo("example.invalid", 443)


def test_a_process_that_a_test_starts_is_held_back_too() -> None:
    command = [sys.executable, "-c", "import socket; socket.getaddrinfo('example.invalid', 443)"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "WayOutError: a test may not look up 'example.invalid'" in told.stderr


def test_talking_to_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as caller:
        answerer, _ = listener.accept()
        with answerer:
            caller.sendall(b"hello")
            assert answerer.recv(5) == b"hello"


def test_a_unix_socket_is_allowed(tmp_path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(path)
        listener.listen()
        caller.connect(path)


async def test_the_simulated_gemini_is_up_and_was_asked_nothing(simulator) -> None:
    assert simulator.url.startswith("http://127.0.0.1:")
    assert list(simulator.requests) == []


def test_the_clock_stands_still_until_it_is_turned(clock) -> None:
    before = clock()
    assert clock() == before
    assert clock.advance(2.5) == before + 2.5 == clock()
