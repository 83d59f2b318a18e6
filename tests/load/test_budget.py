"""The memory that requests may take together: who gets how much, and who is refused."""

from __future__ import annotations

import pytest

from gemproxy.errors import Overload
from gemproxy.load import budget as budget_room
from gemproxy.load.budget import CROWD, RECENT_TIME, Budget
from tests.clock import Clock


def make(most: int = 1_000) -> tuple[Budget, Clock]:
    clock = Clock()
    return Budget(most, clock), clock


@pytest.fixture(autouse=True)
def all_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the reserve, but in the test of it: the numbers are small."""
    monkeypatch.setattr(budget_room, "RESERVE_SHIFT", 30)


def test_what_is_given_back_can_be_taken_again() -> None:
    budget, _ = make()
    hold = budget.open("ann")
    hold.resize(700)
    hold.resize(100)
    hold.more(50)
    assert (hold.size, budget.held) == (150, 150)
    hold.close()
    assert budget.held == 0


def test_one_byte_too_many_is_refused_at_once_and_changes_nothing() -> None:
    budget, _ = make()
    holds = [budget.open(owner) for owner in ("ann", "bob", "cid")]
    for hold, size in zip(holds, (400, 400, 200), strict=True):
        hold.resize(size)
    with pytest.raises(Overload, match=r"server\.memory = 1000") as caught:
        holds[2].resize(201)
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    assert (holds[2].size, budget.held) == (200, 1_000)


def test_a_client_alone_leaves_a_quarter_for_whoever_comes_next() -> None:
    budget, _ = make()
    hold = budget.open("ann")
    hold.resize(750)
    with pytest.raises(Overload, match="one client"):
        hold.resize(751)
    budget.open("bob").resize(250)


def test_while_others_ask_a_client_holds_half_at_most() -> None:
    budget, _ = make()
    budget.open("bob")
    first, second = budget.open("ann"), budget.open("ann")
    first.resize(300)
    second.resize(200)
    with pytest.raises(Overload):
        second.resize(201)


def test_a_client_that_has_more_than_half_when_others_come_gets_no_more_of_it() -> None:
    budget, _ = make()
    ann = budget.open("ann")
    ann.resize(700)
    bob = budget.open("bob")
    with pytest.raises(Overload):
        ann.resize(701)
    ann.resize(650)  # less is always fine
    bob.resize(350)


def test_a_client_counts_as_one_of_those_who_ask_for_a_minute() -> None:
    budget, clock = make()
    budget.open("bob").close()
    ann = budget.open("ann")
    with pytest.raises(Overload):
        ann.resize(501)
    clock.advance(RECENT_TIME + 1)
    ann.resize(750)


def test_two_parts_of_one_request_are_one_clients() -> None:
    budget, _ = make()
    budget.open("bob")
    body = budget.open("ann")
    answer = body.another()
    body.resize(400)
    with pytest.raises(Overload):
        answer.resize(101)
    answer.close()
    body.close()
    assert budget.held == 0


def test_a_smaller_limit_after_a_reload_refuses_the_next_and_takes_nothing_away() -> None:
    budget, _ = make()
    hold = budget.open("ann")
    hold.resize(700)
    budget.allow(500)
    with pytest.raises(Overload):
        hold.more(1)
    hold.resize(100)
    assert budget.held == 100


def test_who_has_not_been_here_for_long_is_forgotten() -> None:
    budget, clock = make()
    for number in range(10 * CROWD):
        clock.advance(RECENT_TIME)
        budget.open(f"client-{number}").close()
    assert len(budget._accounts) <= CROWD + 2


def test_the_most_that_was_held_is_remembered_until_somebody_has_looked() -> None:
    budget, _ = make()
    hold = budget.open("ann")
    hold.resize(700)
    hold.resize(100)
    assert (budget.held, budget.peak) == (100, 700)
    budget.peak = budget.held
    hold.resize(50)
    assert budget.peak == 100


def test_small_requests_find_room_where_large_ones_find_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_room, "RESERVE_SHIFT", 4)
    monkeypatch.setattr(budget_room, "SMALL_HOLD", 10)
    budget, _ = make(most=1_600)
    large = [budget.open(owner) for owner in ("ann", "bob")]
    large[0].resize(800)
    large[1].resize(700)
    with pytest.raises(Overload):
        large[1].more(1)
    budget.open("cid").resize(10)
    budget.open("ann").resize(10)  # though ann's other request has all of her share
    with pytest.raises(Overload):
        budget.open("cid").resize(11)
