"""(edge) Prometheus' view of the server, through its official client library (extra ``metrics``).

A request costs a few additions here; the library's own objects, whose locks and labels cost ten times as much, are made
when somebody scrapes. Labels come from closed sets (models of the catalogue, reasons of verdict tables), so that no
client can make new ones; what an upstream makes up is counted apart. Never a key, the name of an account or a prompt.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gemproxy.converter.transcript import Usage
from gemproxy.pool.slot import SlotView
from gemproxy.upstream.reach import Reason

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # seconds
Key = TypeVar("Key", bound=tuple[str, ...])
MOST_VERDICTS = 300  # pairs of upstream and verdict: the tables hold some dozens, an upstream may invent words
STATES = ("ready", "cooling", "parked")


class Spread:
    """Times sorted into buckets, in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def family(self, name: str, about: str) -> Metric:
        """Return the histogram; each bucket holds all below it, as Prometheus wants them."""
        below, buckets = 0, []
        for bound, count in zip((*BUCKETS, "+Inf"), self.counts, strict=True):
            below += count
            buckets.append((str(bound), float(below)))
        return HistogramMetricFamily(name, about, buckets=buckets, sum_value=self.total)


class Metrics(Collector):
    """The counts of one process. What is given here is asked at each scrape.

    ``causes``: host, reason and whether that keeps connections from it now (``upstream/reach``).
    """

    def __init__(
        self,
        views: Callable[[], list[SlotView]],
        open_requests: Callable[[], int],
        reload_refused: Callable[[], bool] = bool,
        state_up: Callable[[], bool] = lambda: True,
        causes: Callable[[], list[tuple[str, Reason, bool]]] = list,
    ) -> None:
        self._views = views
        self._open_requests = open_requests
        self._reload_refused = reload_refused
        self._state_up = state_up
        self._causes = causes
        self._requests: defaultdict[tuple[str, bool, int], int] = defaultdict(int)
        self._attempts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._tokens: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._whole = Spread()
        self._first = Spread()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def attempt(self, upstream: str, verdict: str) -> None:
        """Count an attempt; ``verdict`` is the reason of its verdict, "ok", or "client_gone"."""
        known = (upstream, verdict) in self._attempts or len(self._attempts) < MOST_VERDICTS
        self._attempts[upstream, verdict if known else "other"] += 1

    def request(
        self, model: str, stream: bool, status: int, seconds: float, first: float | None, usage: Usage | None
    ) -> None:
        """Count a request that has ended; times in seconds."""
        self._requests[model, stream, status] += 1
        self._whole.add(seconds)
        if first is not None:
            self._first.add(first)
        if usage is not None:
            self._tokens[model, "prompt"] += usage.prompt
            self._tokens[model, "completion"] += usage.completion
            self._tokens[model, "cached"] += usage.cached

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the families of this moment, for the library."""
        requests = {
            (model, "true" if stream else "false", str(status)): count
            for (model, stream, status), count in self._requests.items()
        }
        labels = ["model", "stream", "status"]
        about = "Chat requests, by model, mode and status; without those refused before their model was known"
        yield _counter("gemproxy_requests", about, labels, requests)
        yield self._whole.family("gemproxy_request_seconds", "Whole time of a chat request")
        yield self._first.family("gemproxy_first_byte_seconds", "Time to the first content")
        yield _counter("gemproxy_tokens", "Tokens, by model and kind", ["model", "kind"], self._tokens)
        about = "Attempts at an upstream, by what came of them"
        yield _counter("gemproxy_upstream_attempts", about, ["upstream", "verdict"], self._attempts)
        yield GaugeMetricFamily("gemproxy_open_requests", "Chat requests open now", value=self._open_requests())
        about = "0 while the last reload was refused and an older configuration is in force"
        yield GaugeMetricFamily("gemproxy_config_last_reload_successful", about, value=not self._reload_refused())
        about = "1 if rests, tokens and projects are kept as state.path says, 0 if in memory until they can be"
        yield GaugeMetricFamily("gemproxy_state_up", about, value=float(self._state_up()))
        yield from _pool(self._views())
        yield _unreachable(self._causes())


def _counter(name: str, about: str, labels: list[str], counts: Mapping[Key, int]) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for key, count in counts.items():
        family.add_metric(list(key), count)
    return family


def _unreachable(causes: Iterable[tuple[str, Reason, bool]]) -> Metric:
    about = "1 while no connection comes about, by what keeps it"
    family = GaugeMetricFamily("gemproxy_upstream_unreachable", about, labels=["host", "reason"])
    for host, reason, holds in causes:
        family.add_metric([host, reason], float(holds))
    return family


def _pool(views: Iterable[SlotView]) -> Iterator[Metric]:
    state = GaugeMetricFamily("gemproxy_credential_state", "1 for the state it is in", labels=["credential", "state"])
    cooling = GaugeMetricFamily("gemproxy_cooldown_seconds", "Left of its longest cooldown", labels=["credential"])
    flight = GaugeMetricFamily("gemproxy_in_flight", "Requests it serves now", labels=["credential"])
    for view in views:
        for name in STATES:
            state.add_metric([view.name, name], float(view.state == name))
        lefts = [cooldown.seconds_left for cooldown in view.cooling if cooldown.seconds_left is not None]
        cooling.add_metric([view.name], max(lefts, default=0.0))
        flight.add_metric([view.name], view.in_flight)
    yield from (state, cooling, flight)
