"""How to answer, in Gemini's words: limit, sampling, logprobs and format, whatever API asks.

In: single values as the client gave them, with the name that the client knows them by. Out: fields of a
``GenerationConfig``. Must not: send what the model is known to refuse (docs/protocol.md 1.5): that is left out where it
changes little (``notes``), and a fault where it would mislead.
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct

from gemproxy.converter.numbers import integer, within
from gemproxy.converter.schema import cache as schema
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort, Exhausted
from gemproxy.models import Model
from gemproxy.wire.gemini import GenerationConfig

JSON: Final = "application/json"
MOST_TOP_K: Final = 0x7FFFFFFF
Number = int | float


class Format(Struct, frozen=True):
    """What the answer's form is to be; ``instruction`` says it in words where the model cannot be held to it."""

    mime: str | None = None
    schema: bytes = b""
    instruction: str | None = None

    def write(self, config: GenerationConfig) -> None:
        """Put what the model is held to into the config."""
        if self.mime is not None:
            config.response_mime_type = self.mime
            if self.schema:
                config.response_json_schema = Raw(self.schema)


FREE_TEXT: Final = Format()


def json_format(found: bytes, model: Model, with_tools: bool) -> Format:
    """Return the format for JSON, under a schema if there is one (docs/protocol.md 4.6).

    Models before 3 refuse a JSON type beside tools; for them it is left out and said in words.
    Promised: docs/architecture.md 14.7.
    """
    return Format(JSON, found) if model.modern or not with_tools else Format(instruction=_in_words(found))


def answer_schema(raw: Raw, param: str, field: str, effort: Effort) -> bytes:
    """Return the schema of an answer, which stands at ``param`` within ``field``; raises ``ClientFault``."""
    if bytes(raw) in (b"", b"null"):
        raise ClientFault(f"{param} is missing.", param=param)
    try:
        return schema.answer_schema(bytes(raw), effort)
    except schema.Unusable as fault:
        raise ClientFault(f"{param}: {fault}.", param=param) from fault
    except Exhausted:
        raise schema.too_much(field, effort) from None


def _in_words(found: bytes) -> str:
    if not found:
        return "When you give the final answer, write one JSON object and nothing else."
    return (
        "When you give the final answer, write JSON that is valid under the following JSON Schema, and nothing else:\n"
        + found.decode()
    )


def limit(value: Number, param: str, model: Model) -> int:
    """Return ``maxOutputTokens``; it counts thoughts, as OpenAI's limits do."""
    tokens = integer(value, param)
    if tokens < 1:
        raise ClientFault(f"{param} must be at least 1.", param=param, code="unsupported_value")
    return min(tokens, model.out_limit)


def sample(
    config: GenerationConfig,
    model: Model,
    notes: list[str],
    temperature: Number | None,
    top_p: Number | None,
    top_k: Number | None = None,
) -> None:
    """Write how the next token is chosen, if the model can be told; raises ``ClientFault``."""
    if temperature is not None:
        config.temperature = within(temperature, "temperature", 0, 2)
    if top_p is not None:
        config.top_p = within(top_p, "top_p", 0, 1)
    if top_k is not None:
        count = integer(top_k, "top_k")
        # 0 and -1 are other servers' words for "no limit"; Google's has 32 bits
        config.top_k = min(count, MOST_TOP_K) if count > 0 else None
    if not model.sampling:
        notes += [name for name in ("temperature", "top_p", "top_k") if getattr(config, name) is not None]
        config.temperature = config.top_p = config.top_k = None


def ask_logprobs(config: GenerationConfig, model: Model, count: int | None, param: str) -> None:
    """Ask for the probability of each token, and of so many others in its place; raises ``ClientFault``."""
    if not model.logprobs:
        raise ClientFault(f"The model {model.id} gives no logprobs.", param=param, code="unsupported_parameter")
    config.response_logprobs = True
    config.logprobs = count


def top_logprobs(value: Number) -> int:
    """Return how many other tokens are asked for; raises ``ClientFault``."""
    return integer(within(value, "top_logprobs", 0, 20), "top_logprobs")
