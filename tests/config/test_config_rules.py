"""Rules between settings, and what ``load`` makes of a whole configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemproxy.config import ConfigFault, OAuthFile, address, cautions, is_loopback, load, needs_restart, open_door

ENVIRON = {"GEMINI_API_KEY": "test-key-1", "FAKE": "test-key-2"}
LOGIN = '[[credentials]]\nkind = "oauth"\nname = "team"\nfile = "login.json"\n'
VERTEX = '[[credentials]]\nkind = "service_account"\nname = "vertex"\nfile = "login.json"\n'


def write(folder: Path, text: str, login: str | None = None) -> Path:
    if login is not None:
        (folder / "login.json").write_text(login)
    file = folder / "gemproxy.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "[[credentials]]\nkind='api_key'\nname='a'\nkey='k1'\n" * 2,
            'credentials[1].name = "a": taken by credentials[0]; every name must be its own',
            id="two credentials of one name",
        ),
        pytest.param(
            "[[auth.clients]]\nname='a'\nkey='k1'\n[[auth.clients]]\nname='a'\nkey='k2'",
            'auth.clients[1].name = "a": taken by auth.clients[0]; every name must be its own',
            id="two clients of one name",
        ),
        pytest.param(
            "[[auth.clients]]\nname='a'\nkey='k1'\n[[auth.clients]]\nname='b'\nkey='k1'",
            "auth.clients[1].key: the same as auth.clients[0].key; every client needs its own",
            id="two clients of one key",
        ),
        pytest.param(
            "[server]\nmetrics_listen='9090'",
            'server.metrics_listen = "9090": expected host:port, as in "127.0.0.1:9090"',
            id="a metrics port without a host",
        ),
        pytest.param(
            "[server]\ncors_origins=['*', 'https://example.org/app']",
            'server.cors_origins[1] = "https://example.org/app": expected "*" or an origin as in "https://example.org"',
            id="an origin with a path",
        ),
        pytest.param(
            "[upstream]\nai_studio_url='ftp://example.org'",
            "upstream.ai_studio_url: expected a URL that begins with http:// or https://",
            id="an upstream that is not HTTP",
        ),
        pytest.param(
            "[upstream]\ntoken_url='https://'",
            "upstream.token_url: expected a URL that begins with http:// or https://",
            id="a URL without a host",
        ),
        pytest.param(
            "[upstream]\nauth_url='http://[::1'", "upstream.auth_url: expected a URL", id="a URL that cannot be read"
        ),
        pytest.param(
            "[upstream]\nvertex_url='https://{region}.example.org'",
            "upstream.vertex_url: expected a URL without braces (only upstream.vertex_url may hold {location})",
            id="another placeholder than location",
        ),
        pytest.param(
            "[upstream]\ncode_assist_url='https://{location}.example.org'",
            "upstream.code_assist_url: expected a URL without braces (only upstream.vertex_url may hold {location})",
            id="the placeholder in another URL",
        ),
        pytest.param(
            "[upstream]\nai_studio_url='https://user:pw@example.org'",
            "upstream.ai_studio_url: expected a plain URL without user, query or fragment",
            id="a password in a URL",
        ),
        pytest.param(
            "[upstream]\nai_studio_url='https://example.org/?key=fake'",
            "upstream.ai_studio_url: expected a plain URL without user, query or fragment",
            id="a key in a URL",
        ),
        pytest.param(
            '[upstream]\nuser_agent="a\\nb"',
            "upstream.user_agent: expected printable ASCII characters",
            id="a user agent that is two headers",
        ),
        pytest.param(
            "[rotation]\nbase_rest=10\nmax_unhinted=9",
            "rotation.base_rest = 10: more than rotation.max_unhinted = 9",
            id="a first rest beyond the longest",
        ),
        pytest.param(
            "[rotation]\nmax_rest=60",
            "rotation.max_unhinted = 300: more than rotation.max_rest = 60",
            id="a default beyond a lowered bound",
        ),
        pytest.param(
            "[models.aliases]\nsmart='best'\nbest='gemini-x'",
            'models.aliases.smart = "best": an alias must name a model, not another alias',
            id="an alias of an alias",
        ),
        pytest.param(
            "[models.aliases]\nsmart='smart'",
            'models.aliases.smart = "smart": an alias must name a model, not another alias',
            id="an alias of itself",
        ),
        pytest.param(
            "[models.aliases]\na='gemini-x'\n[models.fallbacks]\na=['gemini-y','gemini-x']",
            "models.fallbacks.a: a model cannot be its own fallback",
            id="a fallback to itself",
        ),
        pytest.param(
            "[models]\nextra=['b']\n[models.fallbacks]\nb=['gemni-2.5-flash']",
            'models.fallbacks.b: no model "gemni-2.5-flash" is known; if there is one, add it to models.extra',
            id="a fallback that is misspelt",
        ),
        pytest.param(
            "[models.aliases]\nfast='gemini-2/../x'",
            'models.aliases.fast = "gemini-2/../x": expected a model\'s name: letters, digits and . _ : @ / -, '
            "without dots side by side",
            id="an alias that would change a URL",
        ),
        pytest.param(
            "[models]\nextra=['gemini-x', 'gemini 2']",
            'models.extra[1] = "gemini 2": expected a model\'s name: letters, digits and . _ : @ / -, '
            "without dots side by side",
            id="a further model with a blank",
        ),
        pytest.param(
            "[images]\nallow_hosts=['cdn.example.org','10.0.0.0/99']",
            'images.allow_hosts[1] = "10.0.0.0/99": expected a name, ".example.com" for every name below it, '
            'an address or a network like "10.0.0.0/8"',
            id="a network that is none",
        ),
        pytest.param(
            "[images]\nallow_hosts=['https://cdn.example.org']",
            'images.allow_hosts[0] = "https://cdn.example.org": expected a name, ".example.com" for every name below '
            'it, an address or a network like "10.0.0.0/8"',
            id="a URL for a host",
        ),
        pytest.param(
            "[server]\nhost='0.0.0.0'",
            'server.host = "0.0.0.0": reachable from other machines, but no client key is set; '
            "set auth.keys (or GEMPROXY_API_KEYS), or listen on 127.0.0.1",
            id="an open door",
        ),
        pytest.param(
            "[auth]\nkeys=['a','']", "auth.keys[1]: an empty key is refused", id="an empty client key among others"
        ),
        pytest.param(
            "[auth]\nadmin_keys=['a b']",
            "auth.admin_keys[0]: a key is one word of printable ASCII characters",
            id="an admin key of two words",
        ),
        pytest.param(
            "[auth]\nkeys_file='./none'",
            "auth.keys_file: cannot read {folder}/none (looked up in $CREDENTIALS_DIRECTORY first): "
            "No such file or directory",
            id="a file of keys that is not there",
        ),
        pytest.param(
            "[[auth.clients]]\nname='ci'",
            "auth.clients[0].key: give exactly one of auth.clients[0].key, auth.clients[0].key_env and "
            "auth.clients[0].key_file; none is set",
            id="a client without a key",
        ),
        pytest.param(
            "[[credentials]]\nkind='oauth'\nname='team'\nfile='{folder}/own.json'\n[oauth]\nclient_id='fake'",
            "oauth.client_secret: give exactly one of oauth.client_secret, oauth.client_secret_env and "
            "oauth.client_secret_file; none is set",
            id="half an OAuth client",
        ),
        pytest.param(
            LOGIN,
            'credentials[0].file = "{folder}/login.json": cannot be read: No such file or directory; '
            "`gemproxy login` writes such a file",
            id="a login file that is not there",
        ),
        pytest.param(
            VERTEX,
            'credentials[0].file = "{folder}/login.json": cannot be read: No such file or directory',
            id="a service account file that is not there",
        ),
    ],
)
def test_a_broken_rule_is_named_with_the_file(tmp_path, text: str, message: str) -> None:
    (tmp_path / "own.json").write_text('{"refresh_token": "fake", "client_id": "fake", "client_secret": "fake"}')
    file = write(tmp_path, text.replace("{folder}", str(tmp_path)))
    with pytest.raises(ConfigFault) as caught:
        load(file, ENVIRON)
    assert str(caught.value) == f"{file}: {message.replace('{folder}', str(tmp_path))}"


@pytest.mark.parametrize(
    ("text", "login", "message"),
    [
        pytest.param(
            LOGIN, '{"refresh_token": "fake"}', "credentials[0].file: the file names no OAuth client", id="none"
        ),
        pytest.param(
            LOGIN,
            '{"refresh_token": "fake", "client_id": "fake"}',
            "the file names no OAuth client",
            id="an id without its secret",
        ),
        pytest.param(LOGIN, '{"access_token": "fake"}', "holds no refresh_token; `gemproxy login`", id="no grant"),
        pytest.param(VERTEX, '{"type": "external_account"}', '"type" is not service_account or', id="another type"),
        pytest.param(LOGIN, "[1]", "not a JSON credential file", id="JSON of another shape"),
        pytest.param(LOGIN, "not json", "not a JSON credential file", id="no JSON"),
        pytest.param(VERTEX, '{"project_id": "p"}', 'its "type" is not service_account or', id="no type"),
        pytest.param(
            VERTEX,
            '{"type": "service_account"}',
            "credentials[0].project: required, since the file names no project_id",
            id="a service account without a project",
        ),
    ],
)
def test_a_credential_file_that_cannot_serve_is_refused(tmp_path, text: str, login: str, message: str) -> None:
    with pytest.raises(ConfigFault, match=re.escape(message)):
        load(write(tmp_path, text, login), ENVIRON)


@pytest.mark.parametrize(
    ("text", "login"),
    [
        pytest.param(LOGIN, '{"refresh_token": "r", "client_id": "a", "client_secret": "b"}', id="its own client"),
        pytest.param(
            LOGIN, '{"token": {"refresh_token": "r", "client_id": "a", "client_secret": "b"}}', id="a client inside"
        ),
        pytest.param(
            VERTEX, '{"type": "authorized_user", "quota_project_id": "p", "project_id": null}', id="a quota project"
        ),
        pytest.param(
            LOGIN + "[oauth]\nclient_id='a'\nclient_secret_env='FAKE'",
            '{"refresh_token": "r"}',
            id="a client in [oauth]",
        ),
        pytest.param(VERTEX, '{"type": "service_account", "project_id": "demo-project"}', id="a project in the file"),
        pytest.param(
            VERTEX + 'project = "demo-project"', '{"type": "service_account"}', id="a project in the settings"
        ),
    ],
)
def test_a_credential_file_that_can_serve_is_found_beside_the_configuration(tmp_path, text: str, login: str) -> None:
    (credential,) = load(write(tmp_path, text, login), ENVIRON).credentials
    assert credential.file == str(tmp_path / "login.json")


def test_every_broken_rule_is_told_at_once(tmp_path) -> None:
    file = write(tmp_path, "[server]\nhost='::'\nmetrics_listen='x'\n[rotation]\nmax_rest=60")
    with pytest.raises(ConfigFault) as caught:
        load(file, {})
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{file}: ") for line in lines)
    assert [line.removeprefix(f"{file}: ").split(" ")[0] for line in lines] == [
        "server.metrics_listen",
        "rotation.max_unhinted",
        "no",
        "server.host",
    ]


def test_no_credential_at_all_names_the_three_ways() -> None:
    with pytest.raises(ConfigFault) as caught:
        load(None, {})
    assert all(way in str(caught.value) for way in ("GEMINI_API_KEY", "[[credentials]]", "--demo"))


def test_the_command_line_is_applied_before_the_door_is_looked_at(tmp_path) -> None:
    opened = write(tmp_path, "[server]\nhost='0.0.0.0'\nport=1")
    config = load(opened, ENVIRON, "127.0.0.1", 0)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 0)
    with pytest.raises(ConfigFault, match=r"auth\.keys"):
        load(None, ENVIRON, "192.0.2.1")


def test_a_port_of_the_command_line_is_checked() -> None:
    with pytest.raises(ConfigFault, match="--port 70000: expected 0 to 65535"):
        load(None, ENVIRON, port=70_000)


def test_a_client_key_opens_the_door(tmp_path) -> None:
    (tmp_path / "keys").write_text("fake-1\nfake-2\n")
    config = load(write(tmp_path, "[server]\nhost='0.0.0.0'\n[auth]\nkeys_file='keys'\nadmin_keys=['fake-3']"), ENVIRON)
    assert [client.key.reveal() for client in config.auth.clients] == ["fake-1", "fake-2"]
    assert [key.reveal() for key in config.auth.admin_keys] == ["fake-3"]
    assert open_door(config, "0.0.0.0") is None


def test_an_admin_key_alone_does_not_open_the_door(tmp_path) -> None:
    with pytest.raises(ConfigFault, match="no client key is set"):
        load(write(tmp_path, "[server]\nhost='0.0.0.0'\n[auth]\nadmin_keys=['fake-3']"), ENVIRON)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nhost='localhost'\nport=1", ["server.host", "server.port"]),
        ("[server]\nmax_body=1\n[timeouts]\ndrain=1\nqueue=1", []),
        ("[upstream]\nai_studio_url='http://127.0.0.1:1'\nauth_url='http://127.0.0.1:1'", ["upstream.ai_studio_url"]),
        ("[timeouts]\nkeepalive=1\nconnect=1", ["timeouts.connect", "timeouts.keepalive"]),
        ("[models]\ndiscover=true\nextra=['a']", ["models.discover"]),
        ("[state]\npath='s.db'\n[log]\nlevel='debug'", ["state.path", "log.level"]),
    ],
)
def test_settings_that_a_reload_cannot_change_are_named(tmp_path, text: str, named: list[str]) -> None:
    assert needs_restart(load(None, ENVIRON), load(write(tmp_path, text), ENVIRON)) == named


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9090", ("127.0.0.1", 9090)),
        ("[::1]:9090", ("::1", 9090)),
        ("metrics:0", ("metrics", 0)),
        ("::1:9090", None),
        (":9090", None),
        ("127.0.0.1", None),
        ("127.0.0.1:", None),
        ("127.0.0.1:70000", None),
        ("127.0.0.1:٣", None),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: tuple[str, int] | None) -> None:
    assert address(text) == expected


def test_a_demo_reads_no_credential(tmp_path) -> None:
    text = f"{LOGIN}[[credentials]]\nkind='api_key'\nname='a'\nkey_env='NOT_SET'\n[oauth]\nclient_id_env='NOT_SET'"
    assert load(write(tmp_path, text), ENVIRON, purpose="demo").credentials == []
    assert load(None, {}, purpose="demo").credentials == []


def test_a_demo_does_not_open_the_door() -> None:
    with pytest.raises(ConfigFault, match=r"auth\.keys"):
        load(None, {}, "0.0.0.0", purpose="demo")


def test_a_login_needs_no_credential_file_and_no_key(tmp_path) -> None:
    text = (
        f"{LOGIN}[[credentials]]\nkind='api_key'\nname='a'\nkey_env='NOT_SET'\n[auth]\nkeys_file='none'\n"
        "[oauth]\nclient_id='fake-id'\nclient_secret='fake-secret'"
    )
    config = load(write(tmp_path, text), {}, purpose="login")
    assert config.credentials == [OAuthFile(name="team", file=str(tmp_path / "login.json"))]
    assert config.oauth.client_id.reveal() == "fake-id"


def test_a_login_without_an_oauth_client_is_refused() -> None:
    with pytest.raises(ConfigFault, match=r"oauth\.client_id"):
        load(None, {}, purpose="login")


def test_urls_end_without_a_slash_and_paths_are_absolute(tmp_path) -> None:
    text = "[upstream]\nai_studio_url='http://127.0.0.1:1/v1beta/'\n[state]\npath='s.db'\n[log]\ncapture_dir='frames'"
    config = load(write(tmp_path, text), ENVIRON)
    assert config.upstream.ai_studio_url == "http://127.0.0.1:1/v1beta"
    assert config.upstream.token_url is None
    assert config.state.path == str(tmp_path / "s.db")
    assert config.log.capture_dir == str(tmp_path / "frames")


CLIENT = "[[auth.clients]]\nname='{name}'\nkey='k-{name}'\nmodels={models}\n"
KEY = "[[credentials]]\nkind='api_key'\nname='{name}'\nkey='{key}'\n"
OPEN_TO_PAGES = (
    'server.cors_origins = ["*"]: without a client key (auth.keys) every page that a browser on this machine opens '
    "may ask"
)
ALIAS = "[models]\naliases={fast='gemini-2.5-flash'}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "[server]\ncors_origins=['*']",
            [OPEN_TO_PAGES],
            id="any page, and no key",
        ),
        pytest.param("[server]\ncors_origins=['*']\n[auth]\nkeys=['k1']", [], id="any page that has a key"),
        pytest.param("[server]\ncors_origins=['https://example.org']", [], id="one page, and no key"),
        pytest.param(
            "[auth]\nadmin_keys=['k1']\n" + CLIENT.format(name="admin-1", models=[]),
            ['auth.clients[0].name = "admin-1": looks in the log like a key of auth.admin_keys'],
            id="a client with the name of an admin key",
        ),
        pytest.param(CLIENT.format(name="admin-1", models=[]), [], id="the same, without any admin key"),
        pytest.param(
            "[server]\nmemory=100_000_000\nmax_body=25_000_001",
            [
                "server.memory = 100000000: less than four times server.max_body = 25000001, so large bodies are a 503",
            ],
            id="no room for the largest body",
        ),
        pytest.param("[server]\nmemory=100_000_000\nmax_body=25_000_000", [], id="just room for it"),
        pytest.param(CLIENT.format(name="administrator", models=[]), [], id="another name"),
        pytest.param(
            CLIENT.format(name="a", models=["gemini-2.5-flash", "gpt-9"]),
            ['auth.clients[0].models: no model "gpt-9" is known, so it allows none'],
            id="a client held to what is no model",
        ),
        pytest.param(ALIAS + CLIENT.format(name="a", models=["fast", "gemini-9-new"]), [], id="an alias is a model"),
        pytest.param(
            KEY.format(name="a", key="k1") + "models=['gpt-9']",
            ['credentials[0].models: no model "gpt-9" is known, so it allows none'],
            id="a credential held to what is no model",
        ),
        pytest.param(
            KEY.format(name="a", key="fake1") + KEY.format(name="b", key="fake2") + KEY.format(name="c", key="fake1"),
            ["credentials[2].key: the same as credentials[0].key"],
            id="one key under two names",
        ),
        pytest.param(
            "[models]\naliases={fast='gemini-2.5-flahs'}\nfallbacks={gemini-9=['gemini-2.5-pro','gemini-8']}",
            [
                'models.aliases.fast: no model "gemini-2.5-flahs" is listed; if Google has it, add it to models.extra',
                'models.fallbacks.gemini-9: no model "gemini-8" is listed; if Google has it, add it to models.extra',
            ],
            id="models of Google's that no list has",
        ),
        pytest.param(
            "[models]\nextra=['gemini-9']\naliases={fast='google/gemini-9'}\nfallbacks={fast=['gemini-2.5-pro']}",
            [],
            id="a further model under an alias",
        ),
        pytest.param(
            LOGIN + LOGIN.replace("team", "other"),
            ["credentials[1].file: the same as credentials[0].file"],
            id="one login under two names",
        ),
        pytest.param(
            '[responses]\nkeep = "state"\n',
            ['responses.keep = "state": no state.path is set, so responses are kept in memory'],
            id="what is to outlive a process that keeps nothing",
        ),
        pytest.param(
            VERTEX.replace('file = "login.json"', "project = 'p'") * 1
            + VERTEX.replace('file = "login.json"', "project = 'q'").replace('"vertex"', '"w"'),
            [],
            id="two projects of the machine's own credentials",
        ),
    ],
)
def test_what_is_hardly_meant_is_named(tmp_path, text, expected):
    login = '{"refresh_token": "fake", "client_id": "fake", "client_secret": "fake"}'
    config = load(write(tmp_path, text, login), ENVIRON)
    assert [*cautions(config)] == expected


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbftest-key-1\n")
    login = '\ufeff{"refresh_token": "fake", "client_id": "fake", "client_secret": "fake"}'
    config = load(write(tmp_path, f"\ufeff[auth]\nkeys_file = 'keys'\n{LOGIN}", login), {})
    assert [client.key.reveal() for client in config.auth.clients] == ["test-key-1"]
