"""gemproxy on a loop whose clock goes faster: ``python -m tests.faults.hurried 20 serve --config file``.

Every wait of the server that its settings name is one of the loop's, so an hour of them passes in three minutes.
"""

from __future__ import annotations

import asyncio
import selectors
import sys

from gemproxy.cli import main


def hurry(factor: float) -> None:
    """Let every loop's clock go this many times faster: what it says, and how long it sleeps until a time."""
    time, select = asyncio.BaseEventLoop.time, selectors.DefaultSelector.select
    asyncio.BaseEventLoop.time = lambda loop: time(loop) * factor
    selectors.DefaultSelector.select = lambda self, timeout=None: select(self, timeout and timeout / factor)


if __name__ == "__main__":
    hurry(float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
