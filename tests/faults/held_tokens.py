"""Rows of the table of cancellations where a request waits for its credential's token or project."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from gemproxy.credentials import token_fetch
from gemproxy.errors import ConfigFault
from gemproxy.simulator import Account, Answer, Recorded, Wait, error_answer
from gemproxy.simulator import google_errors as google
from gemproxy.simulator.code_assist import DOMAIN
from tests.credential_files import public_key, service_account
from tests.faults.client import Bare
from tests.faults.held_open import STREAM, THRICE, UNARY, Row, ask, calls, start
from tests.faults.stage import LONG, Stage

SHARED = "gemproxy/credentials/"  # what is fetched there is for all who ask, whoever asked first
PERSON = '[[credentials]]\nname = "NAME"\nkind = "oauth"\nfile = "{file}"\n'
ROBOT = '[[credentials]]\nname = "NAME"\nkind = "service_account"\nfile = "{file}"\n'
DEFAULT = '[[credentials]]\nname = "NAME"\nkind = "service_account"\nproject = "sim-project"\n'
USER = {"refresh_token": "fake-refresh", "client_id": "test-client", "client_secret": "test-secret"}

Prepare = Callable[[Stage], object]


def person(stage: Stage) -> None:
    """Have a login of a person as the only credential."""
    file = stage.folder / "login.json"
    file.write_bytes(msgspec.json.encode(USER))
    stage.google.desk.clients = {"test-client": "test-secret"}
    stage.credentials = PERSON.format(file=file)


def robot(stage: Stage) -> None:
    """Have a service account as the only credential."""
    account = stage.google.accounts.grant("robot@example.invalid", service=True)
    assert account is not None
    account.public_key = public_key()
    file = service_account(stage.folder / "robot.json", project_id=account.project)
    stage.credentials = ROBOT.format(file=file)


def default(stage: Stage) -> None:
    """Have what google-auth finds on this machine as the only credential."""
    file = stage.folder / "default.json"
    file.write_bytes(msgspec.json.encode(USER | {"type": "authorized_user"}))
    stage.google.desk.clients = {"test-client": "test-secret"}
    stage.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    stage.credentials = DEFAULT


def slow(stage: Stage, method: str) -> None:
    """Have Google take its time with the next answer to this question."""
    stage.google.script(lambda asked: stage.google._serve(asked, {}).after(Wait(stage.gate)), method=method)


def token(*prepare: Prepare, who: Prepare = person, question: str = "token") -> Any:
    """Return what asks while the answer to one question about the credential is slow."""

    async def hold(stage: Stage, form: str) -> Bare:
        who(stage)
        if question:
            slow(stage, question)
        await start(stage, form)
        for each in prepare:
            each(stage)
        return await ask(stage, form)

    return hold


def again(question: str, refusal: google.Refusal) -> Any:
    """Return what asks with a token that Google then refuses, while the answer to what follows is slow."""

    async def hold(stage: Stage, form: str) -> Bare:
        person(stage)
        await start(stage, form)
        await (await ask(stage, UNARY, more="Connection: close\r\n")).rest()
        stage.google.script(error_answer(refusal.status, refusal.body()), times=calls(form))
        slow(stage, question)
        return await ask(stage, form)

    return hold


EXPIRED = google.unauthenticated("ACCESS_TOKEN_EXPIRED", DOMAIN)
MOVED = google.denied("Permission denied on resource project sim-project.", "CONSUMER_INVALID", containerInfo="x")


def slow_state(name: str) -> Prepare:
    """Return what has the state take its time."""

    def prepare(stage: Stage) -> None:
        state = stage.service.pool.state
        done = getattr(state, name)

        async def waits(*arguments: Any) -> Any:
            await stage.gate.wait()
            return await done(*arguments)

        stage.monkeypatch.setattr(state, name, waits)

    return prepare


def rotating(stage: Stage) -> None:
    stage.google.accounts.add(Account("fake-refresh", rotates=True))


def homeless(polls: int, stage: Stage) -> None:
    """Have the account need a project made first."""
    stage.google.accounts.add(Account("fake-refresh", tier="", polls=polls))
    stage.service.pool.tokens._projects._poll = LONG
    stage.releases.append(stage.limits.slept.set)


def failing_once(pauses: tuple[float, ...], stage: Stage) -> None:
    """Have the token endpoint be out of order, once."""
    stage.service.pool.tokens._google._pauses = pauses
    stage.google.script(Answer((b"{}",), status=503), method="token")
    stage.releases.append(stage.limits.slept.set)


def once(stage: Stage) -> None:
    """Let no token be asked for twice."""
    stage.service.pool.tokens._google._pauses = ()


def slow_file(stage: Stage) -> None:
    opened, read = threading.Event(), token_fetch.read_oauth
    stage.releases.append(opened.set)

    def reads(source: Any) -> Any:
        opened.wait(60)
        return read(source)

    stage.monkeypatch.setattr(token_fetch, "read_oauth", reads)


def bad_file(slowly: bool, stage: Stage) -> None:
    """Have the file be half written at the first look; the second may take its time."""
    opened, read, looks = threading.Event(), token_fetch.read_oauth, [0]
    stage.monkeypatch.setattr(token_fetch, "REREAD_PAUSE", 0.0 if slowly else LONG)
    stage.releases += [opened.set, stage.limits.slept.set]

    def reads(source: Any) -> Any:
        looks[0] += 1
        if looks[0] == 1:
            raise ConfigFault("half a file")
        if slowly:
            opened.wait(60)
        return read(source)

    stage.monkeypatch.setattr(token_fetch, "read_oauth", reads)


def revoked_once(stage: Stage) -> None:
    """Have Google know the grant no more, whose successor another process is just about to keep."""
    from gemproxy.credentials.sources import OAuthSource, read_oauth
    from gemproxy.state.store import Grant

    service = stage.service
    stage.monkeypatch.setattr(token_fetch, "REREAD_PAUSE", LONG)
    stage.google.script(Answer((b'{"error": "invalid_grant"}',), status=400), method="token")
    [account] = service.pool.tokens._accounts.values()
    assert isinstance(account.source, OAuthSource)
    key = read_oauth(account.source).key
    keep = partial(service.pool.state.keep_grant, key, Grant(refresh="fake-successor", issued=1.0, changed=1.0))
    stage.releases += [keep, stage.limits.slept.set]


def half_a_token(stage: Stage) -> None:
    def answer(asked: Recorded) -> Answer:
        [body] = stage.google._serve(asked, {}).body
        assert isinstance(body, bytes)
        return Answer((body[:5], Wait(stage.gate), body[5:]))

    stage.google.script(answer, method="token")


ALL = (STREAM, THRICE)
AGAIN = "GoogleAuth._persist: self.aside(lambda: work(Courier(send))) (again)"
TOKEN_ROWS = [
    Row("token", "Tokens.get: self._in_time", token(), ALL),
    Row("half a token", "client ask: read_beginning", token(half_a_token, question="")),
    Row("token's last try", AGAIN, token(once)),
    Row("token's pause", "GoogleAuth._persist: asyncio.sleep", token(partial(failing_once, (LONG,)), question="")),
    Row("token of a robot", "TokenFetcher._of_service: self._granted", token(who=robot)),
    Row("default token", "GoogleAuth.default: asyncio.shield", token(who=default)),
    Row("token anew", "Tokens.refresh: self._in_time", again("token", EXPIRED), ALL),
    Row("kept grant", "TokenFetcher._kept: self._state.grant", token(slow_state("grant"), question="")),
    Row("grant to keep", "_refreshed: self._state.settle", token(rotating, slow_state("settle"), question="")),
    Row("file", "TokenFetcher._file: self._google.aside(read)", token(slow_file, question="")),
    Row("bad file", "TokenFetcher._file: asyncio.sleep", token(partial(bad_file, False), question="")),
    Row("file again", "_file: self._google.aside(read) (again)", token(partial(bad_file, True), question="")),
    Row("grant again", "TokenFetcher._untried: asyncio.sleep", token(revoked_once, question="")),
    Row("project", "Projects.find: self.search", token(question="loadCodeAssist"), ALL),
    Row("kept project", "Projects.find: self._state.project", token(slow_state("project"), question="")),
    Row("project anew", "Tokens.rediscover: self._noted", again("loadCodeAssist", MOVED), ALL),
    Row("tier", "Projects._onboard: self._send", token(partial(homeless, 1), question="onboardUser")),
    Row("tier's pause", "Projects._onboard: asyncio.sleep", token(partial(homeless, 2), question="")),
]
TOKEN_ROWS = [replace(row, going_on=SHARED, forms=row.forms if row.forms == ALL else (UNARY,)) for row in TOKEN_ROWS]
