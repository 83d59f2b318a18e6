"""What a wrong file says: one line that names the key, the value and what is allowed, and never a secret."""

from __future__ import annotations

import copy
import datetime
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.config import reading
from gemproxy.config.sections import Config, Credential, read_secret
from gemproxy.config.wording import explain
from gemproxy.errors import ConfigFault

KEY = '[[credentials]]\nname = "a"\nkind = "api_key"\nkey = "test-key-1"\n'


def refused(text: str) -> str:
    """Return all that is said of a wrong file."""
    try:
        faults = reading.draft(text.encode()).faults
    except ConfigFault as fault:
        return str(fault)
    assert faults
    return "\n".join(faults)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "[rotation]\nattemps = 3",
            "rotation.attemps: unknown key; did you mean rotation.attempts?",
            id="a typo in a key gets the nearest one",
        ),
        pytest.param(
            "[oauth]\nzzz = 3",
            "oauth.zzz: unknown key; known here: client_id, client_id_env, client_id_file, "
            "client_secret, client_secret_env, client_secret_file",
            id="a key like no other gets the list",
        ),
        pytest.param("[timeout]", "timeout: unknown key; did you mean timeouts?", id="a typo in a section"),
        pytest.param(
            "[[auth.clients]]\nname = 'ci'\nkey = 'k'\nmodel = []",
            "auth.clients[0].model: unknown key; did you mean auth.clients[0].models?",
            id="a typo in the entry of a list",
        ),
        pytest.param(
            f"{KEY}{KEY}pol = 'backup'",
            "credentials[1].pol: unknown key; did you mean credentials[1].pool?",
            id="a typo in the second credential",
        ),
        pytest.param(
            '[[credentials]]\nkind = "api_key"\nname = "a"\nlocation = "x"',
            "credentials[0].location: unknown key; "
            "known here: kind, name, project, pool, models, key, key_env, key_file",
            id="a key of another kind of credential",
        ),
        pytest.param(
            '[[credentials]]\nname = "a"',
            'credentials[0].kind: required, but left out; it is one of "api_key", "oauth", "service_account"',
            id="a credential without a kind",
        ),
        pytest.param(
            '[[credentials]]\nname = "a"\nkind = "apikey"',
            'credentials[0].kind = "apikey": expected one of "api_key", "oauth", "service_account"',
            id="a kind that is none",
        ),
        pytest.param(
            '[[credentials]]\nname = "a"\nkind = ["api_key"]',
            'credentials[0].kind: expected one of "api_key", "oauth", "service_account"',
            id="a kind that is a list",
        ),
        pytest.param(
            '[[credentials]]\nkind = "oauth"\nname = "a"',
            "credentials[0].file: required, but left out",
            id="an oauth credential without a file",
        ),
        pytest.param(
            KEY + 'pool = "spare"',
            'credentials[0].pool = "spare": expected one of "primary", "backup"',
            id="an unknown pool",
        ),
        pytest.param(
            '[[credentials]]\nkind = "api_key"\nname = "a b"',
            'credentials[0].name = "a b": expected 1 to 64 letters, digits or any of . _ : @ / + -',
            id="a name that would break a log line",
        ),
        pytest.param(
            '[[credentials]]\nkind = "service_account"\nname = "v"\nlocation = "eu/../x"',
            'credentials[0].location = "eu/../x": expected a Vertex AI location like "europe-west4"',
            id="a location that would change the URL",
        ),
        pytest.param(
            "[server]\nport = 65536",
            "server.port = 65536: expected a whole number from 0 to 65535",
            id="a port too high",
        ),
        pytest.param(
            "[server]\nport = true",
            "server.port = true: expected a whole number from 0 to 65535",
            id="a port that is true",
        ),
        pytest.param(
            "[server]\nport = 80.5", "server.port = 80.5: expected a whole number from 0 to 65535", id="half a port"
        ),
        pytest.param(
            "[server]\nport = 2025-01-01",
            "server.port: expected a whole number from 0 to 65535",
            id="a port that is a date",
        ),
        pytest.param(
            "[server]\nreuse_port = 1",
            "server.reuse_port = 1: expected true or false",
            id="a number in place of a flag",
        ),
        pytest.param(
            '[server]\nhost = ""', 'server.host = "": expected a string that is not empty', id="an empty host"
        ),
        pytest.param(
            '[server]\nloop = "trio"', 'server.loop = "trio": expected one of "asyncio", "uvloop"', id="an unknown loop"
        ),
        pytest.param(
            "[rotation]\nattempts = 0",
            "rotation.attempts = 0: expected a whole number, 1 or more",
            id="no attempt at all",
        ),
        pytest.param(
            "[rotation]\nmax_in_flight = -1",
            "rotation.max_in_flight = -1: expected a whole number, 0 or more",
            id="a negative count",
        ),
        pytest.param(
            "[timeouts]\nhold = -0.5", "timeouts.hold = -0.5: expected seconds from 0 to 31536000", id="a negative wait"
        ),
        pytest.param(
            "[timeouts]\nhold = nan", "timeouts.hold = nan: expected seconds from 0 to 31536000", id="a wait of nan"
        ),
        pytest.param(
            "[timeouts]\nidle = inf",
            "timeouts.idle = inf: expected seconds above 0 (this wait has no off), up to 31536000",
            id="an endless wait",
        ),
        pytest.param(
            "[timeouts]\nidle = 0",
            "timeouts.idle = 0: expected seconds above 0 (this wait has no off), up to 31536000",
            id="a wait that cannot be switched off",
        ),
        pytest.param(
            '[timeouts]\nidle = "10s"',
            'timeouts.idle = "10s": expected seconds above 0 (this wait has no off), up to 31536000',
            id="seconds with a unit",
        ),
        pytest.param(
            '[compat]\njson_clients = "curl"',
            'compat.json_clients = "curl": expected an array, each item a string that is not empty',
            id="a string in place of an array",
        ),
        pytest.param(
            "[models.aliases]\na = 'b'\nc = 3",
            "models.aliases.c = 3: expected a string that is not empty",
            id="the entry of a table that does not fit",
        ),
        pytest.param(
            "[models.fallbacks]\na = ['b']\nc = ['d', 3]",
            "models.fallbacks.c[1] = 3: expected a string that is not empty",
            id="an item within the entry of a table",
        ),
        pytest.param(
            "[models]\naliases = []",
            "models.aliases: expected a table, [models.aliases]",
            id="an array in place of a table",
        ),
        pytest.param("server = 3", "server = 3: expected a table, [server]", id="a number in place of a section"),
        pytest.param("[[server]]", "server: expected a table, [server]", id="a section in double brackets"),
        pytest.param(
            "[credentials]", "credentials: expected an array of tables, [[credentials]]", id="one bracket too few"
        ),
        pytest.param("credentials = [3]", "credentials[0] = 3: expected a table, [credentials[0]]", id="a bare item"),
        pytest.param(
            '[models.aliases]\n"a.b" = 3',
            'models.aliases."a.b" = 3: expected a string that is not empty',
            id="a name that TOML must quote",
        ),
        pytest.param(
            f'[log]\nlevel = "a\\n{"x" * 100}"',
            f'log.level = "a\\n{"x" * 78}…": expected one of "debug", "info", "warning", "error"',
            id="a value that would fill the screen",
        ),
        pytest.param("[state]\npath = 3", "state.path = 3: expected a string", id="a path that is a number"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(text: str, message: str) -> None:
    assert refused(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[server]\nport = ", "not TOML: Invalid value (at line 2, its last)", id="at the end"),
        pytest.param("[server]\nport = = 3\n", "not TOML: Invalid value (at line 2, column 8)", id="in the middle"),
        pytest.param("[server]\n[server]\n", "line 2", id="a section twice"),
        pytest.param("x = " + "[" * 5000, "nested too deep", id="nesting without end"),
    ],
)
def test_a_syntax_error_names_its_line(text: str, message: str) -> None:
    assert message in refused(text)


def test_bytes_that_are_not_text_name_their_line() -> None:
    with pytest.raises(ConfigFault, match=r"not UTF-8 text \(at line 3\)"):
        reading.draft(b"[log]\n\nlevel = '\xff'")


def test_a_file_that_is_not_there_says_so(tmp_path) -> None:
    with pytest.raises(ConfigFault, match="cannot read the configuration: No such file or directory"):
        reading.read(tmp_path / "none.toml")


SECRET = "fake-secret-9"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"[auth]\nkeys = '{SECRET}'", id="a key that should be a list of keys"),
        pytest.param(f"[auth]\nadmin_keys = '{SECRET}'", id="an admin key that should be a list"),
        pytest.param(f"auth = '{SECRET}'", id="a key in place of the section"),
        pytest.param(f"oauth = '{SECRET}'", id="a client in place of the section"),
        pytest.param(f"credentials = '{SECRET}'", id="a key in place of the credentials"),
        pytest.param(f"credentials = ['{SECRET}']", id="a key in place of a credential"),
        pytest.param(f"[auth]\nkeys = [['{SECRET}']]", id="a key nested too deep"),
        pytest.param(f"[auth]\nkeys = {{ a = '{SECRET}' }}", id="keys as a table"),
        pytest.param(f"[auth.clients]\nname = 'a'\nkey = '{SECRET}'", id="a client in single brackets"),
        pytest.param(f"[[auth.clients]]\nname = 'a b'\nkey = '{SECRET}'", id="a wrong name beside a key"),
        pytest.param(f"[credentials]\nname = 'a'\nkey = '{SECRET}'", id="a credential in single brackets"),
        pytest.param(f"[[credentials]]\nkind = 'api_key'\nname = 'a'\nkey = ['{SECRET}']", id="a key in a list"),
        pytest.param(
            f"[[credentials]]\nkind = 'api_key'\nname = 'a'\nkeys = '{SECRET}'", id="an unknown key with a secret"
        ),
        pytest.param(f"[oauth]\nclient_secret = {{ a = '{SECRET}' }}", id="a client secret as a table"),
        pytest.param(f"[oauth]\nclient_secret = '{SECRET}", id="a client secret without its closing quote"),
    ],
)
def test_a_message_never_shows_a_secret(text: str) -> None:
    assert SECRET not in refused(text)


def test_a_repr_never_shows_a_secret() -> None:
    text = f"[auth]\nkeys = ['{SECRET}']\n[oauth]\nclient_secret = '{SECRET}'\n" + KEY.replace("test-key-1", SECRET)
    config = reading.draft(text.encode()).config
    assert SECRET not in repr(config)
    assert SECRET not in str(config)
    assert config.auth.keys[0].reveal() == SECRET


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70_000),
    st.floats(),
    st.text(max_size=4),
    st.just(datetime.date(2025, 1, 1)),
)
KNOWN = sorted({field.name for field in msgspec.structs.fields(Config)})
INNER = sorted(
    {
        name
        for section in (*typing.get_type_hints(Config).values(), *typing.get_args(Credential))
        if isinstance(section, type) and issubclass(section, msgspec.Struct)
        for name in section.__struct_fields__
    }
)
INNER_TABLES = st.dictionaries(
    st.sampled_from([*INNER, "kind", "zzz", ""]),
    st.one_of(
        LEAVES, st.sampled_from(["api_key", "oauth"]), st.lists(LEAVES, max_size=2), st.dictionaries(st.text(), LEAVES)
    ),
    max_size=4,
)
TABLES = st.dictionaries(
    st.sampled_from([*KNOWN, "zzz"]), st.one_of(LEAVES, INNER_TABLES, st.lists(INNER_TABLES, max_size=2)), max_size=3
)


@given(TABLES)
def test_any_table_is_read_or_refused_in_one_line(table: dict) -> None:
    try:
        msgspec.convert(table, Config, dec_hook=read_secret)
    except msgspec.ValidationError as error:
        line = explain(str(error), table).text
        told = reading.survey(copy.deepcopy(table)).faults
        assert told[0] == line
        assert len(set(told)) == len(told)
        assert ": " in line
        assert not line.startswith(":")
        assert "\n" not in line
        assert "Expected" not in line  # that would be msgspec's own wording
