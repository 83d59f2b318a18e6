"""What walks a request is linear in its size: a row a kind, with a size at which a square would show.

Another kind of work is another row.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.bounds import Bounds
from gemproxy.converter.chat.media import remote_images
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import to_call
from gemproxy.converter.gemini.signatures import SignatureCache
from gemproxy.errors import ClientFault
from gemproxy.models import capabilities
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import Repair, Token
from tests.chat_bodies import USER, asks, call, gives
from tests.growth import Task, Work, check_linear

NO_LIMIT = Bounds(values=1 << 40, messages=1 << 40, parts=1 << 40, calls=1 << 40)
UPSTREAM = AiStudio("http://127.0.0.1", "test")


def picture(number: int) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA{number:08}"}}


def signed(number: int) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": "c2ln", "origin": f"vertex/gemini-{number}"}}}


def said(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": "a", **fields}] * count


def asked(
    messages: Callable[[int], list[dict[str, Any]]], *, repairs: frozenset[Repair] = frozenset(), **fields: Any
) -> Work:
    """Return the work of a request: read, converted, and written for an upstream."""

    def work(size: int) -> Task:
        body = msgspec.json.encode({"model": "gemini-3.8-flash", "messages": [*USER, *messages(size)], **fields})
        cache = SignatureCache(lambda: 0.0).of("ci")

        def task() -> None:
            with suppress(ClientFault):
                request = decode(body, NO_LIMIT)
                remote_images(request)
                plan = to_call(request, capabilities(request.model), {}, cache, Options(), stream=False)
                UPSTREAM.ask(plan.call, Token("test-key-1"), 0.0, repairs)

        return task

    return work


def calls(count: int, call_id: str = "c{}", name: str = "f", **fields: Any) -> dict[str, Any]:
    return asks(*(call(call_id.format(number), name.format(number), **fields) for number in range(count)))


def results(count: int, call_id: str = "c{}", content: str = "r{}", **fields: Any) -> list[dict[str, Any]]:
    return [gives(call_id.format(number), content.format(number), **fields) for number in range(count)]


REQUESTS = [
    pytest.param(
        asked(lambda n: [calls(n, "c"), *results(2 * n, "c")]), 2500, id="results beyond the calls of their id"
    ),
    pytest.param(
        asked(lambda n: [calls(n, "c"), *results(n, "c"), *[gives("c", f"r{n - 1}")] * n]),
        2500,
        id="results that repeat the last one",
    ),
    pytest.param(
        asked(lambda n: [calls(n, "c"), *results(n, "c"), *[gives("c", [picture(1)])] * n]),
        1500,
        id="pictures for calls that have a result",
    ),
    pytest.param(asked(lambda n: [calls(n), *results(n)]), 5000, id="calls and their results"),
    pytest.param(asked(lambda n: [calls(n), *reversed(results(n))]), 5000, id="results in the opposite order"),
    pytest.param(asked(lambda n: [calls(n), *results(n, "z{}", name="f")]), 3000, id="results known by name alone"),
    pytest.param(asked(lambda n: [calls(n), *results(n, "z{}")]), 3000, id="results known by nothing"),
    pytest.param(asked(lambda n: results(n)), 10_000, id="results without a call"),
    pytest.param(asked(lambda n: [calls(n)]), 4000, id="calls without a result"),
    pytest.param(asked(lambda n: [asks(call(f"c{k}")) for k in range(n)]), 4000, id="calls in messages of their own"),
    pytest.param(
        asked(lambda n: [message for k in range(n) for message in (asks(call(f"c{k}")), gives(f"c{k}"))]),
        1500,
        id="steps",
    ),
    pytest.param(
        asked(lambda n: [calls(n, "c_{}"), calls(n, "c")]), 2500, id="one id where its numbers are taken already"
    ),
    pytest.param(asked(lambda n: [calls(n, "c{}__thought__sig")]), 4000, id="ids with signatures behind them"),
    pytest.param(asked(lambda n: [calls(1, "__sig_" * n)]), 100_000, id="one long id, nearly signed"),
    pytest.param(asked(lambda n: [calls(1, name="é" * n)]), 300_000, id="a long name made fit"),
    pytest.param(asked(lambda n: [calls(n, name="é" * 2000 + "{}")]), 2000, id="long names made fit"),
    pytest.param(asked(lambda n: [calls(n, name="x" * 70 + "{}")]), 3000, id="names that are the same when cut"),
    pytest.param(
        asked(lambda n: [calls(n, name="x" * 56 + "_{}"), calls(n, name="x" * 70 + "{}")]),
        1500,
        id="names whose numbers are taken already",
    ),
    pytest.param(
        asked(lambda n: [calls(1), gives("c0", [picture(k) for k in range(n)])]), 3000, id="pictures in a result"
    ),
    pytest.param(
        asked(lambda n: [calls(1), gives("c0", [{"type": "text", "text": "a"}] * n)]), 20_000, id="texts in a result"
    ),
    pytest.param(
        asked(lambda n: [calls(1), gives("c0", '{"a":[' + '"b",1,' * n + "0]}")]), 100_000, id="a long list in a result"
    ),
    pytest.param(
        asked(lambda n: [calls(1), gives("c0", "{" + '"a":{"b":1},' * n + '"c":0}')]), 50_000, id="doubled names"
    ),
    pytest.param(
        asked(lambda n: [calls(1, arguments='{"a":[' + "12345678901234567890," * n + "0]}")]), 4000, id="long numbers"
    ),
    pytest.param(
        asked(lambda n: [calls(1, arguments='{"a":1e-310,"b":"' + "\\n" * n + '"}')]),
        150_000,
        id="escapes in arguments",
    ),
    pytest.param(asked(lambda n: [calls(1, arguments='{"a":' + "1" * n + "}")]), 300_000, id="a number of many digits"),
    pytest.param(asked(lambda n: USER * n), 10_000, id="messages of the user"),
    pytest.param(asked(lambda n: [{"role": "system", "content": "a"}] * n), 10_000, id="instructions between messages"),
    pytest.param(
        asked(lambda n: [{"role": "user", "content": [{"type": "text", "text": "a"}] * n}]), 20_000, id="parts of text"
    ),
    pytest.param(asked(lambda n: [{"role": "user", "content": [picture(k) for k in range(n)]}]), 3000, id="pictures"),
    pytest.param(asked(lambda n: said(n, **signed(0))), 8000, id="signed answers"),
    pytest.param(
        asked(lambda n: [message for k in range(n) for message in said(1, **signed(k))]), 4000, id="signatures' origins"
    ),
    pytest.param(
        asked(lambda n: said(1, images=[picture(k) for k in range(n)])), 3000, id="pictures that the model made"
    ),
    pytest.param(
        asked(lambda n: said(1, images=[{"image_url": "data:image/png;base64," + "iVBORw0KGgoA" * n}])),
        60_000,
        id="a large picture that the model made",
    ),
    pytest.param(
        asked(lambda n: [calls(n), *results(n), *said(n, **signed(0))], repairs=frozenset(Repair)),
        2000,
        id="all that is repaired",
    ),
    pytest.param(asked(lambda n: [{"role": "x" * n}]), 500_000, id="a long role that is none"),
]


@pytest.mark.parametrize(("work", "size"), REQUESTS)
def test_a_request_is_walked_in_linear_time(work: Work, size: int) -> None:
    check_linear(work, size)
