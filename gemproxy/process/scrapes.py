"""(edge) A listener of its own for Prometheus: ``/metrics`` alone, without a key (``server.metrics_listen``)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from gemproxy.config import Config
from gemproxy.errors import Failure
from gemproxy.process.ending import LAST_WORDS
from gemproxy.process.sockets import site
from gemproxy.process.watched import Runner
from gemproxy.server.handlers.admin import metrics as show_metrics
from gemproxy.server.middleware import error_response
from gemproxy.server.service import SERVICE


async def listen_for_scrapes(
    stack: AsyncExitStack, app: web.Application, config: Config, sockets: Sequence[socket.socket]
) -> web.AppRunner:
    """Serve ``/metrics`` alone, without a key, on ``server.metrics_listen``, within the limits of any connection."""

    async def metrics(request: web.Request) -> web.Response:
        try:
            return await show_metrics(app[SERVICE].operations)
        except Failure as failure:
            return error_response(app[SERVICE].apis[0], failure, {})

    own = web.Application()
    own.router.add_get("/metrics", metrics)
    runner = Runner(
        own,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,  # a body that nobody reads may hold gigabytes
        lingering_time=LAST_WORDS,
        keepalive_timeout=config.timeouts.keepalive,
        shutdown_timeout=LAST_WORDS,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    for sock in sockets:
        await site(runner, sock, app[SERVICE]).start()
    return runner
