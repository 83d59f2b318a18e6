"""What a configuration becomes for the rooms that do not read it."""

from __future__ import annotations

import pytest

from gemproxy.config import Auth, Client, Secret, load
from gemproxy.config.sections import Config, Models, Rotation, Server
from gemproxy.models import Catalogue
from gemproxy.wiring.settings import _auth, _options, _patience, read


def test_a_client_held_to_an_alias_may_use_its_model() -> None:
    clients = [Client(name="a", key=Secret("fake-a"), models=["fast", "models/gemini-2.5-pro"])]
    ring = _auth(Auth(clients=clients), Catalogue(aliases={"fast": "gemini-2.5-flash"}))
    assert ring.caller("fake-a").models == {"gemini-2.5-flash", "gemini-2.5-pro"}


def test_an_admin_key_takes_no_clients_name() -> None:
    clients = [Client(name="admin-1", key=Secret("fake-a"))]
    ring = _auth(Auth(clients=clients, admin_keys=[Secret("fake-b"), Secret("fake-c")]), Catalogue())
    assert [ring.caller(f"fake-{key}").name for key in "abc"] == ["admin-1", "admin-2", "admin-3"]


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


async def test_settings_show_nothing_of_what_they_hold() -> None:
    config = load(None, {"GEMINI_API_KEY": "test-key-1"})
    settings = await read(config, config.upstream)
    assert settings.secrets == ["", "test-key-1"]
    assert repr(settings) == "Settings(...)"
