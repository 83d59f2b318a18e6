"""``gemproxy login`` against the simulated consent page and token endpoint: by redirect, by paste, and refused."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from gemproxy.credentials.login import LoginFault, _File, _Issued, attempt, login
from gemproxy.credentials.sources import OAuthSource, read_oauth
from gemproxy.errors import ConfigFault
from gemproxy.simulator import Answer, Reset, Simulator, error_answer, unary_answer

CLIENT, SECRET = "test-client", "test-secret"
NOW = 1_800_000_000.0


class Terminal:
    """The operator: sees what is shown, opens links, and pastes what the browser's address bar holds."""

    def __init__(self, sim: Simulator, path: Path) -> None:
        self.sim = sim
        self.path = path
        self.shown: list[str] = []
        self.opened: list[str] = []
        self.paste: Callable[[str], str] = self.visit
        self.pages: list[str] = []

    def open_page(self, link: str) -> None:
        """Be the browser: follow the redirects to the end."""
        self.opened.append(link)
        try:
            with urllib.request.urlopen(link) as page:
                self.pages.append(page.read().decode())
        except urllib.error.HTTPError as refused:
            self.pages.append(refused.read().decode())
            refused.close()

    def visit(self, _: str) -> str:
        """Return the address to which the consent page sends the browser, which cannot load it."""
        return self.sim.desk.consent({name: values[0] for name, values in self.link().items()})

    def link(self) -> dict[str, list[str]]:
        """Return the query of the link that was shown."""
        links = [word for text in self.shown for word in text.split() if word.startswith(self.sim.auth_url)]
        return parse_qs(urlsplit(links[-1]).query)

    async def login(self, *, browser: bool = True, secret: str = SECRET, patience: float = 5.0) -> None:
        await login(
            CLIENT,
            secret,
            self.path,
            browser=browser,
            auth_url=self.sim.auth_url,
            token_url=self.sim.token_url,
            show=self.shown.append,
            ask=lambda question: self.paste(question),
            open_page=self.open_page,
            patience=patience,
            clock=lambda: NOW,
        )


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with Simulator(lambda: NOW) as sim:
        sim.desk.clients = {CLIENT: SECRET}
        yield Terminal(sim, tmp_path / "credentials" / "team-1.json")


# -------------------------------------------------------------------------------------------------------- it works


async def test_a_login_by_redirect_writes_what_serve_reads(terminal):
    await terminal.login()
    grant = read_oauth(OAuthSource(terminal.path, CLIENT, SECRET))
    assert (grant.refresh_token, grant.access_token) == ("sim-refresh-login", "sim-access-1")
    assert grant.expiry == NOW + 3599
    assert terminal.pages == ["gemproxy has what it needs. You may close this page.\n"]
    assert str(terminal.path) in terminal.shown[-1]


async def test_the_file_has_gemini_clis_shape_and_is_its_owners_alone(terminal):
    await terminal.login()
    content = msgspec.json.decode(terminal.path.read_bytes())
    assert sorted(content) == ["access_token", "expiry_date", "id_token", "refresh_token", "scope", "token_type"]
    assert content["expiry_date"] == (NOW + 3599) * 1000
    assert terminal.path.stat().st_mode & 0o777 == 0o600
    assert terminal.path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in terminal.path.parent.iterdir()] == ["team-1.json"]


@pytest.mark.parametrize("browser", [True, False], ids=["by redirect", "by paste"])
async def test_the_link_asks_for_what_google_needs(terminal, browser):
    await terminal.login(browser=browser)
    query = {name: values[0] for name, values in terminal.link().items()}
    assert query["response_type"] == "code"
    assert (query["access_type"], query["prompt"], query["code_challenge_method"]) == ("offline", "consent", "S256")
    assert query["scope"].split() == [
        f"https://www.googleapis.com/auth/{name}" for name in ("cloud-platform", "userinfo.email", "userinfo.profile")
    ]
    assert len(query["state"]) > 40
    assert len(query["code_challenge"]) == 43
    redirect = urlsplit(query["redirect_uri"])
    assert (redirect.scheme, redirect.hostname) == ("http", "127.0.0.1")
    assert redirect.port


async def test_nothing_secret_is_shown(terminal):
    await terminal.login()
    await terminal.login(browser=False)
    text = " ".join(terminal.shown)
    assert not any(secret in text for secret in (SECRET, "sim-access", "sim-refresh", "4/sim-code"))


async def test_without_a_browser_nothing_is_opened_and_the_address_is_pasted(terminal):
    await terminal.login(browser=False)
    assert terminal.opened == []
    assert terminal.path.exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda address: parse_qs(urlsplit(address).query)["code"][0],
        lambda address: "  4%2Fsim-code-1 \n",
        lambda address: urlsplit(address).query,
        lambda address: f"  {address}\n",
    ],
    ids=["the bare code", "the bare code as the address bar shows it", "the query alone", "with spaces around"],
)
async def test_a_person_may_paste_any_part_that_holds_the_code(terminal, edit):
    terminal.paste = lambda question: edit(terminal.visit(question))
    await terminal.login(browser=False)
    assert terminal.path.exists()


async def test_a_new_login_replaces_the_old_file_and_its_mode(terminal):
    terminal.path.parent.mkdir()
    terminal.path.write_text("old")
    terminal.path.chmod(0o644)
    await terminal.login()
    assert terminal.path.stat().st_mode & 0o777 == 0o600
    assert b"sim-refresh-login" in terminal.path.read_bytes()


async def test_a_link_to_the_file_stays_a_link(terminal, tmp_path):
    terminal.path.parent.mkdir()
    terminal.path.symlink_to(tmp_path / "elsewhere.json")
    await terminal.login()
    assert terminal.path.is_symlink()
    assert (tmp_path / "elsewhere.json").stat().st_mode & 0o777 == 0o600


async def test_every_login_has_a_state_and_a_verifier_of_its_own():
    one, two = attempt("http://127.0.0.1:1/"), attempt("http://127.0.0.1:1/")
    assert one.state != two.state
    assert one.verifier != two.verifier
    assert 43 <= len(one.verifier) <= 128  # RFC 7636, 4.1
    assert one.state not in repr(one)


# ------------------------------------------------------------------------------------------------------ it does not


async def failed(terminal: Terminal, **how: object) -> str:
    """Return why a login failed; the file must be as it was."""
    with pytest.raises(LoginFault) as caught:
        await terminal.login(**how)
    assert not terminal.path.exists()
    assert isinstance(caught.value, ConfigFault)
    assert not any(secret in str(caught.value) for secret in (SECRET, "sim-", "fake-"))
    return str(caught.value)


async def test_a_redirect_with_another_state_is_refused_and_ends_nothing(terminal):
    honest = terminal.open_page

    def attacked(link: str) -> None:
        redirect = parse_qs(urlsplit(link).query)["redirect_uri"][0]
        honest(f"{redirect}?code=fake-code&state=guessed")
        honest(f"{redirect}?code=fake-code")
        honest(link)

    terminal.open_page = attacked
    await terminal.login()
    assert ["wrong state" in page for page in terminal.pages] == [True, True, False]
    assert terminal.path.exists()


async def test_a_second_redirect_changes_nothing(terminal):
    honest = terminal.open_page
    terminal.open_page = lambda link: (honest(link), honest(link))
    await terminal.login()
    assert len(terminal.pages) == 2


async def test_a_pasted_address_of_another_login_is_refused(terminal):
    terminal.paste = lambda _: "http://127.0.0.1:8085/oauth2callback?code=fake-code&state=another"
    assert "wrong state" in await failed(terminal, browser=False)


@pytest.mark.parametrize("browser", [True, False], ids=["by redirect", "by paste"])
async def test_consent_that_is_not_given_is_told(terminal, browser):
    terminal.sim.desk.deny = True
    assert "access_denied" in await failed(terminal, browser=browser)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither a code nor the address"),
        ("two words", "neither a code nor the address"),
        ("https://example.invalid/", "wrong state"),
        ("4/fake-code", "invalid_grant"),
    ],
    ids=["nothing", "a sentence", "another page", "a code that Google does not know"],
)
async def test_what_holds_no_code_is_refused(terminal, text, words):
    terminal.paste = lambda _: text
    assert words in await failed(terminal, browser=False)


async def test_an_address_with_the_right_state_and_no_code_is_refused(terminal):
    terminal.paste = lambda question: terminal.visit(question).replace("code=", "other=")
    assert "holds no code" in await failed(terminal, browser=False)


async def test_a_closed_input_is_told(terminal):
    def closed(_: str) -> str:
        raise EOFError

    terminal.paste = closed
    assert "nothing was pasted" in await failed(terminal, browser=False)


async def test_a_person_who_never_agrees_is_not_waited_for_for_ever(terminal):
    terminal.open_page = lambda link: None
    assert "--no-browser" in await failed(terminal, patience=0.05)


async def test_a_wrong_client_secret_names_the_setting(terminal):
    assert "oauth.client_secret" in await failed(terminal, secret="fake-wrong")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error_answer(400, {"error": "invalid_grant", "error_description": "fake-words"}), "(invalid_grant)"),
        (error_answer(400, {"error": "fake-token 1//x"}), "(unknown_error)"),
        (error_answer(502, b"<html>"), "(unreadable answer)"),
        (unary_answer(b"nonsense"), "holds no token"),
        (unary_answer({"expires_in": 1}), "holds no token"),
        (unary_answer({"access_token": "fake-access"}), "no refresh token"),
        (unary_answer({}).after(Reset()), "cannot be reached"),
        (Answer((b'{"access_token":"fake-access","refresh_token":"fake"}',), gzip=True), "cannot be reached"),
    ],
    ids=["refused", "a strange word", "a web page", "no JSON", "no token", "no refresh token", "reset", "packed"],
)
async def test_a_token_that_does_not_come_is_told(terminal, answer, words):
    terminal.sim.script(answer, method="token")
    assert words in await failed(terminal)


@pytest.mark.parametrize("told", ["1200", "soon", -5], ids=["a text", "no number", "in the past"])
async def test_an_end_is_read_as_far_as_it_can_be(terminal, told):
    answer = {"access_token": "fake-access", "refresh_token": "fake-refresh", "expires_in": told}
    terminal.sim.script(unary_answer(answer), method="token")
    await terminal.login()
    expiry = msgspec.json.decode(terminal.path.read_bytes())["expiry_date"] / 1000 - NOW
    assert expiry == (1200 if told == "1200" else 3600)


async def test_a_file_that_cannot_be_written_is_told(terminal):
    terminal.path.parent.touch()
    with pytest.raises(LoginFault, match="cannot be written"):
        await terminal.login()


async def test_a_full_disk_leaves_the_old_file_as_it_was(terminal, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    terminal.path.parent.mkdir()
    terminal.path.write_text("old")
    monkeypatch.setattr("gemproxy.credentials.login.os.fsync", full)
    with pytest.raises(LoginFault, match="No space left"):
        await terminal.login()
    assert terminal.path.read_text() == "old"
    assert [file.name for file in terminal.path.parent.iterdir()] == ["team-1.json"]


async def test_a_redirect_after_the_end_finds_nobody(terminal):
    await terminal.login()
    redirect = terminal.link()["redirect_uri"][0]
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(terminal.open_page, redirect)


def test_the_repr_of_what_was_issued_shows_no_token():
    assert "fake" not in repr([_Issued("fake", "fake"), _File("fake", "fake", "s", "t", "fake", 0)])
