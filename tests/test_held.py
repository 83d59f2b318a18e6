"""Secrets of the process are found in every disguise, whatever their shape, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy import held
from gemproxy.held import CUT_MARK, SHORTEST_SECRET, Secrets
from tests.all_hold import all_hold
from tests.credential_files import service_account
from tests.disguises import DISGUISES, bare, leaks

# of no shape that a rule would know; obviously fake
HELD = {
    "a key of a gateway": "gw/FAKE+one_two-three=four.five",
    "a client key": "fake-team-key-0001",
    "Google's key": "AIzaSy" + "FAKE" * 8 + "0",
    "an access token": "ya29." + "a0FAKE-access_token/" * 9,
    "a refresh token": "1//0fakeRefreshTokenForTests-abc",
    "marks": "fake&key<with>'marks'\\and$%41%",
}


def holding(*values: str) -> Secrets:
    secrets = Secrets()
    secrets.hold("test", values)
    return secrets


@pytest.mark.parametrize("secret", HELD.values(), ids=HELD)
def test_a_secret_is_cut_out_of_a_text_in_every_disguise(secret: str) -> None:
    all_hold(partial(_check_cut, secret), ((disguise,) for disguise in DISGUISES))


def _check_cut(secret: str, disguise: str) -> None:
    hide = DISGUISES[disguise]
    told = holding(*HELD.values()).cut(f"The key {hide(secret)} is not valid.")
    assert not leaks(told, secret, hide), told
    assert told.startswith("The key ")
    assert told.endswith(" is not valid.")
    assert CUT_MARK in told


def test_the_judge_finds_what_is_there() -> None:
    for secret in HELD.values():
        for name, hide in DISGUISES.items():
            assert leaks(f"The key {hide(secret)} is not valid.", secret, hide), name


@pytest.mark.parametrize(
    "text",
    [
        "Resource has been exhausted (e.g. check quota).",
        "fake team key 000 1 and fake-team-key-0002",
        "100% of requests & 50 %2 \\ \\u12 &#9999999; &#xfffff; &no; %",
        "\ud800 lone",
        "",
        "short",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert holding(*HELD.values()).cut(text) == text
    assert Secrets().cut(text) == text


@given(st.text(max_size=80), st.text(max_size=80))
def test_what_stands_around_stays(before: str, after: str) -> None:
    secret = HELD["a client key"]
    assert holding(secret).cut(f"{before}|{secret}|{after}") == f"{before}|{CUT_MARK}|{after}"


@given(st.text(alphabet="\\%&#;xu0149afn \n" + HELD["a client key"], max_size=200))
def test_what_was_cut_once_needs_no_second_cut(text: str) -> None:
    secrets = holding(HELD["a client key"])
    once = secrets.cut(text)
    assert secrets.cut(once) == once


def test_a_private_key_is_known_by_each_of_its_lines(tmp_path) -> None:
    info = msgspec.json.decode(service_account(tmp_path / "robot.json").read_bytes())
    lines = info["private_key"].splitlines()[1:-1]
    secrets = holding(info["private_key"])
    for text in (info["private_key"], msgspec.json.encode(info).decode(), lines[3], "".join(lines)):
        told = bare(secrets.cut(text))
        assert not any(line[:32] in told for line in lines)
    assert secrets.cut("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_a_long_token_is_found_and_so_is_one_whose_padding_was_lost() -> None:
    token = "fake" + "".join(f"{number:04x}" for number in range(2_000)) + "....."
    assert holding(token).cut(f"<{token}>") == f"<{CUT_MARK}.....>"
    assert holding(token).cut(f"<{token.rstrip('.')}>") == f"<{CUT_MARK}>"


def test_what_is_too_short_for_a_secret_is_not_looked_for() -> None:
    assert SHORTEST_SECRET == 8
    assert holding("model", "", "7 chars").cut("the model of 7 chars") == "the model of 7 chars"


def test_the_last_values_of_an_owner_stay_and_all_of_its_newest() -> None:
    secrets = Secrets()
    for number in range(100):
        secrets.hold("tokens", [f"fake-token-{number:03d}"])
    secrets.hold("configuration", [f"fake-key-{number:03d}" for number in range(100)])
    kept = [number for number in range(100) if CUT_MARK in secrets.cut(f"fake-token-{number:03d}")]
    assert kept == [*range(100 - len(kept), 100)]
    assert 2 <= len(kept) <= 32
    assert all(secrets.cut(f"fake-key-{number:03d}") == CUT_MARK for number in range(100))


def test_what_two_owners_hold_is_looked_for_until_neither_does() -> None:
    secrets = holding("fake-shared-secret")
    secrets.hold("other", ["fake-shared-secret"])
    secrets.hold("test", [f"fake-token-{number}" for number in range(50)])
    assert secrets.cut("fake-shared-secret") == CUT_MARK
    secrets.hold("other", [f"fake-token-{number}" for number in range(50)])
    assert secrets.cut("fake-shared-secret") == "fake-shared-secret"


def test_a_secret_anywhere_in_a_long_text_is_found() -> None:
    secret = HELD["a refresh token"]
    for place in (32_000, 32_767, 49_140, 49_152, 65_530, 98_300):
        assert secret not in holding(secret).cut("word " * (place // 5) + secret + " word" * 20_000)


def test_no_repr_shows_a_value() -> None:
    secrets = holding(*HELD.values())
    secrets.cut("a text that is long enough")
    for shown in (repr(secrets), repr(secrets._current())):
        assert not any(value[:8] in shown for value in HELD.values())


@pytest.fixture(scope="module")
def many() -> Secrets:
    return holding(*HELD.values(), *(f"fake-key-{number:04d}-production" for number in range(500)))


@pytest.mark.parametrize(
    "text",
    [
        "an ordinary sentence about nothing at all. ",
        "%41\\u0041&#65;",
        "\\\\\\\\%25%25",
        HELD["an access token"][-12:],
        HELD["a client key"] + " ",
    ],
)
def test_cutting_is_linear_in_the_text(text: str, many: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_WINDOW_LENGTH", 1 << 12)
    monkeypatch.setattr(held, "_OVERLAP_LENGTH", 1 << 9)
    layers, looked_at = held._layers, [0]

    def counted(window: str) -> Iterator[Any]:
        for layer in layers(window):
            looked_at[0] += len(layer.text)
            yield layer

    monkeypatch.setattr(held, "_layers", counted)

    def work(size: int) -> int:
        looked_at[0] = 0
        many.cut((text * (size // len(text) + 1))[:size])
        return looked_at[0]

    assert work(30_000) < 2.3 * work(15_000)
    assert work(1_000) <= 4 * 1_000, "once as it is, and three times unescaped"


def test_what_a_character_costs_does_not_hang_on_the_number_of_secrets() -> None:
    few, many = holding("fake-key-0000-production"), holding(*(f"fake-key-{n:04d}-production" for n in range(5_000)))
    ending = "production"
    assert {len(secrets._current().lengths.get(ending[-SHORTEST_SECRET:], ())) for secrets in (few, many)} == {1}
