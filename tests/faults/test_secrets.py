"""Known secrets are planted wherever a real one would be, and searched for in everything that comes out.

Each kind of trouble has a server of its own in this process; one run of the real process looks at its log and signals.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec import Struct

from gemproxy.config import Config, load
from gemproxy.process import logs
from gemproxy.server.service import SERVICE
from gemproxy.simulator import (
    Account,
    AccountState,
    Answer,
    KeyState,
    Simulator,
    error_answer,
    frames_answer,
    unary_answer,
)
from tests import forked
from tests.faults.client import AUTH, CHAT, ask, hello
from tests.faults.figures import note
from tests.faults.plants import PLANTS, PROMPT, SERVICE_KEY_ID, found_in, trio
from tests.running import running
from tests.server_process import rewrite, serving

TICK = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


# ------------------------------------------------------------------------------------------------------ planted secrets

WIDE = """
[server]
port = 0
expose_routing = true
[auth]
keys = ["{client}"]
admin_keys = ["{admin}"]
[log]
level = "debug"
capture_dir = "captures"
[state]
path = "state.db"
"""
LINK = "https://accounts.google.com/signin/continue?sarp=1&" + PLANTS["account URL"]


def confession(status: int) -> Answer:
    """Return a refusal in which Google tells all it knows, in every field it has."""
    number, project = PLANTS["project number"], PLANTS["project id"]
    message = (
        f"Consumer 'api_key:{PLANTS['API key']}' of project {number} (projects/{project}), {PLANTS['e-mail']}, with "
        f"Authorization: Bearer {PLANTS['access token']} and key={PLANTS['second API key']} must verify at {LINK}"
    )
    metadata = {"consumer": f"projects/{number}", "containerInfo": number, "validation_url": LINK}
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "X", "metadata": metadata}
    return error_answer(status, {"error": {"code": status, "message": message, "details": [info]}})


def page(status: int) -> Answer:
    """Return a front end's page that repeats the request."""
    request = f"<html>POST /v1beta?key={PLANTS['API key']} Authorization: Bearer {PLANTS['access token']}</html>"
    return error_answer(status, request.encode(), content_type="text/html")


def failing_stream() -> Answer:
    said = msgspec.json.decode(confession(503).body[0])
    return frames_answer([TICK, said])


class Searcher:
    """Asks everything, and keeps all that came back."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.seen: list[tuple[str, bytes]] = []

    async def ask(self, what: str, method: str, path: str, *, key: str = "client key", body: Any = None) -> int:
        headers = {"Authorization": f"Bearer {PLANTS[key]}", "Content-Type": "application/json"}
        data = None if body is None else msgspec.json.encode(body)
        async with self._session.request(method, self._url + path, headers=headers, data=data) as response:
            raw = b"\n".join(name + b": " + value for name, value in response.raw_headers)
            self.seen.append((f"{what} {response.status}", raw + b"\n\n" + await response.read()))
            return response.status

    async def everywhere(self) -> None:
        """Ask each model both ways, then all that tells of the pool."""
        models = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.5-flash")
        bodies = [hello(PROMPT, model=model, stream=stream) for model in models for stream in (False, True)]
        await asyncio.gather(*(self.ask("chat", "POST", CHAT, body=body) for body in bodies))
        told = (
            ("GET", "/v1/debug/cache"),
            ("POST", "/v1/token-test"),
            ("POST", "/v1/test"),
            ("GET", "/metrics"),
            ("GET", "/ready"),
            ("GET", "/"),
            ("GET", "/v1/models"),
        )
        await asyncio.gather(*(self.ask(path, method, path, key="admin key") for method, path in told))

    def leaks(self, but: str = "") -> dict[str, set[str]]:
        """Return what was found in which answer; ``but`` is left out of the search."""
        found = {what: found_in(answer.replace(but.encode(), b"")) for what, answer in self.seen}
        found |= {what: {"prompt"} for what, answer in self.seen if PROMPT.encode() in answer and what != "chat 200"}
        return {what: names for what, names in found.items() if names}


def leaking(log: str) -> list[str]:
    """Return the lines of a log that hold a secret or a prompt."""
    return [line[:300] for line in log.splitlines() if found_in(line) or PROMPT in line]


Trouble = Callable[[Simulator], object]


def troubles() -> dict[str, Trouble]:
    """Return what may go wrong, as functions that make it so."""
    person, robot = PLANTS["refresh token"], PLANTS["e-mail"]

    def script(answer: Answer, method: str | None = None, times: int | None = None) -> Trouble:
        return lambda simulator: simulator.script(answer, times=times, method=method)

    def person_is(state: AccountState) -> Trouble:
        account = Account(person, state=state, project=PLANTS["project number"])
        return lambda simulator: simulator.accounts.add(account)

    def key_is(state: KeyState) -> Trouble:
        return lambda simulator: simulator.keys.update({PLANTS["API key"]: state})

    told = msgspec.json.encode(
        {
            "error": "invalid_grant",
            "error_description": f"{person} of {robot}, client_secret={PLANTS['OAuth client secret']}",
            "refresh_token": PLANTS["rotated refresh token"],
        }
    )
    return {
        "nothing": lambda simulator: None,
        **{f"refusal {status}": script(confession(status)) for status in (400, 401, 403, 404, 429, 499, 500, 503)},
        **{f"page {status}": script(page(status)) for status in (403, 502)},
        "error in a stream": script(failing_stream()),
        "a frame that is none": script(Answer((b"data: " + PLANTS["API key"].encode() + b"\r\n\r\n",))),
        **{f"key {state}": key_is(state) for state in (KeyState.SUSPENDED, KeyState.BLOCKED, KeyState.INVALID)},
        **{f"person {state}": person_is(state) for state in AccountState if state is not AccountState.OK},
        "token end point tells all": script(error_answer(400, told), "token"),
        "token end point fails": script(page(500), "token", times=4),
        "discovery tells all": script(confession(403), "loadCodeAssist"),
    }


@contextmanager
def written_log() -> Iterator[io.StringIO]:
    """Write the log at level debug as the server does, in both forms."""
    text, root, ours = io.StringIO(), logging.getLogger(), logging.getLogger("gemproxy")
    handlers = [logging.StreamHandler(text), logging.StreamHandler(text)]
    handlers[0].setFormatter(logs.Plain(journal=False))
    handlers[1].setFormatter(logs.JsonLines())
    before = ours.level
    ours.setLevel(logging.DEBUG)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield text
    finally:
        ours.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)


class Search(Struct):
    """What came out in one trouble: leaks by answer, how many answers had which status, what was captured."""

    leaks: dict[str, set[str]]
    statuses: Counter[str]
    captures: list[bytes]


async def _search(begin: Trouble, folder: Path, places: asyncio.Semaphore) -> Search:
    async with places, Simulator() as simulator:
        simulator.script(_planted_tokens(), method="token")
        begin(simulator)
        async with running(simulator, wide(simulator, folder)) as server:
            searcher = Searcher(server.session, server.url)
            await searcher.everywhere()
    captures = [file.read_bytes() for file in (folder / "captures").glob("*")]
    return Search(searcher.leaks(), Counter(what.rpartition(" ")[2] for what, _ in searcher.seen), captures)


async def _search_all(folders: dict[str, Path]) -> list[Search]:
    places = asyncio.Semaphore(10)
    return await asyncio.gather(*(_search(begin, folders[what], places) for what, begin in troubles().items()))


class Searches(Struct):
    """All of it: the troubles and the one log they share."""

    by_trouble: dict[str, Search]
    folders: dict[str, Path]
    log: str


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Searches:
    folders = {what: tmp_path_factory.mktemp("search") for what in troubles()}
    with written_log() as log:
        found = asyncio.run(_search_all(folders))
    return Searches(dict(zip(troubles(), found, strict=True)), folders, log.getvalue())


@pytest.mark.parametrize("what", troubles())
def test_no_planted_secret_comes_out_in_trouble(searches: Searches, what: str) -> None:
    search = searches.by_trouble[what]
    assert search.leaks == {}
    assert {name for text in search.captures for name in found_in(text)} == set()


def test_no_planted_secret_is_in_the_log_of_all_troubles(searches: Searches) -> None:
    assert leaking(searches.log) == []
    statuses = sum((search.statuses for search in searches.by_trouble.values()), Counter[str]())
    captures = sum(len(search.captures) for search in searches.by_trouble.values())
    note(
        f"planted secrets: {len(PLANTS)} and a prompt searched for in {statuses.total()} answers "
        f"{dict(sorted(statuses.items()))}, {len(searches.log.splitlines())} log lines, {captures} captures"
    )
    assert set(statuses) >= {"200", "400", "403", "404", "429", "500", "502", "503"}, "every way to write an error"


def test_search_finds_what_is_there() -> None:
    assert found_in(" ".join(PLANTS.values())) == set(PLANTS)
    assert len(found_in(b"".join(piece for piece in confession(400).body if isinstance(piece, bytes)))) >= 6


def test_files_are_the_operators_alone(searches: Searches) -> None:
    folder = searches.folders["nothing"]
    assert searches.by_trouble["nothing"].captures
    assert stat.S_IMODE((folder / "state.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "captures").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (folder / "captures").iterdir()} == {0o600}


def wide(simulator: Simulator, folder: Path) -> Config:
    """Return a configuration with everything on, plants in every place."""
    return load(write_wide(simulator, folder), {})


def write_wide(simulator: Simulator, folder: Path) -> Path:
    file = folder / "gemproxy.toml"
    keys = WIDE.format(client=PLANTS["client key"], admin=PLANTS["admin key"])
    file.write_text(keys + trio(simulator, folder), encoding="utf-8")
    return file


async def test_no_planted_secret_comes_out_of_the_process(simulator: Simulator, tmp_path: Path) -> None:
    toml = write_wide(simulator, tmp_path).read_text(encoding="utf-8")
    path = f"/v1/{PLANTS['client key']}"
    async with serving(tmp_path, toml) as server, aiohttp.ClientSession() as session:
        searcher = Searcher(session, server.url)
        await searcher.everywhere()
        assert await searcher.ask("wrong key", "POST", CHAT, key="wrong client key", body=hello()) == 401
        assert await searcher.ask("no admin", "GET", "/v1/debug/cache") == 403
        assert await searcher.ask("a key in the path", "GET", path) == 404
        assert await searcher.ask("a key in the query", "GET", f"/v1/models?key={PLANTS['client key']}") == 200
        rewrite(tmp_path, toml.replace("[auth]", "[auht]"))
        server.tell(signal.SIGHUP)
        await server.logged("reload refused")
        rewrite(tmp_path, toml.replace('file = "', 'flie = "') + f'key = "{PLANTS["API key"]}"')
        server.tell(signal.SIGHUP)
        await server.logged("reload refused", times=2)
        log = server.log
    assert searcher.leaks(but=path) == {}, "a path is the client's own word, said back to it"
    assert leaking(log.replace(path, "")) == []


def _planted_tokens() -> Answer:
    return unary_answer(
        {
            "access_token": PLANTS["access token"],
            "refresh_token": PLANTS["rotated refresh token"],
            "expires_in": 3599,
            "token_type": "Bearer",
        }
    )


async def test_check_tells_no_secret(simulator: Simulator, tmp_path: Path) -> None:
    simulator.accounts.add(Account(PLANTS["refresh token"], project=PLANTS["project number"]))
    simulator.keys[PLANTS["API key"]] = KeyState.SUSPENDED
    file = tmp_path / "gemproxy.toml"
    file.write_text(
        WIDE.format(client=PLANTS["client key"], admin=PLANTS["admin key"]) + trio(simulator, tmp_path),
        encoding="utf-8",
    )
    for more in ((), ("--online",)):
        with (tmp_path / "told").open("w+b") as log:
            command = ["gemproxy", "check", "--config", str(file), *more]
            await (await forked.start(command, log.fileno(), [], os.environ)).wait()
            log.seek(0)
            told = log.read()
        assert b"studio" in told
        assert found_in(told) == set()


async def test_repr_of_what_holds_secrets_shows_none(simulator: Simulator, tmp_path: Path) -> None:
    config = wide(simulator, tmp_path)
    key = AUTH | {"Authorization": f"Bearer {PLANTS['client key']}"}
    async with running(simulator, config) as server:
        service = server.app[SERVICE]
        assert (await ask(server.session, server.url, hello(), key)).whole
        holders = [config, service, service.door, vars(service.dispatcher), vars(service.pool.tokens)]
        shown = [repr(holder) for holder in holders]
    assert {name for text in shown for name in found_in(text)} <= {"project id", "project number"}
    assert SERVICE_KEY_ID not in "".join(shown)
