"""(edge) The listening sockets: which they are, whose they are, who may listen on them, and what is accepted there.

In: a configuration, what systemd or a predecessor handed over. Out: sockets under their names, open for connections.
Knows no route.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web

from gemproxy import descriptors
from gemproxy.config import Config, address, open_door
from gemproxy.errors import ConfigFault, StartFault
from gemproxy.process import systemd
from gemproxy.process.connections import GuardedSite
from gemproxy.process.upgrade import Named, relieve
from gemproxy.server.service import SERVICE, Service

log = logging.getLogger("gemproxy")
OWN, SCRAPES = "own", "metrics"  # names of the sockets that are ours to bind; systemd gives others to those it holds


def open_sockets(config: Config) -> tuple[list[Named], bool]:
    """Return the sockets to listen on, and whether those of the API are ours to bind.

    What systemd holds goes before ``server.host`` and ``port``. A predecessor's are taken over as far as the
    configuration still names their addresses.
    """
    server, inherited = config.server, systemd.inherited_sockets()
    given = list(zip(systemd.inherited_names(len(inherited)), inherited, strict=True))
    held = [(name, sock) for name, sock in given if name not in (OWN, SCRAPES)]
    found = held or _bound(OWN, given, server.host, server.port, reuse_port=server.reuse_port)
    if server.metrics_listen is not None and (place := address(server.metrics_listen)) is not None:
        found = [*found, *_bound(SCRAPES, given, *place, reuse_port=False, setting="server.metrics_listen")]
    for name, sock in given:
        if (name, sock) not in found:
            sock.close()
    return found, not held


def _bound(name: str, given: Sequence[Named], host: str, port: int, **how: Any) -> list[Named]:
    return [(name, sock) for sock in bind(host, port, given=[sock for its, sock in given if its == name], **how)]


def bind(
    host: str,
    port: int,
    *,
    reuse_port: bool,
    setting: str = "server.host and server.port",
    given: Sequence[socket.socket] = (),
) -> list[socket.socket]:
    """Return a listening socket for each address of the host, one of those given where it fits.

    Raises ``StartFault``.
    """
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            if fitting := [sock for sock in given if _fits(sock, family, *address[:2])]:
                sockets.append(fitting[0])
                continue
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 has a socket of its own
            sock.bind(address)
    except OSError as fault:
        for sock in sockets:
            sock.close()
        raise StartFault(f"cannot listen on {host}:{port} ({setting}): {fault.strerror or fault}") from None
    return sockets


def _fits(sock: socket.socket, family: int, host: str | int, port: int | bytes) -> bool:
    """Return whether a socket has an address; port 0 is any."""
    return sock.family == family and sock.getsockname()[0] == host and port in (0, sock.getsockname()[1])


async def listen(runner: web.AppRunner, config: Config, sockets: list[socket.socket]) -> None:
    check_doors(config, [sock.getsockname() for sock in sockets])
    await relieve()  # last of what may fail: what is accepted from here on is served
    warn_of_few_descriptors(config.server.max_connections)
    warn_of_siblings(config, sockets)
    for sock in sockets:
        await site(runner, sock, runner.app[SERVICE]).start()


def site(runner: web.AppRunner, sock: socket.socket, service: Service) -> GuardedSite:
    """Return a site within the limits of the configuration in force."""
    return GuardedSite(
        runner,
        sock,
        carried=descriptors.carried(),
        limit=lambda: service.door.max_connections,
        patience=lambda: service.door.headers,
        send=lambda: service.door.send,
    )


def check_doors(config: Config, names: Iterable[Any]) -> None:
    """Raise ``ConfigFault`` if a socket listens where this configuration may not.

    ``server.host`` does not tell: systemd may have opened the socket, or an earlier configuration.
    """
    for name in names:
        if isinstance(name, tuple) and (fault := open_door(config, name[0])):  # else a path: on this machine
            raise ConfigFault(f"the server listens on {name[0]}: {fault}")


def warn_of_few_descriptors(connections: int) -> None:
    """Say if fewer connections can be accepted than the configuration allows."""
    if connections > (carried := descriptors.carried()):
        log.warning(
            "server.max_connections = %d takes %d file descriptors, and the system allows %d (LimitNOFILE, ulimit -n): "
            "no more than %d connections are accepted",
            *(connections, descriptors.needed(connections), descriptors.allowed(), carried),
        )


def warn_of_siblings(config: Config, sockets: Iterable[socket.socket]) -> None:
    """Say if other processes may serve the same port, and would not find what this one keeps for its clients."""
    if config.responses.keep == "memory" and any(map(_is_shared, sockets)):
        log.warning(
            "several processes may serve this port (server.reuse_port, ReusePort=), and responses.keep = "
            '"memory": previous_response_id is found only by the process that made the response; "state" serves all'
        )


def _is_shared(sock: socket.socket) -> bool:
    internet = sock.family in (socket.AF_INET, socket.AF_INET6)
    return internet and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def base_url(runner: web.AppRunner) -> str:
    """Return the URL of the first socket; systemd may have opened it on a path."""
    name = addresses(runner)[0]
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def addresses(runner: web.AppRunner) -> list[Any]:
    """Return what a runner listens on."""
    return [site.address for site in runner.sites if isinstance(site, GuardedSite)]
