"""What a verdict means for the very request that drew it: whom else it concerns, and which part of it is refused.

In: the verdict of a table, which knows the refusal alone, and the call. Out: the verdict to act upon. Pure.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from gemproxy.upstream.blame import parts_of
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.dialect import GENERATES, Action, Call, Scope, Suspect, Verdict

_MOST_NAMED: Final = 8  # parts in one message


def aimed(verdict: Verdict, call: Call) -> Verdict:
    """Return the verdict, aimed at this call."""
    if call.method not in GENERATES:
        return replace(verdict, cause=Cause.ANY, kind=call.demand.kind(verdict.cause))
    if verdict.cause is not Cause.ANY:
        return _narrowed(verdict, call)
    if verdict.suspect is not None and call.media:
        return _named(verdict, verdict.suspect, call)
    return verdict


def _narrowed(verdict: Verdict, call: Call) -> Verdict:
    """Rest only requests that are like this one in what may have drawn the refusal."""
    demand = call.demand
    if verdict.cause is Cause.MISSING and demand.brings:  # perhaps not the model, so nobody rests for it
        return replace(
            verdict, cause=Cause.ANY, scope=Scope.NONE, reason="resource_not_found", code="not_found", field=None
        )
    verdict = replace(verdict, cause=Cause.ANY, kind=demand.kind(verdict.cause))
    if not 0 < verdict.limit < demand.tokens:
        return verdict
    # It can never pass, wherever the limit is the same: the pool is not walked with it.
    return replace(
        verdict,
        action=Action.ELSEWHERE,
        message=f"The request holds about {demand.tokens} tokens, more than the upstream's quota of {verdict.limit} "
        "for this model: it has to be shorter.",
        code="rate_limit_exceeded",
        field="contents",
    )


def _named(verdict: Verdict, suspect: Suspect, call: Call) -> Verdict:
    """Name the part that is refused; if several may be meant, the first, and all in the message."""
    parts = parts_of(suspect, call)
    if not parts:
        return verdict
    if len(parts) == 1:
        return replace(verdict, field=parts[0])
    more = "" if len(parts) <= _MOST_NAMED else " and others"
    message = f"{verdict.message} (one of {', '.join(parts[:_MOST_NAMED])}{more})"
    return replace(verdict, field=parts[0], message=message)
