"""The clients of a soak: most of them ask and check every answer to the letter, some behave badly on purpose.

In: where the server is, and a source of chance. Out: a ``Tally`` of what happened to every request. Must not forgive:
an answer is whole, or an honest error, or it is wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct, field

from bench import heavy
from bench.check import Wrong
from bench.faulty import FLOOD, expected

KEY = "sk-soak"
MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.5-flash")
HONEST = {429, 502, 503, 504}  # statuses that an upstream in trouble may come to
TOO_MUCH = 4_500_000  # bytes; ``server.max_body`` is below
PIECE = 1 << 16  # bytes of an upload that is slow, and the seconds between two of them
PAUSE = 0.04
STAYS = (1, 4)  # seconds, from and to, that a client stays which takes nothing
# what reading an answer raises that is not what it should be: no JSON, no text, another shape
UNREADABLE = (msgspec.DecodeError, AttributeError, LookupError, TypeError, ValueError)

# what costs a server far more than the client, and what it may refuse
HEAVY: dict[str, Callable[[], bytes]] = {
    "results": lambda: heavy.results_of_one_id(2_000),
    "media": lambda: heavy.media_in_a_result(2_000),
    "objects": lambda: heavy.metadata(heavy.objects(3_000_000)),
    "escapes": lambda: heavy.text(3_000_000, b"\\u00e9"),
    "percent": lambda: heavy.percent(3_000_000),
    "picture": lambda: heavy.picture(3_000_000),
    "tools": lambda: heavy.tools(16, 100_000),
}


@cache
def heavy_body(name: str) -> bytes:
    """Return a heavy question; it is made once."""
    return HEAVY[name]()


class Tally(Struct):
    """What became of the requests. ``started`` is the sum of all others, or some were lost without a word."""

    started: int = 0
    whole: int = 0
    told: Counter[str] = field(default_factory=Counter)  # honest errors, by status or code
    refused: Counter[str] = field(default_factory=Counter)  # bad requests, by what was bad
    gone: int = 0  # clients that left
    lost: int = 0  # no answer, though the client waited
    wrong: int = 0
    why: list[str] = field(default_factory=list)

    def answered(self) -> int:
        """Return how many requests were answered, one way or another."""
        return self.whole + self.told.total() + self.refused.total() + self.wrong

    def complain(self, what: str) -> None:
        """Keep the first few complaints."""
        if len(self.why) < 20:
            self.why.append(what)


class Crowd:
    """Clients of one server, as one session; ``burdens``: some of them are heavy."""

    def __init__(self, url: str, session: aiohttp.ClientSession, chance: random.Random, *, burdens: bool) -> None:
        self.tally = Tally()
        self.manners = BEHAVIOURS | BURDENS if burdens else BEHAVIOURS
        self.behaviours: Counter[str] = Counter()
        self._url = url + "/v1/chat/completions"
        self._session = session
        self._chance = chance

    async def client(self, stop: asyncio.Event) -> None:
        """Ask again and again, each time as somebody else, until told to stop."""
        while not stop.is_set():
            name = self._chance.choices(list(self.manners), [weight for weight, _ in self.manners.values()])[0]
            self.behaviours[name] += 1
            self.tally.started += 1
            await self._ask(name, self.tally.started)

    async def _ask(self, name: str, number: int) -> None:
        try:
            await self.manners[name][1](self, number)
        except (aiohttp.ClientError, OSError) as lost:  # the session's own TimeoutError is an OSError
            self.tally.lost += 1
            self.tally.complain(f"{name}, question {number}: no answer ({lost!r})")
        except Wrong as wrong:
            self.tally.wrong += 1
            self.tally.complain(f"{name}, question {number}: {wrong}")
        except UNREADABLE as broken:
            self.tally.wrong += 1
            self.tally.complain(f"{name}, question {number}: cannot be read ({broken!r})")

    def body(self, number: int, **more: Any) -> bytes:
        """Return the request with this number; half of them want a stream."""
        messages = [{"role": "user", "content": f"soak question {number}"}]
        asked = {"model": self._chance.choice(MODELS), "messages": messages, "stream": number % 2 == 0}
        return msgspec.json.encode(asked | more)

    def post(self, body: bytes | AsyncIterator[bytes], key: str = KEY) -> Any:
        """Post a body."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return self._session.post(self._url, data=body, headers=headers)

    # ------------------------------------------------------------------------------------------------ who behaves

    async def reads(self, number: int, delay: float = 0.0) -> None:
        async with self.post(self.body(number)) as response:
            if response.status != 200:
                await self._error(response, await response.read())
                return
            body = b""
            async for piece in response.content.iter_any():
                body += piece
                if delay:
                    await asyncio.sleep(delay)
        said = "".join(expected(number))
        if response.content_type == "text/event-stream":
            self._stream(said, body)
        else:
            self._unary(said, body)

    async def reads_slowly(self, number: int) -> None:
        await self.reads(number, self._chance.uniform(0.01, 0.1))

    async def _error(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        if response.status not in HONEST:
            raise Wrong(f"status {response.status}: {body[:200]!r}")
        _error_object(msgspec.json.decode(body))
        if response.status in (429, 503) and "Retry-After" not in response.headers:
            raise Wrong(f"{response.status} without Retry-After: {body[:200]!r}")
        self.tally.told[str(response.status)] += 1
        if response.status == 429:
            await asyncio.sleep(self._chance.uniform(0.2, 0.6))  # asked to wait: else nothing but refusals is measured

    def _unary(self, said: str, body: bytes) -> None:
        [choice] = msgspec.json.decode(body)["choices"]
        if choice["message"]["content"] != said or choice["finish_reason"] != "stop":
            raise Wrong(f"{choice} is not {said!r}")
        self.tally.whole += 1

    def _stream(self, said: str, body: bytes) -> None:
        text, finishes, last = _read(body)
        if last == "[DONE]":
            if text != said or finishes != ["stop"]:
                raise Wrong(f"{text!r} {finishes} is not {said!r}")
            self.tally.whole += 1
            return
        if not isinstance(last, dict) or "error" not in last:
            raise Wrong(f"a silent truncation after {text!r}")
        _error_object(last)
        if finishes or not said.startswith(text):
            raise Wrong(f"{text!r} {finishes} before an error is no beginning of {said!r}")
        self.tally.told[f"event {last['error']['code']}"] += 1

    # ---------------------------------------------------------------------------------------------- who does not

    async def hangs_up(self, number: int) -> None:
        try:
            async with asyncio.timeout(self._chance.uniform(0, 0.9)), self.post(self.body(number)) as response:
                await response.content.read(self._chance.randrange(1, 3_000))
                response.close()
        except TimeoutError:
            pass
        self.tally.gone += 1

    async def never_reads(self, number: int) -> None:
        """Ask for more than the system takes for a client, and take nothing of it but the beginning."""
        body = self.body(number, messages=[{"role": "user", "content": FLOOD}], stream=True)
        async with self.post(body) as response:
            await response.content.read(1)
            await asyncio.sleep(self._chance.uniform(*STAYS))
            response.close()
        self.tally.gone += 1

    async def asks_heavily(self, _number: int) -> None:
        name = self._chance.choice(list(HEAVY))
        await self._heavy(name, heavy_body(name))

    async def uploads_slowly(self, _number: int) -> None:
        """Send a long text piece by piece; every other time leave before its end."""

        async def pieces() -> AsyncIterator[bytes]:
            body = heavy_body("escapes")
            for place in range(0, len(body), PIECE):
                yield body[place : place + PIECE]
                await asyncio.sleep(PAUSE)

        try:
            async with asyncio.timeout(self._chance.choice([1, None])):
                await self._heavy("slow", pieces())
        except TimeoutError:
            self.tally.gone += 1

    async def _heavy(self, name: str, body: bytes | AsyncIterator[bytes]) -> None:
        async with self.post(body) as response:
            told = await response.read()
        if response.status == 200:
            self.tally.whole += 1
        elif response.status in (400, 413):
            _error_object(msgspec.json.decode(told))
            self.tally.refused[f"heavy: {name}"] += 1
        else:
            await self._error(response, told)

    async def sends_nonsense(self, number: int) -> None:
        await self._refused("nonsense", 400, self.body(number)[: self._chance.randrange(1, 60)])

    async def has_no_key(self, number: int) -> None:
        await self._refused("no key", 401, self.body(number), "sk-unknown")

    async def names_another_model(self, number: int) -> None:
        await self._refused("another model", 404, self.body(number, model="gpt-5"))

    async def sends_too_much(self, number: int) -> None:
        try:
            await self._refused("too much", 413, self.body(number, padding="x" * TOO_MUCH))
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            self.tally.refused["too much"] += 1  # the server closed while we still sent, as HTTP allows

    async def _refused(self, what: str, status: int, body: bytes, key: str = KEY) -> None:
        async with self.post(body, key) as response:
            if response.status != status:
                raise Wrong(f"{response.status} instead of {status}")
            _error_object(msgspec.json.decode(await response.read()))
        self.tally.refused[what] += 1


def _read(body: bytes) -> tuple[str, list[str], Any]:
    """Return the text, the finishes and the last event of a stream."""
    text, finishes, last = "", [], None
    for block in body.split(b"\n\n"):
        if not block.startswith(b"data: "):
            if block and not block.startswith(b":"):
                raise Wrong(f"no event: {block[:80]!r}")
            continue
        if last == "[DONE]":
            raise Wrong("something after [DONE]")
        last = "[DONE]" if block == b"data: [DONE]" else msgspec.json.decode(block[6:])
        for choice in last["choices"] if isinstance(last, dict) and "choices" in last else ():
            text += choice["delta"].get("content") or ""
            finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
    return text, finishes, last


def _error_object(body: Any) -> None:
    if set(body) != {"error"} or set(body["error"]) != {"message", "type", "param", "code"}:
        raise Wrong(f"no OpenAI error object: {body}")


Behaviour = Callable[[Crowd, int], Awaitable[None]]
BEHAVIOURS: dict[str, tuple[float, Behaviour]] = {  # with weights
    "reads": (76, Crowd.reads),
    "reads slowly": (6, Crowd.reads_slowly),
    "hangs up": (10, Crowd.hangs_up),
    "sends nonsense": (3, Crowd.sends_nonsense),
    "has no key": (2, Crowd.has_no_key),
    "names another model": (2, Crowd.names_another_model),
    "sends too much": (1, Crowd.sends_too_much),
}
BURDENS: dict[str, tuple[float, Behaviour]] = {  # each comes once in two or three seconds
    "never reads": (0.3, Crowd.never_reads),
    "asks heavily": (0.3, Crowd.asks_heavily),
    "uploads slowly": (0.3, Crowd.uploads_slowly),
}
