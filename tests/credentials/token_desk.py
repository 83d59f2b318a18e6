"""A pool's token side in front of the simulated Google: files, a state that survives, a hand-turned clock."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gemproxy.credentials.google_auth import GoogleAuth
from gemproxy.credentials.onboarding import Onboarding
from gemproxy.credentials.projects import Projects
from gemproxy.credentials.sources import ApiKeySource, OAuthSource, ServiceAccountSource, Source, fingerprint
from gemproxy.credentials.tokens import TokenRefused, Tokens
from gemproxy.simulator import Simulator
from gemproxy.state.memory import MemoryState
from gemproxy.state.store import State
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Verdict
from gemproxy.upstream.skew import Skew
from tests.clock import Clock
from tests.credential_files import public_key, service_account

CLIENT, SECRET = "test-client", "test-secret"


def begin(work: Any) -> asyncio.Task[Any]:
    """Start a task that the test keeps."""
    return asyncio.get_running_loop().create_task(work)


class TokenDesk:
    def __init__(self, sim: Simulator, session: aiohttp.ClientSession, clock: Clock, folder: Path) -> None:
        self.sim = sim
        self.session = session
        self.clock = clock
        self.folder = folder
        self.state: State = MemoryState(clock)
        self.token_url = sim.token_url
        self.slow = 0.0  # seconds that our clock is behind Google's
        sim.clock = lambda: clock() + self.slow
        self.skew = Skew(clock, clock)
        self._opened: list[Tokens] = []
        sim.desk.clients = {CLIENT: SECRET}

    # ---- files

    def file(self, name: str = "team-1.json", **content: Any) -> Path:
        path = self.folder / name
        path.write_bytes(msgspec.json.encode({"refresh_token": "fake-refresh"} | content))
        return path

    def oauth(self, project: str = "", client_secret: str = SECRET, **content: Any) -> OAuthSource:
        return OAuthSource(self.file(**content), CLIENT, client_secret, project)

    def robot(self, name: str = "robot", **content: Any) -> ServiceAccountSource:
        """Return a service account whose key the simulator knows."""
        mail = f"{name}@example.invalid"
        content = {"project_id": "robots-project", "client_email": mail} | content
        account = self.sim.accounts.grant(mail, service=True)
        assert account is not None
        account.public_key = public_key()
        return ServiceAccountSource(service_account(self.folder / f"{name}.json", **content), "", "global")

    # ---- rooms

    def projects(self, **bounds: float) -> Projects:
        address = self.sim.code_assist_url
        onboarding, judge = Onboarding(address, "test"), CodeAssist(address, "test")
        return Projects(self.session, onboarding, judge, self.state, self.clock, **bounds)

    def tokens(self, sources: dict[str, Source] | Source, *, projects: Projects | None = None) -> Tokens:
        """Return tokens as a process of its own would have them: the state is shared, memory is not."""
        named = sources if isinstance(sources, dict) else {"team-1": sources}
        google = GoogleAuth(self.session, self.clock, token_url=self.token_url, pauses=(0.01, 0.01), skew=self.skew)
        rooms = (self.session, self.state, self.clock, projects or self.projects())
        tokens = Tokens(named, *rooms, fingerprints=prints(named), google=google)
        self._opened.append(tokens)
        return tokens

    def close(self) -> None:
        for tokens in self._opened:
            tokens.close()

    # ---- what happened

    def asked(self, path: str = "/token") -> int:
        return sum(request.path == path for request in self.sim.requests)


def prints(sources: dict[str, Source]) -> dict[str, str]:
    return {name: fingerprint(source) for name, source in sources.items()}


async def refusal(work: Any) -> Verdict:
    """Return the verdict with which a token is refused."""
    try:
        token = await work
    except TokenRefused as refused:
        return refused.verdict
    raise AssertionError(f"{token} was given")


KEY = ApiKeySource("test-key-1")
