"""Client protocols that the server was never told of, each registered by one line: what the seam carries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from msgspec.structs import replace

from gemproxy.converter.api import Reply
from gemproxy.errors import Failure
from gemproxy.server.service import SERVICE
from gemproxy.simulator import (
    Answer,
    Hang,
    Pause,
    Reset,
    Simulator,
    error_answer,
    frames_answer,
    text_answer,
    unary_answer,
)
from gemproxy.wiring.build import OPERATIONS
from tests.apis.bytes_through import BYTES_THROUGH
from tests.apis.forms import FORMS
from tests.apis.plain_text import PLAIN_TEXT
from tests.apis.remembers import KIND, REMEMBERS
from tests.apis.telling import CUT, TELLING
from tests.apis.telling import KIND as TOLD
from tests.apis.three_calls import THREE_CALLS
from tests.burdens import noted_work
from tests.faults.client import AUTH
from tests.running import Running, configuration, running
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

MODEL = "gemini-2.5-flash"
ALL = (*OPERATIONS, PLAIN_TEXT, BYTES_THROUGH, THREE_CALLS, FORMS, REMEMBERS, TELLING, CUT)
QUOTA = error_answer(429, "Resource has been exhausted (e.g. check quota).")
MORE = """
[server]
max_body = 100_000
expose_routing = true
[images]
allow_hosts = ["127.0.0.1"]
"""


@pytest.fixture
async def server(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(simulator, configuration(simulator, tmp_path, MORE, keys=3), ALL) as started:
        yield started


async def ask(server: Running, path: str, data: Any = b"Hello", headers: Any = AUTH) -> tuple[int, str, Any]:
    """Return status, body and headers."""
    async with server.session.post(server.url + path, data=data, headers=headers) as response:
        return response.status, (await response.read()).decode(), response.headers


def asked(simulator: Simulator) -> list[str]:
    """Return what the model was told, request by request."""
    bodies = [msgspec.json.decode(request.body) for request in simulator.generations]
    return [body["contents"][0]["parts"][0]["text"] for body in bodies]


def said(text: str) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP"}]}


# -------------------------------------------------------------------------------------------------- kinds of answers


@pytest.mark.parametrize("query", ["", "?stream"])
async def test_events_become_whatever_an_api_writes(server: Running, simulator: Simulator, query: str) -> None:
    simulator.script(text_answer("Good day"))
    status, body, headers = await ask(server, f"/plain/{MODEL}{query}")
    assert (status, body, headers["Content-Type"].partition(";")[0]) == (200, "Good day", "text/plain")
    assert headers["x-request-id"]
    assert asked(simulator) == ["Hello"]


async def test_an_answer_may_pass_as_it_came(server: Running, simulator: Simulator) -> None:
    frames = [{"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "unknown": [1]}]}, said("!")]
    simulator.script(frames_answer(frames))
    _, body, headers = await ask(server, f"/through/{MODEL}?stream")
    assert headers["Content-Type"] == "text/event-stream"
    assert [msgspec.json.decode(line[6:]) for line in body.split("\n\n") if line] == frames
    simulator.script(unary_answer(frames[1]))
    _, body, headers = await ask(server, f"/through/{MODEL}")
    assert headers["Content-Type"].startswith("application/json")
    assert msgspec.json.decode(body) == frames[1]


async def test_each_of_several_calls_fails_over_by_itself_and_their_order_stays(
    server: Running, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.access")
    simulator.script(unary_answer(said("first")).after(Pause(0.3)), credential="test-key-1")
    simulator.script(QUOTA, credential="test-key-2")
    simulator.script(unary_answer(said("third")), credential="test-key-3")
    simulator.script(unary_answer(said("second")))
    status, body, headers = await ask(server, f"/thrice/{MODEL}")
    assert (status, body) == (200, "first | second | third")
    assert headers["x-gemproxy-attempts"] == "4"
    assert asked(simulator) == ["Hello 0", "Hello 1", "Hello 2", "Hello 1"]
    await soon(lambda: "credential=studio-1,studio-3 attempts=4" in caplog.text)
    assert all(row.in_flight == 0 for row in server.app[SERVICE].pool.rotator.snapshot())


async def test_usage_of_several_calls_is_their_sum(
    server: Running, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gemproxy.access")
    counts = {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}
    simulator.script(unary_answer(said("x") | counts), times=3)
    await ask(server, f"/thrice/{MODEL}")
    await soon(lambda: "tokens_in=9 tokens_out=6 finish=stop,stop,stop" in caplog.text)


async def test_the_first_call_that_fails_for_good_ends_the_others(server: Running, simulator: Simulator) -> None:
    simulator.script(Answer((Hang(),)), credential="test-key-1")
    simulator.script(error_answer(400, "Please use fewer words."), credential="test-key-2")
    simulator.script(Answer((Hang(),)), credential="test-key-3")
    status, body, _ = await ask(server, f"/thrice/{MODEL}")
    assert (status, "fewer words" in body) == (400, True)
    await soon(lambda: all(row.in_flight == 0 for row in server.app[SERVICE].pool.rotator.snapshot()))


async def test_a_client_that_leaves_ends_all_of_its_calls(server: Running, simulator: Simulator) -> None:
    simulator.script(Answer((Hang(),)), times=3)
    leaving = asyncio.get_running_loop().create_task(ask(server, f"/thrice/{MODEL}"))
    await soon(lambda: len(simulator.generations) == 3)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await soon(lambda: all(row.in_flight == 0 for row in server.app[SERVICE].pool.rotator.snapshot()))
    await soon(lambda: server.app[SERVICE].load.budget.held == 0)


# ----------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (f"/plain/{MODEL}", {}, 401, "invalid_api_key"),
        ("/plain/gpt-4", AUTH, 404, "model_not_found"),
        (f"/plain/{MODEL}", AUTH | {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
)
async def test_a_failure_is_told_in_the_words_of_its_api(
    server: Running, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    found, body, _ = await ask(server, path, headers=headers)
    assert (found, body.startswith(f"\nfailed: {code}: ")) == (status, True)
    # what was asked of none of them is told in the words of the first
    async with server.session.post(server.url + "/nowhere", headers=AUTH) as response:
        assert msgspec.json.decode(await response.read())["error"]["code"] == "not_found"


async def test_a_failure_within_a_stream_is_its_end(server: Running, simulator: Simulator) -> None:
    begun = {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]}
    simulator.script(frames_answer([begun]).then(Pause(0.2)).then(Reset()))
    status, body, _ = await ask(server, f"/plain/{MODEL}?stream")
    assert status == 200
    assert body.startswith("Hel\nfailed: upstream_error: ")


BEGUN = {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]}
KEY = {"x-key": "sk-test"}


async def test_how_a_stream_ends_may_depend_on_what_it_has_told(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([BEGUN, BEGUN]).then(Pause(0.2)).then(Reset()))
    assert (await ask(server, f"/telling/{MODEL}?stream", headers=KEY))[1] == "1:Hel\n2:Hel\n3!upstream_error"


async def test_a_stream_that_has_told_nothing_ends_as_its_format_says(simulator: Simulator, tmp_path: Path) -> None:
    more = "[timeouts]\nhold = 0\n[server]\nping_interval = 0.1\n"
    async with running(simulator, configuration(simulator, tmp_path, more), ALL) as server:
        simulator.script(error_answer(400, "no").after(Pause(0.35)))
        status, body, _ = await ask(server, f"/telling/{MODEL}?stream", headers=KEY)
    assert (status, body.replace("ping\n", ""), body.count("ping\n") > 1) == (200, "0!None", True)


async def test_a_stream_whose_format_has_no_word_for_it_is_cut(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([BEGUN]).then(Pause(0.2)).then(Reset()))
    with pytest.raises(aiohttp.ClientError):
        await ask(server, f"/cut/{MODEL}?stream")
    assert all(row.in_flight == 0 for row in server.app[SERVICE].pool.rotator.snapshot())


@pytest.mark.parametrize(
    ("query", "headers", "status"), [("", KEY, 200), ("?key=sk-test", {}, 200), ("", AUTH, 401), ("?key=", {}, 401)]
)
async def test_a_key_stands_where_its_api_says(
    server: Running, caplog: pytest.LogCaptureFixture, query: str, headers: dict[str, str], status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    assert (await ask(server, f"/telling/{MODEL}{query}", headers=headers))[0] == status
    assert "sk-test" not in caplog.text


async def test_a_refused_field_is_named_in_the_words_of_the_api(simulator: Simulator, tmp_path: Path) -> None:
    told: list[str | None] = []
    renamed = replace(TELLING, api=replace(TELLING.api, failure=lambda fault, _: _named(fault, told)))
    refused = "Invalid JSON payload received. Unknown name \"seed\" at 'generation_config': Cannot find field."
    async with running(simulator, configuration(simulator, tmp_path), (renamed,)) as server:
        simulator.script(error_answer(400, refused))
        assert (await ask(server, f"/telling/{MODEL}", headers=KEY))[0] == 400
    assert told[-1] is not None
    assert told[-1].startswith("our ")


def _named(fault: Failure, told: list[str | None]) -> Reply:
    told.append(fault.param)
    return Reply(fault.status, {}, b"")


async def test_what_an_api_wants_kept_is_kept_for_that_client_after_a_good_end(
    server: Running, simulator: Simulator
) -> None:
    state = server.app[SERVICE].kept
    simulator.script(error_answer(400, "no"))
    await ask(server, f"/telling/{MODEL}", b"first", headers=KEY)
    assert await state.get(TOLD, "anyone\0last") is None
    for query, word in (("", b"second"), ("?stream", b"third")):
        await ask(server, f"/telling/{MODEL}{query}", word, headers=KEY)
        assert await state.get(TOLD, "anyone\0last") == word


async def test_what_is_left_out_of_a_request_is_a_detail_of_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gemproxy")
    await ask(server, f"/telling/{MODEL}", headers=KEY)
    assert "ignored nothing" in caplog.text


async def test_a_preflight_knows_every_operation(simulator: Simulator, tmp_path: Path) -> None:
    more = '[server]\ncors_origins = ["https://pages.test"]\n'
    asks = {"Origin": "https://pages.test", "Access-Control-Request-Method": "POST"}
    async with running(simulator, configuration(simulator, tmp_path, more), ALL) as server:
        async with server.session.options(server.url + f"/plain/{MODEL}", headers=asks) as response:
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, asks["Origin"])
        async with server.session.options(server.url + f"/plain/{MODEL}") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_other_methods_of_an_operation_are_refused(server: Running) -> None:
    async with server.session.get(server.url + f"/plain/{MODEL}", headers=AUTH) as response:
        assert response.status == 405


# ------------------------------------------------------------------------------------------------------ forms


def form(*more: tuple[str, str]) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("model", MODEL)
    data.add_field("file", b"\x00\xff", filename="talk.webm", content_type="audio/webm")
    for name, value in more:
        data.add_field(name, value)
    return data


FORM_AUTH = {"Authorization": AUTH["Authorization"]}


async def test_a_form_comes_in_fields_and_files(server: Running, simulator: Simulator) -> None:
    status, _, _ = await ask(server, "/forms", form(("n", "1"), ("n", "2")), FORM_AUTH)
    assert status == 200
    assert asked(simulator) == [
        f"[('model', '{MODEL}'), ('n', '1'), ('n', '2')] file=talk.webm:audio/webm:00ff",
    ]
    await ask(server, "/forms", b"{}")
    assert asked(simulator)[1:] == ["no form: {}"]


async def test_a_form_that_came_piece_by_piece_is_the_same(server: Running, simulator: Simulator) -> None:
    writer = form()()
    assert isinstance(writer, aiohttp.MultipartWriter)
    body = bytearray()

    class Sink:
        async def write(self, data: bytes) -> None:
            body.extend(data)

    await writer.write(Sink())  # type: ignore[arg-type]

    async def slowly() -> AsyncIterator[bytes]:
        for place in range(len(body)):
            yield bytes(body[place : place + 1])

    status, _, _ = await ask(server, "/forms", slowly(), FORM_AUTH | {"Content-Type": writer.content_type})
    assert status == 200
    assert asked(simulator) == [f"[('model', '{MODEL}')] file=talk.webm:audio/webm:00ff"]


BOUNDARY = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        pytest.param("multipart/form-data", b"--b\r\n", 400, "cannot be read", id="no boundary"),
        pytest.param(BOUNDARY, b"", 400, "cannot be read", id="empty"),
        pytest.param(BOUNDARY, b"nothing of the kind", 400, "cannot be read", id="no part"),
        pytest.param(
            BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut', 400, "cannot be read", id="cut"
        ),
        pytest.param(BOUNDARY, b"--b\r\n\r\nx\r\n--b--\r\n", 400, "no name", id="a part without a name"),
        pytest.param(
            BOUNDARY,
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--b--\r\n',
            400,
            "cannot be read",
            id="a field that is no text",
        ),
        pytest.param(
            BOUNDARY,
            b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n",
            400,
            "parts of its own",
            id="nested",
        ),
        pytest.param(
            BOUNDARY,
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 200 + b"--b--\r\n",
            400,
            "more than 128 parts",
            id="many parts",
        ),
        pytest.param(
            BOUNDARY,
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 100_001 + b"\r\n--b--\r\n",
            413,
            "server.max_body",
            id="large",
        ),
        pytest.param("multipart/mixed; boundary=b", b"", 415, "JSON or multipart/form-data", id="another kind"),
    ],
)
async def test_a_form_that_cannot_be_taken_is_refused_in_words(
    server: Running, kind: str, body: bytes, status: int, words: str
) -> None:
    found, told, _ = await ask(server, "/forms", body, FORM_AUTH | {"Content-Type": kind})
    assert (found, words in told) == (status, True), told
    await soon(lambda: server.app[SERVICE].load.budget.held == 0)


async def test_a_long_form_is_read_beside_the_loop(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    names = noted_work(monkeypatch)
    await ask(server, "/forms", form(("a", "x" * 80_000)), FORM_AUTH)
    assert names[0] == "read"


async def test_a_form_whose_length_is_not_known_is_bounded_as_it_comes(server: Running) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
        for _ in range(100):
            yield b"x" * 10_000

    found, _, _ = await ask(server, "/forms", endless(), FORM_AUTH | {"Content-Type": BOUNDARY})
    assert found == 413


async def test_other_operations_take_no_form(server: Running) -> None:
    status, _, _ = await ask(server, f"/plain/{MODEL}", form(), FORM_AUTH)
    assert status == 415


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        ("/v1/responses", {"input": "Hello"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}),
    ],
)
async def test_an_answer_that_names_its_model_and_says_nothing_is_asked_for_again(
    server: Running, simulator: Simulator, path: str, said: dict[str, Any], stream: bool
) -> None:
    nothing = {
        "candidates": [{"finishReason": "STOP"}],
        "modelVersion": MODEL,
        "usageMetadata": {"promptTokenCount": 3},
    }
    simulator.script(frames_answer([nothing]) if stream else unary_answer(nothing))
    status, body = await server.post(path, {"model": MODEL, "stream": stream, **said})
    assert status == 200
    assert "You said: Hello" in body.decode()
    assert len(simulator.generations) == 2


# ------------------------------------------------------------------------------ what is known before the conversion


async def test_what_the_state_keeps_is_there_before_the_conversion(server: Running, simulator: Simulator) -> None:
    state = server.app[SERVICE].kept
    for link, after in ((b"Hello", b"a"), (b"a", b"b")):
        state.put(KIND, f"anyone\0{link.decode()}", after, 60.0)
    assert (await ask(server, f"/remembers/{MODEL}"))[0] == 200
    assert asked(simulator) == ["Hello -> b []"]


async def test_what_is_found_counts_as_the_requests_and_a_circle_ends(server: Running) -> None:
    budget, state = server.app[SERVICE].load.budget, server.app[SERVICE].kept
    state.put(KIND, "anyone\0Hello", b"x" * 5_000_000, 60.0)
    assert (await ask(server, f"/remembers/{MODEL}"))[0] == 200
    assert budget.peak > 5_000_000
    await soon(lambda: budget.held == 0)
    for number in range(1_100):
        state.put(KIND, f"anyone\0{number}", str(number + 1).encode(), 60.0)
    status, body, _ = await ask(server, f"/remembers/{MODEL}", b"0")
    assert (status, "more than 1000 earlier" in body) == (400, True)


async def test_another_clients_things_are_as_if_they_were_not_there(server: Running, simulator: Simulator) -> None:
    server.app[SERVICE].kept.put(KIND, "other\0Hello", b"secret", 60.0)
    await ask(server, f"/remembers/{MODEL}")
    assert asked(simulator) == ["Hello -> Hello []"]


async def test_what_is_kept_may_name_what_has_to_be_fetched(
    server: Running, simulator: Simulator, aiohttp_server: Any
) -> None:
    async def picture(request: web.Request) -> web.Response:
        return web.Response(body=b"\x89PNG\r\n\x1a\n" + bytes(20), content_type="image/png")

    app = web.Application()
    app.router.add_get("/a.png", picture)
    url = str((await aiohttp_server(app)).make_url("/a.png"))
    server.app[SERVICE].kept.put(KIND, "anyone\0Hello", url.encode(), 60.0)
    status, body, _ = await ask(server, f"/remembers/{MODEL}")
    assert (status, asked(simulator)) == (200, [f"Hello -> {url} ['image/png']"]), body
    await soon(lambda: server.app[SERVICE].load.budget.held == 0)
