"""What may go wrong with Google, ready to be looked at: ``serve --demo --fault NAME``.

In: a name. Out: a simulated Google in which that has gone wrong for every request. Clients see what they would see of
the real one; what the operator sees, the proxy makes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from gemproxy.simulator.accounts import KeyState
from gemproxy.simulator.app import Simulator
from gemproxy.simulator.google_errors import overloaded
from gemproxy.simulator.keys import unknown_certificate
from gemproxy.simulator.recorder import Recorded
from gemproxy.simulator.script import Answer, CutOff, Reset, error_answer, text_answer

DAY = 86400.0
SILENCE, PACE = 30.0, 2.0  # seconds before a slow answer (so that the first ping is seen), and between its pieces
UNKNOWN = "http://generativelanguage.invalid"  # a name that no resolver knows (RFC 6761)
KEYS = ("demo-key-1", "demo-key-2")
_wall_clock = time.time  # noqa: TID251 - as in ``app``


class Outage(Struct, frozen=True):
    """One thing that goes wrong. ``breaks`` does it to a Google; the rest is where and when it is."""

    about: str
    breaks: Callable[[Simulator], None] | None = None
    tls: bool = False
    nowhere: bool = False  # its name does not resolve
    ahead: float = 0.0  # seconds that its clock is ahead of ours

    def google(self) -> Simulator:
        """Return a Google, not yet started, in which it has gone wrong; it keeps no record."""
        tls = unknown_certificate() if self.tls else None
        made = Simulator(lambda: _wall_clock() + self.ahead, keep=0, tls=tls)
        if self.breaks is not None:
            self.breaks(made)
        return made


def _no_quota(state: KeyState) -> Callable[[Simulator], None]:
    def breaks(google: Simulator) -> None:
        google.keys.update(dict.fromkeys(KEYS, state))

    return breaks


def _overload(google: Simulator) -> None:
    refusal = overloaded()
    google.script(error_answer(refusal.status, refusal.body()), times=None)


def _reset(google: Simulator) -> None:
    google.script(Answer().after(Reset()), times=None)


def _cut(google: Simulator) -> None:
    google.script(_half, times=None)


def _half(request: Recorded) -> Answer:
    if request.call == "streamGenerateContent":
        return text_answer("This answer is cut in", finish=None).then(CutOff())
    return Answer((b'{"candidates": [', CutOff()))


def _slow(google: Simulator) -> None:
    google.silence, google.pace = SILENCE, PACE


OUTAGES = {
    "quota-minute": Outage("every key has used up its quota of this minute", _no_quota(KeyState.PER_MINUTE)),
    "quota-day": Outage("every key has used up its quota of this day", _no_quota(KeyState.PER_DAY)),
    "503": Outage("the model is overloaded", _overload),
    "reset": Outage("connections are reset before an answer", _reset),
    "cut": Outage("answers break off in the middle", _cut),
    "slow": Outage(f"answers begin after {SILENCE:g} s, and go on every {PACE:g} s", _slow),
    "dns": Outage("Google's name does not resolve", nowhere=True),
    "tls": Outage("the certificate is nobody's", tls=True),
    "clock": Outage("this machine's clock is two days slow, and its credential a service account", ahead=2 * DAY),
}
WELL = Outage("all is well")
