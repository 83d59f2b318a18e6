"""Keys made anew for each run (edge): a certificate that nobody vouches for, and a service account's file.

Nothing in them is anybody's: the simulated Google takes every service account that it was told nothing of.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_HOST = "127.0.0.1"
_DAY = datetime.timedelta(days=1)


def unknown_certificate() -> ssl.SSLContext:
    """Return what a server needs to speak TLS with a certificate that it signed itself."""
    return certificate()[0]


def certificate(begin: datetime.timedelta = -_DAY, end: datetime.timedelta = _DAY) -> tuple[ssl.SSLContext, bytes]:
    """Return the same, valid from ``begin`` to ``end`` from now, and the PEM that a client needs to trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{_HOST} {serial:x}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    context, pem = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), made.public_bytes(Encoding.PEM)
    with tempfile.NamedTemporaryFile() as file:  # the standard library reads certificates from files only
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context, pem


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
