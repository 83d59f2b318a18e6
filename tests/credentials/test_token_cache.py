"""One refresh at a time: early, awaited, failed, cancelled, refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

import pytest

from gemproxy.credentials.google_auth import Access
from gemproxy.credentials.token_cache import BACKOFF, TokenCache
from tests.clock import Clock
from tests.credentials.token_desk import begin

LIFE = 3600.0


class Source:
    """Gives out numbered tokens, when it is let."""

    def __init__(self, clock: Clock, life: float = LIFE) -> None:
        self.clock = clock
        self.life = life
        self.calls: list[str] = []
        self.kept: list[str] = []  # at hand, unless it is refused
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None

    async def fetch(self, refused: Collection[str], *, fresh: bool) -> Access:
        self.calls.append("fresh" if fresh else " ".join(refused))
        secret = next((kept for kept in self.kept if kept not in refused), f"token-{len(self.calls)}")
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return Access(secret, self.clock.now + self.life)


@pytest.fixture
async def source(clock: Clock) -> Source:
    return Source(clock)


@pytest.fixture
def cache(source: Source, clock: Clock) -> TokenCache:
    return TokenCache("team-1", source.fetch, clock)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_fifty_who_ask_at_once_make_one_refresh(cache, source):
    source.gate.clear()
    waiting = [begin(cache.get()) for _ in range(50)]
    await settled()
    source.gate.set()
    assert {access.secret for access in await asyncio.gather(*waiting)} == {"token-1"}
    assert source.calls == [""]


async def test_a_token_is_kept_until_five_minutes_before_its_end(cache, source, clock):
    await cache.get()
    clock.advance(LIFE - 301)
    assert (await cache.get()).secret == "token-1"
    assert len(source.calls) == 1
    assert cache.left() == 301


async def test_a_token_near_its_end_serves_while_one_refresh_runs(cache, source, clock):
    await cache.get()
    clock.advance(LIFE - 299)
    source.gate.clear()
    assert [(await cache.get()).secret for _ in range(10)] == ["token-1"] * 10
    await settled()
    assert len(source.calls) == 2
    source.gate.set()
    await settled()
    assert (await cache.get()).secret == "token-2"


async def test_a_token_that_lives_for_minutes_only_is_not_fetched_for_every_request(cache, source, clock):
    source.life = 200
    await cache.get()
    for _ in range(10):
        await cache.get()
        await settled()
    assert len(source.calls) == 2
    clock.advance(BACKOFF)
    await cache.get()
    await settled()
    assert len(source.calls) == 3


async def test_those_who_want_a_new_token_get_one_for_all_after_the_refresh_under_way(cache, source):
    source.gate.clear()
    waiting = begin(cache.get())
    await settled()
    checking = [begin(cache.anew()) for _ in range(5)]
    await settled()
    source.gate.set()
    assert {access.secret for access in await asyncio.gather(*checking)} == {"token-2"}
    assert (await waiting).secret == "token-1"
    assert (await cache.get()).secret == "token-2"
    assert source.calls == ["", "fresh"]


async def test_a_dead_token_is_waited_for(cache, source, clock):
    await cache.get()
    clock.advance(LIFE - 5)
    assert (await cache.get()).secret == "token-2"
    clock.advance(LIFE + 5)
    assert cache.left() == 0
    assert (await cache.get()).secret == "token-3"


async def test_one_who_leaves_takes_nobodys_refresh_away(cache, source):
    source.gate.clear()
    leaver, stayer = begin(cache.get()), begin(cache.get())
    await settled()
    leaver.cancel()
    await settled()
    source.gate.set()
    assert (await stayer).secret == "token-1"
    assert leaver.cancelled()


async def test_a_refresh_goes_on_when_everybody_left(cache, source):
    source.gate.clear()
    leaver = begin(cache.get())
    await settled()
    leaver.cancel()
    source.gate.set()
    await settled()
    assert (await cache.get()).secret == "token-1"
    assert len(source.calls) == 1


async def test_all_who_wait_get_the_failure_and_the_next_tries_again(cache, source):
    source.fault = LookupError("no token")
    waiting = [begin(cache.get()) for _ in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["no token"] * 3
    assert len(source.calls) == 1
    source.fault = None
    assert (await cache.get()).secret == "token-2"


async def test_the_old_token_serves_while_early_refreshes_fail(cache, source, clock, caplog):
    await cache.get()
    source.fault = LookupError("out of order")
    clock.advance(LIFE - 200)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert (await cache.get()).secret == "token-1"
            await settled()
    assert len(source.calls) == 2  # not one a request: the next try comes 15 s later
    assert "team-1" in caplog.text
    assert "out of order" in caplog.text
    clock.advance(20)
    source.fault = None
    await cache.get()
    await settled()
    assert (await cache.get()).secret == "token-3"


async def test_a_refused_token_is_replaced_once_for_all_who_saw_it(cache, source):
    await cache.get()
    renewed = await asyncio.gather(*(cache.renew("token-1") for _ in range(10)))
    assert {access.secret for access in renewed} == {"token-2"}
    assert source.calls == ["", "token-1"]


async def test_whoever_comes_late_with_a_refused_token_gets_the_new_one(cache, source):
    await cache.get()
    await cache.renew("token-1")
    assert (await cache.renew("token-1")).secret == "token-2"
    assert len(source.calls) == 2


async def test_a_refused_token_is_not_given_to_others_meanwhile(cache, source):
    await cache.get()
    source.gate.clear()
    renewing, asking = begin(cache.renew("token-1")), begin(cache.get())
    await settled()
    assert cache.left() == 0
    source.gate.set()
    assert [(await renewing).secret, (await asking).secret] == ["token-2", "token-2"]


async def test_a_refused_token_stays_refused_while_renewals_fail(cache, source):
    """Two hold a token that Google revoked; the state still has it, and the first renewal fails."""
    source.kept = ["token-1"]
    await cache.get()
    source.fault = LookupError("out of order")
    with pytest.raises(LookupError):
        await cache.renew("token-1")
    source.fault = None
    source.gate.clear()
    asking = begin(cache.get())
    await settled()
    renewing = begin(cache.renew("token-1"))  # it joins a fetch that began without it
    await settled()
    source.gate.set()
    assert [(await renewing).secret, (await asking).secret] == ["token-3", "token-3"]


async def test_a_token_refused_while_it_is_fetched_once_more_is_given_to_nobody(cache, source):
    source.kept = ["token-1"]
    source.gate.clear()
    asking = begin(cache.get())
    await settled()
    renewing = begin(cache.renew("token-1"))  # of another process, say
    await settled()
    source.gate.set()
    assert [(await asking).secret, (await renewing).secret] == ["token-2", "token-2"]
    assert source.calls == ["", "token-1"]


async def test_a_refusal_in_the_moment_of_the_fetch_is_not_answered_with_what_was_refused(cache, source):
    source.kept = ["token-1"]
    asking = begin(cache.get())
    while cache.access is None:  # noqa: ASYNC110 - to the very turn of the loop
        await asyncio.sleep(0)
    assert (await cache.renew("token-1")).secret == "token-2"
    assert (await asking).secret == "token-1"  # before it was refused
    assert (await cache.get()).secret == "token-2"


async def test_of_refused_tokens_only_the_last_are_remembered(cache, source):
    for number in range(100):
        await cache.renew(f"token-{number}")
    assert len(cache._refused) <= 16


async def test_closing_ends_the_refresh(cache, source):
    source.gate.clear()
    waiting = begin(cache.get())
    await settled()
    cache.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    cache.close()


async def test_closing_without_a_refresh_does_nothing(cache):
    cache.close()
    assert (await cache.get()).secret == "token-1"
