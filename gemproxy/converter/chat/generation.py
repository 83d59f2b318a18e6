"""How to answer: limits, sampling, format and number of answers become Gemini's ``generationConfig``.

In: the request and the model. Out: the config, and what had to be left out (``notes``). Must not: send what the model
is known to refuse (docs/protocol.md 1.5): that is left out where it changes little, and a fault where it would mislead.
"""

from __future__ import annotations

from gemproxy.converter.chat.reasoning import thinking
from gemproxy.converter.gemini.generation_config import (
    FREE_TEXT,
    Format,
    answer_schema,
    ask_logprobs,
    json_format,
    limit,
    sample,
    top_logprobs,
)
from gemproxy.converter.gemini.reader import MAX_CANDIDATES
from gemproxy.converter.numbers import integer, within
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.wire.gemini import GenerationConfig
from gemproxy.wire.openai_chat import ChatRequest, GoogleOptions

MAX_STOPS = 5  # docs/protocol.md 1.5
INT32_MAX = 0x7FFFFFFF


def generation(
    request: ChatRequest,
    google: GoogleOptions | None,
    model: Model,
    wanted: Format,
    include_thoughts: bool,
    notes: list[str],
) -> GenerationConfig | None:
    """Return the generation config, or None if nothing needs saying. Raises ``ClientFault`` naming the field."""
    config = GenerationConfig()
    most = config.max_output_tokens = _limit(request, model)
    sample(config, model, notes, request.temperature, request.top_p, request.top_k)
    if request.stop is not None:
        config.stop_sequences = _stops(request.stop)
    if request.seed is not None:
        config.seed = _seed(integer(request.seed, "seed"))
    if request.presence_penalty or request.frequency_penalty:
        _penalties(request, notes)
    if request.logprobs or request.top_logprobs is not None:
        _logprobs(request, model, config)
    if request.n is not None:
        config.candidate_count = _candidates(integer(request.n, "n"), model)
    if request.modalities is not None or request.audio is not None:
        config.response_modalities = _modalities(request, model)
    wanted.write(config)
    config.thinking_config = thinking(request, google, model, most, include_thoughts)
    return None if config == _EMPTY_CONFIG else config


_EMPTY_CONFIG = GenerationConfig()


def answer_format(request: ChatRequest, model: Model, with_tools: bool, effort: Effort) -> Format:
    """Return how the answer is to be formed; raises ``ClientFault``."""
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return FREE_TEXT
    if wanted.type == "json_object":
        return json_format(b"", model, with_tools)
    if wanted.type != "json_schema":
        raise ClientFault(
            "response_format.type must be text, json_object or json_schema.",
            param="response_format.type",
            code="unsupported_value",
        )
    param = "response_format.json_schema"
    if wanted.json_schema is None:
        raise ClientFault(f"{param} is missing.", param=param)
    found = answer_schema(wanted.json_schema.schema, f"{param}.schema", "response_format", effort)
    return json_format(found, model, with_tools)


# ----------------------------------------------------------------------------------------------------- single fields


def _limit(request: ChatRequest, model: Model) -> int | None:
    if request.max_completion_tokens is not None:
        return limit(request.max_completion_tokens, "max_completion_tokens", model)
    return limit(request.max_tokens, "max_tokens", model) if request.max_tokens is not None else None


def _penalties(request: ChatRequest, notes: list[str]) -> None:
    """Judge them, and leave them out: every current model refuses them (docs/protocol.md 1.5, 4.1)."""
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(request, name)
        if value:
            within(value, name, -2, 2)
            notes.append(name)


def _stops(stop: str | list[str]) -> list[str] | None:
    texts = [stop] if isinstance(stop, str) else stop
    kept = [text for text in texts if text]
    if len(kept) > MAX_STOPS:
        raise ClientFault(f"stop may hold at most {MAX_STOPS} sequences.", param="stop", code="unsupported_value")
    return kept or None


def _seed(seed: int) -> int:
    return seed if -INT32_MAX - 1 <= seed <= INT32_MAX else seed & INT32_MAX


def _logprobs(request: ChatRequest, model: Model, config: GenerationConfig) -> None:
    count = top_logprobs(request.top_logprobs) if request.top_logprobs is not None else None
    if request.logprobs:
        ask_logprobs(config, model, count, "logprobs")
    elif count:
        raise ClientFault("top_logprobs needs logprobs to be true.", param="top_logprobs")


def _candidates(count: int, model: Model) -> int | None:
    if count < 1:
        raise ClientFault("n must be at least 1.", param="n", code="unsupported_value")
    most = MAX_CANDIDATES if model.candidates else 1
    if count > most:
        raise ClientFault(
            f"The model {model.id} gives at most {most} answer{'s' if most > 1 else ''} to one request.",
            param="n",
            code="unsupported_value",
        )
    return count if count > 1 else None


def _modalities(request: ChatRequest, model: Model) -> list[str] | None:
    wanted = request.modalities or ["text"]
    if "audio" in wanted or request.audio is not None:
        param = "modalities" if "audio" in wanted else "audio"
        raise ClientFault("Audio output is not offered.", param=param, code="unsupported_value")
    for name in wanted:
        if name not in ("text", "image"):
            raise ClientFault("modalities may hold text and image.", param="modalities", code="unsupported_value")
    if "image" not in wanted:
        return None
    if not model.image_output:
        raise ClientFault(f"The model {model.id} makes no images.", param="modalities", code="unsupported_value")
    return ["TEXT", "IMAGE"]
