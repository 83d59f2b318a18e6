"""(edge) Which state a process has, by its configuration. In: ``state.path``. Out: a ``State``, ready to be used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from gemproxy.state.memory import MemoryState
from gemproxy.state.store import State

log = logging.getLogger(__name__)


async def open_state(path: Path | None, clock: Callable[[], float], *, patience: float = 5.0) -> State:
    """Return the state at ``state.path``; in memory without a path, or with a warning when it cannot be used.

    A lock of another process is waited for ``patience`` seconds. What cannot be opened by then, for whatever reason, is
    tried on without holding up the start; but for a file of a later version, which is left to that version.
    """
    if path is None:
        return MemoryState(clock)
    from gemproxy.state.sqlite import SqliteState  # here: most start without
    from gemproxy.state.sqlite_file import AwayState, UnusableState

    state = SqliteState(path, clock, patience=patience)
    try:
        await state.open()
    except AwayState as fault:
        log.warning("%s; state (rests, tokens, projects) is held in memory until it can be opened", fault)
        state.open_later(str(fault))
    except UnusableState as fault:
        log.warning("%s; state (rests, tokens, projects) is kept in memory only", fault)
        await state.close()
        return MemoryState(clock, str(fault))
    return state
