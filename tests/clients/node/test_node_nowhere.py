"""The guard of the scripts: a client that would leave the machine fails by name, as one in Python does."""

from __future__ import annotations

from tests.clients.node.conftest import Client


async def test_no_script_leaves_the_machine(client: Client) -> None:
    for told in await client("all"):
        assert told.startswith("a test may only talk to this machine, not to "), told
