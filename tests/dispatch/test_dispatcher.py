"""The attempt loop against the simulated Gemini: fail-over, repair, budgets, both commits, clients that leave."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.document import Document
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.transcoder import Transcoder
from gemproxy.converter.transcript import Usage
from gemproxy.credentials import token_errors
from gemproxy.credentials.token_errors import TokenRefused
from gemproxy.dispatch import dispatcher as dispatch
from gemproxy.dispatch import retry as retry
from gemproxy.dispatch.answer import Limits
from gemproxy.dispatch.dispatcher import Dispatcher
from gemproxy.errors import ClientFault, Failure, NoCredential, UpstreamFault
from gemproxy.pool.queue import Queue
from gemproxy.pool.rotator import Policy, Rotator, Slot
from gemproxy.simulator import (
    Answer,
    CutOff,
    Hang,
    KeyState,
    Pause,
    Reset,
    Simulator,
    error_answer,
    frames_answer,
    text_answer,
    unary_answer,
)
from gemproxy.transport import idle
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import GENERATES, Action, Call, Dialect, Method, Scope, Token, Verdict
from gemproxy.wire.gemini import Content, Empty, GenerateRequest, GenerationConfig, Part, ToolSpec
from tests.burdens import make_burden
from tests.folding import chunks, events, fold
from tests.tls import contexts
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

MODEL = "gemini-2.5-flash"
TEXT = {"candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}}]}
STOP = {"candidates": [{"content": {"parts": [{"text": "!"}], "role": "model"}, "finishReason": "STOP"}]}
EMPTY = {"candidates": [{"content": {"parts": [], "role": "model"}, "finishReason": "STOP"}]}
SIGNATURE = {"text": "", "thoughtSignature": "c2ln"}
DRAFT = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thought": True}
COUNTS = {"usageMetadata": {"promptTokenCount": 3}, "modelVersion": MODEL}


def said(part: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return a frame with one part."""
    candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]}


OVERLOADED = {
    "error": {"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}
}


LIMITS = Limits()


class Keys:
    """Tokens that are at hand; a refresh makes a new one."""

    def __init__(self) -> None:
        self.refreshed: list[str] = []
        self.refuse: Verdict | None = None
        self.slow: dict[str, asyncio.Event] = {}  # by slot, when its token is there
        self.known_slow: set[str] = set()
        self.waited: list[tuple[str, float]] = []

    async def get(self, slot: str, grace: float) -> Token:
        if self.refuse is not None:
            raise TokenRefused(self.refuse)
        if slot in self.slow:
            self.waited.append((slot, grace))
            if grace < math.inf:
                self.known_slow.add(slot)
                raise token_errors.slow()
            await self.slow[slot].wait()
        return Token(f"key-{slot}")

    async def refresh(self, slot: str, stale: Token, grace: float) -> Token:
        self.refreshed.append(slot)
        if slot in self.slow:
            return await self.get(slot, grace)
        return Token(f"{stale.secret}-new")

    def without(self) -> set[str]:
        return self.known_slow

    async def rediscover(self, slot: str) -> Token:
        self.refreshed.append(f"project of {slot}")
        return Token(f"key-{slot}")


class Deaf(AiStudio):
    """An upstream that only generates."""

    name = "deaf"
    methods = GENERATES


class Bench:
    """A dispatcher with its pool, and the simulator behind it."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession, clock: Any) -> None:
        self.simulator = simulator
        self.session = session
        self.clock = clock
        self.url = simulator.ai_studio_url
        self.keys = Keys()
        self.build()

    def build(
        self,
        slots: Sequence[str] = ("a", "b"),
        limits: Limits = LIMITS,
        deaf: Sequence[str] = (),
        **policy: Any,
    ) -> Dispatcher:
        pool = [
            Slot(name=name, tier=int(name.startswith("backup")), dialect="deaf" if name in deaf else "ai_studio")
            for name in slots
        ]
        self.rotator = Rotator(pool, Policy(**policy), self.clock)
        dialects: dict[str, Dialect] = {"ai_studio": AiStudio(self.url, "gemproxy-test")}
        if deaf:
            dialects["deaf"] = Deaf(self.url, "gemproxy-test")
        queue = Queue(self.rotator, 0.5)
        self.dispatcher = Dispatcher(self.session, queue, self.keys, dialects, limits, self.clock)
        return self.dispatcher

    def call(self, method: Method = "streamGenerateContent", **config: Any) -> Call:
        body = GenerateRequest([Content([Part(text="Hello")], "user")])
        if config:
            body.generation_config = GenerationConfig(**config)
        return Call(method, MODEL, body)

    async def ask(self, call: Call | None = None) -> bytes:
        """Return the whole answer; a failure after the content commit raises like one before it."""
        call = call or self.call()
        answer = await self.dispatcher.open(call, self.listen(call), make_burden())
        try:
            said = [answer.head]
            assert await answer.pour(said.append)
            return b"".join(said)
        finally:
            answer.close()

    def listen(self, call: Call) -> Any:
        def make(dialect: Dialect) -> Transcoder:
            count = itertools.count()
            envelope = Heading("i", 1, "m", include_usage=True)
            stream = call.method == "streamGenerateContent"
            writer = ChatChunkWriter(envelope) if stream else ChatCompletionFold(envelope)
            return Transcoder(dialect.decode, AnswerReader(lambda: f"call_{next(count)}"), writer)

        return make

    def asked(self) -> list[str]:
        return [request.credential.removeprefix("key-") for request in self.simulator.generations]

    def slot(self, name: str) -> Any:
        return next(view for view in self.rotator.snapshot() if view.name == name)

    def idle(self) -> bool:
        return all(view.in_flight == 0 for view in self.rotator.snapshot())


@pytest.fixture
async def bench(simulator: Simulator, clock: Any) -> AsyncIterator[Bench]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=2)) as session:
        made = Bench(simulator, session, clock)
        yield made
        assert made.idle(), "a lease was not given back"


async def test_requests_go_round_robin(bench: Bench) -> None:
    for _ in range(4):
        assert fold(chunks(await bench.ask()))["choices"][0]["finish_reason"] == "stop"
    assert bench.asked() == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    "state",
    [KeyState.PER_MINUTE, KeyState.PER_DAY, KeyState.INVALID, KeyState.LEAKED, KeyState.EXHAUSTED, KeyState.LIMIT_ZERO],
)
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
async def test_refused_key_costs_one_call_and_is_left_alone(bench: Bench, state: KeyState, method: Method) -> None:
    bench.simulator.keys["key-a"] = state
    for _ in range(3):
        assert await bench.ask(bench.call(method))
    assert bench.asked() == ["a", "b", "b", "b"]
    assert bench.slot("a").state in ("cooling", "parked")


async def test_backup_pool_serves_the_same_request(bench: Bench) -> None:
    bench.build(("a", "b", "backup"))
    bench.simulator.keys |= {"key-a": KeyState.PER_DAY, "key-b": KeyState.INVALID}
    await bench.ask()
    assert bench.asked() == ["a", "b", "backup"]


async def test_nobody_left_says_when_to_come_back(bench: Bench) -> None:
    bench.simulator.keys |= {"key-a": KeyState.PER_MINUTE, "key-b": KeyState.PER_MINUTE}
    with pytest.raises(NoCredential) as caught:
        await bench.ask()
    assert caught.value.status == 429
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 61
    with pytest.raises(NoCredential):
        await bench.ask()
    assert bench.asked() == ["a", "b"], "resting keys must not be asked again"


async def test_all_parked_is_503_for_the_operator(bench: Bench) -> None:
    bench.simulator.keys |= {"key-a": KeyState.INVALID, "key-b": KeyState.LEAKED}
    with pytest.raises(NoCredential) as caught:
        await bench.ask()
    assert (caught.value.status, caught.value.retryable) == (503, False)


async def test_callers_fault_is_told_at_once(bench: Bench) -> None:
    with pytest.raises(ClientFault) as caught:
        await bench.ask(bench.call(temperature=7))
    assert caught.value.status == 400
    assert bench.asked() == ["a"]
    assert bench.slot("a").state == "ready"


async def test_refused_field_is_repaired_and_remembered(bench: Bench) -> None:
    for _ in range(2):
        assert await bench.ask(bench.call(presence_penalty=0.5))
    assert bench.asked() == ["a", "a", "b"]
    assert "presencePenalty" in bench.simulator.generations[0].json()["generationConfig"]
    assert "presencePenalty" not in bench.simulator.generations[2].json().get("generationConfig", {})


async def test_a_conversation_that_ends_with_the_model_is_ended_and_answered(bench: Bench) -> None:
    call = Call("streamGenerateContent", "gemini-3.8-flash", bench.call().body)
    call.body.contents.append(Content([Part(text="Once upon a")], "model"))
    for _ in range(2):
        assert await bench.ask(call)
    sent = [request.json()["contents"][-1]["role"] for request in bench.simulator.generations]
    assert sent == ["model", "user", "user"]


NO_PENALTY = error_answer(400, "Presence penalty is not enabled for this model")


async def test_repair_that_did_not_help_is_not_learnt(bench: Bench) -> None:
    """What Google says may quote a client's own words: no one request may change the others."""
    bench.simulator.script(NO_PENALTY, times=2)
    with pytest.raises(ClientFault):
        await bench.ask(bench.call(presence_penalty=0.5))
    sent = bench.simulator.generations
    assert ["presencePenalty" in request.json().get("generationConfig", {}) for request in sent] == [True, False]
    bench.simulator.script(text_answer("Hi"))
    await bench.ask(bench.call(presence_penalty=0.5))
    assert "presencePenalty" in bench.simulator.generations[-1].json()["generationConfig"]


async def test_repair_stays_with_its_request_at_the_next_key(bench: Bench) -> None:
    bench.simulator.script(NO_PENALTY)
    bench.simulator.script(error_answer(429, "Please retry in 20s."))
    bench.simulator.script(text_answer("Hi"))
    await bench.ask(bench.call(presence_penalty=0.5))
    assert bench.asked() == ["a", "a", "b"]
    assert "presencePenalty" not in bench.simulator.generations[2].json().get("generationConfig", {})


async def test_overload_is_tried_again_then_told_and_no_key_rests(bench: Bench) -> None:
    bench.simulator.script(error_answer(503, OVERLOADED), times=None)
    with pytest.raises(UpstreamFault) as caught:
        await bench.ask()
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    assert caught.value.retry_after
    assert len(bench.asked()) == 3
    assert {view.state for view in bench.rotator.snapshot()} == {"ready"}


async def test_short_overload_is_never_seen_by_the_client(bench: Bench) -> None:
    bench.simulator.script(error_answer(503, OVERLOADED), times=2)
    assert await bench.ask()


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Answer().after(Reset()), id="reset before headers"),
        pytest.param(Answer((Reset(),)), id="reset after headers"),
        pytest.param(Answer((b'data: {"candi', Reset())), id="reset in the first frame"),
        pytest.param(Answer((CutOff(),)), id="cut off after headers"),
        pytest.param(Answer((b"<html>502</html>",), content_type="text/html"), id="a page in a 200"),
        pytest.param(Answer((b"data: {nonsense}\r\n\r\n",)), id="invalid JSON"),
        pytest.param(Answer(()), id="an empty body"),
        pytest.param(error_answer(500, "Internal error encountered."), id="500"),
        pytest.param(Answer((b"<html>Bad Gateway</html>",), status=502, content_type="text/html"), id="HTML 502"),
        pytest.param(frames_answer([EMPTY]), id="an empty answer"),
        pytest.param(frames_answer([said(SIGNATURE, "STOP")]), id="nothing but a signature"),
        pytest.param(frames_answer([said(SIGNATURE, "MALFORMED_FUNCTION_CALL")]), id="a signature, malformed"),
        pytest.param(
            frames_answer([said({"text": "", "thought": True}), said(SIGNATURE), COUNTS, said({"text": ""}, "STOP")]),
            id="a signature among empty texts and counts",
        ),
        pytest.param(frames_answer([said(SIGNATURE), OVERLOADED]), id="a signature before an error frame"),
        pytest.param(frames_answer([said(SIGNATURE)]).then(Reset()), id="reset behind a signature"),
        pytest.param(frames_answer([said(DRAFT, "STOP")]), id="nothing but a draft"),
        pytest.param(frames_answer([OVERLOADED]), id="an error frame first"),
        pytest.param(frames_answer([{"error": []}]), id="an error frame that tells nothing"),
        pytest.param(frames_answer([{"error": {"message": "x" * (1 << 18)}}]), id="an endless error frame"),
        pytest.param(
            frames_answer([{"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}]), id="malformed call"
        ),
    ],
)
async def test_fault_before_the_content_commit_is_healed(bench: Bench, fault: Answer, method: Method) -> None:
    bench.simulator.script(fault)
    assert await bench.ask(bench.call(method))
    assert len(bench.asked()) == 2
    assert {view.state for view in bench.rotator.snapshot()} == {"ready"}


OUT_OF_ORDER = [
    pytest.param(error_answer(500, "Internal error encountered."), id="500"),
    pytest.param(Answer((b"<html>Bad Gateway</html>",), status=502, content_type="text/html"), id="HTML 502"),
    pytest.param(error_answer(503, OVERLOADED), id="503"),
    pytest.param(error_answer(504, "Deadline expired."), id="504"),
    pytest.param(Answer().after(Reset()), id="reset"),
    pytest.param(Answer((CutOff(),)), id="cut before content"),
    pytest.param(Answer((b"<html>login</html>",), content_type="text/html"), id="a page in a 200"),
    pytest.param(frames_answer([OVERLOADED]), id="an error frame"),
    pytest.param(frames_answer([EMPTY]), id="an empty answer"),
]


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
@pytest.mark.parametrize("fault", OUT_OF_ORDER)
async def test_what_one_credential_meets_is_asked_of_the_backup(bench: Bench, fault: Answer, method: Method) -> None:
    bench.build(("a", "backup"))
    bench.simulator.script(fault, times=None, credential="key-a")
    for _ in range(2):
        assert await bench.ask(bench.call(method))
    assert bench.asked() == ["a", "backup", "a", "backup"]
    assert {view.state for view in bench.rotator.snapshot()} == {"ready"}


@pytest.mark.parametrize("fault", OUT_OF_ORDER[:-1])
@pytest.mark.parametrize(
    ("slots", "ill", "asked"),
    [
        pytest.param("a b c backup", "a b c", "a b c backup", id="a pool that failed three times is left"),
        pytest.param("a b c d e f backup", "a b c d e f", "a b c backup", id="however many are left in it"),
        pytest.param("a b c d", "a b c", "a b c d", id="another one of its pool, where there is no other pool"),
        pytest.param("a b backup", "a backup", "a b", id="one of its own pool goes before the backup"),
        pytest.param("a b c d backup", "a b c backup", "a b c backup d", id="one that was not asked, after the backup"),
    ],
)
async def test_a_healthy_credential_is_asked_before_a_failure_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Answer, slots: str, ill: str, asked: str
) -> None:
    monkeypatch.setattr(retry, "CAPACITY_PAUSES", (0.0, 0.0))
    bench.build(slots.split())
    for name in ill.split():
        bench.simulator.script(fault, times=None, credential=f"key-{name}")
    assert await bench.ask()
    assert bench.asked() == asked.split()


async def test_a_failure_is_told_when_all_have_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CAPACITY_PAUSES", (0.0, 0.0))
    bench.build("a b c d e backup".split())
    bench.simulator.script(error_answer(500, "Internal"), times=None)
    with pytest.raises(UpstreamFault) as caught:
        await bench.ask()
    assert (caught.value.status, caught.value.attempts) == (502, 6)
    assert bench.asked() == ["a", "b", "c", "backup", "d", "e"]


async def test_an_upstream_that_cannot_be_reached_is_left_for_another_at_once(bench: Bench) -> None:
    bench.build(("a", "b", "backup"))
    for slot in bench.rotator._slots[:2]:
        slot.dialect = "dead"
    bench.dispatcher._dialects = {**bench.dispatcher._dialects, "dead": AiStudio("http://127.0.0.1:9/v1beta", "test")}
    assert await bench.ask()
    assert (bench.asked(), bench.slot("a").failed, bench.slot("b").failed) == (["backup"], 1, 0)


async def test_a_busy_credential_is_waited_for_once_the_failing_one_is_out(bench: Bench) -> None:
    bench.build(("a", "backup"), max_in_flight=1)
    bench.simulator.script(error_answer(500, "Internal"), times=None, credential="key-a")
    busy = bench.rotator.acquire(MODEL, tried=("a",))
    asking = asyncio.get_running_loop().create_task(bench.ask())
    await soon(lambda: len(bench.asked()) == 3)
    await asyncio.sleep(0.01)
    bench.dispatcher.queue.report(busy, None)
    assert await asking
    assert bench.asked() == ["a", "a", "a", "backup"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(frames_answer([TEXT]).then(Reset()), 502, id="reset"),
        pytest.param(frames_answer([TEXT]).then(CutOff()), 502, id="cut off"),
        pytest.param(frames_answer([TEXT]), 502, id="end without finish"),
        pytest.param(frames_answer([TEXT, OVERLOADED]), 503, id="error frame"),
        pytest.param(frames_answer([TEXT]).then(b"data: {nonsense}\r\n\r\n"), 502, id="invalid JSON"),
        pytest.param(frames_answer([TEXT]).then(b'{\n "error": {"code": 499}}'), 503, id="bare error"),
    ],
)
async def test_fault_after_the_content_commit_is_told_and_never_repeated(
    bench: Bench, fault: Answer, status: int
) -> None:
    bench.simulator.script(fault)
    call = bench.call()
    answer = await bench.dispatcher.open(call, bench.listen(call), make_burden())
    got = [answer.head]
    with pytest.raises(UpstreamFault) as caught:
        await answer.pour(got.append)
    answer.close()
    assert caught.value.status == status
    assert [event["choices"][0]["delta"].get("content") for event in events(b"".join(got))] == ["", "Hi"]
    assert bench.asked() == ["a"]


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
@pytest.mark.parametrize("size", [0, 1 << 15], ids=["short", "long"])
async def test_half_a_character_costs_neither_answer_nor_attempt(bench: Bench, method: Method, size: int) -> None:
    frames = [msgspec.json.encode(frame) for frame in (said({"text": "x" * size + "cut _"}), STOP)]
    frames[0] = frames[0].replace(b"_", rb"\ud83d")
    bench.simulator.script(frames_answer(frames, sse=method != "generateContent"))
    body = await bench.ask(bench.call(method))
    told = fold(chunks(body)) if method != "generateContent" else msgspec.json.decode(body)
    assert told["choices"][0]["message"]["content"] == "x" * size + "cut \ufffd!"
    assert bench.asked() == ["a"]


async def test_an_error_of_null_is_none(bench: Bench) -> None:
    bench.simulator.script(frames_answer([TEXT | {"error": None}, STOP]))
    assert fold(chunks(await bench.ask()))["choices"][0]["message"]["content"] == "Hi!"
    assert bench.asked() == ["a"]


async def test_unary_answer_is_repeated_after_a_cut(bench: Bench) -> None:
    bench.simulator.script(unary_answer(STOP).then(CutOff()))
    bench.simulator.script(Answer((b'{"candidates":[{"content"',)))
    assert b'"finish_reason":"stop"' in await bench.ask(bench.call("generateContent"))
    assert len(bench.asked()) == 3


async def test_empty_twice_is_an_honest_error(bench: Bench) -> None:
    bench.simulator.script(frames_answer([EMPTY]), times=None)
    with pytest.raises(UpstreamFault, match="empty answer"):
        await bench.ask()
    assert len(bench.asked()) == 2


async def test_silent_upstream_ends_after_the_idle_limit(bench: Bench) -> None:
    bench.build(limits=Limits(idle=0.1))
    bench.simulator.script(frames_answer([TEXT]).then(Hang()))
    with pytest.raises(UpstreamFault, match=r"timeouts\.idle") as caught:
        await bench.ask()
    assert (caught.value.status, caught.value.code) == (504, "upstream_timeout")


async def test_silence_before_content_is_tried_elsewhere(bench: Bench) -> None:
    bench.build(limits=Limits(idle=0.5))
    bench.simulator.script(Answer((Hang(),)))
    assert await bench.ask()
    assert bench.asked() == ["a", "b"]


async def test_first_content_has_a_limit_of_its_own(bench: Bench) -> None:
    bench.build(limits=Limits(first=0.2))
    bench.simulator.script(Answer().after(Hang()), times=None)
    with pytest.raises(Failure, match=r"timeouts\.first") as caught:
        await bench.ask()
    assert caught.value.status == 504


async def test_pauses_below_the_idle_limit_do_no_harm(bench: Bench) -> None:
    bench.build(limits=Limits(idle=1.0))
    bench.simulator.script(frames_answer([TEXT, TEXT, TEXT, STOP]).paced(0.35))
    assert fold(chunks(await bench.ask()))["choices"][0]["message"]["content"] == "HiHiHi!"


async def test_attempts_are_bounded(bench: Bench) -> None:
    bench.build(("a", "b", "c"), limits=Limits(attempts=2))
    bench.simulator.script(error_answer(429, "Resource has been exhausted (e.g. check quota)."), times=None)
    with pytest.raises(NoCredential, match=r"rotation\.attempts = 2"):
        await bench.ask()
    assert bench.asked() == ["a", "b"]


async def test_nobody_waits_for_an_attempt_that_will_not_be_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CAPACITY_PAUSES", (3600.0, 3600.0))
    bench.build(limits=Limits(attempts=1))
    bench.simulator.script(error_answer(503, OVERLOADED), times=None)
    with pytest.raises(UpstreamFault):
        await asyncio.wait_for(bench.ask(), 5)
    bench.build(limits=Limits(attempts=9, budget=60.0))  # it would end during the pause
    with pytest.raises(UpstreamFault):
        await asyncio.wait_for(bench.ask(), 5)
    assert len(bench.asked()) == 2


def tokens_used_up(limit: int) -> dict[str, Any]:
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_input_token_count",
        "quotaId": "GenerateContentInputTokensPerModelPerMinute-FreeTier",
        "quotaValue": str(limit),
    }
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "15s"},
    ]
    return {"error": {"code": 429, "message": "You exceeded your current quota.", "details": details}}


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
async def test_what_a_feature_draws_leaves_the_pool_to_others(bench: Bench, method: Method) -> None:
    searching = bench.call(method)
    searching.body.tools = [ToolSpec(google_search=Empty())]
    bench.build(("a", "b"))
    bench.simulator.script(error_answer(429, "Resource has been exhausted (e.g. check quota)."), times=2)
    for _ in range(2):
        with pytest.raises(NoCredential, match="with search"):
            await bench.ask(searching)
    assert bench.asked() == ["a", "b"]
    for _ in range(2):
        await bench.ask()
    assert bench.asked() == ["a", "b", "a", "b"]


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
async def test_the_pool_is_not_walked_with_a_request_above_the_quota(bench: Bench, method: Method) -> None:
    bench.build(("a", "b", "c", "d"))
    large = bench.call(method)
    large.body.contents = [Content([Part(text="word " * 40_000)], "user")]
    bench.simulator.script(error_answer(429, tokens_used_up(32_000)))
    with pytest.raises(NoCredential, match="about 33333 tokens") as caught:
        await bench.ask(large)
    assert (caught.value.status, caught.value.param, caught.value.retryable) == (429, "contents", False)
    assert bench.asked() == ["a"]
    for _ in range(4):
        await bench.ask()
    assert bench.asked() == ["a", "b", "c", "d", "a"]


async def test_a_request_above_the_quota_of_one_pool_is_served_by_the_next(bench: Bench) -> None:
    bench.build(("a", "b", "c", "backup"))
    large = bench.call()
    large.body.contents = [Content([Part(text="word " * 40_000)], "user")]
    bench.simulator.script(error_answer(429, tokens_used_up(32_000)))
    await bench.ask(large)
    assert bench.asked() == ["a", "backup"]


async def test_a_large_request_that_waits_for_tokens_rests_no_small_ones(bench: Bench) -> None:
    bench.build(("a", "b"))
    large = bench.call()
    large.body.contents = [Content([Part(text="word " * 40_000)], "user")]
    bench.simulator.script(error_answer(429, tokens_used_up(125_000)), times=2)
    with pytest.raises(NoCredential, match="from 190 KiB on") as caught:
        await bench.ask(large)
    assert caught.value.retry_after == 15
    for _ in range(2):
        await bench.ask()
    assert bench.asked() == ["a", "b", "a", "b"]


async def test_budget_starts_no_late_attempt(bench: Bench) -> None:
    bench.build(limits=Limits(budget=0.05))
    bench.simulator.script(error_answer(500, "Internal").after(Pause(0.1)), times=None)
    with pytest.raises(UpstreamFault):
        await bench.ask()
    assert bench.asked() == ["a"]


async def test_slow_thinker_is_not_a_failed_attempt(bench: Bench) -> None:
    bench.build(limits=Limits(budget=0.05))
    bench.simulator.script(text_answer("Done.").after(Pause(0.2)))
    assert b"Done." in await bench.ask()


async def test_unreachable_upstream_is_502_and_no_key_rests(bench: Bench) -> None:
    bench.build()
    await bench.simulator.close()
    with pytest.raises(UpstreamFault) as caught:
        await bench.ask()
    assert (caught.value.status, caught.value.code) == (502, "upstream_error")
    assert {view.state for view in bench.rotator.snapshot()} == {"ready"}


async def test_credential_without_a_token_is_passed_over(bench: Bench) -> None:
    bench.keys.refuse = Verdict(Action.NEXT, Scope.CREDENTIAL, float("inf"), "invalid_grant", status=503)
    with pytest.raises(NoCredential) as caught:
        await bench.ask()
    assert caught.value.status == 503
    assert {view.state for view in bench.rotator.snapshot()} == {"parked"}
    assert bench.asked() == []


async def test_a_slow_token_is_not_waited_for_where_another_can_serve(bench: Bench) -> None:
    bench.build(("a", "b", "backup"))
    bench.keys.slow = {"a": asyncio.Event(), "b": asyncio.Event()}
    for _ in range(3):
        assert await bench.ask()
    assert bench.asked() == ["backup"] * 3
    assert bench.keys.waited == [("a", retry.TOKEN_GRACE), ("b", 0.0)], "one wait in all, and none of those after it"
    assert (bench.slot("a").failed, bench.slot("a").last_error, bench.slot("a").state) == (0, "", "ready")


async def test_a_slow_token_is_waited_for_where_nobody_else_can_serve(bench: Bench) -> None:
    bench.build(("a",), limits=Limits(attempts=1))
    bench.keys.slow = {"a": asyncio.Event()}
    asking = [asyncio.get_running_loop().create_task(bench.ask()) for _ in range(3)]
    await soon(lambda: [grace for _, grace in bench.keys.waited] == [retry.TOKEN_GRACE] + [math.inf] * 3)
    bench.keys.slow["a"].set()
    assert all(await asyncio.gather(*asking))
    assert bench.asked() == ["a"] * 3


async def test_a_credential_that_failed_is_asked_again_only_after_one_whose_token_is_slow(bench: Bench) -> None:
    bench.build(("a", "b"))
    bench.keys.slow = {"b": asyncio.Event()}
    bench.simulator.script(error_answer(500, "Internal"), times=1, credential="key-a")
    asking = asyncio.get_running_loop().create_task(bench.ask())
    await soon(lambda: ("b", math.inf) in bench.keys.waited)
    bench.keys.slow["b"].set()
    assert await asking
    assert bench.asked() == ["a", "b"]


async def test_an_attempt_that_waits_for_no_token_is_none(bench: Bench) -> None:
    bench.build(("a", "b", "backup"), limits=Limits(attempts=1))
    bench.keys.slow = {"a": asyncio.Event(), "b": asyncio.Event()}
    call = bench.call()
    answer = await bench.dispatcher.open(call, bench.listen(call), make_burden())
    answer.close()
    assert (answer.attempts, answer.lease.slot.name) == (1, "backup")


async def test_client_that_leaves_before_content_costs_nothing(bench: Bench) -> None:
    bench.simulator.script(Answer().after(Hang()))
    asking = asyncio.get_running_loop().create_task(bench.ask())
    await soon(bench.asked)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (bench.slot("a").state, bench.slot("a").failed, bench.idle()) == ("ready", 0, True)
    await _gone(bench)


async def test_client_that_leaves_in_mid_stream_ends_the_upstream_request(bench: Bench) -> None:
    bench.simulator.script(frames_answer([TEXT]).then(Hang()))
    call = bench.call()
    answer = await bench.dispatcher.open(call, bench.listen(call), make_burden())
    answer.close()
    answer.close()  # a second time does nothing
    assert (bench.slot("a").state, bench.slot("a").failed, bench.slot("a").served) == ("ready", 0, 0)
    await _gone(bench)


async def test_client_that_leaves_as_the_first_bytes_come_leaves_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(answer: dispatch.Answer, data: bytes) -> bool:
        answer.head = data
        asyncio.get_running_loop().call_soon(asking.cancel)  # just before the one who waits hears of it
        return True

    monkeypatch.setattr(dispatch.Answer, "_begun", begun)
    bench.simulator.script(Answer((Pause(0.02), *frames_answer([TEXT]).body, Hang()), content_type="text/event-stream"))
    asking = asyncio.get_running_loop().create_task(bench.ask())
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    assert bench.idle()
    assert [watch for round_ in idle._rounds.values() for watch in round_.watches] == []
    await _gone(bench)


class SlowKeys(Keys):
    """Nothing comes of any refresh or search; ``asked`` says that one has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def refresh(self, slot: str, stale: Token, grace: float) -> Token:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def rediscover(self, slot: str) -> Token:
        return await self.refresh(slot, Token(""), 0.0)


@pytest.mark.parametrize("action", [Action.REFRESH, Action.REDISCOVER])
@pytest.mark.parametrize("end", ["client", "timeouts.first"])
async def test_who_leaves_while_a_token_is_renewed_parks_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, action: Action, end: str
) -> None:
    """What the renewal is to mend has not been found wrong before it is over."""
    bench.build(("a",), Limits(first=0.3 if end == "timeouts.first" else 300.0))
    keys = bench.dispatcher._tokens = bench.keys = SlowKeys()
    parks = Verdict(action, Scope.CREDENTIAL, math.inf, "token_refused", status=503)
    monkeypatch.setattr(AiStudio, "judge", lambda *_: parks)
    bench.simulator.script(error_answer(401, "no"))
    asking = asyncio.get_running_loop().create_task(bench.ask())
    await keys.asked.wait()
    if end == "client":
        asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled() == (end == "client")
    assert (bench.slot("a").state, bench.slot("a").parked, bench.idle()) == ("ready", None, True)


async def test_whoever_ran_out_of_time_may_wait_again(bench: Bench) -> None:
    """The task was told to end once, by the limit; a later limit of its own must not take that for its own word."""
    bench.build(limits=Limits(first=0.2))
    bench.simulator.script(Answer().after(Hang()), times=None)
    with pytest.raises(UpstreamFault, match=r"timeouts\.first"):
        await bench.ask()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def _gone(bench: Bench) -> None:
    await soon(lambda: bench.simulator.generations[0].disconnected)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"zz\r\n", None], ids=["whole", "broken coding", "silence"])
async def test_an_answer_over_tls_is_poured_as_it_comes(bench: Bench, tmp_path: Path, end: bytes | None) -> None:
    server_side, client_side = contexts(tmp_path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for frame in (TEXT, TEXT, STOP):
            event = b"data: %b\r\n\r\n" % msgspec.json.encode(frame)
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.02)
        if end is not None:
            writer.write(end)
        await reader.read()  # until the other side closes
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", ssl=server_side)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_side)) as session:
        bench.session, bench.url = session, f"https://127.0.0.1:{port}/v1beta"
        dispatcher, call = bench.build(("a",), Limits(idle=0.3)), bench.call()
        answer = await dispatcher.open(call, bench.listen(call), make_burden())
        got = [answer.head]
        async with asyncio.timeout(5):
            if end == b"0\r\n\r\n":
                assert await answer.pour(got.append)
            else:
                with pytest.raises(UpstreamFault) as caught:
                    await answer.pour(got.append)
                assert caught.value.status == (504 if end is None else 502)
        answer.close()
    told = [event["choices"][0]["delta"].get("content") for event in events(b"".join(got))[:4]]
    assert told == ["", "Hi", "Hi", "!"]
    assert len(got) >= 3, "each piece when it came"


async def test_a_full_client_is_poured_the_rest_later(bench: Bench) -> None:
    bench.simulator.script(frames_answer([TEXT, TEXT, STOP]).paced(0.02))
    call = bench.call()
    answer = await bench.dispatcher.open(call, bench.listen(call), make_burden())
    got = [answer.head]

    def take(data: bytes) -> bool:
        got.append(data)
        return True

    pours = 0
    while not await answer.pour(take):
        pours += 1
    answer.close()
    assert pours >= 1
    assert fold(chunks(b"".join(got)))["choices"][0]["message"]["content"] == "HiHi!"


async def test_only_one_request_tries_a_key_that_rested(bench: Bench) -> None:
    bench.build(("a",))
    bench.simulator.keys["key-a"] = KeyState.PER_MINUTE
    with pytest.raises(NoCredential):
        await bench.ask()
    bench.simulator.keys["key-a"] = KeyState.OK
    bench.simulator.clear()
    bench.clock.advance(120)
    bench.simulator.script(text_answer("probe").after(Pause(0.1)))
    answers = await asyncio.gather(*(bench.ask() for _ in range(5)))
    assert len(answers) == 5, "the others wait for the probe"
    assert len(bench.asked()) == 5


async def test_huge_refusal_is_cut(bench: Bench) -> None:
    bench.simulator.script(Answer((b"x" * (3 << 20),), status=500), times=3)
    with pytest.raises(UpstreamFault):
        await bench.ask()


# -------------------------------------------------------------------------------- methods beside generateContent


def counted(body: bytes) -> tuple[bytes, Usage]:
    return body, Usage(prompt=msgspec.json.decode(body)["totalTokens"])


def unreadable(body: bytes) -> tuple[bytes, Usage]:
    raise msgspec.DecodeError("not what was asked for")


async def count(bench: Bench, write: Callable[[bytes], tuple[bytes, Usage]] = counted) -> tuple[str, int]:
    """Return who counted, and how many tokens."""
    answer = await bench.dispatcher.open(bench.call("countTokens"), lambda dialect: Document(write), make_burden())
    try:
        answer.whole()
        return answer.credential, answer.usage.prompt
    finally:
        answer.close()


async def test_a_method_goes_past_the_credentials_whose_upstream_lacks_it(bench: Bench) -> None:
    bench.build(("a", "b"), deaf=("a",))
    counts = [await count(bench) for _ in range(3)]
    assert [name for name, tokens in counts if tokens > 0] == ["b", "b", "b"]
    bench.simulator.script(text_answer("Hi"), times=2)
    await bench.ask()
    await bench.ask()
    assert set(bench.asked()) == {"a", "b"}, "it serves what it has"


async def test_a_method_that_no_upstream_has_is_told_as_such(bench: Bench) -> None:
    bench.build(("a",), deaf=("a",))
    with pytest.raises(NoCredential, match="of an upstream that has what was asked for") as caught:
        await count(bench)
    assert caught.value.returns_in is None
    assert await bench.ask()


async def test_a_refused_count_rests_counts_alone(bench: Bench) -> None:
    bench.build(("a",))
    bench.simulator.script(error_answer(429, "Resource has been exhausted (e.g. check quota)."), method="countTokens")
    with pytest.raises(NoCredential):
        await count(bench)
    assert await bench.ask()
    with pytest.raises(NoCredential, match="by countTokens is resting"):
        await count(bench)


async def test_a_model_that_cannot_be_counted_is_told_so_and_goes_on_answering(bench: Bench) -> None:
    gone = {"error": {"code": 404, "message": f"models/{MODEL} is not found.", "status": "NOT_FOUND"}}
    bench.simulator.script(error_answer(404, gone), method="countTokens", times=None)
    for _ in range(2):
        with pytest.raises(ClientFault) as caught:
            await count(bench)
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert await bench.ask()


async def test_a_document_that_cannot_be_read_is_tried_elsewhere_and_then_told(bench: Bench) -> None:
    with pytest.raises(UpstreamFault, match="cannot be read"):
        await count(bench, unreadable)


async def test_an_error_in_place_of_a_document_is_judged_like_a_refusal(bench: Bench) -> None:
    bench.simulator.script(unary_answer(OVERLOADED), method="countTokens")
    assert (await count(bench))[1] > 0
    assert bench.slot("a").failed == 1
