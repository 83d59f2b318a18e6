"""(edge) What every connection of a client has in common, whichever way it is watched, and how they are made.

In: a transport. Out: no words of a client in a refusal or in the log, and an end to answers that nobody takes. When a
request is under way, ``connections`` and ``plain`` know.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gemproxy import errors
from gemproxy.converter.openai import OPENAI
from gemproxy.errors import Failure
from gemproxy.load.reads import HEAD_READ_SIZE, read_little
from gemproxy.process.dismissal import failure_of, limit_silence

log = logging.getLogger("gemproxy.server")


class Runner(web.AppRunner):
    """aiohttp's runner, which remembers the options of its connections."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, **options)
        own = ("handle_signals", "shutdown_timeout", "handler_cancellation")  # of the runner and of the server
        self.options = {name: value for name, value in options.items() if name not in own}


def options_of(runner: web.AppRunner) -> dict[str, Any]:
    """Return what a runner's connections are made with."""
    return runner.options if isinstance(runner, Runner) else {}


class Watched(web.RequestHandler):
    """One client's connection: bounds on what it leaves untaken, and no words of a client in a refusal or the log."""

    __slots__ = ("_stalled", "patience", "send")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.patience = 30.0  # seconds for the headers of a request
        self.send = 60.0  # seconds in which a client takes some of its answers
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """True while a request is being answered or waits for it."""
        raise NotImplementedError

    @property
    def speaking(self) -> bool:
        """True if a request may be on its way: nothing was said yet, or half of it."""
        raise NotImplementedError

    def retire(self) -> None:
        """Close the connection at once if it is idle, else after the answer under way."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Have the request under way cancelled, as if its client had left."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        read_little(transport, HEAD_READ_SIZE)
        limit_silence(transport, self.send)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._took()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a client that takes nothing only so long: answers without a key, too, fill memory."""
        super().pause_writing()
        self._stalled = asyncio.get_running_loop().call_later(self.send, self._drop)

    def resume_writing(self) -> None:
        """Go on: the client has taken what was written."""
        self._took()
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP; aiohttp's own answer and log would repeat it."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        errors.forget_way(exc)  # its frames hold what was read
        log.info("refused what is not valid HTTP (%s)", type(exc).__name__)
        failure = failure_of(exc)
        reply = OPENAI.failure(failure, "")
        response = web.Response(body=reply.body, status=reply.status, content_type=reply.content_type)
        response.force_close()
        return response

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """Log what aiohttp did not expect; a client whose body breaks off as it is read past is no such thing."""
        if not isinstance(options.get("exc_info"), Failure):
            super().log_exception(*arguments, **options)

    def _took(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()
