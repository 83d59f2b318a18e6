"""(edge) Finds the Code Assist project of an account: asked once, kept in the state, asked anew when it proves wrong.

In: an access token and the project the operator configured, if any. Out: the project id. What to ask and what answers
mean is ``onboarding``'s; here they are posted and waited for, within bounds. One search per credential at a
time. Raises ``TokenRefused`` with the verdict on the credential.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import aiohttp

from gemproxy.credentials.onboarding import (
    Ineligible,
    Onboard,
    Onboarding,
    Pending,
    Project,
    account_link,
    read_load,
    read_operation,
)
from gemproxy.credentials.token_errors import TokenRefused, ineligible, unavailable, undiscovered, unreached
from gemproxy.state.store import State
from gemproxy.transport.client import Reply, ask
from gemproxy.transport.reaching import obstacle_of
from gemproxy.upstream.dialect import Action, HttpRequest, Scope, Token, Verdict

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = 5.0  # seconds for one question
POLL_INTERVAL = 2.0  # seconds between looks at an onboarding (docs/protocol.md 2.4: 2 to 5)
SEARCH_TIMEOUT = 10.0  # seconds for the search as a whole: an onboarding goes on at Google's, the request elsewhere


class Judge(Protocol):
    """``judge`` of the Code Assist dialect."""

    def judge(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
        """Return what a refusal means."""
        ...


class Projects:
    """The projects of all OAuth credentials, by the key of their grant."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        onboarding: Onboarding,
        judge: Judge,
        state: State,
        clock: Callable[[], float],
        *,
        poll: float = POLL_INTERVAL,
        patience: float = SEARCH_TIMEOUT,
    ) -> None:
        self._session = session
        self._onboarding = onboarding
        self._judge = judge
        self._state = state
        self._clock = clock
        self._poll = poll
        self._patience = patience
        self._known: dict[tuple[str, str], str] = {}  # by key and configured project: two slots may share a grant
        self._searches: dict[tuple[str, str], asyncio.Task[str]] = {}

    async def find(self, key: str, token: Token) -> str:
        """Return the project of the account that ``token`` speaks for; ``token.project`` is the configured one."""
        if known := self.known(key, token.project):
            return known
        project = token.project or await self._state.project(key)
        if not project:
            return await self.search(key, token)
        self._known[key, token.project] = project
        return project

    def known(self, key: str, configured: str) -> str:
        """Return the project if it was found before, else ""."""
        return self._known.get((key, configured), "")

    async def search(self, key: str, token: Token) -> str:
        """Return the project as Google tells it now, and keep it."""
        place = (key, token.project)
        task = self._searches.get(place)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._search(key, token), name="project discovery")
            self._searches[place] = task
            task.add_done_callback(lambda done: self._done(place, done))
        # Shielded: the search belongs to all who wait for it.
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Start again from what is configured and kept: the configuration changed."""
        self._known.clear()

    def close(self) -> None:
        """Stop searching."""
        for task in self._searches.values():
            task.cancel()

    def _done(self, place: tuple[str, str], task: asyncio.Task[str]) -> None:
        del self._searches[place]
        if not task.cancelled():
            _ = task.exception()  # looked at, even if everybody who waited has left

    async def _search(self, key: str, token: Token) -> str:
        try:
            async with asyncio.timeout(self._patience):
                found = await self._ask(token)
        except TimeoutError:
            raise undiscovered("not in time") from None
        if isinstance(found, Ineligible):
            raise ineligible(found)
        self._known[key, token.project] = found.id
        if not token.project:  # a configured project is the operator's word; what Google said lives in memory only
            self._state.keep_project(key, found.id, self._clock())
        return found.id

    async def _ask(self, token: Token) -> Project | Ineligible:
        body = await self._send(self._onboarding.load_request(token, token.project))
        found = read_load(body, token.project)
        return await self._onboard(token, found) if isinstance(found, Onboard) else found

    async def _onboard(self, token: Token, onboard: Onboard) -> Project | Ineligible:
        request = self._onboarding.onboard_request(token, onboard)
        while True:
            found = read_operation(await self._send(request), token.project)
            if not isinstance(found, Pending):
                return found
            await asyncio.sleep(self._poll)
            if found.name:
                request = self._onboarding.operation_request(token, found.name)

    async def _send(self, request: HttpRequest) -> bytes:
        """Return the body of a 200, or of the 403 that ``read_load`` knows; raises ``TokenRefused`` for the rest."""
        try:
            reply = await ask(self._session, request, REQUEST_TIMEOUT)
        except (aiohttp.ClientError, OSError) as fault:
            if (obstacle := obstacle_of(fault)) is not None:
                raise unreached("Code Assist", obstacle) from None
            raise unavailable("project_unknown", "Code Assist gave no answer.", type(fault).__name__) from None
        if reply.status == 200 or (reply.status == 403 and b"SECURITY_POLICY_VIOLATED" in reply.body):
            return reply.body
        raise self._refusal(reply)

    def _refusal(self, reply: Reply) -> TokenRefused:
        """Return what a refusal means. The table is that of generation: what it says of the credential holds here too,
        what it says of models, capacity or the request does not.
        """
        verdict = self._judge.judge(reply.status, reply.headers, reply.body, self._clock())
        if verdict.action is Action.REFRESH or verdict.scope is Scope.CREDENTIAL:
            return TokenRefused(verdict, link=account_link(reply.body))
        return undiscovered(f"status {reply.status}", verdict.until if reply.status == 429 else None)
