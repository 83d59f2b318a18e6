"""Tests with programs that Python's packages do not bring: ``make test-system``; ``make test`` leaves them out.

In CI (the variable ``CI`` is set) a program that is missing fails the test; at a desk the test is skipped and says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

Program = Callable[[str], str]


@pytest.fixture
def program() -> Program:
    """Return a function from a program's name to its path, which ends the test where there is none."""
    return find


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def find(name: str) -> str:
    """Return the path of a program; without it the test fails in CI and is skipped elsewhere."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
