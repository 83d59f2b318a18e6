"""The models and what each can do, as far as the words of docs/protocol.md 4.3 and 8 go."""

from __future__ import annotations

import pytest

from gemproxy.simulator.catalogue import MODELS, guess, lookup


@pytest.mark.parametrize(
    ("name", "major", "kind", "thinking"),
    [
        ("gemini-5-flash-lite-preview", 5, "flash-lite", True),
        ("gemini-2.5-pro-preview-03-25", 2, "pro", True),
        ("gemini-2.0-flash-exp", 2, "flash", False),
        ("gemma-3-27b-it", 3, "gemma", False),
        ("unheard-of", 3, "flash", True),
    ],
)
def test_name_promises_generation_and_kind(name: str, major: int, kind: str, thinking: bool) -> None:
    found = guess(name)
    assert (found.major, found.kind, found.thinking) == (major, kind, thinking)


@pytest.mark.parametrize(
    ("name", "upstream", "found"),
    [
        ("gemini-flash-latest", "ai_studio", "gemini-3.8-flash"),
        ("gemini-pro-latest", "vertex", "gemini-3.1-pro-preview"),
        ("gemini-flash-latest", "code_assist", None),
        ("gemini-3-flash", "code_assist", "gemini-3.5-flash"),
        ("gemini-3-flash", "ai_studio", None),
        ("gemini-3-pro-preview", "code_assist", "gemini-3.1-pro-preview"),
        ("gemini-3-pro-preview", "ai_studio", None),
        ("gemini-1.5-flash", "ai_studio", None),
        ("", "ai_studio", None),
    ],
)
def test_names_lead_to_models_per_upstream(name: str, upstream: str, found: str | None) -> None:
    model = lookup(name, upstream)
    assert (model and model.id) == found


def test_allowed_names_do_not_hide_known_models() -> None:
    assert lookup("gemini-2.5-pro", "ai_studio", {"gemini-2.5-pro"}) is MODELS["gemini-2.5-pro"]
    assert lookup("gemini-9", "ai_studio", {"gemini-9"}) == guess("gemini-9")


@pytest.mark.parametrize("name", MODELS)
def test_row_of_the_table_holds_together(name: str) -> None:
    model = MODELS[name]
    assert model.id == name
    assert (not model.levels) or model.default_level in model.levels
    assert model.signs == (name.startswith("gemini-") and model.major >= 3)
    assert model.output <= model.context
