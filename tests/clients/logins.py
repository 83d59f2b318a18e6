"""Credential files of each kind for the simulated Google; nothing in them is real."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.credential_files import service_account


def credential(folder: Path, kind: str, pool: str) -> str:
    """Return the TOML of one credential; its file, if it needs one, lies in ``folder``."""
    head = f'[[credentials]]\nname = "{kind}-1"\nkind = "{kind}"\npool = "{pool}"\n'
    if kind == "api_key":
        return head + 'key = "test-key-1"\n'
    file = folder / f"{kind}.json"
    if kind == "oauth":
        file.write_bytes(msgspec.json.encode({"access_token": "", "refresh_token": "fake-refresh", "expiry_date": 1}))
    else:
        service_account(file)
    return f'{head}file = "{file}"\n'
