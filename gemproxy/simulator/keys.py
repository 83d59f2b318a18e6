"""Keys made anew for each run (edge): a certificate that nobody vouches for, and a service account's file.

Nothing in them is anybody's: the simulated Google takes every service account that it was told nothing of.
"""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_HOST = "127.0.0.1"
_DAY = timedelta(days=1)


def unknown_certificate() -> ssl.SSLContext:
    """Return what a server needs to speak TLS with a certificate that it signed itself."""
    return server_context(*certificate())


def certificate(begin: timedelta = -_DAY, end: timedelta = _DAY, *names: str) -> tuple[bytes, bytes]:
    """Return a key and its certificate in PEM, for this machine and ``names``; ``begin`` and ``end`` count from now.

    A client that holds the certificate trusts it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{_HOST} {serial:x}"[:64])])
    hosts = [x509.IPAddress(ipaddress.ip_address(_HOST)), *map(x509.DNSName, names)]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), serial)
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), made.public_bytes(Encoding.PEM)


def server_context(key: bytes, made: bytes) -> ssl.SSLContext:
    """Return what a server needs to speak TLS with a key and its certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as file:  # the standard library reads certificates from files only
        file.write(key + made)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def service_account(token_url: str) -> bytes:
    """Return the file of a service account that gets its tokens there."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    content = {
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": "demo",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "demo@example.invalid",
        "token_uri": token_url,
    }
    return msgspec.json.encode(content)
