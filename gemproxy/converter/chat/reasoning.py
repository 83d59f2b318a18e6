"""What a chat request wishes of the model's thinking: four ways to say it become one ``Wish``."""

from __future__ import annotations

from gemproxy.converter.gemini.thinking import NO_WISH, Wish, of_budget, of_effort, thinking_config
from gemproxy.errors import ClientFault
from gemproxy.models import DYNAMIC, Model, depth_of_budget, depth_of_effort
from gemproxy.wire import gemini
from gemproxy.wire.openai_chat import ChatRequest, GoogleOptions, Thinking, ThinkingConfig


def thinking(
    request: ChatRequest, google: GoogleOptions | None, model: Model, limit: int | None, include: bool
) -> gemini.ThinkingConfig | None:
    """Return the thinking config, as ``thinking_config`` does; raises ``ClientFault`` naming the field."""
    config = (google.thinking_config or google.thinking_config_camel) if google is not None else None
    shown = None if config is None else config.include_thoughts
    if config is not None and shown is None:
        shown = config.include_thoughts_camel
    return thinking_config(_wish(request, config, model), model, limit, shown, include)


def _wish(request: ChatRequest, config: ThinkingConfig | None, model: Model) -> Wish:
    """Read the four ways to say it: Google's own first, then the budget, Anthropic's form and the effort."""
    if config is not None:
        found = _from_config(config, model)
        if found is not None:
            return found
    if request.thinking_budget is not None:
        return of_budget(model, request.thinking_budget, "thinking_budget")
    if request.thinking is not None:
        found = _from_anthropic(request.thinking, request.reasoning_effort, model)
        if found is not None:
            return found
    if request.reasoning_effort is not None:
        return of_effort(model, request.reasoning_effort, "reasoning_effort")
    return NO_WISH


def _from_config(config: ThinkingConfig, model: Model) -> Wish | None:
    budget = config.thinking_budget if config.thinking_budget is not None else config.thinking_budget_camel
    level = config.thinking_level or config.thinking_level_camel
    param = "google.thinking_config"
    if budget is not None and level is not None:
        raise ClientFault("Only one of thinking_budget and thinking_level can be set.", param=param)
    if budget is not None:
        return of_budget(model, budget, f"{param}.thinking_budget")
    if level is not None and level.upper() != "THINKING_LEVEL_UNSPECIFIED":
        return of_effort(model, level.lower(), f"{param}.thinking_level")
    return None


def _from_anthropic(wanted: Thinking, effort: str | None, model: Model) -> Wish | None:
    if wanted.type == "disabled":
        return Wish(depth_of_effort(model, "none"), off=True, said=True)
    if wanted.type not in (None, "enabled", "adaptive"):
        raise ClientFault(
            "thinking.type must be enabled, adaptive or disabled.", param="thinking.type", code="unsupported_value"
        )
    if wanted.budget_tokens is not None:
        return of_budget(model, wanted.budget_tokens, "thinking.budget_tokens")
    if effort is not None:
        return None  # thinking is on, and how hard is said elsewhere
    return Wish(depth_of_budget(model, DYNAMIC), said=True)
