"""The start of a process: where it may listen, and what may come before it is ready."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from gemproxy import descriptors
from gemproxy.config import ConfigFault
from gemproxy.errors import StartFault
from gemproxy.process import sockets, systemd
from gemproxy.process.serve import serve
from gemproxy.simulator import Simulator
from tests.running import configuration


async def test_an_inherited_socket_is_no_way_round_the_keys(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(simulator, tmp_path)
    monkeypatch.setattr(descriptors, "raise_limit", lambda: None)
    with socket.socket() as sock:  # as systemd hands it over
        sock.bind(("0.0.0.0", 0))
        monkeypatch.setattr(systemd, "inherited_sockets", lambda: [sock])
        with pytest.raises(ConfigFault, match=r"the server listens on 0\.0\.0\.0: .*auth\.keys"):
            await serve(config, lambda: config, pytest.fail)


async def test_an_order_that_comes_too_soon_waits(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor is told of the next upgrade as soon as it is the main process; that must not end it."""
    held: list[set[int]] = []

    async def relieve() -> None:
        held.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        raise StartFault("as far as this goes")

    monkeypatch.setattr(descriptors, "raise_limit", lambda: None)
    monkeypatch.setattr(sockets, "relieve", relieve)
    config = configuration(simulator, tmp_path, "[server]\nport = 0\n")
    with pytest.raises(StartFault):
        await serve(config, lambda: config, pytest.fail)
    assert held[0] >= {signal.SIGHUP, signal.SIGUSR2}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
