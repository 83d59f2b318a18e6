"""The neighbours' table: rows do what they say, those who watch see what is there, and bounds are judged."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest

from bench import heavy, hostile, house, neighbours
from bench.house import Found
from bench.memory import MemoryWatch, family
from bench.neighbours import MIB, QUICK, TWENTY, Bounds, worst
from bench.pouring import SLICE, slices
from bench.prober import HEALTH, Prober, Seen, chat
from bench.rows import Row, rows
from bench.sender import MAX_BODY, SHORT, act, outcome, sent
from gemproxy.converter.chat.reading import decode
from gemproxy.wire.gemini import GenerateResponse
from tests.test_bench import ROOT, served

# ------------------------------------------------------------------------------------------------- heavy bodies


def content(body: bytes) -> Any:
    return msgspec.json.decode(body)["messages"][-1]["content"]


def asked(body: bytes) -> list[Any]:
    return msgspec.json.decode(body)["messages"][0]["tool_calls"]


def schema(body: bytes, number: int) -> Any:
    return msgspec.json.decode(body)["tools"][number]["function"]["parameters"]


@pytest.mark.parametrize(
    ("body", "look", "found"),
    [
        pytest.param(
            heavy.results_of_one_id(3), lambda body: {one["id"] for one in asked(body)}, {"one"}, id="calls of one id"
        ),
        pytest.param(
            heavy.results_of_one_id(3),
            lambda body: len({each["content"] for each in msgspec.json.decode(body)["messages"][1:]}),
            6,
            id="twice as many results, no two alike",
        ),
        pytest.param(
            heavy.media_in_a_result(20),
            lambda body: len({part["image_url"] for part in content(body)}),
            20,
            id="images in a result, no two alike",
        ),
        pytest.param(heavy.calls(7), lambda body: len(asked(body)), 7, id="calls"),
        pytest.param(
            heavy.long_name(50), lambda body: asked(body)[0]["function"]["name"], " " * 50, id="a name that never fits"
        ),
        pytest.param(
            heavy.arguments(heavy.objects(30)),
            lambda body: asked(body)[0]["function"]["arguments"],
            {"held": [{}] * 11},
            id="objects in arguments",
        ),
        pytest.param(heavy.text(10, b"\\n"), content, "\n" * 5, id="a text of escapes"),
        pytest.param(heavy.text(10, "ä".encode()), content, "ä" * 5, id="a text of two-byte characters"),
        pytest.param(heavy.tiny_parts(32), content, [{"type": "text"}] * 3, id="tiny parts"),
        pytest.param(heavy.tiny_images(4), lambda body: len(content(body)), 4, id="tiny images"),
        pytest.param(
            heavy.picture(80), lambda body: len(content(body)[0]["image_url"]) % 4, 2, id="base64 of whole fours"
        ),
        pytest.param(
            heavy.options(8),
            lambda body: content(body)[0]["image_url"],
            "data:image/png;a;a;a;a;base64,AAAA",
            id="options",
        ),
        pytest.param(
            heavy.percent(6),
            lambda body: content(body)[0]["image_url"],
            "data:text/plain,%41%41",
            id="percent-encoded bytes",
        ),
        pytest.param(
            heavy.pictures("http://127.0.0.1:1", 2),
            lambda body: [part["image_url"] for part in content(body)],
            ["http://127.0.0.1:1/0", "http://127.0.0.1:1/1"],
            id="pictures by address",
        ),
        pytest.param(
            heavy.metadata(heavy.deep(3)),
            lambda body: msgspec.json.decode(body)["metadata"],
            {"held": [[[]]]},
            id="lists in lists",
        ),
        pytest.param(heavy.biases(3), lambda body: len(msgspec.json.decode(body)["logit_bias"]), 3, id="biases"),
        pytest.param(
            heavy.tools(2, 500), lambda body: len(schema(body, 1)["properties"]), 16, id="parameters of tools"
        ),
        pytest.param(
            heavy.web_of_refs(2, 3),
            lambda body: [len(held["properties"]) for held in schema(body, 1)["$defs"].values()],
            [3, 3, 3],
            id="each definition leads to all",
        ),
        pytest.param(
            heavy.objects_as_parameters(30), lambda body: schema(body, 0)["enum"], [{}] * 11, id="objects in a schema"
        ),
    ],
)
def test_a_heavy_body_holds_what_it_says(body: bytes, look: Callable[[bytes], Any], found: Any) -> None:
    decode(body)  # of the types that the server takes
    assert look(body) == found


@pytest.mark.parametrize("name", ["tiny-images", "picture", "uploads"])
def test_the_largest_rows_are_let_in(name: str) -> None:
    assert 30_000_000 < len(sent(rows()[name])) < MAX_BODY


def test_a_row_that_is_not_let_in_is_no_row() -> None:
    with pytest.raises(ValueError, match="larger than"):
        sent(Row("", lambda: bytes(MAX_BODY + 1)))


def test_every_answer_is_a_row_and_is_asked_for_by_its_name() -> None:
    known = rows()
    assert set(hostile.ANSWERS) - {heavy.PLAIN} <= set(known)
    for name in hostile.ANSWERS:
        model = msgspec.json.decode(heavy.question(answer=name))["model"]
        for verb in ("generateContent", "streamGenerateContent?alt=sse"):
            assert hostile.chosen(f"POST /v1beta/models/{model}:{verb} HTTP/1.1".encode()) == name
    assert hostile.chosen(b"GET /1 HTTP/1.1") == ""


def test_the_chosen_rows_are_rows() -> None:
    assert set(QUICK) | set(TWENTY) <= set(rows())
    assert len(set(TWENTY)) == 20
    assert all(rows()[name].clients == 1 for name in TWENTY)


def test_help_names_every_row() -> None:
    command = [sys.executable, "bench/neighbours.py", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"{name} " in said for name in rows())


# ------------------------------------------------------------------------------------------------- hostile answers


def events(pieces: Iterator[bytes]) -> list[GenerateResponse]:
    return [msgspec.json.decode(event[6:], type=GenerateResponse) for event in pieces]


def grounding(frame: bytes) -> Any:
    [candidate] = msgspec.json.decode(frame)["candidates"]
    return candidate["content"]["parts"][0]["text"].encode(), candidate["groundingMetadata"]


def test_places_lie_in_the_text() -> None:
    text, found = grounding(hostile._places_in_text(100, 10))
    stretches = [support["segment"] for support in found["groundingSupports"]]
    assert len(stretches) == 10
    assert all(text[at["startIndex"] : at["endIndex"]].decode() == "ää" for at in stretches)


def test_one_source_has_many_places() -> None:
    _, found = grounding(hostile._places_of_one_source(1000, 10))
    assert len(found["groundingChunks"][0]["web"]["uri"]) > 1000
    assert [support["groundingChunkIndices"] for support in found["groundingSupports"]] == [[0]] * 10


def test_a_streamed_argument_has_its_size() -> None:
    calls = [event.candidates[0].content.parts[0].function_call for event in events(hostile._streamed_argument(32_000))]  # type: ignore[index,union-attr]
    pieces = [piece.string_value for call in calls for piece in call.partial_args or ()]  # type: ignore[union-attr]
    assert len("".join(pieces)) == pytest.approx(32_000, rel=0.01)  # type: ignore[arg-type]
    assert [call.will_continue for call in calls] == [True, True, True, None]  # type: ignore[union-attr]


def test_what_is_packed_can_be_unpacked() -> None:
    assert zlib.decompress(hostile.packed(3), 31) == b":\n" * (3 * MIB // 2)
    assert len(hostile.packed(3)) < 10_000


def test_single_bytes_are_chunks() -> None:
    assert b"".join(hostile._one_by_one(b"ab")).endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


async def test_the_upstream_plays_what_is_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(hostile, "PICTURE", 3 * SLICE)
    monkeypatch.setattr(
        hostile, "ANSWERS", hostile.ANSWERS | {"test": hostile.Answer("", lambda: hostile._stream([b"one", b"two"]))}
    )
    hostile.made.cache_clear()
    async with served(hostile.Hostile) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        plain = f"/v1beta/models/{heavy.FAMILY}-{heavy.PLAIN}:generateContent"
        for _ in range(2):  # on one connection
            async with session.post(plain, data=b"x" * MIB) as answer:
                assert msgspec.json.decode(await answer.read())["candidates"]
        async with session.post(f"/v1beta/models/{heavy.FAMILY}-test:streamGenerateContent") as answer:
            assert await answer.read() == b"onetwo"
        async with session.get("/7") as answer:
            assert len(await answer.read()) == 3 * SLICE
    hostile.made.cache_clear()


# ------------------------------------------------------------------------------------------------- the clients of a row


class Server(asyncio.Protocol):
    """Keeps what it gets, and answers when it has seen so many bytes."""

    def __init__(self, got: list[Server], after: int, answer: bytes) -> None:
        self.data = b""
        self._after, self._answer = after, answer
        got.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self._after:
            self._transport.write(self._answer)
            self._transport.close()


REFUSED = b'HTTP/1.1 503 Busy\r\n\r\n{"error":{"message":"Too much.","type":"x","code":"overloaded"}}'


async def sent_to(row: Row, after: int, answer: bytes = b"") -> tuple[list[Server], Counter[str]]:
    got: list[Server] = []
    async with served(partial(Server, got, after, answer)) as port:
        return got, await act(row, sent(row), port, "sk-test")


async def test_a_row_asks_with_all_its_clients() -> None:
    row = Row("", lambda: b"x" * 1_000_000, clients=3)
    got, ends = await sent_to(row, 1_000_000, REFUSED)
    assert ends == {"503 overloaded: Too much.": 3}
    head, _, body = got[0].data.partition(b"\r\n\r\n")
    assert b"Bearer sk-test" in head
    assert len(body) == 1_000_000
    assert len(got) == 3


async def test_a_body_may_come_in_tiny_chunks() -> None:
    [server], _ = await sent_to(Row("", lambda: b"ab", manner="in tiny chunks"), 20, REFUSED)
    assert server.data.endswith(b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


async def test_an_upload_stops_short_and_its_client_leaves() -> None:
    row = Row("", lambda: b"x" * (SHORT + 10), manner="stops short", hold=0.01)
    [server], ends = await sent_to(row, MIB)
    assert ends == {"no answer (then left)": 1}
    assert f"Content-Length: {SHORT + 10}".encode() in server.data
    assert server.data.endswith(b"\r\n\r\n" + b"x" * 10)


async def test_a_head_never_ends() -> None:
    [server], ends = await sent_to(Row("", lambda: b"", manner="never ends its head", hold=0.05), 1 << 30)
    assert ends == {"no answer (then left)": 1}
    assert len(server.data) > MIB
    assert b"\r\n\r\n" not in server.data


async def test_a_stalled_reader_takes_only_the_beginning() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 8 * MIB
    _, ends = await sent_to(Row("", lambda: b"x", manner="never reads", hold=0.05), 1, answer)
    assert ends == {"200 (then left)": 1}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(b"", "no answer", id="nothing"),
        pytest.param(REFUSED, "503 overloaded: Too much.", id="an error with its code"),
        pytest.param(b"HTTP/1.1 400 Bad\r\n\r\nno JSON", "400", id="an error of another form"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "200, 0.0 MB", id="a whole answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "200, then cut", id="a cut answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\ndata: [DONE]\n\n", "200, 0.0 MB, [DONE]", id="a whole stream"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\ndata: {}\n\n", "200, then cut", id="a cut stream"),
        pytest.param(
            b'HTTP/1.1 200 OK\r\n\r\ndata: {}\n\ndata: {"error":{"message":"No.","code":"bad"}}\n\n',
            "200, then bad: No.",
            id="an error in the stream",
        ),
    ],
)
def test_an_outcome_is_told(answer: bytes, told: str) -> None:
    assert outcome(answer, answer, len(answer)) == told


def test_slices_are_the_whole() -> None:
    data = os.urandom(2 * SLICE + 1)
    assert [len(piece) for piece in slices(data)] == [SLICE, SLICE, 1]
    assert b"".join(slices(data)) == data


# ------------------------------------------------------------------------------------------------- those who watch


class Still(threading.Thread):
    """Serves small answers on one connection; the eleventh only once it is told to ``go``."""

    def __init__(self, status: bytes = b"200 OK") -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._answer = b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status
        self.port = self._listening.getsockname()[1]
        self.still, self.go = threading.Event(), threading.Event()

    def run(self) -> None:
        connection, _ = self._listening.accept()
        with self._listening, connection, suppress(OSError):  # the prober may leave at any time
            for number in range(1_000_000):
                if not connection.recv(1 << 16):
                    return
                if number == 10:
                    self.still.set()
                    self.go.wait(10)
                connection.sendall(self._answer[:20])
                connection.sendall(self._answer[20:])


@contextmanager
def standing(status: bytes = b"200 OK") -> Iterator[Still]:
    server = Still(status)
    server.start()
    yield server
    server.go.set()
    server.join(5)


@contextmanager
def probing(port: int, question: bytes = HEALTH) -> Iterator[Callable[[], Seen]]:
    """Give what asks the prober what it has seen."""
    prober, told = Prober(port, question, 0.001), threading.Semaphore(0)
    orders, giving = os.pipe()
    found: list[Seen] = []

    def obey() -> bool:
        order = os.read(orders, 1)
        found.append(prober.seen())
        told.release()
        return bool(order)

    def look() -> Seen:
        os.write(giving, b"\n")
        assert told.acquire(timeout=5)
        return found[-1]

    thread = threading.Thread(target=prober.run, args=(orders, obey), daemon=True)
    thread.start()
    try:
        yield look
    finally:
        os.close(giving)
        thread.join(5)
        os.close(orders)
        prober.close()


def test_a_stall_is_seen_while_it_lasts_and_when_it_is_over() -> None:
    with standing() as server, probing(server.port) as look:
        assert server.still.wait(5)
        time.sleep(0.2)
        during = look()
        server.go.set()
        while not (after := look()).asked:
            time.sleep(0.01)
    assert during.asked == 10
    assert during.worst >= 0.2, "its age so far"
    assert after.worst >= during.worst
    assert (after.wrong, after.lost) == (0, 0)


def test_what_was_seen_is_told_once() -> None:
    prober = Prober(1, HEALTH, 1.0)
    prober._took = [0.2, 0.3, 0.1]
    assert prober.seen() == Seen(3, 0, 0, 0.3, 0.2, 0.3)
    assert prober.seen() == Seen()


def test_other_statuses_and_lost_connections_are_counted() -> None:
    with standing(b"503 Busy") as server, probing(server.port, chat()) as look:
        assert server.still.wait(5)
        seen = look()
    assert seen.asked == seen.wrong == 10
    with socket.create_server(("127.0.0.1", 0)) as listening, probing(listening.getsockname()[1]) as look:
        for _ in range(2):  # it comes again
            listening.accept()[0].close()
        assert look().lost >= 1


def test_what_is_seen_adds_up() -> None:
    both = Seen(2, 0, 0, 0.3, 0.1, 0.2).and_then(Seen(9, 1, 1, 0.2, 0.11, 0.19))
    assert both == Seen(11, 1, 1, 0.3, 0.11, 0.19)


def test_the_memory_of_a_child_counts_at_its_peak() -> None:
    holds = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; held = bytes(200 << 20)[:] + "
    holds += 'b"x"; del held; print(1, flush=True); time.sleep(60)\'])'
    with (
        subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE) as parent,
        MemoryWatch(parent.pid) as watch,
    ):
        before = watch.start()
        assert parent.stdout is not None
        parent.stdout.readline()
        pids = family(parent.pid)
        peak, now = watch.peak, watch.now()
        for pid in pids:
            os.kill(pid, 9)
    assert len(pids) == 2
    assert peak - before > 190 * MIB
    assert now - before < 100 * MIB


# ------------------------------------------------------------------------------------------------- the verdict


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        pytest.param(Found(stall=0.05, peak=384 * MIB), [], id="bounds that are just kept"),
        pytest.param(Found(stall=0.051), ["stall"], id="a long stall"),
        pytest.param(Found(peak=385 * MIB), ["memory"], id="too much memory"),
        pytest.param(Found(late=20.0), ["time"], id="no end in time"),
        pytest.param(Found(others=Seen(9, 1)), ["others"], id="a small request of another client that was not served"),
        pytest.param(Found(tracebacks=1), ["traceback"], id="a traceback in the log"),
    ],
)
def test_bounds_are_judged(found: Found, missed: list[str]) -> None:
    assert Bounds(50, 384).missed(found, large=False) == missed
    assert Bounds(50, 384).missed(Found(stall=0.1), large=True) == []
    assert Bounds(50, 384).missed(Found(stall=0.101), large=True) == ["stall"]
    assert Bounds(50, 384).missed(Found(others=Seen(9, 1)), large=False, many=True) == []


def test_the_worst_of_all_runs_is_told() -> None:
    runs = [
        Found(0.001, 0.02, 5 * MIB, MIB, Seen(10), Counter({"200": 1})),
        Found(0.003, 0.01, 9 * MIB, 0, Seen(10, 1), Counter({"503": 2}), 20.0, 3),
    ]
    found = worst(runs)
    assert (found.idle, found.stall, found.peak, found.left, found.late) == (0.003, 0.02, 9 * MIB, MIB, 20.0)
    told = neighbours.line("calls", found, ["time"])
    assert all(word in told for word in ("19/20", "MISS", "> 20 s", "503 (x 2)", "200", "3 tracebacks"))


@pytest.mark.parametrize(
    ("beside", "missed"),
    [
        pytest.param(Seen(100, rank99=0.059), [], id="as fast as alone, or nearly"),
        pytest.param(Seen(100, rank99=0.061), ["beside 20 heavy ones"], id="too late"),
        pytest.param(Seen(100, wrong=1, rank99=0.01), ["beside 20 heavy ones"], id="not served"),
    ],
)
def test_small_requests_beside_heavy_ones_are_judged(beside: Seen, missed: list[str], capsys) -> None:
    assert neighbours._told(Seen(100, rank99=0.01), beside, 50.0) == missed
    assert "beside 20 heavy ones" in capsys.readouterr().out


@pytest.mark.slow
def test_a_row_is_measured_and_small_requests_beside_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(house, "REST", 0.2)
    monkeypatch.setattr(neighbours, "TWENTY", ["deep"])
    with house.House(tmp_path) as processes:
        found = neighbours._run(processes, ["deep"], 30)
        alone, beside = neighbours.beside(processes, 0.3, 30)
    assert [end[:3] for end in found.ends] == ["400"]
    assert (found.late, found.tracebacks) == (0, 0)
    assert found.stall > 0 < found.idle
    assert found.peak > 0
    assert found.others.asked > 0
    assert [seen.wrong for seen in (found.others, alone, beside)] == [0, 0, 0]
    assert alone.asked > 1 < beside.asked
