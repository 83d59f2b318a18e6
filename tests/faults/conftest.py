"""Prints what the suites of this folder measured, after the last test."""

from __future__ import annotations

import pytest

from tests.faults.figures import TOLD


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TOLD:
        terminalreporter.section("faults: what was measured")
        for line in TOLD:
            terminalreporter.write_line(line)
