"""(edge) ``gemproxy login``: Google's flow for installed apps, once, on the operator's terminal.

In: the OAuth client and where the credential file goes. Out: that file, in the shape of gemini-cli's
``oauth_creds.json`` (docs/protocol.md 2.6), mode 0600, written whole or not at all. PKCE with S256 (RFC 7636), a state,
and a redirect to loopback (RFC 8252) or a pasted code. The link is shown; codes, tokens and client secret never are.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import secrets
import webbrowser
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct

from gemproxy.credentials.oauth import AUTH_URL, LIFETIME, SCOPES, TOKEN_URL, read_refusal, word
from gemproxy.errors import ConfigFault
from gemproxy.proxies import DIRECT, Proxies
from gemproxy.transport.client import LARGEST_REPLY, read_beginning
from gemproxy.transport.reaching import why
from gemproxy.transport.tunnel import request_class
from gemproxy.wire import UNREADABLE

REDIRECT_PATH = "/oauth2callback"
# Without a browser here nothing listens: the page fails to load, and its address is what the operator pastes.
UNHEARD_REDIRECT = f"http://127.0.0.1:8085{REDIRECT_PATH}"
CONSENT_TIMEOUT = 300.0  # seconds for the person at the browser
REQUEST_TIMEOUT = 30.0


class LoginFault(ConfigFault):
    """The login came to nothing; the message says why and names no secret."""


class _Issued(Struct):
    """The token endpoint's answer (RFC 6749, 5.1). The repr shows nothing."""

    access_token: str
    refresh_token: str = ""
    expires_in: int | str = LIFETIME
    scope: str = " ".join(SCOPES)
    token_type: str = "Bearer"  # noqa: S105
    id_token: str = ""

    def __repr__(self) -> str:
        return "_Issued(...)"


class _File(Struct):
    """gemini-cli's ``oauth_creds.json``; ``expiry_date`` in milliseconds. The repr shows nothing."""

    access_token: str
    refresh_token: str
    scope: str
    token_type: str
    id_token: str
    expiry_date: int

    def __repr__(self) -> str:
        return "_File(...)"


class Attempt(Struct, frozen=True):
    """One try at consent: what proves that the code that comes back belongs to it. The repr shows nothing."""

    redirect: str
    state: str
    verifier: str

    def __repr__(self) -> str:
        return "Attempt(...)"

    def link(self, auth_url: str, client_id: str) -> str:
        """Return the address of the consent page."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "client_id": client_id,
            "redirect_uri": self.redirect,
            "response_type": "code",
            "scope": " ".join(SCOPES),
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "access_type": "offline",
            "prompt": "consent",  # else Google gives a refresh token only the first time
        }
        return f"{auth_url}?{urlencode(query)}"

    def code(self, query: dict[str, str]) -> str:
        """Return the code of a redirect. Raises ``LoginFault`` for another's state or a refusal."""
        if not secrets.compare_digest(query.get("state", "").encode(), self.state.encode()):
            raise LoginFault("the answer belongs to another login (wrong state); start again")
        if "error" in query:
            raise LoginFault(f"Google did not give consent ({word(query['error'])})")
        if not query.get("code"):
            raise LoginFault("the answer holds no code")
        return query["code"]

    def pasted(self, text: str) -> str:
        """Return the code of what a person pasted: the bare code, or the whole address of the failed page."""
        text = text.strip()
        if "code=" in text or "error=" in text or "://" in text:
            query = urlsplit(text).query or text.partition("?")[2] or text
            return self.code({name: values[0] for name, values in parse_qs(query).items()})
        if not text or any(character.isspace() for character in text):
            raise LoginFault("that is neither a code nor the address of the page")
        return unquote(text)


def attempt(redirect: str) -> Attempt:
    """Return a new try, with random state and verifier."""
    return Attempt(redirect, secrets.token_urlsafe(32), secrets.token_urlsafe(64))


async def login(
    client_id: str,
    client_secret: str,
    path: Path,
    *,
    browser: bool = True,
    auth_url: str | None = None,
    token_url: str | None = None,
    between: Proxies = DIRECT,
    show: Callable[[str], None] = print,
    ask: Callable[[str], str] = input,
    open_page: Callable[[str], object] = webbrowser.open,
    patience: float = CONSENT_TIMEOUT,
    clock: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
) -> None:
    """Get consent and write the credential file. Raises ``LoginFault``; ``path`` is then as it was.

    ``browser`` False: nothing is opened or listened to, and the person pastes the code. URLs left out are Google's.
    ``between`` is the proxy on the way to it.
    """
    auth_url = auth_url or AUTH_URL
    if browser:
        code, used = await _by_redirect(client_id, auth_url, show, open_page, patience)
    else:
        code, used = await _by_paste(client_id, auth_url, show, ask)
    now = clock()
    issued = await _redeem(token_url or TOKEN_URL, client_id, client_secret, code, used, between)
    try:
        await asyncio.to_thread(_write, path, _file(issued, now))
    except OSError as error:
        raise LoginFault(f"{path} cannot be written ({error.strerror})") from None
    show(f"Done: {path} holds the credential. Name it in the configuration as credentials.file, then reload.")


# ------------------------------------------------------------------------------------------------------ consent


async def _by_redirect(
    client_id: str, auth_url: str, show: Callable[[str], None], open_page: Callable[[str], object], patience: float
) -> tuple[str, Attempt]:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with _listening(answer) as used:
        link = used.link(auth_url, client_id)
        show(f"Open this page and agree (the browser may have opened it already):\n\n{link}\n")
        await asyncio.to_thread(open_page, link)
        try:
            return await asyncio.wait_for(answer, patience), used
        except TimeoutError:
            raise LoginFault(
                f"nobody agreed within {patience:g} s; on a machine without browser use --no-browser"
            ) from None


@contextlib.asynccontextmanager
async def _listening(answer: asyncio.Future[str]) -> AsyncIterator[Attempt]:
    """Listen on a free loopback port for the redirect and put its code, or its fault, into ``answer``."""

    async def heard(request: web.Request) -> web.Response:
        try:
            code = used.code(dict(request.query))
        except LoginFault as fault:
            if request.query.get("state") != used.state:
                return web.Response(status=400, text=f"gemproxy: {fault}.\n")  # a stranger ends nobody's login
            if not answer.done():
                answer.set_exception(fault)
            return web.Response(status=400, text=f"gemproxy: {fault}.\n")
        if not answer.done():
            answer.set_result(code)
        return web.Response(text="gemproxy has what it needs. You may close this page.\n")

    app = web.Application()
    app.router.add_get(REDIRECT_PATH, heard)
    runner = web.AppRunner(app, access_log=None)  # an access log would hold the code
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        used = attempt(f"http://127.0.0.1:{runner.addresses[0][1]}{REDIRECT_PATH}")
        yield used
    finally:
        await runner.cleanup()


async def _by_paste(
    client_id: str, auth_url: str, show: Callable[[str], None], ask: Callable[[str], str]
) -> tuple[str, Attempt]:
    used = attempt(UNHEARD_REDIRECT)
    show(
        f"Open this page in any browser and agree:\n\n{used.link(auth_url, client_id)}\n\n"
        "The browser is then sent to a page on 127.0.0.1 that cannot be loaded. That is right:\n"
        "copy its whole address from the address bar and paste it here (the bare code will do too)."
    )
    try:
        return used.pasted(await asyncio.to_thread(ask, "Address or code: ")), used
    except EOFError:
        raise LoginFault("nothing was pasted") from None


# ------------------------------------------------------------------------------------------------------- tokens


async def _redeem(
    token_url: str, client_id: str, client_secret: str, code: str, used: Attempt, between: Proxies
) -> _Issued:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": client_id,
        "client_secret": client_secret,
        "redirect_uri": used.redirect,
        "code_verifier": used.verifier,
    }
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                request_class=request_class(between),
            ) as session,
            session.post(token_url, data=form, allow_redirects=False) as response,
        ):
            status, body = response.status, await read_beginning(response, LARGEST_REPLY)
    except (aiohttp.ClientError, OSError, TimeoutError) as fault:
        raise LoginFault(f"Google's token endpoint cannot be reached ({why(fault)})") from None
    if status != 200:
        raise LoginFault(_refused(body))
    try:
        issued = msgspec.json.decode(body, type=_Issued)
    except UNREADABLE:
        raise LoginFault("Google's answer holds no token") from None
    if not issued.refresh_token:
        raise LoginFault("Google gave no refresh token; remove the app's access in the account, then log in again")
    return issued


def _refused(body: bytes) -> str:
    why = read_refusal(body).error or "unreadable answer"
    advice = "; check oauth.client_id and oauth.client_secret" if "client" in why else ""
    return f"Google did not give a token ({why}){advice}"


# --------------------------------------------------------------------------------------------------------- file


def _file(issued: _Issued, now: float) -> bytes:
    content = _File(
        access_token=issued.access_token,
        refresh_token=issued.refresh_token,
        scope=issued.scope,
        token_type=issued.token_type,
        id_token=issued.id_token,
        expiry_date=int((now + _seconds(issued.expires_in)) * 1000),
    )
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _seconds(told: int | str) -> int:
    return int(told) if str(told).isascii() and str(told).isdigit() else LIFETIME


def _write(path: Path, content: bytes) -> None:
    """Write the file as a whole, readable by its owner alone at every moment. Raises ``OSError``."""
    path = Path(os.path.realpath(path))  # a link keeps pointing where it did
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
