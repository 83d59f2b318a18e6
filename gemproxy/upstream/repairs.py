"""Changes of a body that a model would refuse: known beforehand, or learnt from a refusal (PROTOCOL 9).

In: a body and the repairs it needs. Out: a repaired copy; the body that came in stays as it is. ``Learnt`` remembers
repairs per model by the clock that is passed in. Ids and signatures are repaired in ``signing``, which walks the
contents anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import lru_cache
from typing import Final

from gemproxy.models import LEVELS, capabilities
from gemproxy.upstream.dialect import Repair
from gemproxy.wire.gemini import Content, GenerateRequest, GenerationConfig, Part, ThinkingConfig

MEMORY: Final = 3_600.0
"""Seconds that a repair is remembered for a model; models change monthly, so not for ever (PROTOCOL 9)."""

RETRY_MEMORY: Final = 10.0
"""Seconds for signatures: a broken history concerns one conversation. Long enough for its own retry; longer, and one
client's history would cost everybody else's conversations their thoughts."""

_NONE: Final[Mapping[Repair, int]] = {}
_NO_SCHEMA: Final = GenerationConfig().response_json_schema  # msgspec leaves out this very object, no equal one
_LEVELS: Final = tuple(level.upper() for level in LEVELS)

Change = Callable[[GenerateRequest, int], GenerateRequest]
Needed = Mapping[Repair, int]
"""Repairs, and how many times each was learnt; only ``RAISE_LEVEL`` means more the more often it was."""


class Learnt:
    """What refusals taught about models. Bounded by the number of models that answered."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Repair, tuple[float, int]]] = {}

    def learn(self, model: str, repair: Repair, now: float) -> None:
        """Remember that this model needs this repair. Refusals of requests under way together count once."""
        known = self._known.setdefault(model, {})
        end, times = known.get(repair, (now, 0))
        life = RETRY_MEMORY if repair is Repair.DUMMY_SIGNATURES else MEMORY
        if end <= now:
            times = 1
        elif end - life + RETRY_MEMORY <= now:
            times += 1
        known[repair] = (now + life, times)

    def of(self, model: str, now: float) -> Needed:
        """Return what this model needs by all that was learnt."""
        if model not in self._known:
            return _NONE
        known = self._known[model]
        for repair in [repair for repair, (end, _) in known.items() if end <= now]:
            del known[repair]
        if not known:
            del self._known[model]
        return {repair: times for repair, (_, times) in known.items()}


@lru_cache(maxsize=256)
def standing(model_id: str) -> Needed:
    """Return the repairs that a model is known to need without having refused anything (PROTOCOL 8.5)."""
    model = capabilities(model_id)
    needs = (
        (Repair.DROP_SAMPLING, not model.sampling),
        (Repair.SCHEMA_AS_TEXT, not model.modern),
        (Repair.SYSTEM_AS_USER, not model.system_instruction),
    )
    return {repair: 1 for repair, needed in needs if needed}


def repaired(body: GenerateRequest, needed: Needed) -> GenerateRequest:
    """Return the body with these repairs; the same object if none of them touches it."""
    if not needed:
        return body
    for repair, change in _CHANGES.items() if len(needed) > 1 else _only(needed):
        if repair in needed:
            body = change(body, needed[repair])
    return body


def _only(needed: Needed) -> Iterable[tuple[Repair, Change]]:
    # the usual case, one standing repair: ten look-ups of an enum less, 3 us
    return [(repair, _CHANGES[repair]) for repair in needed if repair in _CHANGES]


# ------------------------------------------------------------------------------------------------- generation config


def _without(*fields: str) -> Callable[[GenerateRequest, int], GenerateRequest]:
    """Return a change that leaves these fields of the generation config out."""

    def drop(body: GenerateRequest, _: int) -> GenerateRequest:
        config = body.generation_config
        if config is None or all(getattr(config, field) is None for field in fields):
            return body
        fresh = copy(config)
        for field in fields:
            setattr(fresh, field, None)
        return _with_config(body, fresh)

    return drop


def _without_budget(body: GenerateRequest, _: int) -> GenerateRequest:
    thinking = _thinking(body)
    if thinking is None or thinking.thinking_budget is None:
        return body
    return _with_thinking(body, ThinkingConfig(thinking.include_thoughts, None, thinking.thinking_level))


def _without_level(body: GenerateRequest, _: int) -> GenerateRequest:
    thinking = _thinking(body)
    if thinking is None or thinking.thinking_level is None:
        return body
    return _with_thinking(body, ThinkingConfig(thinking.include_thoughts, thinking.thinking_budget, None))


def _with_higher_level(body: GenerateRequest, times: int) -> GenerateRequest:
    """Raise a level to the lowest that was not yet refused: each refusal takes one more away from below."""
    thinking = _thinking(body)
    level = thinking.thinking_level.upper() if thinking is not None and thinking.thinking_level else ""
    if thinking is None or level not in _LEVELS[:times]:
        return body
    if times >= len(_LEVELS):
        return _without_level(body, 1)
    return _with_thinking(body, ThinkingConfig(thinking.include_thoughts, thinking.thinking_budget, _LEVELS[times]))


def _thinking(body: GenerateRequest) -> ThinkingConfig | None:
    return body.generation_config.thinking_config if body.generation_config is not None else None


def _with_thinking(body: GenerateRequest, thinking: ThinkingConfig) -> GenerateRequest:
    config = copy(body.generation_config) or GenerationConfig()
    config.thinking_config = thinking
    return _with_config(body, config)


def _with_config(body: GenerateRequest, config: GenerationConfig) -> GenerateRequest:
    fresh = copy(body)
    fresh.generation_config = config
    return fresh


# ------------------------------------------------------------------------------------------------- instructions


def _schema_as_text(body: GenerateRequest, _: int) -> GenerateRequest:
    """Ask in words for what JSON mode would enforce; models before Gemini 3 refuse it beside functions (SPEC 7)."""
    config = body.generation_config
    functions = any(tool.function_declarations for tool in body.tools or ())
    if config is None or config.response_mime_type is None or not functions:
        return body
    fresh = copy(config)
    fresh.response_mime_type, fresh.response_json_schema = None, _NO_SCHEMA
    wish = "Unless you call a function, answer with one JSON document and nothing else."
    schema = bytes(config.response_json_schema).decode(errors="replace")
    if schema:
        wish += f" It must fit this JSON Schema:\n{schema}"
    system = body.system_instruction
    told = _with_config(body, fresh)
    told.system_instruction = Content(
        [*((system.parts if system is not None else None) or ()), Part(text=wish)],
        system.role if system is not None else None,
    )
    return told


def _system_as_user(body: GenerateRequest, _: int) -> GenerateRequest:
    system = body.system_instruction
    if system is None:
        return body
    fresh = copy(body)
    fresh.system_instruction = None
    parts = system.parts or []
    first = body.contents[0] if body.contents else None
    if first is not None and first.role == "user":
        fresh.contents = [Content([*parts, *(first.parts or ())], "user"), *body.contents[1:]]
    else:
        fresh.contents = [Content(parts, "user"), *body.contents]
    return fresh


# The order counts: a schema that goes into the system text goes along with it into the user's.
_CHANGES: Final[Mapping[Repair, Change]] = {
    Repair.DROP_PENALTIES: _without("presence_penalty", "frequency_penalty"),
    Repair.DROP_LOGPROBS: _without("response_logprobs", "logprobs"),
    Repair.DROP_SAMPLING: _without("temperature", "top_p", "top_k"),
    Repair.DROP_THINKING: _without("thinking_config"),
    Repair.DROP_LEVEL: _without_level,
    Repair.RAISE_LEVEL: _with_higher_level,
    Repair.DROP_BUDGET: _without_budget,
    Repair.SCHEMA_AS_TEXT: _schema_as_text,
    Repair.SYSTEM_AS_USER: _system_as_user,
}
