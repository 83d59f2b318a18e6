"""What a verdict means for the very request that drew it: whom else it concerns.

In: the verdict of a table, which knows the refusal alone, and the call. Out: the verdict to act upon. Pure.
"""

from __future__ import annotations

from msgspec.structs import replace

from gemproxy.upstream.cause import Cause
from gemproxy.upstream.dialect import Action, Call, Scope, Verdict


def aimed(verdict: Verdict, call: Call) -> Verdict:
    """Return the verdict, aimed at this call."""
    return verdict if verdict.cause is Cause.ANY else _narrowed(verdict, call)


def _narrowed(verdict: Verdict, call: Call) -> Verdict:
    """Rest only requests that are like this one in what may have drawn the refusal."""
    demand = call.demand
    if verdict.cause is Cause.MISSING and demand.brings:  # perhaps not the model, so nobody rests for it
        return replace(
            verdict, cause=Cause.ANY, scope=Scope.NONE, reason="resource_not_found", code="not_found", param=None
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
        param="messages",
    )
