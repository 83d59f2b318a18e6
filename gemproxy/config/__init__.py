"""The configuration: one TOML file, or the environment alone, read into Structs and checked once.

In: a path (or none), the environment, what the command line overrides. Out: a ``Config`` whose secrets are looked up
and whose paths are absolute, or a ``ConfigFault`` with a line a mistake, each naming key, value and what is allowed.
Must not be imported by any room but cli, process and wiring: all others take plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from msgspec import structs
from msgspec.structs import replace

from gemproxy.config import environment, reading, rules, surroundings
from gemproxy.config.changes import changes, dropped
from gemproxy.config.reading import Draft
from gemproxy.config.rules import KEYLESS, address, cautions, is_loopback, needs_restart, open_door
from gemproxy.config.secret import UNREAD, Places, Secret, lines, read_text, resolve, words
from gemproxy.config.sections import (
    URLS,
    ApiKey,
    Auth,
    Client,
    Config,
    Credential,
    Loaded,
    OAuth,
    OAuthFile,
    ServiceAccount,
    State,
)
from gemproxy.errors import ConfigFault
from gemproxy.proxies import DIRECT, proxies

T = TypeVar("T")
Purpose = Literal["serve", "demo", "login"]


def load(
    path: Path | None,
    environ: Mapping[str, str],
    host: str | None = None,
    port: int | None = None,
    *,
    purpose: Purpose = "serve",
) -> Config:
    """Return the configuration, complete and checked; ``host`` and ``port`` come from the command line.

    ``purpose`` says what must be there: "serve" needs a credential; "demo" brings its own, so that none is read;
    "login" needs the OAuth client alone and keeps only the ``oauth`` credentials, whose files may not exist yet.
    """
    heard = _Heard(environ)
    try:
        config = _load(path, heard, host, port, purpose)
        return Loaded(**structs.asdict(config), variables=frozenset(heard.taken))
    except ConfigFault as fault:
        prefix = f"{path}: " if path else ""
        raise ConfigFault("\n".join(prefix + line for line in str(fault).split("\n"))) from None


class _Heard(Mapping[str, str]):
    """The environment, and which of its variables gave something; what systemd sets is nobody's to take back."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.taken: set[str] = set()
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        value = self._environ[name]
        if value and name not in ("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"):
            self.taken.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


class _Findings:
    """All that is wrong, so that nobody has to mend one mistake a run."""

    def __init__(self, draft: Draft) -> None:
        self.all = [*draft.faults]
        self._draft = draft

    def tried(self, make: Callable[[], T], otherwise: T) -> T:
        """Return what is made, else what stands in for it once the fault is noted."""
        try:
            return make()
        except ConfigFault as fault:
            self.add(str(fault).split("\n"))
            return otherwise

    def add(self, messages: Iterable[str]) -> None:
        """Note what is wrong, unless it comes of what is noted already."""
        self.all += [message for message in messages if not self._draft.doubts(message)]


def _load(
    path: Path | None, environ: Mapping[str, str], host: str | None, port: int | None, purpose: Purpose
) -> Config:
    places = Places(environ, path.parent if path else Path())
    draft = reading.read(path) if path else Draft()
    found = _Findings(draft)
    found.tried(lambda: proxies(environ), DIRECT)
    config = found.tried(lambda: _override(draft.config, host, port), draft.config)
    unnamed: list[Credential] = [ApiKey(name="studio-1", key=UNREAD)]
    config = found.tried(lambda: environment.complete(config, environ), replace(config, credentials=unnamed))
    config = _for_login(config, places, found) if purpose == "login" else _for_service(config, places, purpose, found)
    if found.all:
        raise ConfigFault("\n".join(found.all))
    return config


def _for_service(config: Config, places: Places, purpose: Purpose, found: _Findings) -> Config:
    config = replace(config, credentials=[] if purpose == "demo" else _credentials(config, places, found))
    config = replace(config, auth=_auth(config.auth, places, found), oauth=_oauth(config, places, found))
    config = _tidy(config, places)
    found.add(rules.faults(config))
    found.add(surroundings.faults(config))
    if purpose == "serve" and not config.credentials:
        found.add([rules.NO_CREDENTIAL])
    if open_to_all := open_door(config, config.server.host):
        found.add([f'server.host = "{config.server.host}": {open_to_all}'])
    return config


def _override(config: Config, host: str | None, port: int | None) -> Config:
    server = config.server
    if host is not None:
        server = replace(server, host=host)
    if port is not None:
        if not 0 <= port <= 65_535:
            raise ConfigFault(f"--port {port}: expected 0 to 65535")
        server = replace(server, port=port)
    return replace(config, server=server)


def _for_login(config: Config, places: Places, found: _Findings) -> Config:
    files = [
        replace(one, file=str(places.locate(one.file))) for one in config.credentials if isinstance(one, OAuthFile)
    ]
    oauth = _resolved_oauth(config.oauth, places, found)
    return _tidy(replace(config, auth=Auth(), credentials=list[Credential](files), oauth=oauth), places)


def _credentials(config: Config, places: Places, found: _Findings) -> list[Credential]:
    return [_credential(f"credentials[{place}]", one, places, found) for place, one in enumerate(config.credentials)]


def _credential(key: str, one: Credential, places: Places, found: _Findings) -> Credential:
    if isinstance(one, ApiKey):
        if one.key is UNREAD:
            return one
        return replace(one, key=_secret(f"{key}.key", places, found, one.key, one.key_env, one.key_file))
    if one.file is None:
        return one
    return replace(one, file=str(places.locate(one.file)))


def _secret(
    key: str, places: Places, found: _Findings, value: Secret, variable: str | None, file: str | None
) -> Secret:
    """Return the secret that a setting gives, in one of three ways (``resolve``)."""
    return found.tried(lambda: resolve(key, value, variable, file, places), UNREAD)


def _auth(auth: Auth, places: Places, found: _Findings) -> Auth:
    clients = [
        replace(one, key=_secret(f"auth.clients[{at}].key", places, found, one.key, one.key_env, one.key_file))
        for at, one in enumerate(auth.clients)
    ]
    keys = _keys("auth.keys", auth.keys, auth.keys_file, places, found)
    admins = _keys("auth.admin_keys", auth.admin_keys, auth.admin_keys_file, places, found)
    callers = found.tried(lambda: environment.callers(clients, keys, places.environ), [Client(name="-", key=UNREAD)])
    return replace(auth, clients=callers, keys=keys, admin_keys=admins)


def _keys(key: str, written: list[Secret], file: str | None, places: Places, found: _Findings) -> list[Secret]:
    known = found.tried(lambda: words(key, written), [UNREAD])
    if file is not None:
        known += found.tried(lambda: lines(f"{key}_file", read_text(f"{key}_file", file, places)), [UNREAD])
    return known


def _oauth(config: Config, places: Places, found: _Findings) -> OAuth:
    """Return the OAuth client if one is named and wanted; a secret that nobody needs is not looked up."""
    wanted = any(isinstance(one, OAuthFile) for one in config.credentials)
    return _resolved_oauth(config.oauth, places, found) if wanted and config.oauth != OAuth() else OAuth()


def _resolved_oauth(oauth: OAuth, places: Places, found: _Findings) -> OAuth:
    id_ways = (oauth.client_id, oauth.client_id_env, oauth.client_id_file)
    secret_ways = (oauth.client_secret, oauth.client_secret_env, oauth.client_secret_file)
    return replace(
        oauth,
        client_id=_secret("oauth.client_id", places, found, *id_ways),
        client_secret=_secret("oauth.client_secret", places, found, *secret_ways),
    )


def _tidy(config: Config, places: Places) -> Config:
    """Return the configuration with absolute paths and URLs that end without a slash."""
    urls = {field: url.rstrip("/") for field in URLS if (url := getattr(config.upstream, field)) is not None}
    state, capture = config.state.path, config.log.capture_dir
    return replace(
        config,
        upstream=replace(config.upstream, **urls),
        state=replace(config.state, path=str(places.beside(state)) if state else None),
        log=replace(config.log, capture_dir=str(places.beside(capture)) if capture else None),
    )


__all__ = [
    "KEYLESS",
    "ApiKey",
    "Auth",
    "Client",
    "Config",
    "ConfigFault",
    "Credential",
    "OAuthFile",
    "Purpose",
    "Secret",
    "ServiceAccount",
    "State",
    "address",
    "cautions",
    "changes",
    "dropped",
    "is_loopback",
    "load",
    "needs_restart",
    "open_door",
]
