"""One request's burden: what makes it heavy, and that all of it is given back."""

from __future__ import annotations

import threading

import pytest

from gemproxy.errors import Overload
from gemproxy.load.burden import OVERHEAD
from gemproxy.load.weigh import SMALL_SIZE
from tests.burdens import MIB, make_burden, make_load


async def test_a_request_is_heavy_while_it_holds_much() -> None:
    burden = make_burden()
    burden.hold.more(2 * SMALL_SIZE)
    assert not burden.heavy
    burden.hold.more(1)
    assert burden.heavy
    burden.lighten([])
    assert (burden.heavy, burden.hold.size) == (False, OVERHEAD)


def test_a_request_too_many_is_refused_and_leaves_nothing_behind() -> None:
    load = make_load(most=2 * OVERHEAD)
    first = load.burden("ann")
    with pytest.raises(Overload):
        load.burden("ann")
    first.close()
    assert load.budget.held == 0
    assert load.budget._accounts["ann"].open == 0


async def test_work_of_a_burden_runs_beside_the_loop() -> None:
    load = make_load(MIB)
    burden = load.burden("ann")
    assert await burden.run(threading.get_ident) != threading.get_ident()
    burden.close()
    load.close()
