"""What all of Anthropic's APIs have in common, as a value: keys, failures, models. Pure. Facts: docs/protocol.md 10."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemproxy import errors
from gemproxy.converter import openai
from gemproxy.converter.anthropic.errors import failure
from gemproxy.converter.anthropic.models import model_list, one_model
from gemproxy.converter.api import Api

_OWN: Final = ("/v1/messages", "/messages")
_ENDS: Final = ("", "/", "?")


def key(headers: Mapping[str, str], query: str) -> str:
    """Return the key that stands in ``x-api-key``, or else in ``Authorization``; raises ``ClientFault`` 401."""
    own = headers.get("x-api-key")
    if own is not None and own.strip():
        return own.strip()
    if "Authorization" not in headers:
        raise errors.unauthorized("No API key was given: send it as `x-api-key` or as `Authorization: Bearer <key>`.")
    return openai.key(headers, query)


def claims(path: str, headers: Mapping[str, str]) -> bool:
    """Return whether a request to no operation is one of Anthropic's clients: they all name the version they speak."""
    return "anthropic-version" in headers or any(path.startswith(own) and path[len(own) :][:1] in _ENDS for own in _OWN)


ANTHROPIC: Final = Api("anthropic", key, failure, model_list, one_model, "request-id", claims)
