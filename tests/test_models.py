"""The catalogue, what a name tells, and every effort on every family (docs/protocol.md 4.3 and 8)."""

from __future__ import annotations

import re

import pytest

from gemproxy.errors import ClientFault
from gemproxy.models import (
    DYNAMIC,
    EFFORTS,
    FIRST_DAY,
    LEVELS,
    SHIPPED,
    Budget,
    Catalogue,
    Depth,
    Levels,
    Model,
    capabilities,
    depth_of_budget,
    depth_of_effort,
    depth_of_level,
)
from tests.all_hold import all_hold

REFERENCE = ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.0-flash-exp", "gemini-1.5-pro", "gemini-1.5-flash")


# --------------------------------------------------------------------------------------------------- the catalogue


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_models_are_shipped_with_their_end(name: str) -> None:
    model = Catalogue().lookup(name)
    assert model in SHIPPED
    assert model.vision
    assert model.shutdown_date is not None
    assert isinstance(model.thinking, Budget) == ("2.5" in name)


def test_shipped_entries_are_sound() -> None:
    all_hold(check_sound, ((model,) for model in SHIPPED))


def check_sound(model: Model) -> None:
    assert re.fullmatch(r"(gemini|gemma)-[a-z0-9.-]+", model.id)
    assert FIRST_DAY <= model.created < 1_800_000_000
    assert model.out_limit > 0
    assert model.shutdown_date is None or re.fullmatch(r"\d{4}-\d\d-\d\d", model.shutdown_date)
    if isinstance(model.thinking, Levels):
        assert model.thinking.default in model.thinking.values
        assert list(model.thinking.values) == sorted(model.thinking.values, key=LEVELS.index)


def test_shipped_ids_are_listed_once_in_order() -> None:
    listed = [model.id for model in Catalogue().listed()]
    assert listed == [model.id for model in SHIPPED]
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("gemini-3.8-flash", "gemini-3.8-flash", id="a shipped id"),
        pytest.param("models/gemini-3.8-flash", "gemini-3.8-flash", id="the resource name is stripped"),
        pytest.param("gemini-9.9-flash", "gemini-9.9-flash", id="an unknown gemini passes through"),
        pytest.param("gemma-9-1b", "gemma-9-1b", id="an unknown gemma passes through"),
        pytest.param("gpt-4o", "gemini-3.8-flash", id="an alias"),
        pytest.param("models/gpt-4o", "gemini-3.8-flash", id="an alias behind the prefix"),
        pytest.param("tuned", "learnlm-2", id="an alias to a name of no known maker is the operator's word"),
        pytest.param("learnlm-1", "learnlm-1", id="a configured id"),
        pytest.param("nano-x", "nano-x", id="a discovered id"),
        pytest.param("google/gemini-3.8-flash", "gemini-3.8-flash", id="the maker's name is taken off"),
        pytest.param("gemini/gemini-3.8-flash", "gemini-3.8-flash", id="a provider's name is taken off"),
        pytest.param("gemini/models/gemini-3.8-flash", "gemini-3.8-flash", id="one before the other is taken off, too"),
        pytest.param("google/gemma-9-1b", "gemma-9-1b", id="an unknown model behind a maker's name"),
        pytest.param("google/gpt-4o", "gemini-3.8-flash", id="an alias behind a maker's name"),
        pytest.param("google/fast", "gemini-2.5-pro", id="an alias that holds a maker's name"),
        pytest.param("gemini-9:tuned@001/a_b", "gemini-9:tuned@001/a_b", id="signs that names of models may hold"),
    ],
)
def test_lookup_finds(name: str, found: str) -> None:
    aliases = {"gpt-4o": "models/gemini-3.8-flash", "tuned": "learnlm-2", "google/fast": "google/gemini-2.5-pro"}
    catalogue = Catalogue(aliases=aliases, extra=["learnlm-1"])
    catalogue.add_discovered(["models/nano-x"])
    assert catalogue.lookup(name).id == found


@pytest.mark.parametrize("name", ["gpt-4o", "", "gemini", "Gemini-2.5-pro", "claude-4", "google/", "openai/gemini-4"])
def test_lookup_of_other_makers_is_404(name: str) -> None:
    with pytest.raises(ClientFault) as caught:
        Catalogue().lookup(name)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    "name",
    [
        *("gemini-2/../../v1/projects", "gemini-..", "google/gemini-2..5", "gemini-2/./x", "gemini-2//x", "gemini-2/"),
        *(
            "gemini-2?key=x",
            "gemini-2#x",
            "gemini-2%2e",
            "gemini 2",
            "gemini-2\n",
            "gemini-é",
            "gemini-2\\x",
            "gemini-\0",
        ),
    ],
)
def test_lookup_of_a_name_that_could_lead_elsewhere_is_404(name: str) -> None:
    with pytest.raises(ClientFault) as caught:
        Catalogue().lookup(name)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize("name", ["x" * 5000, "gemini-" + "x" * 122])
def test_lookup_of_a_long_name_does_not_repeat_it(name: str) -> None:
    with pytest.raises(ClientFault) as caught:
        Catalogue().lookup(name)
    assert len(caught.value.message) < 300


def test_operator_record_wins_over_the_shipped_one() -> None:
    own = Model("gemini-3.8-flash", logprobs=True)
    catalogue = Catalogue(extra=[own])
    assert catalogue.lookup("gemini-3.8-flash") is own
    assert [model.id for model in catalogue.listed()].count(own.id) == 1


def test_discovery_adds_what_is_new_and_keeps_what_is_known() -> None:
    catalogue = Catalogue(entries=SHIPPED[:1])
    catalogue.add_discovered(["models/gemini-2.5-pro", "models/gemini-9-pro"])
    assert [model.id for model in catalogue.listed()] == ["gemini-2.5-pro", "gemini-9-pro"]
    assert catalogue.listed()[0] is SHIPPED[0]


def test_aliases_are_kept_for_the_list_but_are_no_models() -> None:
    catalogue = Catalogue(entries=(), aliases={"fast": "gemini-3.8-flash"})
    assert catalogue.aliases == {"fast": "gemini-3.8-flash"}
    assert catalogue.listed() == []


# ------------------------------------------------------------------------------------------------ what a name tells


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "gemini-2.5-flash-preview-09-2025",
            {"kind": "flash", "major": 2, "minor": 5, "thinking": capabilities("gemini-2.5-flash").thinking},
            id="a preview of 2.5 thinks like 2.5",
        ),
        pytest.param(
            "gemini-2.5-flash-lite-preview", {"kind": "flash-lite", "out_limit": 65_536}, id="lite is not flash"
        ),
        pytest.param(
            "gemini-2.0-flash-001",
            {
                "thinking": None,
                "out_limit": 8_192,
                "modern": False,
                "candidates": True,
            },
            id="2.0 is old",
        ),
        pytest.param(
            "gemini-5.1-ultra",
            {
                "major": 5,
                "thinking": Levels(("low", "medium", "high"), "medium"),
                "modern": True,
                "sampling": False,
                "candidates": False,
            },
            id="an unknown major has levels and nothing else is assumed",
        ),
        pytest.param("gemini-3-pro", {"minor": 0, "sampling": True}, id="no minor is minor 0"),
        pytest.param("gemini-3.5-flash-lite-001", {"sampling": False}, id="3.5 lite ignores sampling"),
        pytest.param("gemini-3.5-flash-001", {"sampling": True}, id="3.5 flash does not"),
        pytest.param("gemini-3.6-flash-001", {"sampling": False}, id="3.6 flash does"),
        pytest.param(
            "gemini-exp-1206",
            {"thinking": None, "major": 3, "modern": True},
            id="a name without version says nothing about thinking",
        ),
        pytest.param(
            "gemini-2.0-flash-exp-image-generation",
            {"kind": "image", "image_output": True, "system_instruction": False, "candidates": False},
            id="the first image model takes no system instruction",
        ),
        pytest.param("gemini-3.1-flash-image", {"thinking": None, "system_instruction": True}, id="a later one does"),
        pytest.param("gemini-nano-banana-3", {"kind": "image", "image_output": True}, id="a banana makes images"),
        pytest.param(
            "gemini-2.5-pro-preview-tts", {"kind": "tts", "vision": False, "thinking": None}, id="speech sees nothing"
        ),
        pytest.param(
            "gemma-3-27b-it",
            {"family": "gemma", "system_instruction": False, "modern": False},
            id="gemma 3 takes no system instruction",
        ),
        pytest.param(
            "gemma-4-31b-it", {"system_instruction": True, "sampling": True, "modern": False}, id="gemma 4 does"
        ),
        pytest.param("gemini-3.5-flash", {"wire_name_code_assist": "gemini-3-flash"}, id="renamed at Code Assist"),
        pytest.param("gemini-3.9-flash", {"prefill": False}, id="later flash does not go on with its own words"),
        pytest.param("gemini-3.5-flash-lite-001", {"prefill": False}, id="nor does 3.5 lite"),
        pytest.param("gemini-3.5-flash", {"prefill": True}, id="3.5 flash does"),
        pytest.param("gemini-3.9-pro", {"prefill": True}, id="of others it is not known"),
        pytest.param("gemini-flash-lite-latest", {"prefill": False}, id="the newest lite does not"),
        pytest.param(
            "gemini-flash-latest", {"sampling": False, "prefill": False, "shutdown_date": None}, id="follows the newest"
        ),
    ],
)
def test_capabilities(name: str, expected: dict[str, object]) -> None:
    model = capabilities(name)
    assert model.id == name
    assert {field: getattr(model, field) for field in expected} == expected


@pytest.mark.parametrize(
    ("name", "thinks"),
    [
        ("gemini-2.5-pro", True),
        ("gemini-2.5-flash", True),
        ("gemini-2.5-flash-lite", False),
        ("gemini-3.1-flash-lite", True),
        ("gemini-2.0-flash", False),
    ],
)
def test_thinks_unasked(name: str, thinks: bool) -> None:
    assert capabilities(name).thinks is thinks


# --------------------------------------------------------------------------------------- every effort, every family

BUDGETS = {
    "gemini-2.5-pro": (128, 1024, 1024, 8192, 24_576, 32_768, 32_768),
    "gemini-2.5-flash": (0, 1024, 1024, 8192, 24_576, 24_576, 24_576),
    "gemini-2.5-flash-lite": (0, 1024, 1024, 8192, 24_576, 24_576, 24_576),
}
LEVEL_TABLE = {
    "gemini-4-argon": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.8-flash": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.7-flash": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.6-flash": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.5-flash": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.5-flash-lite": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.1-flash-lite": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3-flash-preview": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.1-pro-preview": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.1-flash-lite-image": ("MINIMAL", "MINIMAL", "MINIMAL", "HIGH", "HIGH", "HIGH", "HIGH"),
    "gemini-7-unknown": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
}


EXPECTED = [
    *((name, zip(EFFORTS, (Depth(budget=tokens) for tokens in row), strict=True)) for name, row in BUDGETS.items()),
    *((name, zip(EFFORTS, (Depth(level=level) for level in row), strict=True)) for name, row in LEVEL_TABLE.items()),
    *((name, ((effort, Depth()) for effort in EFFORTS)) for name in ("gemini-2.0-flash", "gemma-4-31b-it")),
]


def test_effort() -> None:
    all_hold(check_effort, ((name, effort, depth) for name, row in EXPECTED for effort, depth in row))


def check_effort(name: str, effort: str, depth: Depth) -> None:
    assert depth_of_effort(capabilities(name), effort) == depth


@pytest.mark.parametrize(
    ("name", "tokens", "depth"),
    [
        pytest.param("gemini-2.5-pro", 0, Depth(budget=128), id="2.5 pro cannot be turned off"),
        pytest.param("gemini-2.5-pro", 64, Depth(budget=128), id="2.5 pro has a least"),
        pytest.param("gemini-2.5-pro", 99_999, Depth(budget=32_768), id="2.5 pro has a most"),
        pytest.param("gemini-2.5-pro", DYNAMIC, Depth(budget=-1), id="2.5 pro may decide"),
        pytest.param("gemini-2.5-flash", 0, Depth(budget=0), id="2.5 flash can be turned off"),
        pytest.param("gemini-2.5-flash", 1, Depth(budget=1), id="2.5 flash thinks as little as asked"),
        pytest.param("gemini-2.5-flash", 30_000, Depth(budget=24_576), id="2.5 flash has a most"),
        pytest.param("gemini-2.5-flash-lite", 100, Depth(budget=512), id="2.5 lite has a least"),
        pytest.param("gemini-2.5-flash-lite", 0, Depth(budget=0), id="2.5 lite can be turned off"),
        pytest.param("gemini-3.6-flash", 0, Depth(level="MINIMAL"), id="3.x off is the lowest level"),
        pytest.param("gemini-3.6-flash", 512, Depth(level="MINIMAL"), id="3.x up to 512 is minimal"),
        pytest.param("gemini-3.6-flash", 513, Depth(level="LOW"), id="3.x beyond 512 is low"),
        pytest.param("gemini-3.6-flash", 1_024, Depth(level="LOW"), id="3.x up to 1024 is low"),
        pytest.param("gemini-3.6-flash", 8_192, Depth(level="MEDIUM"), id="3.x up to 8192 is medium"),
        pytest.param("gemini-3.6-flash", 8_193, Depth(level="HIGH"), id="3.x beyond is high"),
        pytest.param("gemini-3.6-flash", DYNAMIC, Depth(), id="3.x decides anyway"),
        pytest.param("gemini-3.8-flash", 0, Depth(level="LOW"), id="3.8 has no minimal"),
        pytest.param("gemini-2.0-flash", 1_000, Depth(), id="2.0 does not think"),
    ],
)
def test_budget(name: str, tokens: int, depth: Depth) -> None:
    assert depth_of_budget(capabilities(name), tokens) == depth


@pytest.mark.parametrize(
    ("name", "level", "depth"),
    [
        pytest.param("gemini-2.5-flash", "low", Depth(budget=1_024), id="a level on 2.5 is a budget"),
        pytest.param("gemini-3.1-flash-lite-image", "medium", Depth(level="HIGH"), id="between two the higher one"),
        pytest.param("gemini-3.1-flash-lite-image", "low", Depth(level="MINIMAL"), id="the nearer of two"),
        pytest.param("gemini-2.0-flash", "low", Depth(), id="no thinking, nothing said"),
    ],
)
def test_level(name: str, level: str, depth: Depth) -> None:
    assert depth_of_level(capabilities(name), level) == depth


PATTERNS = {"claude-*": "gemini-3.5-flash", "claude-*haiku*": "gemini-3.5-flash-lite", "claude-opus": "gemini-4-argon"}


@pytest.mark.parametrize(
    ("name", "served"),
    [
        pytest.param("claude-sonnet-5", "gemini-3.5-flash", id="the one that fits"),
        pytest.param("claude-haiku-4-5-20251001", "gemini-3.5-flash-lite", id="the longest that fits"),
        pytest.param("models/claude-haiku", "gemini-3.5-flash-lite", id="a name with what others write before it"),
        pytest.param("claude-opus", "gemini-4-argon", id="an alias without a star goes first"),
        pytest.param("gemini-3.8-flash", "gemini-3.8-flash", id="a model keeps its name"),
        pytest.param("gemini-9-odd", "gemini-9-odd", id="what fits none"),
    ],
)
def test_an_alias_may_stand_for_many_names(name: str, served: str) -> None:
    assert Catalogue(aliases=PATTERNS).lookup(name).id == served


def test_a_pattern_for_everything_spares_the_models_that_there_are() -> None:
    catalogue = Catalogue(aliases={"*": "gemini-3.5-flash"})
    assert catalogue.lookup("gpt-4o").id == "gemini-3.5-flash"
    assert catalogue.lookup("gemini-3.8-flash").id == "gemini-3.8-flash"
    assert catalogue.meant("google/gemini-3.8-flash") == "gemini-3.8-flash", "as settings name it"
    assert catalogue.aliases == {}, "it is no name, and not listed"


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a*b", "ab", True),
        ("a*b", "a1b", True),
        ("a*b", "a1bc", False),
        ("ab*ba", "aba", False),
        ("*a*b*", "xaxbx", True),
        ("*a*b*", "xbxax", False),
        ("a*b*b", "ab", False),
    ],
)
def test_how_a_pattern_fits(pattern: str, name: str, fits: bool) -> None:
    catalogue = Catalogue(entries=(), aliases={pattern: "gemini-3.5-flash"})
    assert (catalogue.meant(name) == "gemini-3.5-flash") is fits


def test_a_name_of_another_maker_that_fits_no_pattern_is_still_none() -> None:
    with pytest.raises(ClientFault):
        Catalogue(aliases=PATTERNS).lookup("gpt-4o")
    with pytest.raises(ClientFault):
        Catalogue(aliases=PATTERNS).lookup("claude-" + "a" * 200)
