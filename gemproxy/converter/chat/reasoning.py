"""How hard the model is to think, and whether its thoughts are asked for.

In: the request's wishes on reasoning, the model, the limit on output tokens. Out: Gemini's ``thinkingConfig``.
Must not: send a budget to a model with levels or the other way round: both are a 400 (docs/protocol.md 4.3).
"""

from __future__ import annotations

from msgspec import Struct

from gemproxy.converter.numbers import integer
from gemproxy.errors import ClientFault
from gemproxy.models import DYNAMIC, EFFORTS, Budget, Depth, Model, depth_of_budget, depth_of_effort
from gemproxy.wire import gemini
from gemproxy.wire.openai_chat import ChatRequest, GoogleOptions, Number, Thinking, ThinkingConfig

DYNAMIC_SPEND = 8_192  # tokens that a model which decides for itself may well think; gemini-cli's own budget
LEAST_USEFUL_BUDGET = 128  # a smaller budget than this buys no thought, so the answer gets the tokens


class Wish(Struct, frozen=True):
    """What the request asks for; ``off`` is an explicit no to thinking, whatever the model can do of it."""

    depth: Depth = Depth()
    off: bool = False
    said: bool = False


_NO_WISH = Wish()


def thinking(
    request: ChatRequest, google: GoogleOptions | None, model: Model, limit: int | None, include: bool
) -> gemini.ThinkingConfig | None:
    """Return the thinking config, or None to leave it to the model.

    ``limit`` is the bound on output tokens, which thinking shares; ``include`` is ``models.include_thoughts``.
    Automatic: a model that thinks is asked for its thoughts unless the request says no (docs/architecture.md 14.2).
    """
    config = (google.thinking_config or google.thinking_config_camel) if google is not None else None
    wish = _wish(request, config, model)
    depth = wish.depth
    if limit is not None and isinstance(model.thinking, Budget):
        depth = _leave_room(model.thinking, depth, limit)
    shown = _include(config) if config is not None else None
    if shown is None:
        shown = include and model.thinking is not None and not wish.off and (wish.said or model.thinks)
    # "include_thoughts is only enabled when thinking is enabled": the two must not meet
    shown = shown and depth.budget != 0
    if not shown and depth.budget is None and depth.level is None:
        return None
    return gemini.ThinkingConfig(shown or None, depth.budget, depth.level)


def _wish(request: ChatRequest, config: ThinkingConfig | None, model: Model) -> Wish:
    """Read the four ways to say it: Google's own first, then the budget, Anthropic's form and the effort."""
    if config is not None:
        found = _from_config(config, model)
        if found is not None:
            return found
    if request.thinking_budget is not None:
        return _from_budget(model, request.thinking_budget, "thinking_budget")
    if request.thinking is not None:
        found = _from_anthropic(request.thinking, request.reasoning_effort, model)
        if found is not None:
            return found
    if request.reasoning_effort is not None:
        return _from_effort(model, request.reasoning_effort, "reasoning_effort")
    return _NO_WISH


def _from_config(config: ThinkingConfig, model: Model) -> Wish | None:
    budget = config.thinking_budget if config.thinking_budget is not None else config.thinking_budget_camel
    level = config.thinking_level or config.thinking_level_camel
    param = "google.thinking_config"
    if budget is not None and level is not None:
        raise ClientFault("Only one of thinking_budget and thinking_level can be set.", param=param)
    if budget is not None:
        return _from_budget(model, budget, f"{param}.thinking_budget")
    if level is not None and level.upper() != "THINKING_LEVEL_UNSPECIFIED":
        return _from_effort(model, level.lower(), f"{param}.thinking_level")
    return None


def _from_anthropic(wanted: Thinking, effort: str | None, model: Model) -> Wish | None:
    if wanted.type == "disabled":
        return Wish(depth_of_effort(model, "none"), off=True, said=True)
    if wanted.type not in (None, "enabled", "adaptive"):
        raise ClientFault(
            "thinking.type must be enabled, adaptive or disabled.", param="thinking.type", code="unsupported_value"
        )
    if wanted.budget_tokens is not None:
        return _from_budget(model, wanted.budget_tokens, "thinking.budget_tokens")
    if effort is not None:
        return None  # thinking is on, and how hard is said elsewhere
    return Wish(depth_of_budget(model, DYNAMIC), said=True)


def _from_budget(model: Model, said: Number, param: str) -> Wish:
    tokens = integer(said, param)
    if tokens < DYNAMIC:
        raise ClientFault(f"{param} must be -1 (the model decides), 0 (off) or a number of tokens.", param=param)
    return Wish(depth_of_budget(model, tokens), off=tokens == 0, said=True)


def _from_effort(model: Model, effort: str, param: str) -> Wish:
    if effort not in EFFORTS:
        raise ClientFault(f"{param} must be one of {', '.join(EFFORTS)}.", param=param, code="unsupported_value")
    return Wish(depth_of_effort(model, effort), off=effort == "none", said=True)


def _leave_room(thinking: Budget, depth: Depth, limit: int) -> Depth:
    """Lower a budget that would eat the whole limit, so that some is left for the answer (docs/protocol.md 4.3.5).

    A budget that was asked for keeps up to three quarters of the limit, a model that decides for itself half; where
    that is too little to think with, thinking is turned off, if the model allows it.
    """
    asked = thinking.default if depth.budget is None else depth.budget
    dynamic = asked == DYNAMIC
    room = limit // 2 if dynamic else limit * 3 // 4
    if (DYNAMIC_SPEND if dynamic else asked) <= room:
        return depth
    if thinking.can_disable and room < max(LEAST_USEFUL_BUDGET, thinking.least):
        return Depth(budget=0)
    return Depth(budget=max(room, thinking.least))


def _include(config: ThinkingConfig) -> bool | None:
    return config.include_thoughts if config.include_thoughts is not None else config.include_thoughts_camel
