"""How to answer: limits, sampling, format and number of answers become Gemini's ``generationConfig``.

In: the request and the model. Out: the config, and what had to be left out (``notes``). Must not: send what the model
is known to refuse (docs/protocol.md 1.5): that is left out where it changes little, and a fault where it would mislead.
"""

from __future__ import annotations

from msgspec import Raw, Struct

from gemproxy.converter.chat.reasoning import thinking
from gemproxy.converter.gemini.reader import MAX_CANDIDATES
from gemproxy.converter.numbers import integer, within
from gemproxy.converter.schema import cache as schema
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort, Exhausted
from gemproxy.models import Model
from gemproxy.wire.gemini import GenerationConfig
from gemproxy.wire.openai_chat import ChatRequest, GoogleOptions

MAX_STOPS = 5  # docs/protocol.md 1.5
INT32_MAX = 0x7FFFFFFF
JSON = "application/json"


class Format(Struct, frozen=True):
    """What ``response_format`` asks for; ``instruction`` says it in words where the model cannot be held to it."""

    mime: str | None = None
    schema: bytes = b""
    instruction: str | None = None


FREE_TEXT = Format()


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
    limit = config.max_output_tokens = _limit(request, model)
    _sampling(request, model, config, notes)
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
    if wanted.mime is not None:
        config.response_mime_type = wanted.mime
        if wanted.schema:
            config.response_json_schema = Raw(wanted.schema)
    config.thinking_config = thinking(request, google, model, limit, include_thoughts)
    return None if config == _EMPTY_CONFIG else config


_EMPTY_CONFIG = GenerationConfig()


def answer_format(request: ChatRequest, model: Model, with_tools: bool, effort: Effort) -> Format:
    """Return how the answer is to be formed (docs/protocol.md 4.6).

    Models before 3 refuse a JSON type beside tools; for them it is left out and said in words.
    Promised: docs/architecture.md 14.7.
    """
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return FREE_TEXT
    if wanted.type == "json_object":
        found = b""
    elif wanted.type == "json_schema":
        found = _answer_schema(request, effort)
    else:
        raise ClientFault(
            "response_format.type must be text, json_object or json_schema.",
            param="response_format.type",
            code="unsupported_value",
        )
    if model.modern or not with_tools:
        return Format(JSON, found)
    return Format(instruction=_in_words(found))


def _answer_schema(request: ChatRequest, effort: Effort) -> bytes:
    wanted = request.response_format.json_schema if request.response_format is not None else None
    param = "response_format.json_schema"
    if wanted is None:
        raise ClientFault(f"{param} is missing.", param=param)
    param = f"{param}.schema"
    raw = bytes(wanted.schema)
    if raw in (b"", b"null"):
        raise ClientFault(f"{param} is missing.", param=param)
    try:
        return schema.answer_schema(raw, effort)
    except schema.Unusable as fault:
        raise ClientFault(f"{param}: {fault}.", param=param) from fault
    except Exhausted:
        raise schema.too_much("response_format", effort) from None


def _in_words(found: bytes) -> str:
    if not found:
        return "When you give the final answer, write one JSON object and nothing else."
    return (
        "When you give the final answer, write JSON that is valid under the following JSON Schema, and nothing else:\n"
        + found.decode()
    )


# ----------------------------------------------------------------------------------------------------- single fields


def _limit(request: ChatRequest, model: Model) -> int | None:
    """Return ``maxOutputTokens``; it counts thoughts, as OpenAI's ``max_completion_tokens`` does."""
    value, param = request.max_completion_tokens, "max_completion_tokens"
    if value is None:
        value, param = request.max_tokens, "max_tokens"
    if value is None:
        return None
    tokens = integer(value, param)
    if tokens < 1:
        raise ClientFault(f"{param} must be at least 1.", param=param, code="unsupported_value")
    return min(tokens, model.out_limit)


def _sampling(request: ChatRequest, model: Model, config: GenerationConfig, notes: list[str]) -> None:
    if request.temperature is not None:
        config.temperature = within(request.temperature, "temperature", 0, 2)
    if request.top_p is not None:
        config.top_p = within(request.top_p, "top_p", 0, 1)
    if request.top_k is not None:
        count = integer(request.top_k, "top_k")
        config.top_k = count if count > 0 else None  # 0 and -1 are other servers' words for "no limit"
    if not model.sampling:
        notes += [name for name in ("temperature", "top_p", "top_k") if getattr(config, name) is not None]
        config.temperature = config.top_p = config.top_k = None


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
    count = None
    if request.top_logprobs is not None:
        count = integer(within(request.top_logprobs, "top_logprobs", 0, 20), "top_logprobs")
    if not request.logprobs:
        if count:
            raise ClientFault("top_logprobs needs logprobs to be true.", param="top_logprobs")
        return
    if not model.logprobs:
        raise ClientFault(f"The model {model.id} gives no logprobs.", param="logprobs", code="unsupported_parameter")
    config.response_logprobs = True
    config.logprobs = count


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
