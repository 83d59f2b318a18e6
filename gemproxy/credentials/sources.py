"""(edge) What a credential is made of, read from where the operator put it.

In: plain values of the configuration, and the files they name. Out: ``UserGrant`` or ``ServiceAccount``, and
fingerprints. Files are only read, and read anew for every refresh, so that a new login is found without a reload.
Reading blocks: call it before serving, or in a thread. No secret may show in a repr or a message.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gemproxy.credentials.oauth import TOKEN_URL
from gemproxy.errors import ConfigFault
from gemproxy.wire import UNREADABLE

LOGIN_ADVICE = "`gemproxy login` writes such a file"
_SECRET_FIELDS = ("private_key", "private_key_id", "refresh_token", "client_secret")  # of Google's credential files


class Source(Struct, frozen=True):
    """A credential as configured. The repr shows its kind only."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class ApiKeySource(Source, frozen=True):
    """An AI Studio key."""

    key: str


class OAuthSource(Source, frozen=True):
    """A file with a refresh token for Code Assist; the client comes from ``[oauth]`` unless the file has its own."""

    file: Path
    client_id: str = ""
    client_secret: str = ""
    project: str = ""  # "": the file's, else discovered


class ServiceAccountSource(Source, frozen=True):
    """A key file for Vertex AI, or without one the application-default credentials."""

    file: Path | None = None
    project: str = ""  # "": the file's
    location: str = "global"


class UserGrant(Struct, frozen=True):
    """What an OAuth file says, its three shapes told apart (docs/protocol.md 2.6). Times in seconds since the epoch."""

    refresh_token: str
    client_id: str
    client_secret: str
    own_client: bool  # the client is the file's, so that it concerns no other credential
    token_url: str = ""
    access_token: str = ""
    expiry: float = 0.0
    project: str = ""

    def __repr__(self) -> str:
        return "UserGrant(...)"

    @property
    def secrets(self) -> list[str]:
        """Return what must not get out."""
        return [self.refresh_token, self.client_secret, self.access_token]

    @property
    def key(self) -> str:
        """Return what tokens of this grant are kept by."""
        return _digest("oauth", self.client_id, self.refresh_token)


class ServiceAccount(Struct, frozen=True):
    """What a key file says. ``info`` is Google's JSON, for google-auth to read."""

    info: dict[str, Any]
    project: str = ""

    def __repr__(self) -> str:
        return "ServiceAccount(...)"

    @property
    def secrets(self) -> list[str]:
        """Return what must not get out."""
        return [str(self.info[name]) for name in _SECRET_FIELDS if name in self.info]

    @property
    def key(self) -> str:
        """Return what tokens of this account are kept by."""
        return _digest("service_account", msgspec.json.encode(self.info, order="sorted").decode())


class _Inner(Struct):
    """The repr shows no token."""

    access_token: str | None = None
    refresh_token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    token_uri: str | None = None
    expiry: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class _OAuthFile(_Inner):
    """gemini-cli's ``oauth_creds.json``, Google's ``authorized_user``, and ``{"token": {...}, "project_id": ...}``."""

    expiry_date: float | None = None  # milliseconds
    project_id: str | None = None  # may be a list: "a,b"
    token: _Inner | str | None = None  # a bare string is the access token, as google-auth writes it


def read_oauth(source: OAuthSource) -> UserGrant:
    """Return the grant in a credential file.

    Raises ``ConfigFault`` that names the file and what is wrong with it; ``OSError`` for what is not its fault.
    """
    body = _read(source.file, LOGIN_ADVICE)
    try:
        found = msgspec.json.decode(body, type=_OAuthFile)
    except UNREADABLE as error:
        raise ConfigFault(f"credentials.file = {source.file}: not an OAuth credential file ({_where(error)})") from None
    inner = found.token if isinstance(found.token, _Inner) else _Inner(access_token=found.token)
    refresh_token = found.refresh_token or inner.refresh_token
    if not refresh_token:
        raise ConfigFault(f"credentials.file = {source.file}: holds no refresh_token; {LOGIN_ADVICE}")
    own = found.client_id or inner.client_id
    client_id = own or source.client_id
    if not client_id:
        raise ConfigFault(f"credentials.file = {source.file}: holds no client_id, and oauth.client_id is not set")
    secret = found.client_secret or inner.client_secret
    if not secret and client_id == source.client_id:
        secret = source.client_secret
    return UserGrant(
        refresh_token=refresh_token,
        client_id=client_id,
        client_secret=secret or "",
        own_client=client_id != source.client_id,
        token_url=found.token_uri or inner.token_uri or "",
        access_token=found.access_token or inner.access_token or "",
        expiry=_seconds(found.expiry_date, found.expiry or inner.expiry),
        project=source.project or (found.project_id or "").split(",")[0].strip(),
    )


def read_service_account(file: Path, project: str = "") -> ServiceAccount:
    """Return the account in a key file. Raises ``ConfigFault`` that names the file and what is wrong."""
    body = _read(file, "the Google Cloud console gives it out")
    try:
        info = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise ConfigFault(f"credentials.file = {file}: not a service account file ({_where(error)})") from None
    if info.get("type") not in ("service_account", "authorized_user"):
        raise ConfigFault(
            f'credentials.file = {file}: its "type" is not service_account or authorized_user; '
            "leave the file out for other kinds, and name it in GOOGLE_APPLICATION_CREDENTIALS"
        )
    named = info.get("project_id") or info.get("quota_project_id") or ""
    return ServiceAccount(info, project or str(named))


def secrets(source: Source) -> list[str]:
    """Return what must not get out of a credential as it stands now; of a file that cannot be read, nothing."""
    try:
        match source:
            case ApiKeySource(key=key):
                return [key]
            case OAuthSource(client_secret=secret):
                return [secret, *read_oauth(source).secrets]
            case ServiceAccountSource(file=file):
                found = file or _default_file()
                return [] if found is None else read_service_account(found).secrets
    except (ConfigFault, OSError):
        return []
    raise TypeError(f"no credential: {source!r}")


def token_url(source: Source) -> str:
    """Return where the tokens of a credential come from as its file says; "" if from nowhere, or nobody can tell."""
    try:
        match source:
            case OAuthSource():
                return read_oauth(source).token_url or TOKEN_URL
            case ServiceAccountSource(file=file) if found := file or _default_file():
                return str(read_service_account(found).info.get("token_uri") or TOKEN_URL)
    except (ConfigFault, OSError):
        pass
    return ""


def fingerprint(source: Source) -> str:
    """Return the hash by which state knows a credential; it changes when the operator changes the credential.

    A file that cannot be read is known by its path: the operator mends it and the fingerprint changes.
    """
    match source:
        case ApiKeySource(key=key):
            return _digest("api_key", key)
        case OAuthSource(file=file, client_id=client, client_secret=secret, project=project):
            try:
                grant = read_oauth(source)
            except (ConfigFault, OSError):
                return _digest("oauth", "unread", str(file), client)
            return _digest("oauth", grant.key, grant.client_secret or secret, project)
        case ServiceAccountSource(file=file, project=project, location=location):
            return _digest("service_account", _content(file or _default_file()), project, location)
    raise TypeError(f"no credential: {source!r}")


def _read(file: Path, advice: str) -> bytes:
    try:
        return file.read_bytes().removeprefix(b"\xef\xbb\xbf")  # a byte-order mark, as some editors write it
    except FileNotFoundError:
        raise ConfigFault(f"credentials.file = {file}: not found; {advice}") from None
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise ConfigFault(f"credentials.file = {file}: cannot be read ({error.strerror})") from None


def _content(file: Path | None) -> str:
    """Return what stands in a file, or where it should stand."""
    if file is None:
        return "metadata server"
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return str(file)


def _default_file() -> Path | None:
    """Return the file of the application-default credentials, where google-auth looks for it."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return Path(named)
    base = os.environ.get("CLOUDSDK_CONFIG")
    folder = Path(base) if base else Path("~/.config/gcloud").expanduser()
    file = folder / "application_default_credentials.json"
    return file if file.exists() else None


def _seconds(milliseconds: float | None, text: str | None) -> float:
    if milliseconds:
        # some tools write seconds; as milliseconds those would lie in 1970
        return milliseconds / 1000 if milliseconds > 1e11 else milliseconds
    try:
        moment = msgspec.convert(text or "", datetime)
    except msgspec.ValidationError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _where(error: Exception) -> str:
    """Return what msgspec says of the place, which quotes names and types but no values."""
    return str(error) if isinstance(error, msgspec.DecodeError) else "not JSON"


def _digest(*parts: str) -> str:
    joined = "\0".join(("gemproxy", *parts))
    return hashlib.sha256(joined.encode(errors="surrogatepass")).hexdigest()[:32]
