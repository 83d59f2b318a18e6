"""What a configuration says: one frozen value, which a start and a reload take over alike (``wiring/reload``).

In: a configuration, and what the files of its credentials say. Out: ``Settings``, in the plain values that the rooms
take. What stays until a restart (addresses, files, sockets) is none of it. Only ``read`` touches files.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from gemproxy.config import ApiKey, Auth, Config, Credential, OAuthFile
from gemproxy.config.sections import Upstream
from gemproxy.converter.api import Keeping, Options
from gemproxy.converter.bounds import Bounds
from gemproxy.credentials.sources import (
    ApiKeySource,
    OAuthSource,
    ServiceAccountSource,
    Source,
    fingerprint,
    secrets,
    token_url,
)
from gemproxy.dispatch.answer import Limits
from gemproxy.fetch.fetcher import ImagePolicy
from gemproxy.models import Catalogue, capabilities
from gemproxy.pool.cooldown import Policy
from gemproxy.pool.slot import POOLS, Slot
from gemproxy.proxies import Proxies, proxies
from gemproxy.server.auth import Caller, ClientAuth, mark_of
from gemproxy.server.service import Door
from gemproxy.transport.reaching import origin_of
from gemproxy.upstream.reach import Need
from gemproxy.upstream.vertex import base_url

_DIALECT_OF = {ApiKeySource: "ai_studio", OAuthSource: "code_assist", ServiceAccountSource: "vertex"}


class Settings(Struct, frozen=True):
    """All that a reload may change. ``slots`` are new ones: the rotator keeps what it knows of those it has."""

    secrets: Sequence[str]  # that must not get out
    sources: Mapping[str, Source]  # by slot
    slots: Sequence[Slot]
    policy: Policy
    limits: Limits
    queue: float  # seconds
    patience: float  # seconds for one token
    memory: int  # bytes
    images: ImagePolicy
    between: Proxies
    door: Door

    def __repr__(self) -> str:
        return "Settings(...)"

    @property
    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of every credential, by its name."""
        return {slot.name: slot.fingerprint for slot in self.slots}


class Told(Struct, frozen=True):
    """What the files of a credential tell; the repr shows nothing of it."""

    fingerprint: str
    token_url: str
    secrets: Sequence[str]

    def __repr__(self) -> str:
        return "Told(...)"


async def read(config: Config, upstream: Upstream) -> Settings:
    """Return the settings of a configuration; files are read beside the loop.

    ``upstream`` are the addresses in force: a reload leaves those of the start as they are.
    Raises ``ConfigFault``.
    """
    sources = {credential.name: _source(credential, config) for credential in config.credentials}
    told = await asyncio.to_thread(_read_files, sources)
    return settings_of(config, upstream, proxies(os.environ), sources, told)


def _read_files(sources: Mapping[str, Source]) -> dict[str, Told]:
    return {name: Told(fingerprint(source), token_url(source), secrets(source)) for name, source in sources.items()}


def settings_of(
    config: Config, upstream: Upstream, between: Proxies, sources: Mapping[str, Source], told: Mapping[str, Told]
) -> Settings:
    """Return the settings of a configuration whose files tell this."""
    catalogue = _catalogue(config)
    return Settings(
        secrets=[*_own_secrets(config), *(secret for one in told.values() for secret in one.secrets)],
        sources=sources,
        slots=_slots(config, sources, told, catalogue),
        policy=_policy(config),
        limits=_limits(config),
        queue=config.timeouts.queue,
        patience=_patience(config),
        memory=config.server.memory,
        images=_images(config),
        between=between,
        door=_door(config, catalogue, {name: _need(upstream, source, told[name]) for name, source in sources.items()}),
    )


# ------------------------------------------------------------------------------------------ the upstream side


def _source(credential: Credential, config: Config) -> Source:
    if isinstance(credential, ApiKey):
        return ApiKeySource(credential.key.reveal())
    if isinstance(credential, OAuthFile):
        oauth = config.oauth
        return OAuthSource(
            Path(credential.file), oauth.client_id.reveal(), oauth.client_secret.reveal(), credential.project
        )
    file = Path(credential.file) if credential.file else None
    return ServiceAccountSource(file, credential.project, credential.location)


def _own_secrets(config: Config) -> list[str]:
    """Return every secret of the configuration itself."""
    callers = [*(client.key for client in config.auth.clients), *config.auth.admin_keys, config.oauth.client_secret]
    return [key.reveal() for key in callers]


def _slots(config: Config, sources: Mapping[str, Source], told: Mapping[str, Told], catalogue: Catalogue) -> list[Slot]:
    return [
        Slot(
            name=credential.name,
            tier=POOLS.index(credential.pool),
            dialect=_DIALECT_OF[type(sources[credential.name])],
            project=credential.project,
            fingerprint=told[credential.name].fingerprint,
            models=_held_to(credential.models, catalogue),
            kind=credential.kind,
        )
        for credential in config.credentials
    ]


def _need(upstream: Upstream, source: Source, told: Told) -> Need:
    """Return the hosts without which a credential is of no use."""
    if isinstance(source, ApiKeySource):
        return Need(origin_of(upstream.ai_studio_url))
    tokens = told.token_url and origin_of(upstream.token_url or told.token_url)
    if isinstance(source, OAuthSource):
        return Need(origin_of(upstream.code_assist_url), tokens)
    assert isinstance(source, ServiceAccountSource)
    return Need(origin_of(base_url(upstream.vertex_url, source.location)), tokens)


def _policy(config: Config) -> Policy:
    rotation = config.rotation
    return Policy(rotation.base_rest, rotation.max_unhinted, rotation.max_rest, rotation.max_in_flight)


def _limits(config: Config) -> Limits:
    rotation, timeouts = config.rotation, config.timeouts
    return Limits(rotation.attempts, rotation.budget, timeouts.first, timeouts.idle)


def _patience(config: Config) -> float:
    """Return the seconds for one token: half of what a request may take is left to the other credentials."""
    return max(config.rotation.budget / 2, 1.0)  # less would be no time for any


def _images(config: Config) -> ImagePolicy:
    images = config.images
    return ImagePolicy(
        images.fetch, images.max_bytes, images.max_count, images.timeout, images.max_redirects, images.allow_hosts
    )


# ------------------------------------------------------------------------------------------------- the client side


def _door(config: Config, catalogue: Catalogue, needs: Mapping[str, Need]) -> Door:
    server, timeouts = config.server, config.timeouts
    return Door(
        auth=_auth(config.auth, catalogue),
        catalogue=catalogue,
        options=_options(config),
        needs=needs,
        stream_default=config.compat.stream_default,
        json_clients=config.compat.json_clients,
        max_requests=server.max_requests,
        ping_interval=server.ping_interval,
        hold=timeouts.hold,
        send=timeouts.send,
        body=timeouts.body,
        total=timeouts.total,
        expose_routing=server.expose_routing,
        max_body=server.max_body,
        max_connections=server.max_connections,
        headers=timeouts.headers,
        cors_origins=server.cors_origins,
        fallbacks={
            catalogue.lookup(name).id: [catalogue.lookup(other) for other in others]
            for name, others in config.models.fallbacks.items()
        },
    )


def _bounds(config: Config) -> Bounds:
    server = config.server
    return Bounds(server.max_values, server.max_messages, server.max_parts, server.max_calls)


def _options(config: Config) -> Options:
    kept = config.responses
    return Options(
        config.models.include_thoughts,
        config.server.max_schema_nodes,
        config.images.max_count,
        _bounds(config),
        None if kept.keep == "off" else Keeping(kept.keep_for, kept.keep_bytes),
    )


def _auth(auth: Auth, catalogue: Catalogue) -> ClientAuth:
    admins = {key.reveal() for key in auth.admin_keys}
    keys = [
        (
            client.key.reveal(),
            Caller(
                client.name,
                _held_to(client.models, catalogue),
                not admins or client.key.reveal() in admins,
                client.max_concurrent,
                client.requests_per_minute,
                mark_of(client.key.reveal()),
            ),
        )
        for client in auth.clients
    ]
    known, taken = {key for key, _ in keys}, {caller.name for _, caller in keys}
    names = (name for place in itertools.count(1) if (name := f"admin-{place}") not in taken)  # limits go by name
    keys += [(key, Caller(name, mark=mark_of(key))) for key, name in zip(sorted(admins - known), names, strict=False)]
    return ClientAuth(keys)


def _held_to(names: list[str], catalogue: Catalogue) -> frozenset[str] | None:
    """Return the ids of models that a setting names, by an alias too; None for all."""
    return frozenset(map(catalogue.meant, names)) or None


def _catalogue(config: Config) -> Catalogue:
    models = config.models
    named = Catalogue(aliases=models.aliases)
    flagged = [replace(capabilities(named.meant(name)), logprobs=True) for name in models.logprobs]
    return Catalogue(aliases=models.aliases, extra=[*models.extra, *flagged])
