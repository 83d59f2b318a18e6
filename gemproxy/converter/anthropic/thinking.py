"""What a request wishes of the model's thoughts: how hard, whether they are asked for, whether a block may carry them.

Pure. Facts: docs/protocol.md 10.4.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gemproxy.converter.gemini.thinking import NO_WISH, Wish, of_budget, of_effort
from gemproxy.errors import ClientFault
from gemproxy.models import DYNAMIC, Model, depth_of_budget, depth_of_effort
from gemproxy.wire.anthropic import MessagesRequest

_TYPES: Final = ("enabled", "adaptive", "between_tools", "disabled")


class Thoughts(Struct, frozen=True):
    """``shown``: the model is asked for its thoughts; ``told``: the client takes blocks of them, empty ones too."""

    wish: Wish
    shown: bool = False
    told: bool = False


def thoughts(request: MessagesRequest, model: Model, include: bool) -> Thoughts:
    """Return what is wished for; raises ``ClientFault``. ``include`` is ``models.include_thoughts``."""
    asked = request.thinking
    effort = request.output_config.effort if request.output_config is not None else None
    wish = of_effort(model, effort, "output_config.effort") if effort is not None else NO_WISH
    if asked is None:
        return Thoughts(wish)  # nobody who has not asked for thoughts expects a block before the text
    if asked.type not in _TYPES:
        raise ClientFault(
            f"thinking.type must be {', '.join(_TYPES[:-1])} or {_TYPES[-1]}.",
            param="thinking.type",
            code="unsupported_value",
        )
    if asked.type == "disabled":
        return Thoughts(Wish(depth_of_effort(model, "none"), off=True, said=True))
    if asked.type == "enabled" and asked.budget_tokens is not None:
        wish = of_budget(model, asked.budget_tokens, "thinking.budget_tokens")
    elif effort is None:
        wish = Wish(depth_of_budget(model, DYNAMIC), said=True)
    shown = include and asked.display != "omitted" and model.thinking is not None
    return Thoughts(wish, shown, told=True)
