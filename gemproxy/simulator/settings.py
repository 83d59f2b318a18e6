"""What Google refuses in ``generationConfig`` (docs/protocol.md 1.5, 4.3, 3.2).

In: an ``Ask``. Out: nothing, or a ``Refusal``. Rows of a table: each reads one setting.
"""

from __future__ import annotations

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.ask import Ask

_PLACE = "generation_config."
_MIMES = ("text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum")


def judge(ask: Ask) -> None:
    """Raise ``Refusal`` for the first setting that this model does not take."""
    for rule in _RULES:
        rule(ask)


def _sampling(ask: Ask) -> None:
    for key, name, high in (("temperature", "temperature", 2.0), ("topP", "top_p", 1.0)):
        value = ask.config.get(key)
        if value is not None and not 0 <= value <= high:
            raise errors.broken(_PLACE + name, f"{name} must be in the range [0.0, {high}].")


def _output(ask: Ask) -> None:
    value = ask.config.get("maxOutputTokens")
    if value is not None and not 1 <= value <= ask.model.output:
        raise errors.invalid(
            f"Unable to submit request because it has a maxOutputTokens value of {value} but the supported range is "
            f"from 1 (inclusive) to {ask.model.output + 1} (exclusive). Update the value and try again."
        )


def _stops(ask: Ask) -> None:
    stops = ask.config.get("stopSequences") or []
    if len(stops) > 5:
        raise errors.broken(_PLACE + "stop_sequences", "the number of stop sequences must be at most 5.")


def _penalties(ask: Ask) -> None:
    given = [key for key in ("presencePenalty", "frequencyPenalty") if key in ask.config]
    if given and (ask.upstream == "ai_studio" or ask.model.major >= 3):
        raise errors.invalid("Penalty is not enabled for this model")


def _logprobs(ask: Ask) -> None:
    if ask.upstream == "ai_studio" and (ask.config.get("responseLogprobs") or ask.config.get("logprobs")):
        raise errors.invalid("Logprobs is not enabled for this model")
    if ask.config.get("logprobs") and not ask.config.get("responseLogprobs"):
        raise errors.broken(_PLACE + "logprobs", "logprobs needs response_logprobs to be true.")
    if not 0 <= (ask.config.get("logprobs") or 0) <= 20:
        raise errors.broken(_PLACE + "logprobs", "logprobs must be in the range [0, 20].")


def _candidates(ask: Ask) -> None:
    count = ask.config.get("candidateCount", 1)
    if not 1 <= count <= 8:
        raise errors.broken(_PLACE + "candidate_count", "candidate_count must be in the range [1, 8].")
    if count > 1 and ask.model.one_candidate:
        raise errors.invalid("Multiple candidates is not enabled for this model")


def _thinking(ask: Ask) -> None:
    config = ask.config.get("thinkingConfig")
    if not config:
        return
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if not ask.model.thinking and (level or budget or config.get("includeThoughts")):
        raise errors.invalid(f"Thinking is not enabled for models/{ask.name}")
    if level is not None and budget is not None:
        raise errors.invalid("You can only set only one of thinking budget and thinking level.")
    if level is not None:
        _level(ask, level)
    if budget is not None:
        _budget(ask, budget)


def _level(ask: Ask, level: str) -> None:
    if not ask.model.levels:
        raise errors.invalid("Thinking level is not supported for this model.")
    if level not in ask.model.levels and level != "THINKING_LEVEL_UNSPECIFIED":
        raise errors.invalid(f"Thinking level {level} is not supported for this model.")


def _budget(ask: Ask, budget: int) -> None:
    if budget == -1 or (budget == 0 and ask.model.can_rest) or ask.model.budget is None:
        return
    if budget == 0:
        raise errors.invalid("Budget 0 is invalid. This model only works in thinking mode.")
    low, high = ask.model.budget
    if not low <= budget <= high:
        raise errors.invalid(
            f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}."
        )


def _format(ask: Ask) -> None:
    mime = ask.config.get("responseMimeType") or "text/plain"
    if mime not in _MIMES:
        allowed = ", ".join(f"`{each}`" for each in _MIMES)
        raise errors.broken(_PLACE + "response_mime_type", f"allowed mimetypes are {allowed}.")
    given = ask.schemas
    if len(given) > 1:
        raise errors.broken(
            _PLACE + "response_json_schema", "only one of response_schema and response_json_schema may be set."
        )
    if given and mime not in ("application/json", "text/x.enum"):
        raise errors.invalid(f"Response_schema with a response mime type '{mime}' is unsupported")
    if mime == "application/json" and ask.declarations and ask.model.major < 3:
        raise errors.invalid("Function calling with a response mime type: 'application/json' is unsupported")


_RULES = (_sampling, _output, _stops, _penalties, _logprobs, _candidates, _thinking, _format)
