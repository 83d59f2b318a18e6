"""The table of cancellations: its rows, and the places of the way at which nobody is ever held."""

from __future__ import annotations

from gemproxy.aiohttp_parts import PLAIN
from tests.faults.held_open import (
    CHAT_FORMS,
    THRICE,
    THRICE_STREAM,
    UNARY,
    Row,
    begun,
    beside,
    busy_worker,
    full_queue,
    half_a_body,
    hint,
    images,
    its_turn,
    looked_up,
    much_stored,
    no_head,
    pause,
    refused,
    refused_at_once,
    silent_name,
    slow_name,
    stored,
    unread,
    upstream,
)
from tests.faults.held_tokens import TOKEN_ROWS
from tests.faults.held_writes import CUT, FIRST_CAME, WRITE_ROWS

CONNECTS, WAITS, WAITS_ON = (
    ("Poster.post: self._session.post",) * 3  # where aiohttp does it all (docs/aiohttp.md)
    if PLAIN
    else ("Poster.post: self._session.connector.connect", "_exchange: protocol.read()", "protocol.read() (again)")
)
EARLY = "it begins when the request is known as a whole; what comes before has limits of its own"
BEFORE = {"timeouts.first": EARLY, "timeouts.total": EARLY}
LOCAL = dict.fromkeys(BEFORE, "nobody upstream is asked")
UNASKED = {"timeouts.first": "it begins with the first attempt"}

ROWS = [
    Row("body", "body _read: request.content.readany", half_a_body, CHAT_FORMS, cannot=BEFORE),
    Row("weighing", "weigh_body: burden.run(weighed", beside("weighed"), (UNARY,), cannot=BEFORE),
    Row("reading", "_read: burden.run(operation.read", beside("read"), (UNARY,), cannot=BEFORE),
    Row("worker", "Worker._turn: turn", busy_worker, (UNARY,), cannot=BEFORE, others=True),
    Row("stored", "Asking._look_up: self._service.kept.get", stored, (UNARY,), cannot=BEFORE),
    Row("much stored", "Asking._look_up: weigh", much_stored("weighed"), (UNARY,), cannot=BEFORE),
    Row("wants", "Asking._wants: self.burden.run(asked.wants", much_stored("wants"), (UNARY,), cannot=BEFORE),
    Row("turn", "Turns.take: turn.lock.acquire", its_turn, (UNARY,), cannot=BEFORE),
    Row("looked up", "_found: service.kept.get", looked_up(), (UNARY,), cannot=LOCAL),
    Row("much looked up", "_found: burden.run(lookup", looked_up("input_items", "x" * 200_000), (UNARY,), cannot=LOCAL),
    Row("heard", "look_up: handed_over", looked_up("", "x" * 4_000_000, deaf=True), (UNARY,), cannot=LOCAL, cut=CUT),
    Row("media", "ImageFetcher._get: self._sessions.to(place).get", images(), CHAT_FORMS, cannot=BEFORE),
    Row("half of it", "ImageFetcher._read: response.content", images(half=True), (UNARY,), cannot=BEFORE),
    Row("media host", "Lookup.resolve: asyncio.wait", silent_name(), (UNARY,), cannot=BEFORE),
    Row("share of names", "Lookup.resolve: self._shares.take", silent_name(2), (UNARY,), cannot=BEFORE),
    Row("share of media", "Shares.take: place", images(count=2, shares=(1, 1)), (UNARY,), cannot=BEFORE),
    Row("planning", "Asking._open: self.burden.run(self._plan", beside("_plan"), CHAT_FORMS, cannot=UNASKED),
    Row("queue", "Queue._queue: waiting.turn", full_queue, others=True),
    *TOKEN_ROWS,
    Row("asking", "Dispatcher._attempt: burden.run(dialect.ask", beside("ask"), CHAT_FORMS),
    Row("connect", CONNECTS, slow_name, (UNARY, THRICE), going_on="resolve"),
    Row("post", "Sliced.write: writer.write", unread, (UNARY,)),
    Row("head", WAITS, upstream(no_head)),
    Row("early hint", WAITS_ON, hint, (UNARY,)),
    Row("refusal", "Dispatcher._refusal: read_beginning", upstream(refused), CHAT_FORMS),
    Row("aiming", "Dispatcher._serve: burden.run(aimed", beside("aimed", answer=refused_at_once), (UNARY,)),
    Row("pause", "Dispatcher._go: asyncio.sleep", pause, CHAT_FORMS),
    Row("first piece", "Answer.begin: self._pump", upstream(begun)),
    *WRITE_ROWS,
    Row(
        "gathering",
        "Asking._answer: self.burden.run(gather",
        beside("together"),
        (THRICE, THRICE_STREAM),
        cannot=FIRST_CAME,
    ),
]

AS_BEFORE = "as another row, once more: "
OTHER_WAY = "not on the way of a request to a model"
FEW_BYTES = "few bytes, and aiohttp's writer waits for its client after 64 KiB only"
NEVER = {
    "credentials/token_cache TokenCache._run: self._fetch(self._refused, fresh=fresh) (again)": AS_BEFORE + "token",
    "credentials/token_cache TokenCache.renew: self.get()": AS_BEFORE + "token",
    "credentials/tokens Tokens._token: account.cache.renew(access.secret)": AS_BEFORE + "token",
    "credentials/tokens Tokens._token: self._placed(await account.cache.renew(access.secret))": AS_BEFORE + "project",
    "credentials/tokens Tokens._rediscovered: account.cache.get()": AS_BEFORE + "token",
    "credentials/tokens Tokens._rediscovered: self._token(account, account.cache.get())": AS_BEFORE + "token",
    "credentials/token_fetch TokenFetcher._of_service: "
    "self._file(functools.partial(read_service_account, file, source.project))": AS_BEFORE + "file",
    "credentials/token_fetch TokenFetcher._of_service: self._kept(account.key)": AS_BEFORE + "kept grant",
    "credentials/token_fetch TokenFetcher._untried: self._kept(grant.key)": AS_BEFORE + "kept grant",
    "credentials/token_cache TokenCache.anew: asyncio.wait((self._task,))": OTHER_WAY,
    "credentials/token_cache TokenCache.anew: self._wait(fresh=True)": OTHER_WAY,
    "credentials/tokens Tokens.check: self._noted(account, self._token(account, account.cache.anew()))": OTHER_WAY,
    "fetch/fetcher ImageFetcher.close: self._idle.wait()": OTHER_WAY,
    "fetch/fetcher ImageFetcher.close: self._sessions.close()": OTHER_WAY,
    "server/body expectation: answer(_unexpected, request.app[SERVICE], request)": OTHER_WAY,
    "server/middleware _excuse: _answer_failure(request, context, _from_http(context, fault), "
    "allow=fault.headers.get('Allow'))": OTHER_WAY,
    "server/routes _counted.counted: handler(request, service, caller)": OTHER_WAY,
    "server/routes _known.guarded: handler(request, service, caller)": OTHER_WAY,
    "server/routes _open.opened: handler(request, service)": OTHER_WAY,
    "server/routes _unknown: resource.resolve(request)": OTHER_WAY,
    "dispatch/fan_out _all: _end(tasks)": "its tasks are cancelled, and end in the next turns of the loop",
    "dispatch/fan_out _end: asyncio.gather(*tasks, return_exceptions=True)": "as the line before",
    "server/body expect_body: request.writer.write(b'HTTP/1.1 100 Continue\\r\\n\\r\\n')": FEW_BYTES,
    "server/routes _operate: expect_body(operation, request, service.door)": FEW_BYTES,
    "server/handlers/operation _Stream.run: self._committed()": "the early status is told in one step (row status)",
    "server/handlers/operation _Stream._tell_status: self._response.write(opening)": FEW_BYTES,
    "server/handlers/operation _Stream.run: self._response.write_eof()": FEW_BYTES + "; what came before was drained",
    "server/middleware _hand_over: response.write_eof()": "what goes out there was written as a whole by prepare",
    "server/outlet Whole.write_eof: super().write_eof(data)": "to HTTP/1.0 alone, 64 KiB at most, with room for them",
    "server/outlet Outlet.write: self._writer.write(data[:SLICE])": "64 KiB, for which the writer does not wait",
    "server/outlet EventStream.write: self.outlet.drain()": "who fails within an event is cut, and tells nothing",
    **dict.fromkeys(
        (
            "server/outlet EventStream._pings: self.write(self._word)",
            "server/outlet EventStream.write: super().write(data)",
            "server/middleware answer: _excuse(request, service, context, Draining())",
            "server/middleware answer: _excuse(request, service, context, fault)",
            "server/middleware _excuse: _answer_failure(request, context, _bug(context))",
            "server/middleware _excuse: _answer_failure(request, context, fault, expose=service.door.expose_routing)",
            "server/middleware _answer_failure: context.response.write(last)",
        ),
        FEW_BYTES,
    ),
}
"""Why no row holds a request open there."""
