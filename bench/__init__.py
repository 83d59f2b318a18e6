"""Benchmarks anyone can run: ``make bench``, or ``bench/bench_proxy.py --quick`` and ``bench/bench_core.py``.

The whole proxy is measured against a *floor*: an aiohttp server that forwards the same bytes and reads none of them.
Both stand between the same cheap upstream and the same load generator, each in a process of its own, on loopback, in
turn in one run. What counts is the ratio of the two, so the speed of the machine cancels. Reading order: ``script``
(what the upstream says), ``question`` (what clients ask), ``check`` (what must come out), ``upstream``, ``forwarder``,
``connection``, ``jobs``, ``load``, ``processes``, ``fleet``, ``report``, ``scenarios``, ``bench_proxy``. The pure core
has ``core``, ``guard`` and ``bench_core``. The long run with faults has ``faulty`` (what the upstream does wrong),
``crowd`` (the clients) and ``soak`` (the run and its verdict). What one client or the upstream can do to all others has
``heavy`` (the bodies), ``hostile`` (the upstream), ``rows``, ``sender`` (the clients of a row), ``prober`` (the stall),
``memory``, ``house`` (the processes of a run) and ``neighbours`` (the table). ``outages`` shows what each outage looks
like to operators and clients: ``make outages``.
"""
