"""The embedded Gemini on a loopback socket (edge): HTTP in, HTTP out, every request recorded.

Must not decide anything (``google`` does) and not import the proxy: it is an independent oracle of it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Self

from aiohttp import web

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.google import Google
from gemproxy.simulator.player import play
from gemproxy.simulator.recorder import Recorded, Recorder
from gemproxy.simulator.script import GENERATING, error_answer

_MAX_BODY = 64 * 2**20
_wall_clock = time.time  # noqa: TID251 - a server of its own: this is where its clock is wired


class Simulator(Google):
    """A Google that listens. ``keep`` bounds the record of requests (0: none, for a demo that runs for months).

    With ``tls`` it speaks that and nothing else.
    """

    def __init__(
        self,
        clock: Callable[[], float] = _wall_clock,
        seed: int = 0,
        *,
        keep: int = 10_000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(clock, seed)
        self._tls = tls
        self._recorder = Recorder(keep)
        self._runner: web.AppRunner | None = None
        self._closing = False
        self.url = ""

    # ------------------------------------------------------------------------------------------------ addresses

    @property
    def ai_studio_url(self) -> str:
        """The base that stands for ``https://generativelanguage.googleapis.com/v1beta``."""
        return self.url + "/v1beta"

    @property
    def code_assist_url(self) -> str:
        """The base that stands for ``https://cloudcode-pa.googleapis.com/v1internal``."""
        return self.url + "/v1internal"

    @property
    def vertex_url(self) -> str:
        """The base that stands for ``https://{location}-aiplatform.googleapis.com/v1``."""
        return self.url + "/vertex/v1"

    @property
    def token_url(self) -> str:
        """The address that stands for ``https://oauth2.googleapis.com/token``."""
        return self.url + "/token"

    @property
    def auth_url(self) -> str:
        """The consent page; it agrees at once."""
        return self.url + "/auth"

    # ------------------------------------------------------------------------------------------------ the record

    @property
    def requests(self) -> list[Recorded]:
        """Every request in order of arrival, also those to the token endpoint."""
        return self._recorder.requests

    @property
    def generations(self) -> list[Recorded]:
        """The requests that asked a model to speak."""
        return [request for request in self.requests if request.call in GENERATING]

    def clear(self) -> None:
        """Forget what was recorded and what is scripted."""
        self.requests.clear()
        self._script.rules.clear()

    # ------------------------------------------------------------------------------------------------ life

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.on_response_prepare.append(self._date)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=1024, ssl_context=self._tls).start()
        bound = self._runner.addresses[0]
        self.url = f"{'https' if self._tls else 'http'}://{host}:{bound[1]}"
        self._closing = False

    async def close(self) -> None:
        """Stop listening and break off what is still being answered."""
        self._closing = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------------------------------------------ one request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        arrived = self.clock()
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            page = errors.html(413, request.path)
            return await play(request, error_answer(413, page, content_type="text/html; charset=UTF-8"))
        recorded = Recorded(
            request.method, request.path, request.raw_path, request.headers, request.query, body, arrived
        )
        self._recorder.add(recorded)
        return await self._play(request, recorded)

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(self.clock(), usegmt=True)

    async def _play(self, request: web.Request, recorded: Recorded) -> web.StreamResponse:
        answer = self.answer(recorded)
        recorded.status = answer.status
        try:
            response = await play(request, answer)
        except asyncio.CancelledError:
            self._left(recorded)
            raise
        except ConnectionError:  # noticed while writing; aiohttp would log a raised one as our bug
            self._left(recorded)
            return web.Response()
        recorded.finished_at = self.clock()
        return response

    def _left(self, recorded: Recorded) -> None:
        if not self._closing:
            recorded.disconnected_at = self.clock()
