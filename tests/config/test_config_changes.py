"""What a reload tells of a new configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemproxy.config import changes, dropped, load

KEY = "[[credentials]]\nkind='api_key'\nname='{0}'\nkey='test-key-{0}'\n".format
CLIENT = "[[auth.clients]]\nname='{0}'\nkey='fake-{0}'\n".format
SAME = "the same credentials, clients and models"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param(KEY("a"), KEY("a") + "[server]\nmax_body=9\n", SAME, id="other settings"),
        pytest.param(KEY("a") + KEY("b"), KEY("b") + KEY("c"), "credentials: new c, gone a", id="one for another"),
        pytest.param(KEY("a"), KEY("a") + "pool='backup'", "credentials: changed a", id="another pool"),
        pytest.param(KEY("a"), KEY("a").replace("key-a", "key-b"), "credentials: changed a", id="another key"),
        pytest.param(KEY("a"), KEY("a") + CLIENT("ci") + CLIENT("me"), "clients: new ci me", id="clients"),
        pytest.param(
            KEY("a") + CLIENT("ci"), KEY("a") + CLIENT("ci") + "models=['x']", "clients: changed ci", id="another right"
        ),
        pytest.param(
            KEY("a") + "[models]\naliases={fast='gemini-1',slow='gemini-2'}\nextra=['m']",
            KEY("a") + "[models]\naliases={fast='gemini-3'}\nextra=['m','n']\nfallbacks={m=['n']}",
            "models: new n, gone slow, changed fast m",
            id="models",
        ),
        pytest.param(
            KEY("a") + CLIENT("x"),
            KEY("b") + CLIENT("y"),
            "credentials: new b, gone a; clients: new y, gone x",
            id="several kinds",
        ),
        pytest.param(
            KEY("a"),
            KEY("a") + "".join(CLIENT(number) for number in range(25)),
            "clients: new " + " ".join(map(str, range(20))) + " and 5 more",
            id="many",
        ),
    ],
)
def test_what_came_went_and_changed_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    def read(text: str):
        (tmp_path / "gemproxy.toml").write_text(text)
        return load(tmp_path / "gemproxy.toml", {})

    assert changes(read(old), read(new)) == told


def test_a_new_login_in_an_old_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "gemproxy.toml").write_text(KEY("a") + KEY("b"))
    config = load(tmp_path / "gemproxy.toml", {})
    assert changes(config, config, ["b"]) == "new in its file: b"


@pytest.mark.parametrize(
    ("old", "new", "environ", "names"),
    [
        pytest.param("", KEY("a"), {"GEMINI_API_KEY": "k"}, ["GEMINI_API_KEY"], id="keys of the file instead"),
        pytest.param("", KEY("a"), {"GEMINI_API_KEY": "", "GEMINI_API_KEYS": "k"}, ["GEMINI_API_KEYS"], id="empty"),
        pytest.param(
            "",
            KEY("a"),
            {"GEMINI_API_KEY": "k", "GOOGLE_CLOUD_PROJECT": "p"},
            ["GEMINI_API_KEY"],
            id="used before",
        ),
        pytest.param(KEY("a"), KEY("b"), {"GEMINI_API_KEY": "k"}, [], id="not used before"),
        pytest.param(
            KEY("a") + "[[auth.clients]]\nname='ci'\nkey_env='CI'",
            KEY("a"),
            {"CI": "k"},
            ["CI"],
            id="a key_env",
        ),
        pytest.param(
            KEY("a").replace("key=", "key_file="),
            KEY("a"),
            {"CREDENTIALS_DIRECTORY": "{folder}"},
            [],
            id="systemd's",
        ),
    ],
)
def test_a_variable_that_gives_nothing_any_more_is_named(
    tmp_path: Path, old: str, new: str, environ: dict[str, str], names: list[str]
) -> None:
    (tmp_path / "test-key-a").write_text("test-key-a")
    environ = {name: value.replace("{folder}", str(tmp_path)) for name, value in environ.items()}
    (tmp_path / "old.toml").write_text(old)
    (tmp_path / "new.toml").write_text(new)
    assert dropped(load(tmp_path / "old.toml", environ), load(tmp_path / "new.toml", environ)) == names
