"""How verdict tables are built and read: a row says which refusals it means and what follows from them.

In: a table (a tuple of rows, the most specific first), a ``Refusal`` and the wall clock. Out: the ``Verdict`` of the
first row that fits. The tables themselves are data: the shared rows are in ``rules``, each upstream's own in its
dialect. Must not raise, whatever an upstream wrote.

Rows that park a credential look at Google's reason words, or at how a message *begins*: further on a message may quote
the client's own words, and no client shall be able to park a credential by a clever name.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from gemproxy.redaction import for_client
from gemproxy.upstream.blame import blamed, suspected
from gemproxy.upstream.cause import Cause, cause_of, tokens_allowed
from gemproxy.upstream.dialect import Action, Repair, Scope, Verdict
from gemproxy.upstream.refusals import error_body, quota
from gemproxy.upstream.refusals.error_body import Quota, Refusal


class Length(enum.Enum):
    """How long the verdict's scope rests, before ``deadline`` knows the hint and the time."""

    NOT = "no hint"
    HINT = "Google's hint, if any"
    MINUTE = "Google's hint, else a minute"
    DAY = "midnight Pacific, or the reset time Google names"
    RESET = "Google's hint, else midnight Pacific"
    HOUR = "an hour"
    LONG = "a day"
    FOREVER = "until an operator acts"


def deadline(cooldown: Length, refused: Refusal, now: float) -> float | None:
    """Return the end of a cooldown in seconds of the wall clock; None: no hint; ``inf``: until an operator acts."""
    match cooldown:
        case Length.FOREVER:
            return math.inf
        case Length.HOUR:
            return now + 3_600.0
        case Length.LONG:
            return now + 86_400.0
        case Length.DAY:
            reset = quota.timestamp(refused.metadata.get("quotaResetTimeStamp", ""))
            if reset is not None and now < reset < now + quota.LONGEST_DELAY:
                return reset
            return quota.midnight_pacific(now)
        case Length.HINT | Length.MINUTE | Length.RESET:
            delay = refused.delay(now)
            if delay is not None:
                return now + delay
            spare = {Length.MINUTE: now + quota.MINUTE_QUOTA_DELAY, Length.RESET: quota.midnight_pacific(now)}
            return spare.get(cooldown)
        case Length.NOT:
            return None


class When(Struct, frozen=True):
    """Which refusals a row means: all that is given must hold; of several words or reasons one is enough."""

    statuses: frozenset[int] = frozenset()  # empty: any
    reasons: frozenset[str] = frozenset()
    begins: re.Pattern[str] | None = None  # lower case
    says: re.Pattern[str] | None = None  # lower case; or ``reasons``, or ``begins``: one of the three is enough
    test: Callable[[Refusal], bool] | None = None

    def holds(self, refused: Refusal) -> bool:
        """Return whether the refusal is meant."""
        if self.statuses and refused.status not in self.statuses:
            return False
        if self.test is not None and not self.test(refused):
            return False
        if not self.reasons and self.begins is None and self.says is None:
            return True
        return bool(
            self.reasons & refused.reasons
            or (self.begins is not None and self.begins.match(refused.text))
            or (self.says is not None and self.says.search(refused.text))
        )

    def __str__(self) -> str:
        """Return the row's condition as tables show it."""
        statuses = " ".join(map(str, sorted(self.statuses))) or "any"
        conditions = [*sorted(self.reasons), *(f"“{regex.pattern}”" for regex in (self.begins, self.says) if regex)]
        if self.test is not None:
            conditions.append((self.test.__doc__ or "").strip(" ."))
        return f"{statuses}: {' or '.join(conditions)}" if conditions else statuses


def when(
    *statuses: int,
    reasons: tuple[str, ...] = (),
    begins: str = "",
    says: str = "",
    test: Callable[[Refusal], bool] | None = None,
) -> When:
    """Return a condition; the patterns are matched against the message in lower case."""
    return When(
        frozenset(statuses),
        frozenset(reasons),
        re.compile(begins) if begins else None,
        re.compile(says) if says else None,
        test,
    )


class Row(Struct, frozen=True):
    """One row of a verdict table. ``words`` replace Google's where those speak of a credential or mislead a client.

    ``counts`` tells which of the violated quotas decide; what they count is the cause, else it is ``cause``.
    """

    reason: str
    when: When
    action: Action
    scope: Scope = Scope.NONE
    cooldown: Length = Length.NOT
    status: int = 502
    code: str = "upstream_error"
    field: str | None = None
    repair: Repair | None = None
    daily: bool = False
    words: str = ""
    cause: Cause = Cause.ANY
    counts: Callable[[Quota], bool] | None = None

    def verdict(self, refused: Refusal, now: float) -> Verdict:
        """Return what this row says of a refusal."""
        cause, limit = self._cause(refused)
        return Verdict(
            self.action,
            self.scope,
            deadline(self.cooldown, refused, now),
            self.reason,
            self.words or for_client(refused.message) or f"Google answered {refused.status} without a reason.",
            self.status,
            self.code,
            self.field or (blamed(refused) if self.status == 400 else None),
            self.repair,
            self.daily,
            cause,
            limit,
            suspect=suspected(refused) if self.scope is Scope.NONE and 400 <= self.status < 500 else None,
            answered=refused.status,
        )

    def _cause(self, refused: Refusal) -> tuple[Cause, int]:
        """Return what drew the refusal, and the limit if it is one of tokens."""
        if self.counts is None:
            return self.cause, 0
        decisive = list(filter(self.counts, refused.quotas)) or [Quota(refused.text)]  # some tell it in prose alone
        return cause_of(decisive), tokens_allowed(decisive)


Table = tuple[Row, ...]


def judge(table: Table, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
    """Return the verdict of the first row that fits; every table ends in a row that always does.

    A refusal inside a 200 is judged with status 500: its own number counts, if it has one.
    """
    refused = error_body.read(status, headers, body)
    return next(row for row in table if row.when.holds(refused)).verdict(refused, now)
