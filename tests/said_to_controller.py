"""What a worker tells the process that shows the run: of a test that passed its one result, not its six steps.

A plugin of the tests (``pytest_plugins`` in conftest). pytest-xdist sends a message at the begin and at the end of each
test and a report of each of its three phases; over thousands of tests of a millisecond that took more than the tests.
A phase that failed, was skipped or wrote something is told whole, and so is all with ``-v``, ``--durations`` or a file
of results. Where pytest-xdist no longer has what is turned here, all is told as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

STEPS = ("logstart", "logfinish")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") and not _wants_all(config):
        for plugin in config.pluginmanager.get_plugins():
            if type(plugin).__name__ == "WorkerInteractor":
                plugin.sendevent = sieved(plugin.sendevent)


def _wants_all(config: pytest.Config) -> bool:
    durations, results = config.getoption("durations", None), config.getoption("xmlpath", None)
    return config.get_verbosity() > 0 or durations is not None or results is not None


def sieved(send: Callable[..., None]) -> Callable[..., None]:
    """Return what sends an event if somebody wants to know of it."""

    def sends(name: str, **event: Any) -> None:
        if name not in STEPS and not (name == "testreport" and _says_nothing(event["data"])):
            send(name, **event)

    return sends


def _says_nothing(report: dict[str, Any]) -> bool:
    """Return whether a report is of a phase before or after the test itself, in which nothing happened."""
    quiet = report["outcome"] == "passed" and not report["sections"] and not report["user_properties"]
    return bool(quiet and report["when"] != "call")
