"""HAProxy, nginx and Caddy in front of gemproxy, each as a page of its own documentation would set it up.

In: the ports of the servers behind. Out: the URL in front. Health checks ask ``/ready`` once a second. Each request has
a connection of its own, as the README asks: on one that is kept, a request may be under way just when a server that is
relieved closes it, and Caddy and nginx do not repeat what is no GET.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.server_process import free_port
from tests.system.conftest import find

HAPROXY = """
global
  maxconn 256
defaults
  mode http
  option http-server-close
  option redispatch
  retries 10
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend front
  bind 127.0.0.1:{port}
  default_backend pool
backend pool
  option httpchk GET /ready
  default-server check inter 1s fall {fall}
{servers}
"""
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream pool {{
{servers}
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://pool;
      proxy_http_version 1.1;
      proxy_set_header Connection close;
      proxy_buffering off;
      proxy_read_timeout 300s;
    }}
  }}
}}
"""
CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  reverse_proxy {servers} {{
    lb_try_duration 10s
{probes}    transport http {{
      keepalive off
    }}
  }}
}}
"""
PROBES = "    health_uri /ready\n    health_interval 1s\n"
# program -> its configuration, a line of it for one server, and what starts it
PROXIES = {
    "haproxy": (HAPROXY, "  server s{port} 127.0.0.1:{port}\n", ("-db", "-f", "{file}")),
    "nginx": (NGINX, "    server 127.0.0.1:{port} max_fails=0;\n", ("-p", "{folder}", "-c", "{file}")),
    "caddy": (CADDY, "127.0.0.1:{port} ", ("run", "--adapter", "caddyfile", "--config", "{file}")),
}


@asynccontextmanager
async def proxy(name: str, folder: Path, ports: Sequence[int]) -> AsyncIterator[str]:
    """Run a proxy in front of these ports; yields its URL."""
    pattern, line, arguments = PROXIES[name]
    port, place = free_port(), folder / name
    place.mkdir()
    file = place / "configuration"
    servers = "".join(line.format(port=each) for each in ports)
    # Without its only server a proxy would refuse what it can hold back: HAProxy may miss it for ten checks; Caddy,
    # which cannot be told so, does not check.
    fall, probes = (3, PROBES) if len(ports) > 1 else (10, "")
    text = pattern.format(port=port, folder=place, servers=servers, fall=fall, probes=probes)
    file.write_text(text, encoding="utf-8")
    with (place / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            find(name),
            *(argument.format(file=file, folder=place) for argument in arguments),
            stdout=log,
            stderr=log,
            env=os.environ | {"HOME": str(place), "XDG_DATA_HOME": str(place), "XDG_CONFIG_HOME": str(place)},
        )
    try:
        await _listens(process, port, place / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listens(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with asyncio.timeout(20):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
    raise AssertionError(log.read_text(encoding="utf-8"))
