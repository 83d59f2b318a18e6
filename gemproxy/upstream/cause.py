"""What of a request drew a refusal, as far as Google tells: nothing special, a feature, the size.

In: the violated quotas. Out: a ``Cause``, and the limit in tokens where it is one of tokens. Whom a cause concerns is
``demand``'s to say, which knows the request. Names and values: docs/protocol.md 3.4.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final

from gemproxy.upstream.refusals.error_body import Quota

# Of these Google counts apart: who asks for the model alone has a quota of his own.
_FEATURE: Final = re.compile(
    r"(?i)ground|search|maps|url_?context|code_?execution|cached?_?content|image|audio|video|flex|priority"
)
_TOKENS: Final = re.compile(r"(?i)token")


class Cause(enum.Enum):
    """What of a request drew its refusal."""

    ANY = "nothing special: whatever asks for the model would be refused"
    FEATURE = "what it asks for beside text"
    SIZE = "its tokens"
    MISSING = "a model, a file or a cache that is not there"
    UNTOLD = "not told"


def cause_of(quotas: Iterable[Quota]) -> Cause:
    """Return what drew the violation of these quotas, one at least."""
    causes = {_cause(quota) for quota in quotas}
    if Cause.ANY in causes:
        return Cause.ANY
    return causes.pop() if len(causes) == 1 else Cause.UNTOLD


def tokens_allowed(quotas: Iterable[Quota]) -> int:
    """Return the lowest limit in tokens; 0: none is told."""
    limits = (int(quota.limit) for quota in quotas if _cause(quota) is Cause.SIZE and quota.limit.isdecimal())
    return min(limits, default=0)


def _cause(quota: Quota) -> Cause:
    name = f"{quota.id} {quota.metric}"
    if _FEATURE.search(name):
        return Cause.FEATURE
    # without a single token allowed it is not the size
    return Cause.SIZE if _TOKENS.search(name) and quota.limit != "0" else Cause.ANY
