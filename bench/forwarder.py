"""The floor: aiohttp on both sides and nothing between, ``python -m bench.forwarder http://upstream``.

Posts the body on to the same path and copies what comes back, piece by piece. It parses nothing, knows no credential
and handles no failure: what aiohttp costs as everybody uses it, and so no lower bound. Gemproxy saves what is left in
here on purpose: the collector runs as Python sets it up, head and body of an answer are sent apart by the
``StreamResponse``, and the session looks for cookies. Prints its port, ends when standard input does.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from bench.processes import raise_descriptor_limit, until_orphaned

SESSION = web.AppKey("session", aiohttp.ClientSession)
UPSTREAM = web.AppKey("upstream", str)


async def forward(request: web.Request) -> web.StreamResponse:
    """Forward one request and its answer."""
    body = await request.read()
    headers = {"Content-Type": request.headers["Content-Type"]}
    async with request.app[SESSION].post(request.app[UPSTREAM] + request.path_qs, data=body, headers=headers) as answer:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})
        response.content_length = answer.content_length
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    return response


async def health(_request: web.Request) -> web.Response:
    """Say that the server is up."""
    return web.Response()


async def start(upstream: str, port: int = 0, handler: Handler = forward) -> web.AppRunner:
    """Listen on loopback, and hand every question to ``handler``; the caller cleans the runner up."""
    app = web.Application(client_max_size=1 << 25)
    app[UPSTREAM] = upstream
    app[SESSION] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    )
    app.on_cleanup.append(_close)
    app.router.add_post("/{path:.*}", handler)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    return runner


async def _close(app: web.Application) -> None:
    await app[SESSION].close()


async def main(upstream: str, port: int, handler: Handler = forward) -> None:
    """Serve until the benchmark is gone."""
    raise_descriptor_limit()
    runner = await start(upstream, port, handler)
    print(runner.addresses[0][1], flush=True)
    try:
        await until_orphaned()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
