"""What one key alone cannot say: rules between settings.

In: a ``Config`` with its secrets looked up. Out: a message per broken rule, each naming the keys. Reads credential
files only to see that they are there and whether they name an OAuth client. Must not change anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gemproxy.config.reading import BOM
from gemproxy.config.secret import UNREAD
from gemproxy.config.sections import URLS, ApiKey, Config, Credential, Models, OAuthFile, ServiceAccount, Upstream
from gemproxy.errors import ClientFault, ConfigFault
from gemproxy.models import Catalogue, bare, is_name
from gemproxy.networks import Allowed

NO_CREDENTIAL = (
    "no credential: set GEMINI_API_KEY in the environment, or list [[credentials]] in a file given with --config, "
    "or try `gemproxy serve --demo`, which needs none"
)


_NO_NAME = "expected a model's name: letters, digits and . _ : @ / -, without dots side by side"


class _Client(Struct):
    client_id: str | None = None
    client_secret: str | None = None


class _Token(_Client):
    refresh_token: str | None = None


class _File(_Client):
    """The fields of a credential file that say whose it is, in the shapes that ``credentials/sources`` reads."""

    type: str | None = None
    project_id: str | None = None
    quota_project_id: str | None = None
    refresh_token: str | None = None
    token: _Token | str | None = None

    @property
    def refreshes(self) -> bool:
        """Return whether tokens can be had with it."""
        return bool(self.refresh_token or (isinstance(self.token, _Token) and self.token.refresh_token))

    @property
    def names_client(self) -> bool:
        """Return whether the file needs no client of ``[oauth]``."""
        inner = self.token if isinstance(self.token, _Token) else _Token()
        return bool((self.client_id or inner.client_id) and (self.client_secret or inner.client_secret))


def faults(config: Config) -> Iterator[str]:
    """Return every broken rule but the one about open doors (``open_door``)."""
    yield from _names("credentials", [credential.name for credential in config.credentials])
    yield from _names("auth.clients", [client.name for client in config.auth.clients])
    yield from _clients(config)
    yield from _listening(config)
    yield from _urls(config.upstream)
    yield from _rests(config)
    yield from _models(config)
    yield from _networks(config)
    for place, credential in enumerate(config.credentials):
        key = f"credentials[{place}]"
        if isinstance(credential, OAuthFile):
            yield from _oauth_file(key, credential, config)
        if isinstance(credential, ServiceAccount):
            yield from _service_account(key, credential)


KEYLESS = (
    "no client key is configured (auth.keys): whoever is on this machine is let in, on loopback addresses only"
    "; no reverse proxy may stand in front: it would let everybody in"
)


def cautions(config: Config) -> Iterator[str]:
    """Return what is allowed but hardly meant; each names its keys."""
    yield from _shared(config.credentials)
    yield from _client_names(config)
    yield from _memory(config)
    yield from _unlisted(config.models)
    if config.responses.keep == "state" and not config.state.path:
        yield 'responses.keep = "state": no state.path is set, so responses are kept in memory'
    catalogue = Catalogue(aliases=config.models.aliases, extra=config.models.extra)
    for section, owners in (("credentials", config.credentials), ("auth.clients", config.auth.clients)):
        for place, owner in enumerate(owners):
            for name in owner.models:
                if _model_id(catalogue, name) is None:
                    yield f'{section}[{place}].models: no model "{name}" is known, so it allows none'
    if "*" in config.server.cors_origins and not config.auth.clients:
        yield (
            'server.cors_origins = ["*"]: without a client key (auth.keys) every page that a browser on this machine '
            "opens may ask"
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address; a name other than localhost is not trusted to."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def open_door(config: Config, host: str) -> str | None:
    """Return why ``host`` may not be listened on: without client keys only loopback may (docs/architecture.md 14.5)."""
    if config.auth.clients or is_loopback(host):
        return None
    return (
        "reachable from other machines, but no client key is set; "
        "set auth.keys (or GEMPROXY_API_KEYS), or listen on 127.0.0.1"
    )


# What is built once, at the start: sockets, their connections, the session to Google, the log.
_BUILT_ONCE = {
    "server": ("host", "port", "loop", "reuse_port", "metrics_listen"),
    "upstream": ("ai_studio_url", "code_assist_url", "vertex_url", "token_url", "user_agent"),
    "timeouts": ("connect", "keepalive"),
    "models": ("discover",),
    "responses": ("keep",),
    "state": ("path",),
    "log": ("level", "format", "capture_dir"),
}


def needs_restart(started: Config, fresh: Config) -> list[str]:
    """Return the settings in which ``fresh`` differs from the start and which a reload cannot change."""
    return [
        f"{section}.{key}"
        for section, keys in _BUILT_ONCE.items()
        for key in keys
        if getattr(getattr(started, section), key) != getattr(getattr(fresh, section), key)
    ]


def address(text: str) -> tuple[str, int] | None:
    """Return host and port of ``host:port`` or ``[v6]:port``; None if it is neither."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and bare and port.isascii() and port.isdigit() and int(port) <= 65_535):
        return None
    return None if ":" in bare and bare == host else (bare, int(port))


def _names(key: str, names: Sequence[str]) -> Iterator[str]:
    for place, name in enumerate(names):
        first = names.index(name)
        if first != place:
            yield f'{key}[{place}].name = "{name}": taken by {key}[{first}]; every name must be its own'


def _clients(config: Config) -> Iterator[str]:
    keys = [client.key for client in config.auth.clients]
    for place, key in enumerate(keys):
        if (first := keys.index(key)) != place and key is not UNREAD:
            yield f"auth.clients[{place}].key: the same as auth.clients[{first}].key; every client needs its own"


def _shared(credentials: Sequence[Credential]) -> Iterator[str]:
    """Name credentials that are one and the same: it would be taken for two, and rest only by halves."""
    values = [one.key.reveal() if isinstance(one, ApiKey) else one.file for one in credentials]
    for place, value in enumerate(values):
        if value is not None and (first := values.index(value)) != place:
            setting = "key" if isinstance(credentials[place], ApiKey) else "file"
            yield f"credentials[{place}].{setting}: the same as credentials[{first}].{setting}"


def _client_names(config: Config) -> Iterator[str]:
    for place, client in enumerate(config.auth.clients if config.auth.admin_keys else ()):
        if re.fullmatch(r"admin-\d+", client.name):
            yield f'auth.clients[{place}].name = "{client.name}": looks in the log like a key of auth.admin_keys'


def _memory(config: Config) -> Iterator[str]:
    server = config.server
    if 2 * server.max_body > server.memory // 2:  # what one client gets while others ask; a body counts twice
        yield (
            f"server.memory = {server.memory}: less than four times server.max_body = {server.max_body}, "
            "so large bodies are a 503"
        )


def _listening(config: Config) -> Iterator[str]:
    server = config.server
    if server.metrics_listen is not None and address(server.metrics_listen) is None:
        yield f'server.metrics_listen = "{server.metrics_listen}": expected host:port, as in "127.0.0.1:9090"'
    for place, origin in enumerate(server.cors_origins):
        if origin != "*" and (_url_fault(origin) or urlsplit(origin).path):
            yield f'server.cors_origins[{place}] = "{origin}": expected "*" or an origin as in "https://example.org"'


def _urls(upstream: Upstream) -> Iterator[str]:
    for field in URLS:
        url: str | None = getattr(upstream, field)
        if url is None:
            continue
        plain = url.replace("{location}", "global") if field == "vertex_url" else url
        if fault := _url_fault(plain):
            yield f"upstream.{field}: {fault}"
    if upstream.user_agent is not None and not (upstream.user_agent.isascii() and upstream.user_agent.isprintable()):
        yield "upstream.user_agent: expected printable ASCII characters"


def _url_fault(url: str) -> str | None:
    """Return what is wrong with a base URL. It is not shown: a URL may carry a password or a key."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "expected a URL"
    if parts.scheme not in ("http", "https") or not host:
        return "expected a URL that begins with http:// or https://"
    if "{" in url or "}" in url:
        return "expected a URL without braces (only upstream.vertex_url may hold {location})"
    if parts.query or parts.fragment or parts.username is not None or not (url.isascii() and url.isprintable()):
        return "expected a plain URL without user, query or fragment"
    return None


def _rests(config: Config) -> Iterator[str]:
    rests = config.rotation
    if rests.base_rest > rests.max_unhinted:
        yield f"rotation.base_rest = {rests.base_rest:g}: more than rotation.max_unhinted = {rests.max_unhinted:g}"
    if rests.max_unhinted > rests.max_rest:
        yield f"rotation.max_unhinted = {rests.max_unhinted:g}: more than rotation.max_rest = {rests.max_rest:g}"


def _models(config: Config) -> Iterator[str]:
    for alias, model in config.models.aliases.items():
        if model in config.models.aliases:
            yield f'models.aliases.{alias} = "{model}": an alias must name a model, not another alias'
        elif not is_name(bare(model)):
            yield f'models.aliases.{alias} = "{model}": {_NO_NAME}'
    for key in ("extra", "logprobs"):
        for place, model in enumerate(getattr(config.models, key)):
            if not is_name(bare(config.models.aliases.get(model, model))):
                yield f'models.{key}[{place}] = "{model}": {_NO_NAME}'
    yield from _fallbacks(config.models)


def _fallbacks(models: Models) -> Iterator[str]:
    # What Google lists is not known at the start, and a misspelt name would fail only in an outage: so a model that is
    # merely discovered must be written down, too.
    catalogue = Catalogue(aliases=models.aliases, extra=models.extra)
    for model, others in models.fallbacks.items():
        ids = [_model_id(catalogue, name) for name in (model, *others)]
        if None in ids:
            unknown = (model, *others)[ids.index(None)]
            yield f'models.fallbacks.{model}: no model "{unknown}" is known; if there is one, add it to models.extra'
        elif ids[0] in ids[1:]:
            yield f"models.fallbacks.{model}: a model cannot be its own fallback"


def _unlisted(models: Models) -> Iterator[str]:
    """Name models of Google's that no list has: they are passed on, and a misspelt one fails only when it is asked."""
    catalogue = Catalogue(aliases=models.aliases, extra=[*models.extra, *models.logprobs])
    named = [(f"models.aliases.{alias}", name) for alias, name in models.aliases.items()]
    named += [(f"models.fallbacks.{model}", name) for model, others in models.fallbacks.items() for name in others]
    for key, name in named:
        if catalogue.meant(name) not in catalogue:
            yield f'{key}: no model "{name}" is listed; if Google has it, add it to models.extra'


def _model_id(catalogue: Catalogue, name: str) -> str | None:
    try:
        return catalogue.lookup(name).id
    except ClientFault:
        return None


def _networks(config: Config) -> Iterator[str]:
    try:
        Allowed(config.images.allow_hosts)
    except ConfigFault as fault:
        yield str(fault)


def _oauth_file(key: str, credential: OAuthFile, config: Config) -> Iterator[str]:
    found = _read(credential.file)
    if isinstance(found, str):
        yield f'{key}.file = "{credential.file}": {found}; `gemproxy login` writes such a file'
    elif not found.refreshes:
        yield f'{key}.file = "{credential.file}": holds no refresh_token; `gemproxy login` writes such a file'
    elif not config.oauth.client_id and not found.names_client:
        yield (
            f"{key}.file: the file names no OAuth client; set oauth.client_id and oauth.client_secret "
            "(or GEMPROXY_OAUTH_CLIENT_ID and GEMPROXY_OAUTH_CLIENT_SECRET)"
        )


def _service_account(key: str, credential: ServiceAccount) -> Iterator[str]:
    if credential.file is None:
        return
    found = _read(credential.file)
    if isinstance(found, str):
        yield f'{key}.file = "{credential.file}": {found}'
    elif found.type not in ("service_account", "authorized_user"):
        yield (
            f'{key}.file = "{credential.file}": its "type" is not service_account or authorized_user; for other kinds '
            "leave the file out, and name it in GOOGLE_APPLICATION_CREDENTIALS"
        )
    elif not (credential.project or found.project_id or found.quota_project_id):
        yield f"{key}.project: required, since the file names no project_id"


def _read(path: str) -> _File | str:
    """Return what a credential file says of itself, or why it cannot be used."""
    try:
        return msgspec.json.decode(Path(path).read_bytes().removeprefix(BOM), type=_File)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "not a JSON credential file"
