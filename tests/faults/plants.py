"""Known secrets in every place where a real one would stand, and a search that finds them wherever they come out.

Every value has the shape that Google gives to such a thing, and says that it is none.
"""

from __future__ import annotations

import base64
import functools
import urllib.parse
from pathlib import Path

import msgspec

from gemproxy.simulator import Simulator
from tests.credential_files import service_account

PLANTS = {
    "API key": "AIzaFAKE-planted-key-1",
    "second API key": "AIzaFAKE-planted-key-2",
    "client key": "sk-fake-planted-client-key",
    "admin key": "sk-fake-planted-admin-key",
    "wrong client key": "sk-fake-planted-wrong-key",
    "OAuth client secret": "GOCSPX-fake-planted-secret",
    "refresh token": "1//fake-planted-refresh-token",
    "rotated refresh token": "1//fake-planted-rotated-token",
    "access token": "ya29.fake-planted-access-token",
    "account URL": "plt=fake-planted-account-link",
    "project number": "987650001234",
    "project id": "fake-planted-project-77",
    "e-mail": "planted.person@example.invalid",
}
PROMPT = "planted prompt: my diary says"
SERVICE_KEY_ID = "fakeplantedkeyid"


def found_in(text: bytes | str) -> set[str]:
    """Return which plants a text holds: as they are, percent-coded, in base64 or escaped as JSON."""
    data = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
    return {name for name, plant in PLANTS.items() if any(form in data for form in _forms(plant))}


@functools.cache
def _forms(plant: str) -> set[bytes]:
    coded = base64.b64encode(plant.encode()).rstrip(b"=")[:-1]  # the last digit depends on what follows
    return {plant.encode(), urllib.parse.quote(plant, safe="").encode(), coded, plant.replace("/", r"\/").encode()}


TRIO = """
[[credentials]]
name = "studio"
kind = "api_key"
key = "{key}"
{models}
[[credentials]]
name = "person"
kind = "oauth"
file = "{folder}/person.json"
models = ["gemini-2.5-pro"]
[[credentials]]
name = "robot"
kind = "service_account"
file = "{folder}/robot.json"
models = ["gemini-3.5-flash"]
[oauth]
client_id = "fake-client-id"
client_secret = "{secret}"
[upstream]
ai_studio_url = "{sim.ai_studio_url}"
code_assist_url = "{sim.code_assist_url}"
vertex_url = "{sim.vertex_url}"
token_url = "{sim.token_url}"
"""


def trio(simulator: Simulator, folder: Path, models: str = 'models = ["gemini-2.5-flash"]') -> str:
    """Return TOML with a credential of each kind, each for a model of its own."""
    write_files(folder, simulator.token_url)
    key, secret = PLANTS["API key"], PLANTS["OAuth client secret"]
    return TRIO.format(sim=simulator, folder=folder, key=key, secret=secret, models=models)


def write_files(folder: Path, token_url: str) -> None:
    """Write an OAuth file and a service account file that hold plants."""
    (folder / "person.json").write_bytes(
        msgspec.json.encode({"refresh_token": PLANTS["refresh token"], "access_token": PLANTS["access token"]})
    )
    service_account(
        folder / "robot.json",
        project_id=PLANTS["project id"],
        private_key_id=SERVICE_KEY_ID,
        client_email=PLANTS["e-mail"],
        token_uri=token_url,
    )
