"""Credential files of each kind for the simulated Google; nothing in them is real."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def credential(folder: Path, kind: str, pool: str) -> str:
    """Return the TOML of one credential; its file, if it needs one, lies in ``folder``."""
    head = f'[[credentials]]\nname = "{kind}-1"\nkind = "{kind}"\npool = "{pool}"\n'
    if kind == "api_key":
        return head + 'key = "test-key-1"\n'
    file = folder / f"{kind}.json"
    file.write_bytes(_login() if kind == "oauth" else _robot())
    return f'{head}file = "{file}"\n'


def _login() -> bytes:
    return msgspec.json.encode({"access_token": "", "refresh_token": "fake-refresh", "expiry_date": 1})


@cache
def _robot() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    info = {
        "type": "service_account",
        "project_id": "fake-project",
        "private_key_id": "fake-key-id",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "robot@example.invalid",
        "token_uri": "http://127.0.0.1:9/unused",
    }
    return msgspec.json.encode(info)
