"""Where a secret may come from, and that no message on the way shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemproxy.config.secret import ABSENT, Places, Secret, is_there, lines, listed, resolve
from gemproxy.errors import ConfigFault

KEY = "credentials[0].key"


def places(folder: Path, **environ: str) -> Places:
    return Places(environ, folder)


def test_a_value_is_taken_as_it_is(tmp_path) -> None:
    assert resolve(KEY, Secret(" test-key-1\n"), None, None, places(tmp_path)).reveal() == "test-key-1"


def test_a_variable_gives_its_value(tmp_path) -> None:
    assert resolve(KEY, ABSENT, "STUDIO", None, places(tmp_path, STUDIO="test-key-1")).reveal() == "test-key-1"


def test_a_byte_order_mark_is_read_over(tmp_path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbftest-key-1\r\n")
    assert resolve(KEY, ABSENT, None, "key", places(tmp_path)).reveal() == "test-key-1"


def test_a_relative_file_lies_beside_the_configuration(tmp_path) -> None:
    (tmp_path / "key").write_text("test-key-1\n")
    assert resolve(KEY, ABSENT, None, "key", places(tmp_path)).reveal() == "test-key-1"


def test_a_systemd_credential_comes_before_a_file_beside_the_configuration(tmp_path) -> None:
    (tmp_path / "key").write_text("test-key-1")
    (tmp_path / "given").mkdir()
    (tmp_path / "given/key").write_text("test-key-2")
    given = places(tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path / "given"))
    assert resolve(KEY, ABSENT, None, "key", given).reveal() == "test-key-2"


def test_an_absolute_file_is_taken_as_it_is(tmp_path) -> None:
    (tmp_path / "key").write_text("test-key-1")
    elsewhere = places(tmp_path / "other", CREDENTIALS_DIRECTORY=str(tmp_path / "given"))
    assert resolve(KEY, ABSENT, None, str(tmp_path / "key"), elsewhere).reveal() == "test-key-1"


def test_a_home_folder_is_expanded(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places(Path("/etc")).locate("~/key") == tmp_path / "key"


@pytest.mark.parametrize(
    ("value", "variable", "file", "message"),
    [
        pytest.param(None, None, None, f"{KEY}: give exactly one of {KEY}, {KEY}_env and {KEY}_file; none", id="none"),
        pytest.param("a", "B", None, f"{KEY}: give exactly one of {KEY}, {KEY}_env and {KEY}_file; more", id="two"),
        pytest.param("a", "B", "c", f"{KEY}: give exactly one of {KEY}, {KEY}_env and {KEY}_file; more", id="three"),
        pytest.param("", None, None, f"{KEY}: an empty key is refused", id="an empty value"),
        pytest.param("  \n", None, None, f"{KEY}: an empty key is refused", id="a value of blanks"),
        pytest.param(None, "EMPTY", None, f"{KEY}_env: an empty key is refused", id="an empty variable"),
        pytest.param(None, None, "empty", f"{KEY}_file: an empty key is refused", id="an empty file"),
        pytest.param(None, "NONE", None, f"{KEY}_env: the environment variable NONE is not set", id="no such variable"),
        pytest.param(None, None, "./none", "No such file or directory", id="no such file"),
        pytest.param(None, None, "./folder", "Is a directory", id="a folder in place of a file"),
        pytest.param(None, None, "a\0b", "not a path", id="a file name that cannot be"),
        pytest.param(None, None, "./binary", "is not UTF-8 text", id="a file of other bytes"),
        pytest.param(None, None, "./long", "is longer than 65536 bytes", id="a file that is no key"),
        pytest.param(None, None, "./two", f"{KEY}_file: a key is one word", id="a file with two lines"),
        pytest.param("a b", None, None, f"{KEY}: a key is one word of printable ASCII", id="a key with a blank"),
        pytest.param("a\r\nX-Evil: 1", None, None, f"{KEY}: a key is one word", id="a key that is a header"),
        pytest.param('"a"', None, None, f"{KEY}: the key stands in quotes", id="a key in quotes"),
        pytest.param("`a", None, None, f"{KEY}: the key stands in quotes", id="a key of a list in quotes"),
        pytest.param(None, "QUOTED", None, f"{KEY}_env: the key stands in quotes", id="a variable in quotes"),
        pytest.param(None, "my_key", None, "the environment variable my_key is not set", id="a variable in lower case"),
        pytest.param(None, None, "studio-key", "cannot read {folder}/studio-key (looked up in", id="a bare file name"),
        pytest.param("schlüssel", None, None, f"{KEY}: a key is one word", id="a key beyond ASCII"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused(
    tmp_path, value: str | None, variable: str | None, file: str | None, message: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_text("x" * 70_000)
    (tmp_path / "two").write_text("test-key-1\ntest-key-2\n")
    secret = ABSENT if value is None else Secret(value)
    with pytest.raises(ConfigFault) as caught:
        resolve(KEY, secret, variable, file, places(tmp_path, EMPTY="", QUOTED="'a'"))
    assert message.replace("{folder}", str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "variable", "file"),
    [
        pytest.param("fake secret-9", None, None, id="as a value"),
        pytest.param('"fake-secret-9"', None, None, id="in quotes"),
        pytest.param(None, "fake-secret-9", None, id="where a variable's name belongs"),
        pytest.param(None, "AIzaSyFakesecret-9", None, id="where a variable's name belongs, and looking like one"),
        pytest.param(None, None, "AIzaSyFake-secret-9", id="where a file's name belongs"),
        pytest.param(None, None, "sk-fake-secret-9", id="a client's key where a file's name belongs"),
        pytest.param(None, None, "0123456789abcdef-secret-9", id="a long one where a file's name belongs"),
        pytest.param("fake-secret-9", "fake-secret-9", None, id="in two places"),
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(
    tmp_path, value: str | None, variable: str | None, file: str | None
) -> None:
    with pytest.raises(ConfigFault) as caught:
        resolve(KEY, ABSENT if value is None else Secret(value), variable, file, places(tmp_path))
    assert "secret-9" not in str(caught.value)


def test_a_file_of_keys_may_hold_comments_and_blank_lines() -> None:
    found = lines("auth.keys_file", "# ours\ntest-key-1\n\n  test-key-2  \r\n#test-key-3")
    assert [secret.reveal() for secret in found] == ["test-key-1", "test-key-2"]


def test_a_file_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigFault, match=r"auth\.keys_file: the file holds no key"):
        lines("auth.keys_file", "# none yet\n")


def test_a_list_in_a_variable_leaves_blank_items_out() -> None:
    assert [secret.reveal() for secret in listed("KEYS", {"KEYS": "test-key-1, ,test-key-2,"})] == [
        "test-key-1",
        "test-key-2",
    ]
    assert listed("KEYS", {}) == []


def test_neither_a_secret_nor_the_environment_shows_in_a_repr(tmp_path) -> None:
    assert repr(Secret("fake-secret-9")) == str(Secret("fake-secret-9")) == f"{Secret('x')}" == "Secret(...)"
    assert "secret-9" not in repr(places(tmp_path, KEY="fake-secret-9"))


def test_secrets_compare_by_what_they_hold() -> None:
    assert Secret("test-key-1") == Secret("test-key-1")
    assert Secret("test-key-1") != Secret("test-key-2")
    assert Secret("test-key-1") != "test-key-1"
    assert len({Secret("test-key-1"), Secret("test-key-1")}) == 1
    assert Secret("test-key-1")
    assert not ABSENT


def test_what_this_process_may_not_look_at_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    assert is_there(tmp_path)
    monkeypatch.setattr("os.stat", denied)
    assert not is_there(tmp_path)
