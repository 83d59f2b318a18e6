"""A server without a file: what the environment alone gives."""

from __future__ import annotations

import pytest

from gemproxy.config import ApiKey, Client, ConfigFault, OAuthFile, Secret, ServiceAccount, load
from gemproxy.config.environment import callers, credentials


def names(environ: dict[str, str]) -> list[str]:
    return [credential.name for credential in credentials(environ)]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"GEMINI_API_KEY": "test-key-1"}, ["studio-1"], id="one key"),
        pytest.param({"GEMINI_API_KEYS": "test-key-1, test-key-2,"}, ["studio-1", "studio-2"], id="a list of keys"),
        pytest.param(
            {"GEMINI_API_KEY": "test-key-1", "GEMINI_API_KEYS": "test-key-1,test-key-2"},
            ["studio-1", "studio-2"],
            id="a key in both counts once",
        ),
        pytest.param({"GEMINI_API_KEY": "", "GEMINI_API_KEYS": " , "}, [], id="empty variables count as unset"),
        pytest.param({"GOOGLE_API_KEY": "test-key-1", "GEMINI_API_KEYS": ""}, ["studio-1"], id="Google's own name"),
        pytest.param(
            {"GOOGLE_API_KEY": "test-key-1", "GEMINI_API_KEY": "test-key-2"},
            ["studio-1"],
            id="Google's name beside ours",
        ),
        pytest.param(
            {"GOOGLE_API_KEY": "test-key-1", "GOOGLE_CLOUD_PROJECT": "demo-project"},
            ["studio-1"],
            id="a key beside a project",
        ),
        pytest.param({"GEMPROXY_OAUTH_FILES": "/a.json,/b.json"}, ["oauth-1", "oauth-2"], id="login files"),
        pytest.param(
            {"GEMINI_API_KEY": "test-key-1", "GEMPROXY_OAUTH_FILES": "/a.json"},
            ["studio-1", "oauth-1"],
            id="keys and logins",
        ),
        pytest.param({"GOOGLE_CLOUD_PROJECT": "demo-project"}, ["vertex-1"], id="application-default credentials"),
        pytest.param(
            {"GOOGLE_CLOUD_PROJECT": "demo-project", "GEMINI_API_KEY": "test-key-1"},
            ["studio-1"],
            id="a project beside a key does not turn Vertex on",
        ),
        pytest.param({"GOOGLE_APPLICATION_CREDENTIALS": "/a.json"}, [], id="a file without a project is not enough"),
        pytest.param({}, [], id="nothing"),
    ],
)
def test_the_environment_names_credentials(environ: dict[str, str], expected: list[str]) -> None:
    assert names(environ) == expected


def test_our_name_for_a_key_goes_before_googles() -> None:
    environ = {"GOOGLE_API_KEY": "test-key-1", "GEMINI_API_KEY": "test-key-2"}
    assert credentials(environ) == [ApiKey(name="studio-1", key=Secret("test-key-2"))]


def test_each_kind_carries_what_was_given() -> None:
    assert credentials({"GEMINI_API_KEY": "test-key-1"}) == [ApiKey(name="studio-1", key=Secret("test-key-1"))]
    assert credentials({"GEMPROXY_OAUTH_FILES": "/a.json"}) == [OAuthFile(name="oauth-1", file="/a.json")]
    vertex = {"GOOGLE_CLOUD_PROJECT": "demo-project", "GOOGLE_CLOUD_LOCATION": "europe-west4"}
    assert credentials(vertex) == [ServiceAccount(name="vertex-1", project="demo-project", location="europe-west4")]
    assert credentials({"GOOGLE_CLOUD_PROJECT": "demo-project"}) == [
        ServiceAccount(name="vertex-1", project="demo-project", location="global")
    ]


def test_a_key_in_the_environment_is_a_complete_installation() -> None:
    config = load(None, {"GEMINI_API_KEY": "test-key-1"})
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)
    assert [credential.name for credential in config.credentials] == ["studio-1"]
    assert config.auth.clients == []
    assert config.state.path is None


def test_a_login_in_the_environment_is_a_complete_installation(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"refresh_token": "fake-refresh"}')
    config = load(
        None,
        {
            "GEMPROXY_OAUTH_FILES": str(tmp_path / "a.json"),
            "GEMPROXY_OAUTH_CLIENT_ID": "fake-client",
            "GEMPROXY_OAUTH_CLIENT_SECRET": "fake-secret",
        },
    )
    assert (config.oauth.client_id.reveal(), config.oauth.client_secret.reveal()) == ("fake-client", "fake-secret")


def test_credentials_of_the_file_leave_those_of_the_environment_out(tmp_path) -> None:
    file = tmp_path / "gemproxy.toml"
    file.write_text('[[credentials]]\nkind = "api_key"\nname = "mine"\nkey = "test-key-1"')
    assert [one.name for one in load(file, {"GEMINI_API_KEY": "test-key-2"}).credentials] == ["mine"]


def test_a_file_without_credentials_takes_those_of_the_environment(tmp_path) -> None:
    file = tmp_path / "gemproxy.toml"
    file.write_text("[server]\nport = 9000")
    config = load(file, {"GEMINI_API_KEY": "test-key-1"})
    assert (config.server.port, config.credentials[0].name) == (9000, "studio-1")


def test_the_oauth_client_of_the_file_comes_before_that_of_the_environment(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"refresh_token": "fake"}')
    file = tmp_path / "gemproxy.toml"
    file.write_text("[oauth]\nclient_id = 'of-the-file'\nclient_secret = 'fake'")
    environ = {"GEMPROXY_OAUTH_FILES": "a.json", "GEMPROXY_OAUTH_CLIENT_ID": "of-the-environment"}
    assert load(file, environ).oauth.client_id.reveal() == "of-the-file"


def test_client_keys_of_the_environment_join_those_of_the_file(tmp_path) -> None:
    file = tmp_path / "gemproxy.toml"
    file.write_text("[auth]\nkeys = ['fake-1', 'fake-2']\n[[auth.clients]]\nname = 'ci'\nkey = 'fake-3'")
    environ = {"GEMINI_API_KEY": "test-key-1", "GEMPROXY_API_KEYS": "fake-2,fake-4,fake-3"}
    found = {client.name: client.key.reveal() for client in load(file, environ).auth.clients}
    assert found == {"ci": "fake-3", "key-1": "fake-1", "key-2": "fake-2", "key-3": "fake-4"}


def test_a_bare_key_never_takes_the_name_of_a_client() -> None:
    taken = Client(name="key-1", key=Secret("fake-1"))
    assert [one.name for one in callers([taken], [Secret("fake-2")], {})] == ["key-1", "key-2"]


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        pytest.param("", {}, None, id="memory without systemd"),
        pytest.param("", {"STATE_DIRECTORY": "/var/lib/gemproxy"}, "/var/lib/gemproxy/state.db", id="systemd's folder"),
        pytest.param(
            "", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/state.db", id="the first of several"
        ),
        pytest.param("[state]\npath='/x/y.db'", {"STATE_DIRECTORY": "/var/lib/a"}, "/x/y.db", id="the file wins"),
        pytest.param("[state]\npath=''", {"STATE_DIRECTORY": "/var/lib/a"}, None, id="an empty path is memory"),
    ],
)
def test_the_state_lies_where_the_file_or_systemd_says(
    tmp_path, text: str, environ: dict[str, str], expected: str | None
) -> None:
    file = tmp_path / "gemproxy.toml"
    file.write_text(text)
    assert load(file, {"GEMINI_API_KEY": "test-key-1", **environ}).state.path == expected


@pytest.mark.parametrize(
    ("listen", "instance", "expected"),
    [
        pytest.param("127.0.0.1:9090", None, "127.0.0.1:9090", id="a service of which there is one"),
        pytest.param("127.0.0.1:9090", "", "127.0.0.1:9090", id="a variable that is empty"),
        pytest.param("127.0.0.1:9090", "2", "127.0.0.1:9092", id="gemproxy@2"),
        pytest.param("[::1]:9090", "1", "[::1]:9091", id="an address with colons of its own"),
        pytest.param("127.0.0.1:0", "1", "127.0.0.1:0", id="any free port"),
    ],
)
def test_each_instance_has_a_port_of_its_own_for_its_metrics(
    tmp_path, listen: str, instance: str | None, expected: str
) -> None:
    file = tmp_path / "gemproxy.toml"
    file.write_text(f"[server]\nmetrics_listen = '{listen}'")
    environ = {"GEMINI_API_KEY": "test-key-1"} | ({} if instance is None else {"GEMPROXY_INSTANCE": instance})
    assert load(file, environ).server.metrics_listen == expected


@pytest.mark.parametrize("instance", ["blue", "-1", "70000", "٢"])
def test_an_instance_that_gives_no_port_is_told_so(tmp_path, instance: str) -> None:
    file = tmp_path / "gemproxy.toml"
    environ = {"GEMINI_API_KEY": "test-key-1", "GEMPROXY_INSTANCE": instance}
    file.write_text("")
    assert load(file, environ).server.metrics_listen is None
    file.write_text("[server]\nmetrics_listen = '127.0.0.1:9090'")
    with pytest.raises(ConfigFault, match=r"server\.metrics_listen .*GEMPROXY_INSTANCE.*to add to the port"):
        load(file, environ)
