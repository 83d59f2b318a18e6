"""The shapes of credential files, what is wrong with bad ones, and fingerprints. All contents are fake."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gemproxy.credentials import sources
from gemproxy.credentials.sources import (
    ApiKeySource,
    OAuthSource,
    ServiceAccountSource,
    fingerprint,
    read_oauth,
    read_service_account,
)
from gemproxy.errors import ConfigFault


@pytest.fixture
def write(tmp_path: Path):
    def write(content: object, name: str = "credential.json") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
        return path

    return write


def grant(path: Path, **configured: str):
    return read_oauth(OAuthSource(path, **{"client_id": "conf-id", "client_secret": "conf-secret"} | configured))


GEMINI_CLI = {
    "access_token": "fake-access",
    "refresh_token": "fake-refresh",
    "scope": "a b",
    "token_type": "Bearer",
    "id_token": "fake-id",
    "expiry_date": 1_700_000_000_500,
}


def test_a_byte_order_mark_is_read_over(write) -> None:
    assert grant(write(b"\xef\xbb\xbf" + msgspec.json.encode(GEMINI_CLI))).refresh_token == "fake-refresh"
    account = {"type": "service_account", "project_id": "demo-project"}
    assert read_service_account(write(b"\xef\xbb\xbf" + msgspec.json.encode(account))).project == "demo-project"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GEMINI_CLI, {"access_token": "fake-access", "expiry": 1_700_000_000.5, "client_id": "conf-id"}),
        (GEMINI_CLI | {"expiry_date": 1_700_000_000}, {"expiry": 1_700_000_000.0}),
        (GEMINI_CLI | {"expiry_date": None, "id_token": None}, {"expiry": 0.0}),
        (
            {"type": "authorized_user", "client_id": "own", "client_secret": "s", "refresh_token": "fake-refresh"},
            {"client_id": "own", "client_secret": "s", "own_client": True, "access_token": ""},
        ),
        (
            {"client_id": "conf-id", "refresh_token": "fake-refresh"},
            {"client_secret": "conf-secret", "own_client": False},
        ),
        ({"client_id": "own", "refresh_token": "fake-refresh"}, {"client_secret": "", "own_client": True}),
        (
            {
                "token": {
                    "access_token": "fake-access",
                    "refresh_token": "fake-refresh",
                    "expiry": "2023-11-14T22:13:20.123456789Z",
                },
                "project_id": "first, second",
                "email": "nobody@example.invalid",
                "type": "gemini",
            },
            {"access_token": "fake-access", "expiry": 1_700_000_000.123457, "project": "first"},
        ),
        (
            {
                "token": "fake-access",
                "refresh_token": "fake-refresh",
                "token_uri": "https://token.invalid/",
                "expiry": "2023-11-14T22:13:20",
            },
            {"access_token": "fake-access", "expiry": 1_700_000_000.0, "token_url": "https://token.invalid/"},
        ),
        ({"refresh_token": "fake-refresh", "expiry": "soon"}, {"expiry": 0.0}),
    ],
    ids=[
        "gemini-cli",
        "gemini-cli with seconds",
        "gemini-cli with nulls",
        "authorized_user, whose client beats the configured one",
        "a file that names the configured client takes its secret",
        "a file with a client of its own and no secret",
        "token object with nanoseconds and a list of projects",
        "google-auth's own, with a bare token and a time without zone",
        "an end that cannot be read",
    ],
)
def test_a_credential_file_is_read_in_every_shape(write, content, expected):
    found = grant(write(content))
    assert found.refresh_token == "fake-refresh"
    assert {name: getattr(found, name) for name in expected} == expected


def test_the_configured_project_beats_the_files(write):
    assert grant(write({"refresh_token": "r", "project_id": "theirs"}), project="ours").project == "ours"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an OAuth credential file"),
        (b'{"refresh_token": "fake-refr', "not an OAuth credential file"),
        (b"\xff\xfe", "not an OAuth credential file"),
        (b"[" * 5000, "not an OAuth credential file"),
        (b'"fake-refresh"', "Expected `object`"),
        ({"refresh_token": 7}, "$.refresh_token"),
        ({"access_token": "fake-access"}, "holds no refresh_token; `gemproxy login` writes such a file"),
    ],
    ids=["empty", "cut off", "not UTF-8", "too deep", "not an object", "wrong type", "without refresh token"],
)
def test_a_bad_credential_file_is_named_with_its_fault(write, content, words):
    path = write(content)
    with pytest.raises(ConfigFault) as caught:
        grant(path)
    assert f"credentials.file = {path}" in str(caught.value)
    assert words in str(caught.value)
    assert "fake-" not in str(caught.value)


def test_a_grant_without_any_client_names_the_setting(write):
    with pytest.raises(ConfigFault, match=r"oauth\.client_id"):
        grant(write({"refresh_token": "r"}), client_id="")


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(ConfigFault, match="not found; `gemproxy login` writes such a file"):
        grant(tmp_path / "absent.json")


@pytest.mark.parametrize("where", ["", "file/below"], ids=["a folder", "below a file"])
def test_a_path_that_is_no_file_is_named(tmp_path, where):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigFault, match="cannot be read"):
        grant(tmp_path / where)


def test_a_file_without_permission_is_named(write, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = write(GEMINI_CLI)
    monkeypatch.setattr(Path, "read_bytes", refuse)  # root, as in a container, may read everything
    with pytest.raises(ConfigFault, match=r"cannot be read \(Permission denied\)"):
        grant(path)


# ------------------------------------------------------------------------------------------------- service accounts


def test_a_service_account_names_its_project(write):
    path = write({"type": "service_account", "project_id": "theirs"})
    assert read_service_account(path).project == "theirs"
    assert read_service_account(path, "ours").project == "ours"
    user = write({"type": "authorized_user", "quota_project_id": "quota"}, "user.json")
    assert read_service_account(user).project == "quota"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not a service account file"),
        (b"\xff", "not a service account file"),
        ({"type": "external_account"}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ({"private_key": "fake-private-key"}, 'its "type" is not service_account'),
    ],
    ids=["cut off", "not UTF-8", "another kind", "no kind"],
)
def test_a_bad_key_file_is_named_with_its_fault(write, content, words):
    path = write(content)
    with pytest.raises(ConfigFault) as caught:
        read_service_account(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "fake-" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- fingerprints


def test_fingerprints_follow_what_the_operator_changes(write, tmp_path):
    one, two = write(GEMINI_CLI, "1.json"), write(GEMINI_CLI | {"refresh_token": "fake-other"}, "2.json")
    robot, other = write({"type": "service_account"}, "3.json"), write({"type": "service_account", "x": 1}, "4.json")
    prints = [
        fingerprint(ApiKeySource("test-key-1")),
        fingerprint(ApiKeySource("test-key-2")),
        fingerprint(OAuthSource(one, "id", "secret")),
        fingerprint(OAuthSource(one, "other id", "secret")),
        fingerprint(OAuthSource(one, "id", "other secret")),
        fingerprint(OAuthSource(one, "id", "secret", "project")),
        fingerprint(OAuthSource(two, "id", "secret")),
        fingerprint(OAuthSource(tmp_path / "absent", "id", "secret")),
        fingerprint(ServiceAccountSource(robot)),
        fingerprint(ServiceAccountSource(other)),
        fingerprint(ServiceAccountSource(robot, "project")),
        fingerprint(ServiceAccountSource(robot, "", "us-east1")),
        fingerprint(ServiceAccountSource(tmp_path / "absent")),
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(found) == 32 for found in prints)


def test_a_fingerprint_does_not_follow_what_google_changes(write):
    before = fingerprint(OAuthSource(write(GEMINI_CLI), "id", "secret"))
    path = write(GEMINI_CLI | {"access_token": "fake-new", "expiry_date": 1_800_000_000_000})
    assert fingerprint(OAuthSource(path, "id", "secret")) == before


def test_the_default_credentials_are_known_by_the_file_they_come_from(write, tmp_path, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    source = ServiceAccountSource(None, "project")
    prints = [fingerprint(source)]
    (tmp_path / "gcloud").mkdir()
    write({"type": "authorized_user"}, "gcloud/application_default_credentials.json")
    prints.append(fingerprint(source))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(write({"type": "service_account"})))
    prints.append(fingerprint(source))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent"))
    prints.append(fingerprint(source))
    assert len(set(prints)) == 4


def test_no_repr_shows_a_secret(write):
    path = write(GEMINI_CLI | {"client_secret": "fake-secret", "client_id": "x"})
    robot = write({"type": "service_account", "private_key": "fake-private-key"}, "robot.json")
    shown = [
        ApiKeySource("fake-key"),
        OAuthSource(path, "fake-client", "fake-secret"),
        grant(path),
        read_service_account(robot),
    ]
    assert "fake-" not in repr(shown).replace(str(path), "").replace(str(robot), "")


def test_only_sources_have_fingerprints():
    with pytest.raises(TypeError):
        fingerprint("test-key-1")


@pytest.mark.parametrize("kind", [sources._Inner, sources._OAuthFile])
def test_the_repr_of_what_a_file_holds_shows_no_token(kind):
    assert "fake" not in repr(kind("fake-access", "fake-refresh"))
