"""Every mistake is told in one run, and nothing that only comes of another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemproxy.config import ConfigFault, load

KEY = "[[credentials]]\nkind='api_key'\nname='a'\nkey='test-key-1'\n"
EVERYTHING = """
[server]
prot = 1
port = "x"
max_body = 0
loop = "trio"
[auth]
keys = ["'quoted'"]
keys_file = "none"
[[auth.clients]]
name = "b c"
key = "test-key-3"
[[auth.clients]]
key_env = "UNSET"
[rotation]
base_rest = 10
max_unhinted = 9
[models.aliases]
a = "b"
b = "gemini-x"
[images]
allow_hosts = ["10.0.0.0/99"]
[[credentials]]
kind = "magic"
key = 5
[[credentials]]
kind = "api_key"
name = "k"
[[credentials]]
kind = "oauth"
name = "o"
file = "none.json"
"""
ALL = [
    "server.prot: unknown key",
    'server.port = "x": expected',
    "server.max_body = 0: expected",
    'server.loop = "trio": expected',
    'auth.clients[0].name = "b c": expected',
    "auth.clients[1].name: required",
    'credentials[0].kind = "magic": expected',
    "credentials[1].key: give exactly one",
    "auth.clients[1].key_env: the environment variable UNSET is not set",
    "auth.keys[0]: the key stands in quotes",
    "auth.keys_file: cannot read {folder}/none",
    "rotation.base_rest = 10: more than",
    'models.aliases.a = "b": an alias must name a model',
    'images.allow_hosts[0] = "10.0.0.0/99"',
    'credentials[2].file = "{folder}/none.json": cannot be read',
    "GEMPROXY_API_KEYS: the key stands in quotes",
    "--port 70000: expected",
    "HTTPS_PROXY: expected",
]


def told(folder: Path, text: str, environ: dict[str, str] | None = None, **options: int) -> list[str]:
    file = folder / "gemproxy.toml"
    file.write_text(text)
    with pytest.raises(ConfigFault) as caught:
        load(file, environ or {}, **options)
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    environ = {"GEMPROXY_API_KEYS": "'fake'", "HTTPS_PROXY": "ftp://x"}
    found = told(tmp_path, EVERYTHING, environ, port=70_000)
    beginnings = [beginning.replace("{folder}", str(tmp_path)) for beginning in ALL]
    assert [beginning for beginning in beginnings if not any(line.startswith(beginning) for line in found)] == []
    assert [line for line in found if not line.startswith(tuple(beginnings))] == []
    assert len(found) == len(ALL)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        pytest.param(KEY + "[rotation]\nbase_rest=-1\nmax_unhinted=3", {}, ["rotation.base_rest = -1"], id="a default"),
        pytest.param(
            KEY + "[server]\nhost='0.0.0.0'\n[auth]\nkeys=5",
            {},
            ["auth.keys = 5"],
            id="keys that may be there",
        ),
        pytest.param(
            KEY + "[models]\naliases=5\n[models.fallbacks]\nfast=['gemini-x']", {}, ["models.aliases"], id="an alias"
        ),
        pytest.param("", {"GEMINI_API_KEY": "'x'"}, ["GEMINI_API_KEY: the key stands in"], id="a key in quotes is one"),
        pytest.param("credentials = 5", {}, ["credentials = 5"], id="no credentials at all"),
        pytest.param(
            "[[auth.clients]]\nname='a'\nkey_env='A'\n[[auth.clients]]\nname='b'\nkey_env='B'\n" + KEY,
            {},
            ["auth.clients[0].key_env", "auth.clients[1].key_env"],
            id="two keys that are missing are not the same",
        ),
    ],
)
def test_nothing_is_told_that_comes_of_another_mistake(
    tmp_path: Path, text: str, environ: dict[str, str], expected: list[str]
) -> None:
    found = told(tmp_path, text, environ)
    assert len(found) == len(expected), found
    assert all(line.startswith(beginning) for line, beginning in zip(found, expected, strict=True)), found
