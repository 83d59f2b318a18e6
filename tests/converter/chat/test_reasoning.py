"""How hard to think: every way to say it, which one wins, and the room left for the answer (docs/protocol.md 4.3)."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.converter.api import Options
from tests.chat_bodies import config, refused, thinking

PRO, FLASH, LITE = "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"
NEW, MINIMAL, NONE = "gemini-3.8-flash", "gemini-3.6-flash", "gemini-2.0-flash"
SHOWN = {"includeThoughts": True}


def google(**fields: Any) -> dict[str, Any]:
    return {"google": {"thinking_config": fields}}


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        # said nothing: a model that thinks is asked for its thoughts
        pytest.param(PRO, {}, SHOWN, id="2.5 pro thinks"),
        pytest.param(FLASH, {}, SHOWN, id="2.5 flash thinks"),
        pytest.param(LITE, {}, None, id="2.5 lite does not unless asked"),
        pytest.param(NEW, {}, SHOWN, id="3.x thinks"),
        pytest.param(NONE, {}, None, id="2.0 does not"),
        # effort
        pytest.param(FLASH, {"reasoning_effort": "low"}, {"thinkingBudget": 1024, **SHOWN}, id="effort is a budget"),
        pytest.param(LITE, {"reasoning_effort": "low"}, {"thinkingBudget": 1024, **SHOWN}, id="lite that is asked"),
        pytest.param(NEW, {"reasoning_effort": "high"}, {"thinkingLevel": "HIGH", **SHOWN}, id="effort is a level"),
        pytest.param(FLASH, {"reasoning_effort": "none"}, {"thinkingBudget": 0}, id="none is off"),
        pytest.param(PRO, {"reasoning_effort": "none"}, {"thinkingBudget": 128}, id="none on pro: least, unshown"),
        pytest.param(NEW, {"reasoning_effort": "none"}, {"thinkingLevel": "LOW"}, id="none on 3.8: lowest, unshown"),
        pytest.param(MINIMAL, {"reasoning_effort": "none"}, {"thinkingLevel": "MINIMAL"}, id="none on 3.6"),
        pytest.param(NONE, {"reasoning_effort": "high"}, None, id="effort of a model that does not think"),
        # budget
        pytest.param(FLASH, {"thinking_budget": 2000}, {"thinkingBudget": 2000, **SHOWN}, id="a budget"),
        pytest.param(FLASH, {"thinking_budget": 2000.0}, {"thinkingBudget": 2000, **SHOWN}, id="as a fraction"),
        pytest.param(FLASH, {"thinking_budget": 0}, {"thinkingBudget": 0}, id="a budget of nothing"),
        pytest.param(PRO, {"thinking_budget": 0}, {"thinkingBudget": 128}, id="nothing on pro"),
        pytest.param(LITE, {"thinking_budget": -1}, {"thinkingBudget": -1, **SHOWN}, id="as it likes"),
        pytest.param(NEW, {"thinking_budget": 5000}, {"thinkingLevel": "MEDIUM", **SHOWN}, id="a budget on 3.x"),
        pytest.param(NEW, {"thinking_budget": -1}, SHOWN, id="as it likes on 3.x"),
        # Anthropic's form
        pytest.param(
            FLASH,
            {"thinking": {"type": "enabled", "budget_tokens": 3000}},
            {"thinkingBudget": 3000, **SHOWN},
            id="enabled with a budget",
        ),
        pytest.param(FLASH, {"thinking": {"budget_tokens": 3000}}, {"thinkingBudget": 3000, **SHOWN}, id="only one"),
        pytest.param(FLASH, {"thinking": {"budget_tokens": 3e3}}, {"thinkingBudget": 3000, **SHOWN}, id="as 3000.0"),
        pytest.param(
            FLASH,
            {"google": {"thinking_config": {"thinking_budget": 3e3}}},
            {"thinkingBudget": 3000, **SHOWN},
            id="as 3000.0, in Google's words",
        ),
        pytest.param(FLASH, {"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}, id="disabled"),
        pytest.param(LITE, {"thinking": {"type": "enabled"}}, {"thinkingBudget": -1, **SHOWN}, id="just enabled"),
        pytest.param(LITE, {"thinking": {"type": "adaptive"}}, {"thinkingBudget": -1, **SHOWN}, id="adaptive"),
        pytest.param(NEW, {"thinking": {"type": "adaptive"}}, SHOWN, id="adaptive on 3.x"),
        # Google's own, in both casings and places
        pytest.param(FLASH, google(thinking_budget=500), {"thinkingBudget": 500, **SHOWN}, id="google budget"),
        pytest.param(FLASH, google(thinkingBudget=500), {"thinkingBudget": 500, **SHOWN}, id="in camel case"),
        pytest.param(NEW, google(thinking_level="high"), {"thinkingLevel": "HIGH", **SHOWN}, id="google level"),
        pytest.param(NEW, google(thinkingLevel="MEDIUM"), {"thinkingLevel": "MEDIUM", **SHOWN}, id="upper case"),
        pytest.param(NEW, google(thinking_level="XHIGH"), {"thinkingLevel": "HIGH", **SHOWN}, id="beyond high"),
        pytest.param(NEW, google(thinking_level="THINKING_LEVEL_UNSPECIFIED"), SHOWN, id="a level of nothing"),
        pytest.param(FLASH, google(thinking_level="low"), {"thinkingBudget": 1024, **SHOWN}, id="a level on 2.5"),
        pytest.param(NEW, google(include_thoughts=False), None, id="no thoughts wanted"),
        pytest.param(NEW, google(includeThoughts=False), None, id="nor in camel case"),
        pytest.param(LITE, google(include_thoughts=True), SHOWN, id="thoughts wanted by name"),
        pytest.param(FLASH, google(include_thoughts=True, thinking_budget=0), {"thinkingBudget": 0}, id="of nothing"),
        pytest.param(
            FLASH,
            {"google": {"thinkingConfig": {"thinkingBudget": 500}}},
            {"thinkingBudget": 500, **SHOWN},
            id="camel case all the way",
        ),
        pytest.param(
            FLASH,
            {"extra_body": google(thinking_budget=500)},
            {"thinkingBudget": 500, **SHOWN},
            id="under a literal extra_body",
        ),
        # who wins
        pytest.param(
            FLASH,
            {
                **google(thinking_budget=1),
                "thinking_budget": 2,
                "thinking": {"budget_tokens": 3},
                "reasoning_effort": "low",
            },
            {"thinkingBudget": 1, **SHOWN},
            id="google's own wins",
        ),
        pytest.param(
            FLASH,
            {"thinking_budget": 2, "thinking": {"budget_tokens": 3}, "reasoning_effort": "low"},
            {"thinkingBudget": 2, **SHOWN},
            id="then the budget",
        ),
        pytest.param(
            FLASH,
            {"thinking": {"budget_tokens": 3}, "reasoning_effort": "low"},
            {"thinkingBudget": 3, **SHOWN},
            id="then Anthropic's form",
        ),
        pytest.param(
            FLASH,
            {"thinking": {"type": "adaptive"}, "reasoning_effort": "low"},
            {"thinkingBudget": 1024, **SHOWN},
            id="which leaves the depth to the effort",
        ),
        pytest.param(
            FLASH,
            {**google(include_thoughts=False), "reasoning_effort": "low"},
            {"thinkingBudget": 1024},
            id="google's own may say only whether to show",
        ),
    ],
)
def test_thinking(model: str, fields: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert thinking(model, **fields) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"reasoning_effort": "huge"}, "reasoning_effort", id="an unknown effort"),
        pytest.param({"reasoning_effort": ""}, "reasoning_effort", id="an empty effort"),
        pytest.param({"thinking_budget": -2}, "thinking_budget", id="less than as it likes"),
        pytest.param({"thinking_budget": 1.5}, "thinking_budget", id="half a token"),
        pytest.param({"thinking": {"type": "sometimes"}}, "thinking.type", id="an unknown type"),
        pytest.param({"thinking": {"budget_tokens": -7}}, "thinking.budget_tokens", id="a negative one"),
        pytest.param({"thinking": {"budget_tokens": 0.5}}, "thinking.budget_tokens", id="half a token"),
        pytest.param(google(thinking_budget=1, thinking_level="low"), "google.thinking_config", id="both at once"),
        pytest.param(google(thinking_level="deep"), "google.thinking_config.thinking_level", id="an unknown level"),
        pytest.param(google(thinkingBudget=-9), "google.thinking_config.thinking_budget", id="google's, negative"),
    ],
)
@pytest.mark.parametrize("model", [FLASH, NEW, NONE])
def test_nonsense_is_refused_whatever_the_model(model: str, fields: dict[str, Any], param: str) -> None:
    assert refused(model, **fields).param == param


def test_the_operator_can_have_thoughts_left_out() -> None:
    silent = Options(include_thoughts=False)
    assert thinking(NEW, options=silent) is None
    assert thinking(NEW, options=silent, reasoning_effort="low") == {"thinkingLevel": "LOW"}
    assert thinking(NEW, options=silent, **google(include_thoughts=True)) == SHOWN


# -------------------------------------------------------------------------------------- room for the answer (2.5)


@pytest.mark.parametrize(
    ("model", "limit", "fields", "expected"),
    [
        pytest.param(FLASH, 16, {}, {"thinkingBudget": 0}, id="16 tokens are for the answer"),
        pytest.param(FLASH, 255, {}, {"thinkingBudget": 0}, id="too few to think with"),
        pytest.param(FLASH, 256, {}, {"thinkingBudget": 128, **SHOWN}, id="half for thinking"),
        pytest.param(FLASH, 4_000, {}, {"thinkingBudget": 2_000, **SHOWN}, id="half of more"),
        pytest.param(FLASH, 16_384, {}, SHOWN, id="enough for both"),
        pytest.param(PRO, 16, {}, {"thinkingBudget": 128, **SHOWN}, id="pro cannot be turned off"),
        pytest.param(PRO, 1_000, {}, {"thinkingBudget": 500, **SHOWN}, id="pro is held to half"),
        pytest.param(LITE, 16, {}, None, id="lite does not think anyway"),
        pytest.param(LITE, 600, {"thinking_budget": -1}, {"thinkingBudget": 0}, id="lite thinks 512 or nothing"),
        pytest.param(FLASH, 100, {"reasoning_effort": "high"}, {"thinkingBudget": 0}, id="effort gives way"),
        pytest.param(
            FLASH, 1_000, {"reasoning_effort": "low"}, {"thinkingBudget": 750, **SHOWN}, id="three quarters of it"
        ),
        pytest.param(
            FLASH, 2_000, {"reasoning_effort": "low"}, {"thinkingBudget": 1_024, **SHOWN}, id="a budget that fits"
        ),
        pytest.param(FLASH, 16, {"thinking_budget": 0}, {"thinkingBudget": 0}, id="off is off"),
        pytest.param(NEW, 16, {}, SHOWN, id="a level cannot be capped"),
        pytest.param(NONE, 16, {}, None, id="nothing to cap"),
    ],
)
def test_small_limits_are_not_eaten(
    model: str, limit: int, fields: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    assert thinking(model, max_tokens=limit, **fields) == expected
    assert config(model, max_tokens=limit, **fields) == {"maxOutputTokens": limit}
