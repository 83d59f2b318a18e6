"""Changes of a body that a model refused (docs/protocol.md 9). What is known beforehand is the converter's to heed.

In: a body and the repairs it needs. Out: a repaired copy; the body that came in stays as it is. ``Learnt`` remembers
repairs per model by the clock that is passed in. Ids and signatures are repaired in ``signing``, which walks the
contents anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from copy import copy
from typing import Final

from gemproxy.upstream.dialect import Repair
from gemproxy.wire.gemini import Content, GenerateRequest, GenerationConfig, Part, ThinkingConfig

REPAIR_TTL: Final = 3_600.0
"""Seconds that a repair is remembered for a model; models change monthly, so not for ever (docs/protocol.md 9)."""

REMEMBERED_MODELS: Final = 512
"""Models; their names come from clients, and a gateway may answer to any."""
CONTINUE_TEXT: Final = "Continue."
"""What the user says at the end where a conversation may not end with the model's own words."""

_NO_REPAIRS: Final[frozenset[Repair]] = frozenset()
_NO_SCHEMA: Final = GenerationConfig().response_json_schema  # msgspec leaves out this very object, no equal one

Change = Callable[[GenerateRequest], GenerateRequest]


class Learnt:
    """What helped with models. What is remembered of one is replaced and never changed: ``of`` may run in a thread."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Repair, float]] = {}

    def learn(self, model: str, repair: Repair, now: float) -> None:
        """Remember that this repair made the model answer.

        But for signatures: a broken history concerns one conversation, and would cost all others their thoughts.
        """
        if repair is not Repair.DUMMY_SIGNATURES:
            known = self._known.pop(model, {})
            self._known[model] = {**known, repair: now + REPAIR_TTL}
            if len(self._known) > REMEMBERED_MODELS:
                del self._known[next(iter(self._known))]  # the one that learnt nothing for the longest time

    def of(self, model: str, now: float) -> frozenset[Repair]:
        """Return what this model needs by all that was learnt."""
        known = self._known.get(model)
        return _NO_REPAIRS if known is None else frozenset(repair for repair, end in known.items() if end > now)


def repaired(body: GenerateRequest, needed: Set[Repair]) -> GenerateRequest:
    """Return the body with these repairs; the same object if none of them touches it."""
    for repair, change in _CHANGES.items():
        if repair in needed:
            body = change(body)
    return body


# ------------------------------------------------------------------------------------------------- generation config


def _without(*fields: str) -> Change:
    """Return a change that leaves these fields of the generation config out."""

    def drop(body: GenerateRequest) -> GenerateRequest:
        config = body.generation_config
        if config is None or all(getattr(config, field) is None for field in fields):
            return body
        fresh = copy(config)
        for field in fields:
            setattr(fresh, field, None)
        return _with_config(body, fresh)

    return drop


def _without_budget(body: GenerateRequest) -> GenerateRequest:
    thinking = _thinking(body)
    if thinking is None or thinking.thinking_budget is None:
        return body
    return _with_thinking(body, ThinkingConfig(thinking.include_thoughts, None, thinking.thinking_level))


def _without_level(body: GenerateRequest) -> GenerateRequest:
    thinking = _thinking(body)
    if thinking is None or thinking.thinking_level is None:
        return body
    return _with_thinking(body, ThinkingConfig(thinking.include_thoughts, thinking.thinking_budget, None))


def _with_low_level(body: GenerateRequest) -> GenerateRequest:
    """Raise the lowest level, which is the only one that models were seen to lack."""
    thinking = _thinking(body)
    if thinking is None or (thinking.thinking_level or "").upper() != "MINIMAL":
        return body
    return _with_thinking(body, ThinkingConfig(thinking.include_thoughts, thinking.thinking_budget, "LOW"))


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


# ------------------------------------------------------------------------------------- instructions, contents


def _schema_as_text(body: GenerateRequest) -> GenerateRequest:
    """Ask in words for what JSON mode would enforce; models before Gemini 3 refuse it beside functions."""
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


def _system_as_user(body: GenerateRequest) -> GenerateRequest:
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


def _ended_by_user(body: GenerateRequest) -> GenerateRequest:
    if not body.contents or body.contents[-1].role != "model":
        return body
    fresh = copy(body)
    fresh.contents = [*body.contents, Content([Part(text=CONTINUE_TEXT)], "user")]
    return fresh


# The order counts: a schema that goes into the system text goes along with it into the user's.
_CHANGES: Final[Mapping[Repair, Change]] = {
    Repair.DROP_PENALTIES: _without("presence_penalty", "frequency_penalty"),
    Repair.DROP_LOGPROBS: _without("response_logprobs", "logprobs"),
    Repair.DROP_SAMPLING: _without("temperature", "top_p", "top_k"),
    Repair.DROP_THINKING: _without("thinking_config"),
    Repair.DROP_LEVEL: _without_level,
    Repair.RAISE_LEVEL: _with_low_level,
    Repair.DROP_BUDGET: _without_budget,
    Repair.SCHEMA_AS_TEXT: _schema_as_text,
    Repair.SYSTEM_AS_USER: _system_as_user,
    Repair.END_WITH_USER: _ended_by_user,
}
