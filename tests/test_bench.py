"""The benchmark itself: it sees wrong answers, reckons right, and its guard fails on a regression."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from bench import core, forwarder, guard, outages, question, report, script, typed
from bench.check import Wrong, forwarded, responded, told, translated
from bench.connection import BrokenReply, unchunked
from bench.jobs import Closed, Held, Load, Paced, Target
from bench.load import run
from bench.processes import MOMENT, Wakefulness
from bench.report import Limit, Row
from bench.scenarios import SCENARIOS, at_pace
from bench.script import SCRIPTS
from bench.upstream import Upstream, named
from gemproxy.aiohttp_parts import PLAIN
from gemproxy.config import load as read_config
from gemproxy.converter.responses.output import Output
from tests.running import running

ROOT = Path(__file__).parents[1]
SMALL, BURST, BRIEF = SCRIPTS["small"], SCRIPTS["burst"], SCRIPTS["brief"]


# ------------------------------------------------------------------------------------------- what must come out


@pytest.fixture(scope="module")
def completion() -> bytes:
    """A right unary answer, made by the core."""
    return core.fold(script.body(SMALL))


@pytest.fixture(scope="module")
def stream() -> bytes:
    """A right stream, made by the core."""
    return core.transcode(script.frames(BURST))


def events() -> bytes:
    """A right stream of Responses, made by the core."""
    return core.transcode(script.frames(BURST), core._stream(BURST))


def test_the_right_answers_of_responses_pass() -> None:
    responded(BURST, 200, events())
    responded(BURST, 200, b": ping\n\n" + events())
    responded(SMALL, 200, core.fold(script.body(SMALL), Output(core._heading(SMALL))))


def _other_end(right: bytes) -> bytes:
    before, done, after = right.partition(b"event: response.output_text.done")
    return before + done + after.replace(b"0007 ", b"0006 ", 1)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda right: right.replace(b"0007 ", b"0008 ", 1), "text", id="another delta"),
        pytest.param(
            lambda right: right.replace(b'"sequence_number":9}', b'"sequence_number":8}'), "numbers", id="gap"
        ),
        pytest.param(lambda right: right[: right.rindex(b"event: ")], "kinds", id="no end"),
        pytest.param(lambda right: right.replace(b"event: response.created", b"event: created"), "name", id="no name"),
        pytest.param(lambda right: right.replace(b'"id":"resp_', b'"id":"resp_1', 1), "ids", id="two ids"),
        pytest.param(lambda right: b"0007 ".join(right.rsplit(b"0007 ", 1)[:1]), "not OpenAI's form", id="cut"),
        pytest.param(
            lambda right: b"0006 ".join(right.rsplit(b"0007 ", 1)), "text", id="the whole says something else"
        ),
        pytest.param(_other_end, "text at its end", id="its end says something else"),
    ],
)
def test_a_wrong_stream_of_responses_is_told(spoil, sentence) -> None:
    with pytest.raises(Wrong, match=sentence):
        responded(BURST, 200, spoil(events()))


def steps() -> bytes:
    """A right stream of Messages, made by the core."""
    return core.transcode(script.frames(BURST), core.message_stream(BURST))


def test_the_right_answers_of_messages_pass() -> None:
    told(BURST, 200, steps())
    end = b"event: content_block_stop"
    told(BURST, 200, steps().replace(end, b'event: ping\ndata: {"type": "ping"}\n\n' + end))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda right: right.replace(b"0007 ", b"0008 ", 1), "text", id="another delta"),
        pytest.param(lambda right: right.replace(b'"index":0', b'"index":1', 1), "indices", id="another block"),
        pytest.param(lambda right: right[: right.rindex(b"event: ")], "kinds", id="no end"),
        pytest.param(lambda right: right.replace(b"event: message_start", b"event: start"), "name", id="no name"),
        pytest.param(lambda right: right.replace(b"end_turn", b"max_tokens"), "stop reason", id="another end"),
    ],
)
def test_a_wrong_stream_of_messages_is_told(spoil, sentence) -> None:
    with pytest.raises(Wrong, match=sentence):
        told(BURST, 200, spoil(steps()))


def test_the_right_answers_pass(completion, stream) -> None:
    translated(SMALL, 200, completion)
    translated(BURST, 200, stream)
    translated(BURST, 200, b": ping\n\n" + stream)
    for played in SCRIPTS.values():
        forwarded(played, 200, script.body(played))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda right: right.replace(b"0000 ", b"0001 "), "text", id="other text"),
        pytest.param(lambda right: right.replace(b'"stop"', b'"length"'), "finish", id="another finish"),
        pytest.param(lambda right: right.replace(b"-small", b"-large"), "model", id="another model"),
        pytest.param(lambda right: right.replace(b'"prompt_tokens":21', b'"prompt_tokens":0'), "tokens", id="no usage"),
        pytest.param(lambda right: right[:-1], "not OpenAI's form", id="cut off"),
    ],
)
def test_a_wrong_unary_answer_is_seen(spoil, sentence, completion) -> None:
    with pytest.raises(Wrong, match=sentence):
        translated(SMALL, 200, spoil(completion))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda events: events[:-1], "does not end in", id="no [DONE]"),
        pytest.param(lambda events: events[:500] + events[501:], "text", id="a lost frame"),
        pytest.param(lambda events: events[:500] + events[499:], "text", id="a doubled frame"),
        pytest.param(lambda events: [events[0], events[2], events[1], *events[3:]], "text", id="two frames swapped"),
        pytest.param(lambda events: events[:-2] + events[-1:], "finishes", id="no finish"),
        pytest.param(lambda events: events[:-1] + events[-2:], "finish", id="two finishes"),
        pytest.param(lambda events: [events[0].replace(b"0123", b"9"), *events[1:]], "differ in id", id="two ids"),
        pytest.param(lambda events: [b"junk", *events], "without data", id="an event without data"),
        pytest.param(lambda events: [b'data: {"error":{}}', *events], "not OpenAI's", id="an error in the stream"),
    ],
)
def test_a_wrong_stream_is_seen(spoil: Callable[[list[bytes]], list[bytes]], sentence, stream) -> None:
    events = stream.split(b"\n\n")[:-1]
    with pytest.raises(Wrong, match=sentence):
        translated(BURST, 200, b"".join(event + b"\n\n" for event in spoil(events)))


def test_text_that_was_joined_into_fewer_chunks_is_seen() -> None:
    one = script.Script("brief", frames=1, size=len(script.said(BRIEF)))
    text = msgspec.json.encode(script.texts(one)[0])
    joined = script.body(one).replace(text, msgspec.json.encode(script.said(BRIEF)))
    answer = core.transcode([joined]).replace(BURST.model.encode(), BRIEF.model.encode())
    with pytest.raises(Wrong, match="chunks with text"):
        translated(BRIEF, 200, answer)


def test_an_error_status_and_other_bytes_are_seen() -> None:
    body = script.body(SMALL)
    for judge in (forwarded, translated):
        with pytest.raises(Wrong, match="status 503"):
            judge(SMALL, 503, body)
    with pytest.raises(Wrong, match="differ from the upstream's"):
        forwarded(SMALL, 200, body[:-1] + b" ")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"5\r\nhello\r\n", id="without the last chunk"),
        pytest.param(b"6\r\nhello\r\n0\r\n\r\n", id="a size that is too large"),
        pytest.param(b"5\r\nhello\r\n0\r\n\r\nmore", id="bytes after the end"),
        pytest.param(b"x\r\nhello\r\n0\r\n\r\n", id="no size"),
    ],
)
def test_broken_chunks_are_refused(raw) -> None:
    assert unchunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n") == b"hello!"
    with pytest.raises(BrokenReply):
        unchunked(raw)


# ----------------------------------------------------------------------------------------------- the load generator


@asynccontextmanager
async def served(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)  # the last connections end


class Liar(asyncio.Protocol):
    """Answers 200 with a body that is not the script's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


class Quitter(Liar):
    """Breaks off within the body."""

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
        self._transport.close()


def answering() -> Upstream:
    return Upstream(Wakefulness())


async def test_the_load_stays_awake_for_a_moment_after_each_answer(monkeypatch) -> None:
    loop, turns = asyncio.get_running_loop(), []
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr(os, "sched_yield", lambda: turns.append(now))

    async def turned() -> int:
        """Let the loop turn five times; return in how many of them it was kept awake."""
        before = len(turns)
        for _ in range(5):
            await asyncio.sleep(0)
        return len(turns) - before

    wakefulness = Wakefulness()
    wakefulness.stir()
    wakefulness.stir()
    assert await turned() == 5, "once in each turn, however many answers came"
    now += 0.9 * MOMENT
    wakefulness.stir()
    assert await turned() == 5
    now += 0.9 * MOMENT
    assert await turned() == 5, "each answer begins the moment anew"
    now += 0.2 * MOMENT
    assert await turned() == 1, "it never falls asleep"
    wakefulness.stir()
    assert await turned() == 5, "it is not woken again"


def target(kind: str, port: int) -> Target:
    return Target(kind, port, (os.getpid(),))


def closed(kind: str, port: int, name: str = "small") -> Closed:
    return Closed(target(kind, port), name, connections=2, seconds=0.1, warm=0.05)


@pytest.mark.parametrize("name", ["small", "large", "burst"])
async def test_right_answers_are_counted(name) -> None:
    async with served(answering) as port:
        load = await run(closed("upstream", port, name))
    assert load.wrong == 0
    assert 0 < load.answers <= load.right
    assert load.events == load.answers * SCRIPTS[name].frames
    assert load.window >= 0.1
    assert 0 < load.cpu[0] <= load.window * 2


@pytest.mark.parametrize(("liar", "sentence"), [(Liar, "2 bytes that differ"), (Quitter, "within an answer")])
async def test_wrong_answers_are_counted_and_told(liar, sentence) -> None:
    async with served(liar) as port:
        load = await run(closed("floor", port))
    assert load.right == 0
    assert load.wrong > 0
    assert sentence in load.why[0]


async def test_questions_by_the_clock_go_to_each_target_in_turn() -> None:
    async with served(answering) as port:
        both = (target("upstream", port), target("floor", port))
        load = await run(Paced(both, "brief", rate=100, count=5, warm=2))
    assert (load.right, load.wrong) == (2 * 7, 0)
    for latencies, firsts in zip(load.latencies, load.firsts, strict=True):
        assert len(latencies) == len(firsts) == 5
        assert all(0 < first <= whole for first, whole in zip(firsts, latencies, strict=True))
        assert max(whole - first for first, whole in zip(firsts, latencies, strict=True)) > BRIEF.seconds / 2


async def test_streams_are_open_all_at_once_and_right_to_the_end() -> None:
    async with served(answering) as port:
        load = await run(Held(target("upstream", port), "paced", streams=5, ramp=0.05))
    assert (load.right, load.wrong) == (5, 0)
    assert load.window > 0
    assert 0 < load.events < 5 * SCRIPTS["paced"].frames
    assert load.resident > 1 << 20


async def test_streams_that_never_were_open_all_at_once_have_no_window() -> None:
    async with served(answering) as port:
        load = await run(Held(target("upstream", port), "brief", streams=2, ramp=0.5))
    assert (load.right, load.window) == (2, 0.0)


async def test_the_floor_gives_the_very_bytes_of_the_upstream() -> None:
    async with served(answering) as upstream:
        runner = await forwarder.start(f"http://127.0.0.1:{upstream}")
        port = runner.addresses[0][1]
        loads = [await run(closed("floor", port, name)) for name in ("small", "burst")]
        loads.append(await run(Held(target("floor", port), "brief", streams=3, ramp=0.01)))
        await runner.cleanup()
    assert [load.wrong for load in loads] == [0, 0, 0]
    assert all(load.right for load in loads)


@pytest.mark.parametrize(("name", "question"), [("small", "plain"), ("large", "plain"), ("small", "long")])
async def test_the_smallest_converter_gives_what_the_check_wants(name, question) -> None:
    async with served(answering) as upstream:
        runner = await forwarder.start(f"http://127.0.0.1:{upstream}", handler=typed.convert)
        load = await run(replace(closed("gemproxy", runner.addresses[0][1], name), question=question))
        await runner.cleanup()
    assert (load.wrong, load.why) == (0, [])
    assert load.right


async def test_gemproxy_gives_what_the_check_wants(tmp_path) -> None:
    async with served(answering) as upstream:
        file = tmp_path / "gemproxy.toml"
        file.write_text(
            f'[auth]\nkeys = ["{question.KEY}"]\n[[credentials]]\nname = "bench"\nkind = "api_key"\nkey = "fake-key"\n'
            f'[upstream]\nai_studio_url = "http://127.0.0.1:{upstream}/v1beta"\n'
        )
        async with running(None, read_config(file, {})) as proxy:
            port = int(proxy.url.rpartition(":")[2])
            loads = [await run(closed("gemproxy", port, name)) for name in ("small", "large", "burst")]
            loads.append(
                await run(Closed(target("gemproxy", port), "small", 1, seconds=0.1, question="tools", warm=0.05))
            )
            loads.append(await run(Held(target("gemproxy", port), "brief", streams=3, ramp=0.01)))
            for name, asked in (("small", "plain"), ("small", "tools"), ("burst", "plain")):
                loads.append(await run(replace(closed("gemproxy", port, name), question=asked, api="responses")))
                loads.append(await run(replace(closed("gemproxy", port, name), question=asked, api="messages")))
            loads.append(await run(Held(target("gemproxy", port), "brief", streams=3, ramp=0.01, api="responses")))
            loads.append(await run(Held(target("gemproxy", port), "brief", streams=3, ramp=0.01, api="messages")))
    assert [load.why for load in loads] == [[]] * 13
    assert all(load.right for load in loads)


async def test_the_upstream_refuses_what_it_has_no_script_for() -> None:
    async with served(answering) as port, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/v1beta/models/"
        async with session.post(f"{url}gemini-2.5-flash-nothing:generateContent", data=b"{}") as answer:
            assert answer.status == 404
        async with session.post(url + BRIEF.model + ":" + BRIEF.method, data=b"{}") as answer:
            assert await answer.read() == script.body(BRIEF)


# --------------------------------------------------------------------------------------------------------- questions


def test_a_question_chooses_its_script_by_the_model() -> None:
    for played in SCRIPTS.values():
        assert msgspec.json.decode(question.plain(played))["model"].endswith(f"-{played.name}")
        assert named(f"POST {question.gemini_path(played)} HTTP/1.1".encode()) == played


def test_the_question_with_tools_has_its_size_and_its_tools() -> None:
    body = question.with_tools(SMALL)
    assert len(body) == pytest.approx(question.TOOLS_BYTES, rel=0.01)
    assert len({tool["function"]["name"] for tool in msgspec.json.decode(body)["tools"]}) == question.TOOLS


# ------------------------------------------------------------------------------------------------------------ ratios


@pytest.mark.parametrize(
    ("limit", "ok"),
    [
        pytest.param(Limit("ratio", 1.5), True, id="a ratio that is just kept"),
        pytest.param(Limit("ratio", 1.49), False, id="a ratio that is missed"),
        pytest.param(Limit("over", 100), True, id="a difference that is just kept"),
        pytest.param(Limit("over", 99), False, id="a difference that is missed"),
        pytest.param(Limit("most", 300), True, id="a most that is just kept"),
        pytest.param(Limit("most", 299), False, id="a most that is missed"),
        pytest.param(Limit("least", 300), True, id="a least that is just kept"),
        pytest.param(Limit("least", 301), False, id="a least that is missed"),
        pytest.param(None, None, id="no limit"),
    ],
)
def test_a_row_compares_medians(limit, ok) -> None:
    row = Row("unary", "CPU, us", [200.0, 190.0, 900.0], [300.0, 1000.0, 1.0], limit)
    assert row.ratio == 1.5
    assert row.ok is ok
    assert report.line(row).endswith({True: "ok", False: "MISS", None: "1.50"}[ok])


def test_a_row_without_a_floor_has_no_ratio() -> None:
    row = Row("start", "s", [], [0.5], Limit("most", 0.6))
    assert (row.ratio, row.ok) == (None, True)
    assert Row("start", "s", [0.0], [0.5], Limit("ratio", 1)).ok is False


@pytest.mark.parametrize(
    ("paces", "measure", "ok"),
    [
        pytest.param([0.98, 1.02], "CPU of a chunk, 500 streams, 20 ms apart, us", True, id="all in time"),
        pytest.param([0.83, 1.02], "CPU of a chunk, 500 streams, 83% of the pace, us", None, id="the floor was late"),
        pytest.param([1.0, 1.2], "CPU of a chunk, 500 streams, 120% of the pace, us", None, id="frames had piled up"),
    ],
)
def test_a_run_that_missed_its_pace_is_not_judged(paces, measure, ok) -> None:
    row = at_pace(Row("paced", "CPU of a chunk, 500 streams, 20 ms apart, us", [90.0], [99.0]), paces, 1.3)
    assert (row.measure, row.ok) == (measure, ok)


def test_the_results_are_written_as_json(tmp_path) -> None:
    file = tmp_path / "results.json"
    report.write([Row("unary", "CPU, us", [200.0], [500.0], Limit("ratio", 1.5))], file)
    found = msgspec.json.decode(file.read_bytes())
    assert found["surroundings"]["cores"] >= 1
    [row] = found["rows"]
    assert (row["scenario"], row["ratio"], row["target"], row["ok"]) == ("unary", 2.5, "<= 1.5 x", False)


def test_help_names_every_scenario() -> None:
    command = [sys.executable, "bench/bench_proxy.py", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"{name} " in said and scenario.__doc__ in said for name, scenario in SCENARIOS.items())


# ------------------------------------------------------------------------------------------------------------- guard


def times(loop: float = 1.0, **cases: float) -> dict[str, float]:
    return {guard.LOOP: loop, **cases}


def no_pause(_seconds: float) -> None:
    """The figures of these tests do not get better by waiting."""


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        pytest.param(times(fold=1.24), 0, id="24 % more is noise"),
        pytest.param(times(fold=1.26), 1, id="26 % more is a regression"),
        pytest.param(times(loop=2.0, fold=2.4), 0, id="a slower machine slows the loop too"),
        pytest.param(times(loop=0.5, fold=0.7), 1, id="a faster machine hides nothing"),
        pytest.param(times(fold=0.5), 0, id="faster is no fault"),
        pytest.param(times(fold=1.0, new=1.0), 1, id="a case without a record"),
    ],
)
def test_the_guard_allows_a_quarter(found, faults) -> None:
    assert len(guard.guard(lambda: found, {"fold": 1.0}, pause=no_pause)) == faults


def test_the_guard_believes_a_regression_only_if_it_stays() -> None:
    noisy = iter([times(fold=9.0), times(fold=1.3), times(fold=1.1)])
    assert guard.guard(lambda: next(noisy), {"fold": 1.0}, pause=no_pause) == []
    assert next(noisy, None) is None
    [fault] = guard.guard(lambda: times(fold=1.5), {"fold": 1.0}, pause=no_pause)
    assert "fold takes 1.5" in fault
    assert "+50%" in fault


def test_the_guard_holds_one_case_to_another() -> None:
    beside = core.BESIDE[0]
    cheap = times(**{beside.case: 0.99 * beside.most, beside.other: 1.0})
    dear = cheap | {beside.case: 1.01 * beside.most}
    recorded = guard.ratios(dear)
    assert guard.guard(lambda: cheap, recorded, pause=no_pause) == []
    [fault] = guard.guard(lambda: dear, recorded, pause=no_pause)
    assert f"instead of {beside.most}" in fault


def test_a_disturbed_loop_does_not_hide_a_regression() -> None:
    noisy = iter([times(fold=1.5), times(loop=1.4, fold=1.5)] + [times(fold=1.5)] * guard.TRIES)
    assert len(guard.guard(lambda: next(noisy), {"fold": 1.0}, pause=no_pause)) == 1


def test_more_work_takes_more_time() -> None:
    once = core.Case("once", "", 5, guard.fixed_loop)
    often = core.Case("often", "", 5, lambda: [guard.fixed_loop() for _ in range(16)])
    found = guard.ratios(guard.measure([once, often], repeats=15))
    assert set(found) == {"once", "often"}
    assert 0.2 < found["once"] < 5.0, "beside whatever else this machine does"
    assert 4.0 < found["often"] / found["once"] < 64.0


def test_records_of_other_pythons_are_kept(tmp_path) -> None:
    file = tmp_path / "core_speed.toml"
    assert guard.records(file) == {}
    file.write_text('["2.7"]\nfold = 7.0\n')
    guard.record({"fold": 1.5, "convert": 0.001234}, file)
    assert guard.records(file) == {"2.7": {"fold": 7.0}, guard.PYTHON: {"fold": 1.5, "convert": 0.001234}}


def test_every_case_of_the_core_runs_and_has_a_record() -> None:
    names = set()
    for case in core.cases():
        case.work()
        names.add(case.name)
    assert guard.records()
    assert all(set(recorded) == names for recorded in guard.records().values())


def test_the_cases_do_the_work_that_they_name() -> None:
    asked = msgspec.json.decode(core.convert(question.with_tools(SMALL)))
    assert len(asked["tools"][0]["functionDeclarations"]) == question.TOOLS
    assert asked["contents"][-1]["parts"][0]["text"].startswith("Why does the Red Queen run")
    whole = core.transcode([script.body(BURST)])
    assert whole == core.transcode(script.frames(BURST))
    translated(BURST, 200, whole)
    body = question.to_responses(question.with_tools(SMALL))
    same = msgspec.json.decode(core.convert_responses(body))
    assert (same["contents"], same["tools"]) == (asked["contents"], asked["tools"])
    body = question.to_messages(question.with_tools(SMALL))
    same = msgspec.json.decode(core.convert_messages(body))
    assert (same["contents"], same["tools"]) == (asked["contents"], asked["tools"])


def test_the_load_keeps_only_a_few_reasons() -> None:
    load = Load()
    for number in range(10):
        load.note(str(number))
    assert (load.wrong, load.why) == (10, ["0", "1", "2"])


# ------------------------------------------------------------------------------------------------------------ outages


async def test_an_outage_is_staged_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    await outages.main(["500 from one", "state: a folder"])
    failing, state = [row.split(" | ") for row in capsys.readouterr().out.splitlines()[2:]]
    assert failing[-2].startswith("200"), "the backup answers"
    assert '"one":["ready","upstream_error"]' in failing[3]
    assert state[2] == '200 {"state":"lost"}'
    assert PLAIN or "Is a directory" in state[1], "else the first warning is another"
    assert float(state[-1].split()[0]) < outages.PATIENCE, "it is opened once it can be"
