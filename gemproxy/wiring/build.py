"""The rooms, opened once and wired together: a configuration in, a web application out.

What a reload may change goes into them by ``wiring/reload``, at the start, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from gemproxy import __version__
from gemproxy.config import Config
from gemproxy.converter.anthropic.counting import COUNT_TOKENS
from gemproxy.converter.anthropic.operation import MESSAGES
from gemproxy.converter.api import Api, Operation
from gemproxy.converter.chat.operation import CHAT
from gemproxy.converter.gemini.signatures import SignatureCache
from gemproxy.converter.openai import OPENAI
from gemproxy.converter.responses.compacting import COMPACT
from gemproxy.converter.responses.counting import INPUT_TOKENS
from gemproxy.converter.responses.operation import LOOKUPS, RESPONSES
from gemproxy.credentials.onboarding import Onboarding
from gemproxy.credentials.projects import Projects
from gemproxy.credentials.tokens import Tokens
from gemproxy.dispatch.dispatcher import Dispatcher
from gemproxy.fetch.fetcher import ImageFetcher, ImagePolicy
from gemproxy.load.budget import Budget
from gemproxy.load.burden import Load
from gemproxy.operations.capture import Capture
from gemproxy.operations.checkup import Checkup
from gemproxy.operations.discovery import INTERVAL, Discovery, add
from gemproxy.pool.cooldown import Record
from gemproxy.pool.queue import Queue
from gemproxy.pool.rotator import Rotator
from gemproxy.proxies import DIRECT, Proxies
from gemproxy.redaction import held
from gemproxy.server.context import RandomIds
from gemproxy.server.firsts import Firsts
from gemproxy.server.limits import ClientLimits
from gemproxy.server.routes import add_routes, shortcut
from gemproxy.server.service import SERVICE, Operations, Pool, Service
from gemproxy.server.turns import Turns
from gemproxy.state.memory import MemoryState
from gemproxy.state.opening import open_state
from gemproxy.state.store import State
from gemproxy.tasks import keep_doing
from gemproxy.transport.client import READ_BUFFER
from gemproxy.transport.connections import open_connector
from gemproxy.transport.reaching import Lookout
from gemproxy.transport.tunnel import request_class
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Dialect
from gemproxy.upstream.refusals.rules import NO_MODEL
from gemproxy.upstream.skew import Skew
from gemproxy.upstream.vertex import Vertex
from gemproxy.wiring.reload import UPSTREAM, take_over
from gemproxy.wiring.reports import report
from gemproxy.wiring.settings import Settings, read

HANDSHAKE_INTERVAL = 5.0  # seconds between handshakes with a host that is out
LEARN_INTERVAL = 5.0  # seconds between looks at what other processes learnt of the same credentials
SERVED: web.AppKey[Sequence[Operation]] = web.AppKey("operations")
wall_clock = time.time  # noqa: TID251 - wired here into all but the access log; cooldowns outlive the process


# What clients may ask for; the first one's API speaks where a path is no API's own.
OPERATIONS: Final[Sequence[Operation]] = (CHAT, RESPONSES, INPUT_TOKENS, COMPACT, MESSAGES, COUNT_TOKENS)


def build_app(config: Config, operations: Sequence[Operation] = OPERATIONS) -> web.Application:
    """Return the application; its rooms are opened at start-up and closed at the end."""
    app = web.Application(client_max_size=0)  # server.max_body is held in server/body
    app[SERVED] = operations
    add_routes(app.router, operations, LOOKUPS)

    async def rooms(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app[UPSTREAM] = config.upstream
            app[SERVICE] = await build_service(config, stack, spoken(operations))
            yield

    app.cleanup_ctx.append(rooms)
    return app


def uptime() -> float:
    """Return the seconds since this machine started, those in which it slept too, which the loop's clock leaves out."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def shorten(server: web.Server, app: web.Application) -> None:
    """Let a server take operations past aiohttp's router, once the rooms of its application are open."""
    shortcut(server, app[SERVICE], app[SERVED])


def spoken(operations: Sequence[Operation]) -> Sequence[Api]:
    """Return the protocols of operations, each once and in their order."""
    return list(dict.fromkeys(operation.api for operation in operations))


async def build_service(config: Config, stack: AsyncExitStack, apis: Sequence[Api] = (OPENAI,)) -> Service:
    """Return the wired rooms; ``stack`` closes them in the opposite order."""
    settings = await read(config, config.upstream)
    held.hold("proxy", settings.between.secrets)
    lookout = Lookout(uptime, wall_clock)
    stack.push_async_callback(lookout.close)
    session = await stack.enter_async_context(_session(config, lookout, settings.between))
    state = await open_state(Path(config.state.path) if config.state.path else None, wall_clock)
    stack.push_async_callback(state.close)
    dialects = _dialects(config)
    service = _rooms(config, settings, apis, session, state, lookout, dialects)
    stack.callback(service.pool.tokens.close)
    stack.callback(service.load.close)
    stack.push_async_callback(lambda: service.images.close())  # the fetcher of the last reload
    take_over(service, settings)
    service.pool.rotator.restore(await state.records())
    _connect(service)
    _keep_learning(config, service, session, dialects, settings.between, stack)
    return service


def _rooms(
    config: Config,
    settings: Settings,
    apis: Sequence[Api],
    session: aiohttp.ClientSession,
    state: State,
    lookout: Lookout,
    dialects: Mapping[str, Dialect],
) -> Service:
    """Return the rooms, empty: credentials and all else that a reload may change come by ``take_over``."""
    tokens = _tokens(config, session, state, dialects["code_assist"], lookout.skew)
    rotator = Rotator([], settings.policy, wall_clock)
    queue = Queue(rotator, settings.queue)
    dispatcher = Dispatcher(session, queue, tokens, dialects, settings.limits, wall_clock, lookout.skew)
    load = Load(Budget(settings.memory, asyncio.get_running_loop().time))
    checkup = Checkup(session, dispatcher, tokens, dialects, _onboarding(config), load, wall_clock)
    capture = Capture(Path(config.log.capture_dir)) if config.log.capture_dir else None
    return Service(
        apis=apis,
        door=settings.door,
        dispatcher=dispatcher,
        signatures=SignatureCache(wall_clock),
        images=ImageFetcher(ImagePolicy()),
        pool=Pool(rotator, tokens, state, lookout),
        kept=state if config.responses.keep == "state" else MemoryState(wall_clock),
        operations=Operations(checkup, capture=capture),
        clock=wall_clock,
        new_id=RandomIds(),
        client_limits=ClientLimits(),
        load=load,
        firsts=Firsts(wall_clock),
        turns=Turns(),
    )


def _connect(service: Service) -> None:
    """Let the rooms hear of each other: the state of cooldowns, operators of leases, tokens of hosts that are back."""
    _set_up_metrics(service)
    pool = service.pool
    pool.rotator.on_change = partial(_keep, pool.state)
    service.dispatcher.queue.on_report = partial(report, service.operations, service.firsts, wall_clock)
    pool.lookout.on_return = pool.tokens.try_again


def _keep_learning(
    config: Config,
    service: Service,
    session: aiohttp.ClientSession,
    dialects: Mapping[str, Dialect],
    between: Proxies,
    stack: AsyncExitStack,
) -> None:
    """Begin what is done now and again: news of other processes, handshakes with hosts that are out, new models."""
    pool = service.pool
    learn = partial(_learn, pool.rotator, pool.state)
    stack.callback(keep_doing(learn, LEARN_INTERVAL, name="learning what other processes did").cancel)
    knock = partial(pool.lookout.knock, lambda: service.door.needed, config.timeouts.connect, request_class(between))
    stack.callback(keep_doing(knock, HANDSHAKE_INTERVAL, name="handshakes with hosts out of reach").cancel)
    studio = dialects["ai_studio"]
    if config.models.discover and isinstance(studio, AiStudio):
        discover = partial(_discover, service, Discovery(session, studio, pool.tokens))
        stack.callback(keep_doing(discover, INTERVAL, name="models.discover").cancel)


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
    pool, operations = service.pool, service.operations
    operations.metrics = Metrics(
        pool.rotator.snapshot,
        lambda: service.open_requests,
        lambda: operations.reload_refused is not None,
        lambda: pool.state.health().ok,
        pool.lookout.reach.causes,
    )


async def _discover(service: Service, discovery: Discovery) -> None:
    found = await discovery.find(service.pool.rotator.snapshot())
    service.operations.discovered = found or service.operations.discovered
    add(service.door.catalogue, found)


async def _learn(rotator: Rotator, state: State) -> None:
    rotator.restore(await state.news())


# ------------------------------------------------------------------------------------------ the upstream side


def _session(config: Config, lookout: Lookout, between: Proxies = DIRECT) -> aiohttp.ClientSession:
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
        read_bufsize=READ_BUFFER,
        request_class=request_class(between),
    )


def _dialects(config: Config) -> dict[str, Dialect]:
    upstream, agent = config.upstream, _agent(config)
    made: list[Dialect] = [
        AiStudio(upstream.ai_studio_url, agent),
        CodeAssist(upstream.code_assist_url, agent),
        Vertex(upstream.vertex_url, agent),
    ]
    return {dialect.name: dialect for dialect in made}


def _tokens(config: Config, session: aiohttp.ClientSession, state: State, judge: Dialect, skew: Skew) -> Tokens:
    projects = Projects(session, _onboarding(config), judge, state, wall_clock)
    return Tokens(
        {}, session, state, wall_clock, projects, fingerprints={}, token_url=config.upstream.token_url or "", skew=skew
    )


def _onboarding(config: Config) -> Onboarding:
    return Onboarding(config.upstream.code_assist_url, _agent(config))


def _agent(config: Config) -> str:
    return config.upstream.user_agent or f"gemproxy/{__version__}"
