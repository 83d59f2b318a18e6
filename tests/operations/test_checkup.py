"""What an operator reads of credentials that do not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.config import sections
from gemproxy.operations import checkup
from gemproxy.simulator import Answer, Simulator, drip, error_answer
from tests.running import configuration, running

OAUTH = '[oauth]\nclient_id = "fake-client"\nclient_secret = "fake-secret"\n'


async def rows(server: Any, path: str) -> list[dict[str, Any]]:
    _, body = await server.post(path, b"")
    return msgspec.json.decode(body)["results"]


async def test_a_lost_file_is_named(simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "oauth.json"
    file.write_bytes(b'{"refresh_token": "fake-refresh"}')
    more = f'{OAUTH}[[credentials]]\nname = "team"\nkind = "oauth"\nfile = "{file}"\n'
    async with running(simulator, configuration(simulator, tmp_path, more, keys=0)) as server:
        assert [row["ok"] for row in await rows(server, "/v1/token-test")] == [True]
        project = next(row for row in await rows(server, "/v1/test") if row["step"] == "project")
        assert (project["ok"], project["ms"]) == (True, 0)
        file.unlink()
        (row,) = await rows(server, "/v1/token-test")
    assert not row["ok"]
    assert (
        row["detail"] == f"credential_file: credentials.file = {file}: not found; `gemproxy login` writes such a file"
    )


@pytest.mark.parametrize("size", [20, 10_000], ids=["in pieces", "at once"])
async def test_a_refusal_is_read_to_its_end_before_it_is_judged(
    simulator: Simulator, tmp_path: Path, size: int
) -> None:
    whole = error_answer(400, "API key not valid. Please pass a valid API key.").body[0]
    simulator.script(Answer(drip(whole, size, 0.005), status=400), method="models")
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        (row,) = await rows(server, "/v1/token-test")
    assert row["detail"].startswith("key_invalid: ")


def test_no_client_shares_the_burdens_of_a_checkup() -> None:
    """A client may be called checkup."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": checkup.OWNER}, sections.Client)
    assert msgspec.convert({"name": checkup.OWNER.strip()}, sections.Client).name == "checkup"
