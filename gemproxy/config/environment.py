"""What the environment adds to the configuration, so that no file is needed.

In: a ``Config`` as read, and the environment. Out: the same with credentials (only where the file lists none), client
keys, the state path and the instance's port filled in. Must not read a file. Variables: README.md, Settings.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from gemproxy.config.rules import address
from gemproxy.config.secret import Secret, listed
from gemproxy.config.sections import ApiKey, Client, Config, Credential, OAuth, OAuthFile, Server, ServiceAccount, State
from gemproxy.errors import ConfigFault


def complete(config: Config, environ: Mapping[str, str]) -> Config:
    """Return the configuration with all that the environment gives."""
    if not config.credentials:
        config = replace(config, credentials=credentials(environ))
    return replace(
        config,
        server=_server(config.server, environ),
        oauth=_oauth(config.oauth, environ),
        state=_state(config.state, environ),
    )


def credentials(environ: Mapping[str, str]) -> list[Credential]:
    """Return the credentials that the environment names.

    ``GOOGLE_API_KEY``, as Google's own SDKs know it, counts where no key has our name. ``GOOGLE_CLOUD_PROJECT`` is set
    on many machines for other reasons, and Vertex AI costs money: it counts only where nothing else is named.
    """
    keys = dict.fromkeys([*listed("GEMINI_API_KEY", environ), *listed("GEMINI_API_KEYS", environ)])
    keys = keys or dict.fromkeys(listed("GOOGLE_API_KEY", environ))
    files = [item.strip() for item in environ.get("GEMPROXY_OAUTH_FILES", "").split(",") if item.strip()]
    found: list[Credential] = [ApiKey(name=f"studio-{place}", key=key) for place, key in enumerate(keys, 1)]
    found += [OAuthFile(name=f"oauth-{place}", file=file) for place, file in enumerate(files, 1)]
    if not found and (project := environ.get("GOOGLE_CLOUD_PROJECT", "")):
        location = environ.get("GOOGLE_CLOUD_LOCATION") or "global"
        found.append(ServiceAccount(name="vertex-1", project=project, location=location))
    return found


def callers(clients: list[Client], keys: list[Secret], environ: Mapping[str, str]) -> list[Client]:
    """Return every caller: the named ones, then one per bare key, named key-1, key-2 …; a repeated key counts once."""
    named, taken = {client.key for client in clients}, {client.name for client in clients}
    bare = dict.fromkeys(key for key in [*keys, *listed("GEMPROXY_API_KEYS", environ)] if key not in named)
    names = (name for place in itertools.count(1) if (name := f"key-{place}") not in taken)
    return [*clients, *(Client(name=name, key=key) for key, name in zip(bare, names, strict=False))]


def _oauth(section: OAuth, environ: Mapping[str, str]) -> OAuth:
    if section != OAuth():
        return section
    if not environ.get("GEMPROXY_OAUTH_CLIENT_ID") and not environ.get("GEMPROXY_OAUTH_CLIENT_SECRET"):
        return section
    return OAuth(client_id_env="GEMPROXY_OAUTH_CLIENT_ID", client_secret_env="GEMPROXY_OAUTH_CLIENT_SECRET")  # noqa: S106


def _state(section: State, environ: Mapping[str, str]) -> State:
    folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]  # systemd separates several by colons
    if section.path is not None or not folder:
        return section
    return State(path=str(Path(folder) / "state.db"))


def _server(section: Server, environ: Mapping[str, str]) -> Server:
    """Return the section with a listener for metrics of the instance's own: ``gemproxy@2`` has the second port after.

    A scrape must know whose counts it gets, so the instances cannot share one port as they share ``server.port``.
    """
    listen, instance = section.metrics_listen, environ.get("GEMPROXY_INSTANCE", "")
    place = address(listen) if listen else None
    if not (listen and place and place[1] and instance):
        return section
    number = int(instance) if re.fullmatch("[0-9]{1,5}", instance) else None
    if number is None or place[1] + number > 65_535:
        raise ConfigFault(
            f'server.metrics_listen = "{listen}": the instance "{instance}" (GEMPROXY_INSTANCE) is no number to add to '
            "the port; call the instances 1, 2 …, as gemproxy@1"
        )
    return replace(section, metrics_listen=f"{listen.rpartition(':')[0]}:{place[1] + number}")
