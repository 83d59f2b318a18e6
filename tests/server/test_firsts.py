"""The first of its kind is a warning, the rest of it is not."""

from __future__ import annotations

import logging

from gemproxy.server.firsts import KIND_TTL, MAX_KINDS, Firsts
from tests.clock import Clock


def test_the_first_of_a_kind_is_a_warning_and_so_is_one_after_a_while(clock: Clock) -> None:
    firsts = Firsts(clock)
    assert [firsts.level("rest", "studio-1") for _ in range(3)] == [logging.WARNING, logging.INFO, logging.INFO]
    assert firsts.level("rest", "studio-2") == logging.WARNING
    clock.advance(KIND_TTL)
    assert [firsts.level("rest", "studio-1") for _ in range(2)] == [logging.WARNING, logging.INFO]


def test_kinds_that_nobody_meets_again_are_forgotten(clock: Clock) -> None:
    firsts = Firsts(clock)
    for number in range(2 * MAX_KINDS):
        firsts.level("full", f"model-{number}")
    assert len(firsts) <= MAX_KINDS
    assert firsts.level("full", f"model-{2 * MAX_KINDS - 1}") == logging.INFO
