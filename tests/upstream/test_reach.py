"""Reachability: what is told once and then counted, when a host is out, and what brings it back."""

from __future__ import annotations

import pytest

from gemproxy.upstream.reach import QUIET_TIME, Need, Obstacle, Reach, Reason

DNS, REFUSED = Obstacle(Reason.DNS), Obstacle(Reason.REFUSED)
STUDIO, TOKENS = "https://studio.invalid", "https://tokens.invalid"


class Way:
    """A ``Reach`` whose clock is turned by hand."""

    def __init__(self) -> None:
        self.reach = Reach()
        self.now = 0.0

    def go(self, obstacle: Obstacle | None, origin: str = STUDIO, after: float = 1.0) -> bool:
        """Try a connection; returns whether the failure is told."""
        self.now += after
        if obstacle is None:
            self.reach.reached(origin)
            return False
        return self.reach.failed(origin, origin.removeprefix("https://"), obstacle, self.now)


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        pytest.param([DNS, DNS, DNS, DNS], [True, False, False, False], id="a cause is told once"),
        pytest.param([DNS, REFUSED, DNS, REFUSED], [True, True, False, False], id="another cause is told, too"),
        pytest.param([DNS, None, DNS], [True, False, False], id="one that flutters is not told each time"),
    ],
)
def test_what_the_log_hears(tried: list[Obstacle | None], told: list[bool]) -> None:
    way = Way()
    assert [way.go(obstacle) for obstacle in tried] == told


def test_an_outage_after_a_quiet_time_is_told_anew() -> None:
    way = Way()
    assert way.go(DNS)
    way.go(None)
    assert way.go(DNS, after=QUIET_TIME)


def test_an_outage_that_goes_on_is_not_told_anew() -> None:
    way = Way()
    assert [way.go(DNS, after=QUIET_TIME) for _ in range(3)] == [True, False, False]


def test_hosts_are_told_apart() -> None:
    way = Way()
    assert way.go(DNS, STUDIO)
    assert way.go(DNS, TOKENS)
    way.go(None, STUDIO)
    assert [view.host for view in way.reach.views(way.now)] == ["tokens.invalid"]


@pytest.mark.parametrize(
    ("tried", "out"),
    [
        pytest.param([DNS, DNS], False, id="two failures may be chance"),
        pytest.param([DNS, REFUSED, DNS], True, id="three running are an outage, whatever their causes"),
        pytest.param([DNS, DNS, None, DNS], False, id="a success between begins anew"),
        pytest.param([DNS, DNS, DNS, None], False, id="the first success ends it"),
    ],
)
def test_a_host_is_out(tried: list[Obstacle | None], out: bool) -> None:
    way = Way()
    for obstacle in tried:
        way.go(obstacle)
    assert way.reach.out(STUDIO) is out


def test_operators_see_count_cause_and_time() -> None:
    way = Way()
    for obstacle in (DNS, DNS, Obstacle(Reason.TLS, "self-signed certificate")):
        way.go(obstacle)
    [view] = way.reach.views(way.now + 10)
    assert (view.host, view.reason, view.failures, view.since_seconds, view.out) == (
        *("studio.invalid", "tls", 3),
        *(12.0, True),
    )
    assert (view.message, view.detail) == ("the TLS handshake fails", "self-signed certificate")


def test_an_obstacle_may_have_words_of_its_own() -> None:
    found = Obstacle(Reason.TLS, "self-signed certificate", "the certificate does not verify")
    assert (found.public, found.words) == (
        "the certificate does not verify",
        "the certificate does not verify (self-signed certificate)",
    )


def test_the_return_tells_how_it_was() -> None:
    way = Way()
    for _ in range(4):
        way.go(DNS)
    before = way.reach.reached(STUDIO)
    assert before is not None
    assert (before.failures, before.since, before.heard, before.obstacle) == (4, 1.0, True, DNS)
    assert way.reach.reached(STUDIO) is None
    assert way.reach.views(way.now) == []


def test_a_reason_that_is_over_stays_as_a_series_at_zero() -> None:
    way = Way()
    way.go(DNS)
    way.go(REFUSED)
    assert way.reach.causes() == [("studio.invalid", "dns", False), ("studio.invalid", "refused", True)]
    way.go(None)
    assert [holds for *_, holds in way.reach.causes()] == [False, False]


@pytest.mark.parametrize(
    ("out", "at_hand", "barred"),
    [
        pytest.param([], False, False, id="all is well"),
        pytest.param([STUDIO], True, True, id="without its upstream it is of no use"),
        pytest.param([TOKENS], False, True, id="without a token neither"),
        pytest.param([TOKENS], True, False, id="a token at hand serves while it lives"),
    ],
)
def test_a_credential_needs_its_hosts(out: list[str], at_hand: bool, barred: bool) -> None:
    way = Way()
    for origin in out * 3:
        way.go(DNS, origin)
    assert way.reach.bars(Need(STUDIO, TOKENS), token_at_hand=at_hand) is barred


def test_hosts_that_nobody_needs_any_more_are_forgotten() -> None:
    way = Way()
    way.go(DNS, STUDIO)
    way.go(DNS, TOKENS)
    way.reach.keep({STUDIO})
    assert [view.host for view in way.reach.views(way.now)] == ["studio.invalid"]


def test_no_reason_names_an_address_to_a_client() -> None:
    assert not [reason for reason in Reason if any(sign.isdigit() or sign == "/" for sign in reason.words)]
