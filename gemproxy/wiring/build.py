"""Wiring: a configuration in, a web application out. The one room besides the command line that reads ``config``."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web
from msgspec.structs import replace

from gemproxy import __version__
from gemproxy.config import ApiKey, Auth, Config, Credential, OAuthFile
from gemproxy.converter.chat.reading import Bounds
from gemproxy.converter.chat.request import Options
from gemproxy.converter.gemini.signatures import SignatureCache
from gemproxy.credentials.onboarding import Onboarding
from gemproxy.credentials.projects import Projects
from gemproxy.credentials.sources import (
    ApiKeySource,
    OAuthSource,
    ServiceAccountSource,
    Source,
    fingerprint,
    secrets,
    token_url,
)
from gemproxy.credentials.tokens import Tokens
from gemproxy.dispatch.answer import Limits
from gemproxy.dispatch.dispatcher import Dispatcher
from gemproxy.fetch.fetcher import ImageFetcher, ImagePolicy
from gemproxy.load.budget import Budget
from gemproxy.load.burden import Load
from gemproxy.models import Catalogue, capabilities
from gemproxy.operations.capture import Capture
from gemproxy.operations.checkup import Checkup
from gemproxy.operations.discovery import EVERY, Discovery, add
from gemproxy.pool.cooldown import Policy, Record, said
from gemproxy.pool.queue import Pool
from gemproxy.pool.rotator import Rotator
from gemproxy.pool.slot import POOLS, Lease, Slot, keys
from gemproxy.proxies import DIRECT, Proxies, proxies
from gemproxy.redaction import held
from gemproxy.server.auth import Caller, ClientAuth
from gemproxy.server.context import RandomIds
from gemproxy.server.firsts import Firsts
from gemproxy.server.limits import ClientLimits
from gemproxy.server.routes import add_routes, shortcut
from gemproxy.server.service import SERVICE, Door, Service
from gemproxy.state.opening import open_state
from gemproxy.state.store import State
from gemproxy.tasks import keep_doing, logged, spawn
from gemproxy.transport.client import READ
from gemproxy.transport.connections import open_connector, warn_of_unknown
from gemproxy.transport.reaching import Lookout, origin_of
from gemproxy.transport.tunnel import request_class
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Action, Dialect, Scope, Verdict
from gemproxy.upstream.reach import Need, Reason
from gemproxy.upstream.refusals.rules import NO_MODEL
from gemproxy.upstream.skew import Skew
from gemproxy.upstream.vertex import Vertex, base_url

log = logging.getLogger("gemproxy")
_REASONS = frozenset(Reason)
KNOCKS = 5.0  # seconds between handshakes with a host that is out
NEWS = 5.0  # seconds between looks at what other processes learnt of the same credentials
wall_clock = time.time  # noqa: TID251 - wired here into all but the access log; cooldowns outlive the process


def build_app(config: Config) -> web.Application:
    """Return the application; its rooms are opened at start-up and closed at the end."""
    app = web.Application(client_max_size=0)  # server.max_body is held in server/body
    add_routes(app.router)

    async def rooms(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app[SERVICE] = await build_service(config, stack)
            yield

    app.cleanup_ctx.append(rooms)
    return app


def uptime() -> float:
    """Return the seconds since this machine started, those in which it slept too, which the loop's clock leaves out."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Runner(web.AppRunner):
    """aiohttp's runner with ``routes.shortcut``."""

    async def setup(self) -> None:
        """Open the rooms, and get ready to serve."""
        await super().setup()
        assert self.server is not None
        shortcut(self.server, self.app[SERVICE])


async def build_service(config: Config, stack: AsyncExitStack) -> Service:
    """Return the wired rooms; ``stack`` closes them in the opposite order."""
    sources = await asyncio.to_thread(_sources, config)
    held.hold("configuration", await asyncio.to_thread(_secrets, config, sources))
    between = proxies(os.environ)
    held.hold("proxy", between.secrets)
    lookout = Lookout(uptime, wall_clock)
    stack.push_async_callback(lookout.close)
    session = await stack.enter_async_context(_session(config, lookout, between))
    state = await open_state(Path(config.state.path) if config.state.path else None, wall_clock)
    stack.push_async_callback(state.close)
    dialects = _dialects(config)
    catalogue = _catalogue(config)
    slots = await asyncio.to_thread(_slots, config, sources, catalogue)
    tokens = _tokens(config, sources, slots, session, state, dialects["code_assist"], lookout.skew)
    stack.callback(tokens.close)
    rotator = Rotator(slots, _policy(config), wall_clock)
    rotator.restore(await state.records())
    rotator.on_change = partial(_keep, state)
    stack.callback(keep_doing(partial(_learn, rotator, state), NEWS, name="learning what other processes did").cancel)
    pool = Pool(rotator, config.timeouts.queue)
    dispatcher = Dispatcher(session, pool, tokens, dialects, _limits(config), wall_clock, lookout.skew)
    load = Load(Budget(config.server.memory, asyncio.get_running_loop().time))
    stack.callback(load.close)
    need = partial(_need, config)  # a reload leaves the addresses as they are
    service = Service(
        door=_door(config, catalogue),
        dispatcher=dispatcher,
        tokens=tokens,
        state=state,
        catalogue=catalogue,
        options=_options(config),
        signatures=SignatureCache(wall_clock),
        images=ImageFetcher(_images(config), between=between),
        checkup=Checkup(session, dispatcher, tokens, dialects, _onboarding(config), load, wall_clock),
        clock=wall_clock,
        new_id=RandomIds(),
        client_limits=ClientLimits(),
        load=load,
        firsts=Firsts(wall_clock),
        bounds=_bounds(config),
        lookout=lookout,
        need=need,
        needs=await asyncio.to_thread(_needs, need, sources),
        capture=Capture(Path(config.log.capture_dir)) if config.log.capture_dir else None,
    )
    stack.push_async_callback(lambda: service.images.close())  # the fetcher of the last reload
    _set_up_metrics(service)
    pool.on_report = partial(_hear, service)
    lookout.on_return = tokens.try_again
    knock = partial(lookout.knock, partial(_needed, service), config.timeouts.connect, request_class(between))
    stack.callback(keep_doing(knock, KNOCKS, name="handshakes with hosts out of reach").cancel)
    studio = dialects["ai_studio"]
    if config.models.discover and isinstance(studio, AiStudio):
        discovery = Discovery(session, studio, tokens)
        stack.callback(keep_doing(partial(_discover, service, discovery), EVERY, name="models.discover").cancel)
    return service


async def reload(app: web.Application, config: Config) -> list[str]:
    """Take a new configuration over: credentials, client keys, models and limits. Streams under way are not touched.

    Returns the names of credentials that were here before and are others now, be it only in their files. Raises
    ``ConfigFault`` before anything has changed. What needs a restart: ``config.needs_restart``.
    """
    service = app[SERVICE]
    sources = await asyncio.to_thread(_sources, config)
    fetcher, catalogue = ImageFetcher(_images(config), between=proxies(os.environ)), _catalogue(config)
    slots = await asyncio.to_thread(_slots, config, sources, catalogue)
    held.hold("configuration", await asyncio.to_thread(_secrets, config, sources))
    needs = await asyncio.to_thread(_needs, service.need, sources)
    door = _door(config, catalogue)
    records = await service.state.records()
    before, prints = service.dispatcher.pool.rotator.fingerprints(), _fingerprints(slots)
    # From here on nothing fails or awaits: a request meets the old configuration or the new one, never half of each.
    catalogue.add_discovered(service.discovered)
    service.tokens.replace(sources, prints, _patience(config))
    service.dispatcher.pool.rotator.replace(slots, _policy(config), records)
    service.dispatcher.pool.limit = config.timeouts.queue
    service.dispatcher.limits = _limits(config)
    service.door, service.catalogue = door, catalogue
    service.options, service.bounds = _options(config), _bounds(config)
    service.needs = needs
    service.lookout.reach.keep(_needed(service))
    service.load.budget.allow(config.server.memory)
    service.images, old = fetcher, service.images
    name = "closing the images of the old configuration"
    _ = spawn(logged(old.close(), name=name), name=name)  # waits for those under way, as the reload must not
    return [name for name, print_ in prints.items() if before.get(name, print_) != print_]


def _keep(state: State, record: Record) -> None:
    """Keep a cooldown, but for models that nobody has: clients could fill the disk with names of those."""
    if record.reason != NO_MODEL:
        state.keep_record(record)


def _set_up_metrics(service: Service) -> None:
    """Set up metrics where their library is installed (extra ``metrics``)."""
    try:
        from gemproxy.operations.metrics import Metrics
    except ImportError:
        return
    rotator = service.dispatcher.pool.rotator
    service.metrics = Metrics(
        rotator.snapshot,
        lambda: service.open_requests,
        lambda: service.reload_refused is not None,
        lambda: service.state.health().ok,
        service.lookout.reach.causes,
    )


def _hear(service: Service, lease: Lease, verdict: Verdict | None) -> None:
    """Tell metrics and log what came of a lease."""
    if service.metrics is not None:
        service.metrics.attempt(lease.slot.dialect, "client_gone" if verdict is None else verdict.reason)
    if verdict is None or verdict.action in (Action.OK, Action.LATER):
        return
    slot, reason = lease.slot, verdict.reason
    if verdict.scope is Scope.CREDENTIAL and slot.parked is not None:
        log.warning(
            "credential %s is parked (%s): it serves again after a change, a reload or /v1/token-test",
            *(slot.name, slot.parked),
        )
    elif verdict.scope in (Scope.MODEL, Scope.PROJECT, Scope.CREDENTIAL) and verdict.cause is Cause.ANY:
        now = wall_clock()
        wait = said(slot.longest(keys(lease.model, (verdict.kind,)), now), now)
        wait += "," if "until" in wait else ""
        which = f"{lease.model} {verdict.kind}".rstrip()
        level = service.firsts.level("rest", slot.name, reason)
        log.log(level, "credential %s rests %s for %s (%s)", slot.name, wait, which, reason)
    elif reason in _REASONS:  # told once for its host, and counted there
        log.debug("credential %s: attempt at %s failed (%s)", slot.name, lease.model, reason)
    elif verdict.action is not Action.STOP or verdict.scope is Scope.UPSTREAM:  # else its client must change it
        level = service.firsts.level("failure", slot.name, reason)
        log.log(level, "credential %s: attempt at %s failed (%s)", slot.name, lease.model, reason)


async def _discover(service: Service, discovery: Discovery) -> None:
    found = await discovery.find(service.dispatcher.pool.rotator.snapshot())
    service.discovered = found or service.discovered
    add(service.catalogue, found)


async def _learn(rotator: Rotator, state: State) -> None:
    rotator.restore(await state.news())


# ------------------------------------------------------------------------------------------ the upstream side


def _session(config: Config, lookout: Lookout, between: Proxies = DIRECT) -> aiohttp.ClientSession:
    warn_of_unknown()
    # limits are ours (rotation.*, timeouts.*): aiohttp's own would cut streams at 300 s and hold back at 100
    return aiohttp.ClientSession(
        connector=open_connector(
            hear=lookout.hear, resolver=lookout.resolver, limit=0, ttl_dns_cache=300, keepalive_timeout=30
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.timeouts.connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        # identity: frames are small, to unpack them would cost more than it saves; a megabyte may hold a gigabyte
        headers={"Accept-Encoding": "identity", "User-Agent": _agent(config)},
        auto_decompress=False,
        read_bufsize=READ,
        request_class=request_class(between),
    )


def _agent(config: Config) -> str:
    return config.upstream.user_agent or f"gemproxy/{__version__}"


def _onboarding(config: Config) -> Onboarding:
    return Onboarding(config.upstream.code_assist_url, _agent(config))


def _dialects(config: Config) -> dict[str, Dialect]:
    upstream, agent = config.upstream, _agent(config)
    made: list[Dialect] = [
        AiStudio(upstream.ai_studio_url, agent),
        CodeAssist(upstream.code_assist_url, agent),
        Vertex(upstream.vertex_url, agent),
    ]
    return {dialect.name: dialect for dialect in made}


def _tokens(
    config: Config,
    sources: dict[str, Source],
    slots: list[Slot],
    session: aiohttp.ClientSession,
    state: State,
    judge: Dialect,
    skew: Skew,
) -> Tokens:
    projects = Projects(session, _onboarding(config), judge, state, wall_clock)
    url, prints, patience = config.upstream.token_url or "", _fingerprints(slots), _patience(config)
    rooms = (session, state, wall_clock, projects)
    return Tokens(sources, *rooms, fingerprints=prints, token_url=url, patience=patience, skew=skew)


def _patience(config: Config) -> float:
    """Return the seconds for one token: half of what a request may take is left to the other credentials."""
    return max(config.rotation.budget / 2, 1.0)  # less would be no time for any


def _needs(need: Callable[[Source], Need], sources: dict[str, Source]) -> dict[str, Need]:
    return {name: need(source) for name, source in sources.items()}


def _need(config: Config, source: Source) -> Need:
    upstream = config.upstream
    if isinstance(source, ApiKeySource):
        return Need(origin_of(upstream.ai_studio_url))
    tokens = token_url(source) and origin_of(upstream.token_url or token_url(source))
    if isinstance(source, OAuthSource):
        return Need(origin_of(upstream.code_assist_url), tokens)
    assert isinstance(source, ServiceAccountSource)
    return Need(origin_of(base_url(upstream.vertex_url, source.location)), tokens)


def _needed(service: Service) -> set[str]:
    return {origin for need in service.needs.values() for origin in (need.upstream, need.tokens)}


def _sources(config: Config) -> dict[str, Source]:
    return {credential.name: _source(credential, config) for credential in config.credentials}


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


def _secrets(config: Config, sources: dict[str, Source]) -> list[str]:
    """Return every secret that the configuration gives us."""
    callers = [*(client.key for client in config.auth.clients), *config.auth.admin_keys, config.oauth.client_secret]
    return [*(key.reveal() for key in callers), *(value for source in sources.values() for value in secrets(source))]


_DIALECT_OF = {ApiKeySource: "ai_studio", OAuthSource: "code_assist", ServiceAccountSource: "vertex"}


def _slots(config: Config, sources: dict[str, Source], catalogue: Catalogue) -> list[Slot]:
    return [
        Slot(
            name=credential.name,
            tier=POOLS.index(credential.pool),
            dialect=_DIALECT_OF[type(sources[credential.name])],
            project=credential.project,
            fingerprint=fingerprint(sources[credential.name]),
            models=_held_to(credential.models, catalogue),
            kind=credential.kind,
        )
        for credential in config.credentials
    ]


def _fingerprints(slots: list[Slot]) -> dict[str, str]:
    return {slot.name: slot.fingerprint for slot in slots}


def _policy(config: Config) -> Policy:
    rotation = config.rotation
    return Policy(rotation.base_rest, rotation.max_unhinted, rotation.max_rest, rotation.max_in_flight)


def _limits(config: Config) -> Limits:
    rotation, timeouts = config.rotation, config.timeouts
    return Limits(rotation.attempts, rotation.budget, timeouts.first, timeouts.idle)


# ------------------------------------------------------------------------------------------------- the client side


def _door(config: Config, catalogue: Catalogue) -> Door:
    server, timeouts = config.server, config.timeouts
    return Door(
        auth=_auth(config.auth, catalogue),
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


def _held_to(names: list[str], catalogue: Catalogue) -> frozenset[str] | None:
    """Return the ids of models that a setting names, by an alias too; None for all."""
    return frozenset(map(catalogue.meant, names)) or None


def _options(config: Config) -> Options:
    return Options(config.models.include_thoughts, config.server.max_schema_nodes)


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
            ),
        )
        for client in auth.clients
    ]
    known, taken = {key for key, _ in keys}, {caller.name for _, caller in keys}
    names = (name for place in itertools.count(1) if (name := f"admin-{place}") not in taken)  # limits go by name
    keys += [(key, Caller(name)) for key, name in zip(sorted(admins - known), names, strict=False)]
    return ClientAuth(keys)


def _catalogue(config: Config) -> Catalogue:
    models = config.models
    named = Catalogue(aliases=models.aliases)
    flagged = [replace(capabilities(named.meant(name)), logprobs=True) for name in models.logprobs]
    return Catalogue(aliases=models.aliases, extra=[*models.extra, *flagged])


def _images(config: Config) -> ImagePolicy:
    images = config.images
    return ImagePolicy(
        images.fetch, images.max_bytes, images.max_count, images.timeout, images.max_redirects, images.allow_hosts
    )
