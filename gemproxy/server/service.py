"""What the handlers share, in parts: a handler takes those that it uses. Value holders.

A reload swaps ``door`` and ``images``; requests under way keep what they took at their start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import Struct

from gemproxy.converter.api import Api, Options
from gemproxy.converter.gemini.signatures import SignatureCache
from gemproxy.credentials.tokens import Tokens
from gemproxy.dispatch.dispatcher import Dispatcher
from gemproxy.fetch.fetcher import ImageFetcher
from gemproxy.load.burden import Load
from gemproxy.models import Catalogue, Model
from gemproxy.operations.capture import Capture
from gemproxy.operations.checkup import Checkup
from gemproxy.pool.rotator import Rotator
from gemproxy.server.auth import ClientAuth
from gemproxy.server.firsts import Firsts
from gemproxy.server.limits import ClientLimits
from gemproxy.server.turns import Turns
from gemproxy.state.store import State
from gemproxy.transport.reaching import Lookout
from gemproxy.upstream.reach import Need

if TYPE_CHECKING:
    from gemproxy.operations.metrics import Metrics


class Door(Struct, frozen=True):
    """All that handlers need of the configuration, swapped as one by a reload. Seconds and bytes."""

    auth: ClientAuth
    catalogue: Catalogue
    options: Options
    needs: Mapping[str, Need]  # by slot: the hosts without which it is of no use
    stream_default: bool = True
    json_clients: Sequence[str] = ()
    max_requests: int = 0
    ping_interval: float = 15.0
    hold: float = 10.0
    send: float = 60.0
    body: float = 60.0
    total: float = 0.0
    expose_routing: bool = False
    max_body: int = 32 << 20
    max_connections: int = 0
    headers: float = 30.0
    cors_origins: Sequence[str] = ()
    fallbacks: Mapping[str, Sequence[Model]] = {}  # by the id of the model that they stand in for

    @property
    def needed(self) -> set[str]:
        """Return the origin of every host that a credential needs."""
        return {origin for need in self.needs.values() for origin in (need.upstream, need.tokens)}


class Pool(Struct, frozen=True):
    """Who serves, as operators see it."""

    rotator: Rotator
    tokens: Tokens
    state: State
    lookout: Lookout


class Operations(Struct):
    """What operators see and do."""

    checkup: Checkup
    metrics: Metrics | None = None  # None: prometheus-client is not installed
    capture: Capture | None = None
    reload_refused: float | None = None  # when the last reload was, if it was: the configuration is an old one
    discovered: Sequence[str] = ()  # ids found last (models.discover), for the catalogue that a reload makes anew


class Service(Struct):
    """The parts, and what counts requests."""

    apis: Sequence[Api]  # the first speaks where a path is no API's own and no other claims it
    door: Door
    dispatcher: Dispatcher
    signatures: SignatureCache
    images: ImageFetcher
    pool: Pool
    kept: State  # what APIs keep for their clients: the pool's state, or memory (responses.keep)
    operations: Operations
    clock: Callable[[], float]  # wall clock, seconds
    new_id: Callable[[], str]  # random, URL-safe
    client_limits: ClientLimits
    load: Load
    firsts: Firsts
    turns: Turns
    draining: bool = False  # /ready is 503, and connections close after their answer
    refusing: bool = False  # the drain is over: what runs ends, and new requests are answered 503
    open_requests: int = 0
    outdated: set[str] = set()  # models past their shutdown date that were asked for, each logged once


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)
