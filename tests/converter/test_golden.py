"""Golden scenarios: each upstream stream gives one exact stream and one exact unary answer, however it is cut."""

from __future__ import annotations

import os

import msgspec
import pytest

from tests.folding import chunks, fold
from tests.golden import DATA, frames, run, scenarios, sse

WRITE = os.environ.get("GOLDEN") == "write"


@pytest.mark.parametrize("scenario", scenarios())
def test_scenario_gives_its_golden_stream(scenario: str) -> None:
    made = run(sse(frames(scenario)), stream=True)
    golden = DATA / f"{scenario}.stream.txt"
    if WRITE:
        golden.write_bytes(made)
    assert made == golden.read_bytes()


@pytest.mark.parametrize("scenario", scenarios())
def test_scenario_gives_its_golden_unary_answer(scenario: str) -> None:
    made = msgspec.json.format(run(sse(frames(scenario)), stream=False), indent=1) + b"\n"
    golden = DATA / f"{scenario}.unary.json"
    if WRITE:
        golden.write_bytes(made)
    assert made == golden.read_bytes()


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("step", [1, 7], ids=["one byte", "seven bytes"])
@pytest.mark.parametrize("scenario", scenarios())
def test_cuts_and_line_ends_change_nothing(scenario: str, step: int, eol: bytes) -> None:
    made = run(sse(frames(scenario), eol), stream=True, step=step)
    assert made == (DATA / f"{scenario}.stream.txt").read_bytes()


@pytest.mark.parametrize("scenario", scenarios())
def test_a_json_array_says_the_same_as_the_stream(scenario: str) -> None:
    body = b"[" + b"\n,\r\n".join(frames(scenario)) + b"\n]"
    assert run(body, stream=True) == (DATA / f"{scenario}.stream.txt").read_bytes()


@pytest.mark.parametrize("scenario", scenarios())
def test_unary_equals_the_folded_stream(scenario: str) -> None:
    folded = fold(chunks((DATA / f"{scenario}.stream.txt").read_bytes()))
    assert folded == msgspec.json.decode((DATA / f"{scenario}.unary.json").read_bytes())
