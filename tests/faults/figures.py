"""What the suites measured, printed at the end of the run: figures for people, asserted elsewhere.

A plugin of the tests (``pytest_plugins`` in conftest): with workers (pytest-xdist) each hands what it noted to the
process that tells of the run, which itself runs no test.
"""

from __future__ import annotations

from typing import Any

import pytest

TOLD: list[str] = []
HANDED = "gemproxy figures"


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[HANDED] = TOLD


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    TOLD.extend(getattr(node, "workeroutput", {}).get(HANDED, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TOLD:
        terminalreporter.section("faults: what was measured")
        for line in TOLD:
            terminalreporter.write_line(line)


def note(line: str) -> None:
    """Keep a line, or a whole table, for the end of the run."""
    TOLD.append(line)
