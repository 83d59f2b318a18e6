"""Service account files for the simulated Google; nothing in them is real. One key for all: it takes time."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_key() -> str:
    """Return the half of the key that Google would have, as PEM."""
    return _key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def service_account(file: Path, **content: Any) -> Path:
    """Write a service account file, with this content instead of the usual."""
    usual = {
        "type": "service_account",
        "project_id": "fake-project",
        "private_key_id": "fake-key-id",
        "private_key": _key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "robot@example.invalid",
        "token_uri": "http://127.0.0.1:9/unused",
    }
    file.write_bytes(msgspec.json.encode(usual | content))
    return file
