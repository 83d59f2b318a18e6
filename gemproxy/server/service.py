"""What the handlers share: the wired rooms, and what the configuration sets for the door. A value holder.

A reload swaps fields; requests under way keep what they took at their start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import Struct

from gemproxy.capture import Capture
from gemproxy.checkup import Checkup
from gemproxy.converter.reading import Bounds
from gemproxy.converter.request import Options
from gemproxy.converter.signatures import SignatureCache
from gemproxy.dispatch import Dispatcher
from gemproxy.load.burden import Load
from gemproxy.models import Catalogue, Model
from gemproxy.pool.sources import Source
from gemproxy.pool.state import State
from gemproxy.pool.tokens import Tokens
from gemproxy.reaching import Lookout
from gemproxy.server.allowance import Allowances
from gemproxy.server.firsts import Firsts
from gemproxy.server.keyring import Keyring
from gemproxy.server.media import ImageFetcher
from gemproxy.upstream.reach import Need

if TYPE_CHECKING:
    from gemproxy.metrics import Metrics


class Door(Struct):
    """``[server]``, ``[compat]`` and ``[timeouts]``, as far as handlers need them. Seconds and bytes."""

    keyring: Keyring
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


class Service(Struct):
    """Everything a handler may use."""

    door: Door
    dispatcher: Dispatcher
    tokens: Tokens
    state: State
    catalogue: Catalogue
    options: Options
    signatures: SignatureCache
    images: ImageFetcher
    checkup: Checkup
    clock: Callable[[], float]  # wall clock, seconds
    new_id: Callable[[], str]  # random, URL-safe
    allowances: Allowances
    load: Load
    firsts: Firsts
    bounds: Bounds
    lookout: Lookout
    need: Callable[[Source], Need]
    needs: Mapping[str, Need]  # by slot: the hosts without which it is of no use
    metrics: Metrics | None = None  # None: prometheus-client is not installed
    capture: Capture | None = None
    draining: bool = False  # /ready is 503, and connections close after their answer
    refusing: bool = False  # the drain is over: what runs ends, and new requests are answered 503
    open_requests: int = 0
    reload_refused: float | None = None  # when the last reload was, if it was: the configuration is an old one
    discovered: Sequence[str] = ()  # ids found last (models.discover), for the catalogue that a reload makes anew
    outdated: set[str] = set()  # models past their shutdown date that were asked for, each logged once


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)
