"""The configuration: one TOML file, or the environment alone, read into Structs and checked once.

In: a path (or none), the environment, what the command line overrides. Out: a ``Config`` whose secrets are looked up
and whose paths are absolute, or a ``ConfigFault`` that names key, value and what is allowed. Must not be imported by
any room but cli and server/app: all others take plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from gemproxy.config import environment, reading, rules
from gemproxy.config.rules import address, cautions, is_loopback, needs_restart, open_door
from gemproxy.config.secret import Places, Secret, lines, read_text, resolve, words
from gemproxy.config.sections import (
    URLS,
    ApiKey,
    Auth,
    Client,
    Config,
    Credential,
    OAuth,
    OAuthFile,
    ServiceAccount,
    State,
)
from gemproxy.errors import ConfigFault

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
    try:
        return _load(path, environ, host, port, purpose)
    except ConfigFault as fault:
        prefix = f"{path}: " if path else ""
        raise ConfigFault("\n".join(prefix + line for line in str(fault).split("\n"))) from None


def _load(
    path: Path | None, environ: Mapping[str, str], host: str | None, port: int | None, purpose: Purpose
) -> Config:
    places = Places(environ, path.parent if path else Path())
    config = _override(reading.read(path) if path else Config(), host, port)
    config = environment.complete(config, environ)
    if purpose == "login":
        return _for_login(config, places)
    config = replace(config, credentials=[] if purpose == "demo" else _credentials(config, places))
    config = _tidy(replace(config, auth=_auth(config.auth, places), oauth=_oauth(config, places)), places)
    broken = [*rules.faults(config)]
    if purpose == "serve" and not config.credentials:
        broken.append(rules.NO_CREDENTIAL)
    if open_to_all := open_door(config, config.server.host):
        broken.append(f'server.host = "{config.server.host}": {open_to_all}')
    if broken:
        raise ConfigFault("\n".join(broken))
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


def _for_login(config: Config, places: Places) -> Config:
    files = [
        replace(one, file=str(places.locate(one.file))) for one in config.credentials if isinstance(one, OAuthFile)
    ]
    oauth = _resolved_oauth(config.oauth, places)
    return _tidy(replace(config, auth=Auth(), credentials=list[Credential](files), oauth=oauth), places)


def _credentials(config: Config, places: Places) -> list[Credential]:
    return [_credential(f"credentials[{place}]", one, places) for place, one in enumerate(config.credentials)]


def _credential(key: str, one: Credential, places: Places) -> Credential:
    if isinstance(one, ApiKey):
        return replace(one, key=resolve(f"{key}.key", one.key, one.key_env, one.key_file, places))
    if one.file is None:
        return one
    return replace(one, file=str(places.locate(one.file)))


def _auth(auth: Auth, places: Places) -> Auth:
    clients = [
        replace(one, key=resolve(f"auth.clients[{place}].key", one.key, one.key_env, one.key_file, places))
        for place, one in enumerate(auth.clients)
    ]
    keys = _keys("auth.keys", auth.keys, auth.keys_file, places)
    admins = _keys("auth.admin_keys", auth.admin_keys, auth.admin_keys_file, places)
    return replace(auth, clients=environment.callers(clients, keys, places.environ), keys=keys, admin_keys=admins)


def _keys(key: str, written: list[Secret], file: str | None, places: Places) -> list[Secret]:
    found = words(key, written)
    if file is not None:
        found += lines(f"{key}_file", read_text(f"{key}_file", file, places))
    return found


def _oauth(config: Config, places: Places) -> OAuth:
    """Return the OAuth client if one is named and wanted; a secret that nobody needs is not looked up."""
    wanted = any(isinstance(one, OAuthFile) for one in config.credentials)
    return _resolved_oauth(config.oauth, places) if wanted and config.oauth != OAuth() else OAuth()


def _resolved_oauth(oauth: OAuth, places: Places) -> OAuth:
    return replace(
        oauth,
        client_id=resolve("oauth.client_id", oauth.client_id, oauth.client_id_env, oauth.client_id_file, places),
        client_secret=resolve(
            "oauth.client_secret", oauth.client_secret, oauth.client_secret_env, oauth.client_secret_file, places
        ),
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
    "is_loopback",
    "load",
    "needs_restart",
    "open_door",
]
