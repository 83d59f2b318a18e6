"""How hard the model is to think, and whether its thoughts are asked for, whatever API asks.

In: a ``Wish``, the model, the limit on output tokens. Out: Gemini's ``thinkingConfig``. Must not: send a budget to a
model with levels or the other way round: both are a 400 (docs/protocol.md 4.3).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gemproxy.converter.numbers import integer
from gemproxy.errors import ClientFault
from gemproxy.models import DYNAMIC, EFFORTS, Budget, Depth, Model, depth_of_budget, depth_of_effort
from gemproxy.wire.gemini import ThinkingConfig

DYNAMIC_SPEND: Final = 8_192  # tokens that a model which decides for itself may well think; gemini-cli's own budget
LEAST_USEFUL_BUDGET: Final = 128  # a smaller budget than this buys no thought, so the answer gets the tokens


class Wish(Struct, frozen=True):
    """What the request asks for; ``off`` is an explicit no to thinking, whatever the model can do of it."""

    depth: Depth = Depth()
    off: bool = False
    said: bool = False


NO_WISH: Final = Wish()


def of_budget(model: Model, said: int | float, param: str) -> Wish:
    """Return the wish for so many tokens of thought; raises ``ClientFault``."""
    tokens = integer(said, param)
    if tokens < DYNAMIC:
        raise ClientFault(f"{param} must be -1 (the model decides), 0 (off) or a number of tokens.", param=param)
    return Wish(depth_of_budget(model, tokens), off=tokens == 0, said=True)


def of_effort(model: Model, effort: str, param: str) -> Wish:
    """Return the wish for one of OpenAI's efforts; raises ``ClientFault``."""
    if effort not in EFFORTS:
        raise ClientFault(f"{param} must be one of {', '.join(EFFORTS)}.", param=param, code="unsupported_value")
    return Wish(depth_of_effort(model, effort), off=effort == "none", said=True)


def thinking_config(
    wish: Wish, model: Model, limit: int | None, shown: bool | None, include: bool
) -> ThinkingConfig | None:
    """Return the thinking config, or None to leave it to the model.

    ``limit`` is the bound on output tokens, which thinking shares. ``shown`` says whether the client wants to see the
    thoughts; None: as ``include`` (``models.include_thoughts``) has it for a model that thinks, unless the request says
    no to thinking (docs/architecture.md 14.2).
    """
    depth = wish.depth
    if limit is not None and isinstance(model.thinking, Budget):
        depth = _leave_room(model.thinking, depth, limit)
    if shown is None:
        shown = include and model.thinking is not None and not wish.off and (wish.said or model.thinks)
    # "include_thoughts is only enabled when thinking is enabled": the two must not meet
    shown = shown and depth.budget != 0
    if not shown and depth.budget is None and depth.level is None:
        return None
    return ThinkingConfig(shown or None, depth.budget, depth.level)


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
