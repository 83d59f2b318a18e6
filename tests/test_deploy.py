"""The files of ``deploy/`` say what they must, in this tree's own words; ``tests/system`` runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemproxy.config.sections import Config

DEPLOY = Path(__file__).parents[1] / "deploy"
FILES = ["nginx.conf", "haproxy.cfg", "Caddyfile", "Containerfile", "compose.yaml", "prometheus.yml"]
SETTING = re.compile(r"\b(server|auth|timeouts|state)\.([a-z_]+)")


@pytest.mark.parametrize("name", FILES)
def test_file_begins_with_the_keys_of_clients(name: str) -> None:
    """A reverse proxy makes a server public that takes any key on loopback."""
    first, second = (DEPLOY / name).read_text(encoding="utf-8").split("\n#\n")[:2]
    assert first.startswith("# ")
    assert second.startswith("# First set auth.keys")


@pytest.mark.parametrize("name", FILES)
def test_file_names_only_settings_that_there_are(name: str) -> None:
    config = Config()
    for section, key in SETTING.findall((DEPLOY / name).read_text(encoding="utf-8")):
        assert key in getattr(config, section).__struct_fields__, f"{section}.{key}"
