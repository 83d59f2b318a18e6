"""The bridge between google-auth's threads and our event loop; the rest of it is seen through ``test_tokens``."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
from google.auth.exceptions import TransportError

from gemproxy.credentials import google_auth
from gemproxy.credentials.google_auth import Courier, GoogleAuth, TokenUnavailable
from gemproxy.credentials.sources import UserGrant
from gemproxy.simulator import Hang, error_answer, unary_answer
from tests.credentials.token_desk import CLIENT, SECRET, begin
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

GRANT = UserGrant("fake-refresh", CLIENT, SECRET, own_client=False)


@pytest.fixture
async def google(desk):
    opened = GoogleAuth(desk.session, desk.clock, token_url=desk.sim.token_url, pauses=(0.01,))
    yield opened
    opened.close()


async def test_a_token_ends_when_the_answer_says(desk, google):
    desk.sim.script(unary_answer({"access_token": "fake", "expires_in": "120"}), method="token")
    access = await google.user(GRANT, "fake-refresh")
    assert access.expiry == pytest.approx(desk.clock.now + 120, abs=2)
    assert access.refresh == ""


async def test_a_token_without_an_end_is_taken_for_an_hours(desk, google):
    desk.sim.script(unary_answer({"access_token": "fake"}), method="token")
    assert (await google.user(GRANT, "fake-refresh")).expiry == desk.clock.now + 3600


async def test_a_rotated_refresh_token_is_told(desk, google):
    desk.sim.accounts.grant("fake-refresh").rotates = True
    assert (await google.user(GRANT, "fake-refresh")).refresh.startswith("sim-refresh-")


async def test_google_auth_finds_a_header_however_it_is_written(desk, google):
    desk.sim.script(error_answer(200, b"{}", headers={"Metadata-Flavor": "Google"}), method="token")
    loop = asyncio.get_running_loop()
    reply = await asyncio.to_thread(
        Courier(lambda *request: google._send(loop, math.inf, *request)), desk.sim.token_url, "POST"
    )
    assert reply.headers["metadata-flavor"] == "Google"


async def test_refreshes_run_in_threads_of_their_own(desk, google):
    names = await asyncio.gather(*(google.aside(lambda: threading.current_thread().name) for _ in range(3)))
    assert all(name.startswith("gemproxy-google-auth") for name in names)


async def test_a_silent_endpoint_is_given_up(desk, google, monkeypatch):
    monkeypatch.setattr(google_auth, "REQUEST_TIMEOUT", 0.05)
    desk.sim.script(unary_answer({}).after(Hang()), method="token", times=None)
    with pytest.raises(TokenUnavailable, match="no answer"):
        await google.user(GRANT, "fake-refresh")
    assert desk.asked() == 2


def test_an_endpoint_that_answers_after_eight_seconds_is_not_dead():
    assert google_auth.REQUEST_TIMEOUT == 10


async def test_all_tries_together_take_no_longer_than_the_mints_patience(desk, monkeypatch):
    google = GoogleAuth(desk.session, desk.clock, token_url=desk.sim.token_url, pauses=(0.05, 600), patience=0.5)
    desk.sim.script(error_answer(503, b""), method="token", times=2)
    with pytest.raises(TokenUnavailable, match="status 503"):
        await google.user(GRANT, "fake-refresh")
    assert desk.asked() == 2, "the third would come too late"
    desk.sim.script(unary_answer({}).after(Hang()), method="token", times=None)
    with pytest.raises(TokenUnavailable, match="no answer"):
        await asyncio.wait_for(google.user(GRANT, "fake-refresh"), 5)
    assert desk.asked() == 3
    google.close()


async def test_many_that_hang_keep_no_thread_from_another(desk, google):
    desk.sim.script(unary_answer({}).after(Hang()), method="token", times=20)
    hanging = [begin(google.user(GRANT, "fake-refresh")) for _ in range(20)]
    await soon(lambda: desk.asked() == 20)
    assert (await google.user(GRANT, "fake-refresh")).secret
    for each in hanging:
        each.cancel()


async def test_an_unreachable_endpoint_is_told_without_its_address(desk):
    google = GoogleAuth(desk.session, desk.clock, token_url="http://127.0.0.1:9/token", pauses=())
    with pytest.raises(TokenUnavailable) as caught:
        await google.user(GRANT, "fake-refresh")
    assert "127.0.0.1" not in str(caught.value)
    google.close()


class Default:
    """google-auth's one object for all that runs on a machine; counts who refreshes it at once."""

    def __init__(self) -> None:
        self.token, self.expiry = "", None
        self.refreshes = self.at_once = self.most = 0
        self.gate = threading.Event()

    def refresh(self, _: object) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.refreshes += 1
        self.gate.wait(5)
        self.token = f"fake-{self.refreshes}"
        self.at_once -= 1


@pytest.fixture
def default(monkeypatch) -> Default:
    found = Default()
    monkeypatch.setattr("google.auth.default", lambda *_, **__: (found, "own-project"))
    return found


async def test_the_default_credentials_are_refreshed_once_for_all_their_locations(google, default):
    asking = [begin(google.default()) for _ in range(3)]
    await soon(lambda: default.refreshes)
    asking[0].cancel()  # who leaves takes it from nobody
    await asyncio.sleep(0.05)
    default.gate.set()
    assert [(await each).secret for each in asking[1:]] == ["fake-1"] * 2
    assert (default.most, default.refreshes) == (1, 1)
    assert (await google.default()).secret == "fake-2"


async def test_default_credentials_found_before_a_reload_are_not_kept_after_it(google, default, monkeypatch):
    asking = begin(google.default())
    await soon(lambda: default.refreshes)
    google.forget()
    new = Default()
    new.gate.set()
    monkeypatch.setattr("google.auth.default", lambda *_, **__: (new, "new-project"))
    assert (await google.default()).project == "new-project"
    default.gate.set()
    assert (await asking).project == "own-project"
    assert (await google.default()).project == "new-project"


async def test_what_is_found_while_it_is_forgotten_is_not_kept(google, default, monkeypatch):
    default.gate.set()
    found = threading.Event()

    def slowly(*_: object, **__: object) -> tuple[Default, str]:
        found.wait(5)
        return default, "old-project"

    monkeypatch.setattr("google.auth.default", slowly)
    asking = begin(google.default())
    await asyncio.sleep(0.05)
    google.forget()
    found.set()
    assert (await asking).project == "old-project"
    monkeypatch.setattr("google.auth.default", lambda *_, **__: (default, "new-project"))
    assert (await google.default()).project == "new-project"


async def test_a_closed_mint_makes_nothing(desk, google):
    google.close()
    with pytest.raises(TokenUnavailable):
        await google.user(GRANT, "fake-refresh")
    assert desk.sim.requests == []


async def test_closing_frees_the_threads_at_once(desk, google):
    google.patience = 600.0  # it is not this that ends it
    desk.sim.script(unary_answer({}).after(Hang()), method="token", times=None)
    waiting = begin(google.user(GRANT, "fake-refresh"))
    await soon(desk.asked)
    (thread,) = [one for one in threading.enumerate() if one.name.startswith("gemproxy-google-auth")]
    google.close()
    await soon(waiting.done)
    with pytest.raises(TokenUnavailable):
        await waiting
    await soon(lambda: not thread.is_alive())


async def test_a_thread_that_comes_after_the_end_sends_nothing(desk, google):
    loop = asyncio.get_running_loop()

    def late() -> None:
        google._closed = True
        courier = Courier(lambda *request: google._send(loop, math.inf, *request))
        courier(desk.sim.token_url, "POST", b"")

    with pytest.raises(TransportError, match="CancelledError"):
        await asyncio.to_thread(late)
    assert desk.sim.requests == []


async def test_what_is_sent_while_closing_begins_is_ended_too(desk, google, monkeypatch):
    desk.sim.script(unary_answer({}).after(Hang()), method="token", times=None)
    loop, run = asyncio.get_running_loop(), asyncio.run_coroutine_threadsafe

    def closed_meanwhile(asking, its_loop):
        sending = run(asking, its_loop)
        google.close()  # which does not know of it yet
        return sending

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", closed_meanwhile)
    sending = await asyncio.to_thread(google._send, loop, math.inf, "POST", desk.sim.token_url, b"", None, 600.0)
    assert sending.cancelled()


def test_the_repr_of_an_answer_shows_no_token():
    assert repr(google_auth.Reply(200, {}, b'{"access_token":"fake"}')) == "Reply(200)"
