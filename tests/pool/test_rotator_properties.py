"""Random dialogues with the rotator, held against a few sentences that must always be true."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gemproxy.errors import NoCredential
from gemproxy.pool.cooldown import KIND_SEPARATOR, Policy
from gemproxy.pool.rotator import Rotator
from gemproxy.pool.slot import Slot, keys
from gemproxy.upstream.demand import PLAIN_DEMAND, Demand
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from gemproxy.wire.gemini import Content, Empty, GenerateRequest, Part, ToolSpec
from tests.clock import Clock
from tests.pool.pool_transcript import records

MODELS = ["pro", "flash", "lite"]
LARGE = GenerateRequest([Content([Part(text="x" * (60 << 10))])])
SEARCHING = GenerateRequest(LARGE.contents, tools=[ToolSpec(google_search=Empty())])
DEMANDS = [PLAIN_DEMAND, Demand(LARGE), Demand(SEARCHING)]
KINDS = ["", *Demand(SEARCHING).kinds]
LIMITED = frozenset({"pro", "flash"})


def verdicts(now: float) -> st.SearchStrategy[Verdict | None]:
    waits = st.one_of(st.none(), st.floats(-10, 100_000), st.just(math.inf))
    failure = st.builds(
        lambda action, scope, wait, daily, kind: Verdict(
            action, scope, wait and now + wait, "some_reason", daily=daily, kind=kind
        ),
        st.sampled_from([Action.NEXT, Action.RETRY, Action.STOP, Action.REFRESH]),
        st.sampled_from(Scope),
        waits,
        st.booleans(),
        st.sampled_from(KINDS),
    )
    return st.one_of(st.just(OK), st.none(), failure)


class Dialogue(RuleBasedStateMachine):
    @initialize(cap=st.sampled_from([0, 1, 3]), count=st.integers(1, 6))
    def start(self, cap: int, count: int) -> None:
        self.clock = Clock(1_000_000.0)
        self.cap = cap
        slots = [
            Slot(f"s{n}", n % 2, "ai_studio", "shared" if n % 3 == 0 else "", f"print-{n}", LIMITED if n == 1 else None)
            for n in range(count)
        ]
        self.rotator = Rotator(slots, Policy(max_in_flight=cap), self.clock)
        self.slots = slots
        self.leases: list = []
        self.told: dict = {}
        self.rotator.on_change = self.tell

    def tell(self, record) -> None:
        old = self.told.get((record.fingerprint, record.model))
        assert old is None or record.changed > old.changed
        self.told[record.fingerprint, record.model] = record

    # ---- what may happen

    @rule(
        model=st.sampled_from(MODELS),
        tried=st.sets(st.sampled_from(["s0", "s1", "s2"])),
        demand=st.sampled_from(DEMANDS),
    )
    def ask(self, model: str, tried: set[str], demand: Demand) -> None:
        promised = self.free(model, demand)
        try:
            lease = self.rotator.acquire(model, tried, None, demand)
        except NoCredential as refusal:
            assert tried or not promised
            self.check_refusal(model, tried, refusal, demand)
            return
        slot = lease.slot
        assert promised
        assert slot.name not in tried
        assert slot.parked is None
        assert slot.cooldown_left(model, self.clock.now, demand) == 0
        assert slot.models is None or model in slot.models
        assert not self.cap or slot.in_flight <= self.cap
        assert set(lease.probes) == set(keys(model, demand.kinds)) & slot.cooldowns.keys()
        self.leases.append(lease)

    def free(self, model: str, demand: Demand) -> bool:
        """Return whether a slot can serve now, read from the slots alone."""
        self.rotator.earliest(model, None, demand)  # it looks at the clock
        asked = set(keys(model, demand.kinds))
        return any(
            slot.parked is None
            and (slot.models is None or model in slot.models)
            and slot.cooldown_left(model, self.clock.now, demand) == 0
            and not 0 < self.cap <= slot.in_flight
            and not asked & slot.probing.keys() & slot.cooldowns.keys()
            for slot in self.slots
        )

    def check_refusal(self, model: str, tried: set[str], refusal: NoCredential, demand: Demand) -> None:
        """The earliest return is truthful: not before it, and then indeed."""
        assert refusal.returns_in == self.rotator.earliest(model, None, demand)
        fitting = [slot for slot in self.slots if slot.models is None or model in slot.models]
        lefts = [slot.cooldown_left(model, self.clock.now, demand) for slot in fitting if slot.parked is None]
        if refusal.returns_in is None:
            assert all(left == math.inf for left in lefts)
        elif not refusal.full and not tried:
            assert refusal.returns_in == min(lefts) > 0
            now = self.clock.now
            self.clock.now = now + refusal.returns_in + 1e-6
            assert self.free(model, demand) or any(slot.in_flight for slot in fitting)
            self.clock.now = now
            self.rotator._seen = now  # this look ahead is no jump of the clock

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.rotator.report(lease, data.draw(verdicts(self.clock.now)))
        with pytest.raises(ValueError, match="reported twice"):
            self.rotator.report(lease, OK)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def content(self, data: st.DataObject) -> None:
        self.rotator.confirm(data.draw(st.sampled_from(self.leases)))

    @rule(seconds=st.floats(0, 100_000))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.floats(0, 100_000))
    def turn_the_clock_back(self, seconds: float) -> None:
        lengths = {(slot.name, key): r.until - r.since for slot in self.slots for key, r in slot.cooldowns.items()}
        self.clock.advance(-seconds)
        self.rotator.earliest("pro")  # it looks at the clock
        for slot in self.slots:
            for key, rest in slot.cooldowns.items():
                if rest.daily:
                    assert rest.until == math.inf or rest.until - self.clock.now <= 25 * 3600 + 1e-3
                else:
                    assert rest.until - self.clock.now <= lengths[slot.name, key] + 1e-3

    @rule(number=st.integers(0, 5))
    def test_token(self, number: int) -> None:
        self.rotator.unpark(f"s{number}")

    @rule(kept=st.sets(st.integers(0, 5), min_size=1))
    def reload(self, kept: set[int]) -> None:
        fresh = [Slot(f"s{n}", n % 2, "ai_studio", "", f"print-{n}") for n in sorted(kept)]
        self.rotator.replace(fresh, Policy(max_in_flight=self.cap), list(self.told.values()))
        self.slots = self.rotator._slots

    # ---- what is always true

    @invariant()
    def counts_match_leases(self) -> None:
        for slot in getattr(self, "slots", ()):
            assert slot.in_flight == sum(lease.slot is slot for lease in self.leases)

    @invariant()
    def at_most_one_probe_decides(self) -> None:
        out = {lease.id for lease in getattr(self, "leases", ()) if lease.probe}
        for slot in getattr(self, "slots", ()):
            assert set(slot.probing.values()) <= out

    @invariant()
    def requests_of_a_kind_are_known_where_some_rest(self) -> None:
        for slot in getattr(self, "slots", ()):
            assert slot.narrow == any(KIND_SEPARATOR in key for key in slot.cooldowns)

    @invariant()
    def records_tell_all(self) -> None:
        if not hasattr(self, "rotator"):
            return
        for record in records(self.rotator):
            told = self.told[record.fingerprint, record.model]
            assert (told.reason, told.changed) == (record.reason, record.changed)


TestDialogue = Dialogue.TestCase
TestDialogue.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_nothing_starves_among_healthy_slots():
    clock = Clock(1_000_000.0)
    rotator = Rotator([Slot(f"s{n}") for n in range(5)], Policy(), clock)
    for number in range(100):
        rotator.report(rotator.acquire(MODELS[number % 3]), OK)
    assert {view.served for view in rotator.snapshot()} == {20}
