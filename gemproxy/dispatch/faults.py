"""What it means that an attempt failed: at connecting, on the way, or within an answer that had begun to come.

In: an exception of aiohttp's, the system's or our own. Out: a ``Verdict``. What Google itself says of a failure the
dialect judges.
"""

from __future__ import annotations

import aiohttp

from gemproxy import descriptors
from gemproxy.converter.transcript import ErrorFrame
from gemproxy.dispatch.retry import BAD_ANSWER
from gemproxy.errors import BadAnswer, Failure, UpstreamFault
from gemproxy.transport.reaching import obstacle_of
from gemproxy.upstream.dialect import Action, Dialect, Scope, Verdict

FAULTS = (UpstreamFault, ErrorFrame, aiohttp.ClientError, OSError)  # all that an attempt can fail by


class Refused(Exception):  # noqa: N818 - a verdict on its way to the loop, not a failure
    """An attempt came to nothing; the verdict says what that means."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


def verdict_on(fault: Exception, dialect: Dialect, now: float) -> Verdict:
    """Return what it means that an attempt failed by this; ``now`` in seconds on the wall clock."""
    if isinstance(fault, ErrorFrame):
        return dialect.judge(500, {}, fault.body, now)  # the body's own code counts, if it tells one
    if isinstance(fault, BadAnswer):
        return Verdict(Action.RETRY, Scope.NONE, reason=BAD_ANSWER, message=fault.message)
    if isinstance(fault, Failure):
        return Verdict(
            Action.RETRY,
            Scope.UPSTREAM,
            reason="silent" if fault.status == 504 else "broken_answer",
            message=fault.message,
            status=fault.status,
            code=fault.code or "upstream_error",
        )
    return _unreachable(fault)


def _unreachable(fault: BaseException) -> Verdict:
    """Return the verdict on a connection that failed; rotation does not help, trying again may."""
    if descriptors.is_shortage(fault):
        few = descriptors.NONE_LEFT
        return Verdict(
            Action.STOP, Scope.NONE, reason="descriptors", message=few.message, status=few.status, code=few.code or ""
        )
    obstacle = obstacle_of(fault)
    if obstacle is None:
        connecting = isinstance(fault, aiohttp.ClientConnectorError)
        message = "The upstream cannot be reached." if connecting else "The connection to the upstream was lost."
        reason = "unreachable" if connecting else "connection_lost"
        return Verdict(Action.RETRY, Scope.UPSTREAM, reason=reason, message=message)
    return Verdict(
        Action.RETRY,
        Scope.UPSTREAM,
        reason=obstacle.reason,
        message=f"The upstream cannot be reached: {obstacle.public}",
        status=obstacle.status,
        code=obstacle.code,
    )
