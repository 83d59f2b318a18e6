"""``/models`` in Anthropic's form, page by page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from msgspec import json

from gemproxy.errors import ClientFault
from gemproxy.models import Model
from gemproxy.wire.anthropic_answers import ModelOut, ModelPage

_WINDOW: Final = 1_048_576  # tokens that a question may have, of all of Gemini's models that answer in text
_LIMIT, _MOST = "20", 1000


def model_list(models: Sequence[tuple[str, Model]], query: str) -> bytes:
    """Return one page of the models; raises ``ClientFault`` 400."""
    pairs = parse_qsl(query, keep_blank_values=True)
    asked, stages = dict(pairs), {value for name, value in pairs if name.startswith("lifecycle")}
    models = [each for each in models if not stages or _stage(each[1]) in stages]
    names = [name for name, _ in models]
    first, end = 0, len(models)
    limit = _limit(asked)
    if (after := asked.get("after_id")) is not None:
        first = _place(names, after, "after_id") + 1
    elif (before := asked.get("before_id")) is not None:
        end = _place(names, before, "before_id")
        first = max(0, end - limit)
    page = [_shown(name, model) for name, model in models[first : min(end, first + limit)]]
    more = first > 0 if "before_id" in asked else first + len(page) < len(models)
    ids = [model.id for model in page]
    return json.encode(ModelPage(page, more, ids[0] if ids else None, ids[-1] if ids else None))


def one_model(name: str, model: Model) -> bytes:
    """Return the answer to ``GET /models/NAME``."""
    return json.encode(_shown(name, model))


def _limit(asked: Mapping[str, str]) -> int:
    limit = asked.get("limit", _LIMIT)
    if not limit.isdecimal() or not 1 <= int(limit[:5]) <= _MOST:
        raise ClientFault(f"limit must be a number from 1 to {_MOST}.", param="limit", code="unsupported_value")
    return int(limit)


def _place(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise ClientFault(f"{param} is no model that is listed here.", param=param, code="unsupported_value")
    return names.index(name)


def _stage(model: Model) -> str:
    return "active" if model.shutdown_date is None else "deprecated"


def _shown(name: str, model: Model) -> ModelOut:
    ends = model.shutdown_date
    return ModelOut(
        name,
        " ".join(word if word[:1].isdigit() else word.capitalize() for word in name.split("-")),
        datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        _stage(model),
        _WINDOW if model.family == "gemini" and model.kind not in ("image", "tts") else None,
        model.out_limit,
        f"{ends}T00:00:00Z" if ends is not None else None,
    )
