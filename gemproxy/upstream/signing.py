"""Thought signatures and call ids of a history, as one upstream and one model take them.

In: the neutral contents, with every id and every known signature. Out: contents for one upstream: ids where the model
has them, signatures that may cross, the dummy where one is enforced and none is usable; ``Part.origin`` is gone. What
needs no change is the same object; nothing that came in is changed, since the next attempt uses it again.

Rules: docs/protocol.md 6 and S28-S29 (signatures), 0.0 items 3-4 and 1.4 (ids).
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import Final, TypeVar

from msgspec import Struct

from gemproxy.models import Model, capabilities
from gemproxy.wire.gemini import Content, FunctionCall, FunctionResponse, Part

DUMMY: Final = "skip_thought_signature_validator"
"""Google's documented value for steps that its model did not make; the only one that Vertex takes too (6.3)."""

_DUMMIES: Final = frozenset(
    (
        DUMMY,
        "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",  # its base64, which other proxies send
        "context_engineering_is_the_way_to_go",
        "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",  # its base64, seen in recorded traffic
    )
)


Named = TypeVar("Named", FunctionCall, FunctionResponse)


class Terms(Struct, frozen=True):
    """What one upstream and model take.

    ``enforced``: a missing signature is refused, from Gemini 3 on. ``renew``: no real one is trusted, all turns get the
    dummy.
    """

    dialect: str
    model: Model
    call_ids: bool
    enforced: bool
    renew: bool = False

    @property
    def known(self) -> bool:
        """Return whether the model knows signatures at all: Gemini 2.5 and later."""
        model = self.model
        return model.modern or (model.family == "gemini" and (model.major, model.minor) >= (2, 5))

    def usable(self, part: Part) -> str | None:
        """Return the signature of a part as it may be sent; None if it has none, or one made elsewhere."""
        signature = part.thought_signature
        if signature is None or not self.known:
            return None
        if signature in _DUMMIES:
            return DUMMY if self.enforced else None
        if self.renew or (part.origin and not self.made_here(part.origin)):
            return None
        return signature

    def made_here(self, origin: str) -> bool:
        """Return whether ``"<dialect>/<model>"`` names this upstream and this model's family."""
        dialect, _, model_id = origin.partition("/")
        return dialect == self.dialect and (model_id == self.model.id or _family(model_id) == _family(self.model.id))


@lru_cache(maxsize=512)
def terms(dialect: str, model_id: str, strip_ids: bool = False, renew: bool = False) -> Terms:
    """Return the terms of a model; ``strip_ids`` and ``renew`` were learnt from refusals (docs/protocol.md 9)."""
    model = capabilities(model_id)
    return Terms(dialect, model, model.modern and not strip_ids, model.modern, renew)


def settle(contents: list[Content], terms: Terms) -> list[Content]:
    """Return the contents on these terms; the same list if nothing has to change."""
    settled: list[Content] | None = None
    enforced_from = _current_turn(contents, terms) if terms.enforced else len(contents)
    for place, content in enumerate(contents):
        if not content.parts:
            continue
        parts = _parts(content.parts, terms, content.role == "model", place >= enforced_from)
        if parts is not content.parts:
            if settled is None:
                settled = contents.copy()
            settled[place] = Content(parts, content.role)
    return contents if settled is None else settled


def _current_turn(contents: list[Content], terms: Terms) -> int:
    """Return the place from which on calls must be signed: after the last user content that holds no result.

    A content of results *and* text may count as a new turn for Google or not; taking it for none only adds dummies.
    """
    if terms.renew:
        return 0
    for place in range(len(contents) - 1, -1, -1):
        content = contents[place]
        if content.role == "user" and not any(part.function_response is not None for part in content.parts or ()):
            return place
    return 0


def _parts(parts: list[Part], terms: Terms, model_turn: bool, current: bool) -> list[Part]:
    fresh: list[Part] | None = None
    first_call = True
    for place, part in enumerate(parts):
        if _plain(part):
            continue
        due = False
        if model_turn and terms.enforced:
            # The first call of a step carries one (6.1), and each image of a model (docs/architecture.md 13.3).
            due = (current and first_call) if part.function_call is not None else part.inline_data is not None
        first_call = first_call and part.function_call is None
        settled = _part(part, terms, due)
        if settled is not part:
            if fresh is None:
                fresh = parts.copy()
            fresh[place] = settled
    if fresh is None:
        return parts
    # Without its signature an empty text is nothing, and upstreams refuse it (docs/protocol.md 0.0 item 2).
    return [part for part in fresh if not _blank(part)] or [Part(text=" ")]


def _plain(part: Part) -> bool:
    return (
        part.thought_signature is None
        and part.function_call is None
        and part.function_response is None
        and part.inline_data is None
        and not part.origin
    )


def _blank(part: Part) -> bool:
    return part.text == "" and part.thought_signature is None


def _part(part: Part, terms: Terms, due: bool) -> Part:
    signature = terms.usable(part) or (DUMMY if due else None)
    call, response = part.function_call, part.function_response
    if not terms.call_ids:
        call = _without_id(call) if call is not None and call.id is not None else call
        response = _without_id(response) if response is not None and response.id is not None else response
    same = call is part.function_call and response is part.function_response
    if same and signature == part.thought_signature and not part.origin:
        return part
    fresh = copy(part)
    fresh.thought_signature, fresh.origin = signature, ""
    fresh.function_call, fresh.function_response = call, response
    return fresh


def _without_id(named: Named) -> Named:
    fresh = copy(named)
    fresh.id = None
    return fresh


def _family(model_id: str) -> tuple[str, int, int, str]:
    model = capabilities(model_id)
    return model.family, model.major, model.minor, model.kind
