"""What all of OpenAI's APIs have in common, as a value: keys, failures, models. Pure. Facts: docs/protocol.md 3.7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import UNSET, json

from gemproxy import errors
from gemproxy.converter.api import Api, Format, Reply
from gemproxy.errors import Failure
from gemproxy.models import Model
from gemproxy.wire.openai_chat import ErrorBody, ErrorObject, ModelList, ModelOut


def key(headers: Mapping[str, str], query: str) -> str:
    """Return the key that stands in ``Authorization``; raises ``ClientFault`` 401."""
    authorization = headers.get("Authorization")
    if authorization is None:
        raise errors.unauthorized("No API key was given: send it as `Authorization: Bearer <key>`.")
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise errors.unauthorized("The Authorization header must be `Bearer <key>`.")
    return token


def failure(fault: Failure, request_id: str) -> Reply:
    """Return a failure as OpenAI's error object; all four keys are always written. The id stands in a header."""
    return Reply(fault.status, errors.headers(fault), error_object(fault))


def failure_event(fault: Failure) -> bytes:
    """Return a failure as the last event of a stream: no ``[DONE]`` and no made-up finish follows."""
    return b"data: " + error_object(fault) + b"\n\n"


def error_object(fault: Failure) -> bytes:
    """Return the body of an answer that failed."""
    return json.encode(ErrorBody(ErrorObject(fault.message, fault.type, fault.param, fault.code)))


def model_list(models: Sequence[tuple[str, Model]], query: str) -> bytes:
    """Return the answer to ``GET /models``, which has no pages."""
    return json.encode(ModelList([_shown(name, model) for name, model in models]))


def one_model(name: str, model: Model) -> bytes:
    """Return the answer to ``GET /models/NAME``."""
    return json.encode(_shown(name, model))


def _shown(name: str, model: Model) -> ModelOut:
    return ModelOut(name, model.created, shutdown_date=model.shutdown_date or UNSET)


def under_both(path: str) -> tuple[str, str]:
    """Return a path of OpenAI's with and without /v1: base URLs are given either way.

    Promised: docs/architecture.md 14.1.
    """
    return f"/v1{path}", path


OPENAI: Final = Api("openai", key, failure, model_list, one_model)
WHOLE: Final = Format()  # an answer that is no stream
EVENTS: Final = Format("text/event-stream", b": ping\n\n", failure_event)
