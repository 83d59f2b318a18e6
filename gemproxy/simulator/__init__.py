"""The embedded Gemini: a Google that listens on loopback, behind ``--demo`` and under all tests.

    async with Simulator() as sim:
        sim.script(error_answer(503, "overloaded"))      # the next generation fails
        sim.keys["test-key-2"] = KeyState.PER_DAY        # this key is used up
        ...                                              # point the proxy at sim.ai_studio_url
        assert sim.generations[0].json()["contents"]

Unscripted, a small deterministic model speaks after everything Google refuses has been refused (``law``). What any
client can make go wrong with ``simulate: WORD`` is listed in ``magic``.
"""

from gemproxy.simulator.accounts import Account, AccountState, KeyState
from gemproxy.simulator.app import Simulator
from gemproxy.simulator.recorder import Recorded
from gemproxy.simulator.script import (
    Answer,
    CutOff,
    Hang,
    Pause,
    Reset,
    Wait,
    drip,
    error_answer,
    frames_answer,
    replay,
    sse,
    text_answer,
    unary_answer,
)

__all__ = [
    "Account",
    "AccountState",
    "Answer",
    "CutOff",
    "Hang",
    "KeyState",
    "Pause",
    "Recorded",
    "Reset",
    "Simulator",
    "Wait",
    "drip",
    "error_answer",
    "frames_answer",
    "replay",
    "sse",
    "text_answer",
    "unary_answer",
]
