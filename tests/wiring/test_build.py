"""What the wiring adds of its own: the log's words on what became of a lease."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest

from gemproxy.config import Auth, Client, Secret, load
from gemproxy.config.sections import Config, Models, Rotation, Server
from gemproxy.models import Catalogue
from gemproxy.pool.cooldown import Cooldown
from gemproxy.pool.rotator import Lease, Slot
from gemproxy.server.firsts import Firsts
from gemproxy.transport.connections import Connector
from gemproxy.transport.reaching import Lookout
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from gemproxy.wiring import build as app
from gemproxy.wiring.build import _auth, _hear, _options, _patience, _session, build_service

NIGHT = Slot("a", cooldowns={"m": Cooldown(2e9 + 48_900.0, 2e9)})
NEXT, STOP = Action.NEXT, Action.STOP
WELL, RESTS, PARKED = Slot("a"), Slot("a", cooldowns={"m": Cooldown(2e9 + 30.0, 2e9)}), Slot("a", parked="revoked")


@pytest.mark.parametrize(
    ("slot", "verdict", "line"),
    [
        pytest.param(
            PARKED,
            Verdict(NEXT, Scope.CREDENTIAL, reason="later_refusal"),
            "credential a is parked (revoked): it serves again after a change, a reload or /v1/token-test",
            id="parked, with the reason that parked it",
        ),
        pytest.param(
            PARKED,
            Verdict(Action.RETRY, reason="overloaded"),
            "credential a: attempt at m failed (overloaded)",
            id="a late lease of a parked credential",
        ),
        pytest.param(
            RESTS, Verdict(NEXT, Scope.MODEL, reason="quota"), "credential a rests 30 s for m (quota)", id="a rest"
        ),
        pytest.param(
            NIGHT,
            Verdict(NEXT, Scope.MODEL, reason="quota_day"),
            "credential a rests 13 h 35 min, until 17:09 UTC, for m (quota_day)",
            id="a long rest",
        ),
        pytest.param(
            WELL,
            Verdict(STOP, Scope.UPSTREAM, reason="country"),
            "credential a: attempt at m failed (country)",
            id="Google itself will not",
        ),
        pytest.param(WELL, Verdict(STOP, reason="bad_request"), None, id="the client must change its request"),
        pytest.param(PARKED, Verdict(STOP, reason="bad_request"), None, id="the same, of a parked credential"),
        pytest.param(WELL, OK, None, id="well"),
        pytest.param(WELL, None, None, id="the client left"),
        pytest.param(WELL, Verdict(Action.LATER, reason="token_slow"), None, id="no token yet: told once, elsewhere"),
    ],
)
def test_the_log_tells_what_a_verdict_did(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    slot: Slot,
    verdict: Verdict | None,
    line: str | None,
) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    monkeypatch.setattr("gemproxy.wiring.build.wall_clock", lambda: 2e9)
    nobody: Any = SimpleNamespace(metrics=None, firsts=Firsts(lambda: 2e9))
    for _ in range(2):
        _hear(nobody, Lease(slot, "m", 0.0), verdict)
    assert caplog.messages == ([] if line is None else [line] * 2)
    parked = line is not None and "parked" in line
    expected = ["WARNING", "WARNING" if parked else "INFO"][: len(caplog.records)]
    assert [record.levelname for record in caplog.records] == expected, "the first of its kind"


def test_a_client_held_to_an_alias_may_use_its_model() -> None:
    clients = [Client(name="a", key=Secret("fake-a"), models=["fast", "models/gemini-2.5-pro"])]
    ring = _auth(Auth(clients=clients), Catalogue(aliases={"fast": "gemini-2.5-flash"}))
    assert ring.caller("Bearer fake-a").models == {"gemini-2.5-flash", "gemini-2.5-pro"}


def test_an_admin_key_takes_no_clients_name() -> None:
    clients = [Client(name="admin-1", key=Secret("fake-a"))]
    ring = _auth(Auth(clients=clients, admin_keys=[Secret("fake-b"), Secret("fake-c")]), Catalogue())
    assert [ring.caller(f"Bearer fake-{key}").name for key in "abc"] == ["admin-1", "admin-2", "admin-3"]


def test_what_the_operator_sets_for_every_request_reaches_the_converter() -> None:
    found = _options(Config(server=Server(max_schema_nodes=5), models=Models(include_thoughts=False)))
    assert (found.include_thoughts, found.max_schema_nodes) == (False, 5)


@pytest.mark.parametrize(
    ("budget", "patience"),
    [
        pytest.param(30.0, 15.0, id="half of what a request may take"),
        pytest.param(0.5, 1.0, id="but time enough for one answer"),
    ],
)
def test_a_token_takes_no_more_than_its_share(budget: float, patience: float) -> None:
    assert _patience(Config(rotation=Rotation(budget=budget))) == patience


async def test_a_machine_that_slept_does_not_take_its_clock_for_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = {time.CLOCK_MONOTONIC: 0.0, time.CLOCK_BOOTTIME: 0.0}
    monkeypatch.setattr(time, "clock_gettime", slept.__getitem__)
    monkeypatch.setattr(app, "wall_clock", lambda: 2e9 + slept[time.CLOCK_BOOTTIME])
    async with AsyncExitStack() as stack:
        skew = (await build_service(load(None, {"GEMINI_API_KEY": "test-key-1"}), stack)).lookout.skew
        skew.note({"Date": formatdate(2e9, usegmt=True)})
        slept[time.CLOCK_BOOTTIME] = 8 * 3600.0
        assert skew.words == ""


async def test_what_asks_google_keeps_clean_connections_only_and_unpacks_nothing() -> None:
    config, clock = load(None, {"GEMINI_API_KEY": "test-key-1"}), asyncio.get_running_loop().time
    async with _session(config, Lookout(clock, clock)) as session:
        assert isinstance(session.connector, Connector)
        assert session.auto_decompress is False
