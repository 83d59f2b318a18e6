"""(edge) Prometheus' view of the server, through its official client library (extra ``metrics``).

Counts what the log line tells; states are read at the moment of a scrape. Labels come from closed sets (models from the
catalogue, reasons from verdict tables), so that no client can make new ones. Never a key, name of an account or prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gemproxy.converter.events import Usage
from gemproxy.pool.rotator import SlotView

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
STATES = ("ready", "cooling", "parked")


class Metrics:
    """One registry a process. ``views`` and ``open_requests`` are asked at each scrape."""

    def __init__(self, views: Callable[[], list[SlotView]], open_requests: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "gemproxy_requests",
            "Chat requests, by model, mode and status",
            ["model", "stream", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "gemproxy_request_seconds", "Whole time of a chat request", buckets=SECONDS, registry=self._registry
        )
        self._first = Histogram(
            "gemproxy_first_byte_seconds", "Time to the first content", buckets=SECONDS, registry=self._registry
        )
        self._tokens = Counter(
            "gemproxy_tokens", "Tokens, by model and kind", ["model", "kind"], registry=self._registry
        )
        self._attempts = Counter(
            "gemproxy_upstream_attempts",
            "Attempts at an upstream, by what came of them",
            ["upstream", "verdict"],
            registry=self._registry,
        )
        self._registry.register(_Pool(views, open_requests))

    def attempt(self, upstream: str, verdict: str) -> None:
        """Count an attempt; ``verdict`` is the reason of its verdict, "ok", or "client_gone"."""
        self._attempts.labels(upstream, verdict).inc()

    def request(
        self, model: str, stream: bool, status: int, seconds: float, first: float | None, usage: Usage | None
    ) -> None:
        """Count a request that has ended; times in seconds."""
        self._requests.labels(model, "true" if stream else "false", str(status)).inc()
        self._seconds.observe(seconds)
        if first is not None:
            self._first.observe(first)
        if usage is not None:
            for kind, count in (("prompt", usage.prompt), ("completion", usage.completion), ("cached", usage.cached)):
                self._tokens.labels(model, kind).inc(count)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Pool(Collector):
    """States of credentials, read from the rotator when asked."""

    def __init__(self, views: Callable[[], list[SlotView]], open_requests: Callable[[], int]) -> None:
        self._views = views
        self._open_requests = open_requests

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of this moment."""
        views = self._views()
        yield GaugeMetricFamily("gemproxy_open_requests", "Chat requests open now", value=self._open_requests())
        yield _states(views)
        yield _cooling(views)
        yield _in_flight(views)


def _states(views: Iterable[SlotView]) -> Metric:
    gauge = GaugeMetricFamily("gemproxy_credential_state", "1 for the state it is in", labels=["credential", "state"])
    for view in views:
        for state in STATES:
            gauge.add_metric([view.name, state], float(view.state == state))
    return gauge


def _cooling(views: Iterable[SlotView]) -> Metric:
    gauge = GaugeMetricFamily("gemproxy_cooldown_seconds", "Left of the longest rest that ends", labels=["credential"])
    for view in views:
        lefts = [rest.seconds_left for rest in view.cooling if rest.seconds_left is not None]
        gauge.add_metric([view.name], max(lefts, default=0.0))
    return gauge


def _in_flight(views: Iterable[SlotView]) -> Metric:
    gauge = GaugeMetricFamily("gemproxy_in_flight", "Requests a credential serves now", labels=["credential"])
    for view in views:
        gauge.add_metric([view.name], view.in_flight)
    return gauge
