"""The work of the pure core in pieces that can be timed: no socket, no loop, no clock.

Each case does one piece of work that a request or a frame needs, on the bodies of the whole benchmark.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
from msgspec import Struct

from bench import question, script
from bench.script import SCRIPTS, Script
from gemproxy.converter.api import Options
from gemproxy.converter.chat import reading
from gemproxy.converter.chat import request as conversion
from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.schema.cache import tool_schema
from gemproxy.converter.transcoder import Transcoder, Writer
from gemproxy.load.effort import Effort
from gemproxy.models import capabilities
from gemproxy.pool.cooldown import Cooldown, Policy
from gemproxy.pool.rotator import Rotator
from gemproxy.pool.slot import Slot
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import OK, Token
from gemproxy.wire.openai_chat import ChatRequest

READ = 64 * 1024  # bytes that arrive together when frames come back to back
SMALL, BURST = SCRIPTS["small"], SCRIPTS["burst"]


class Case(Struct, frozen=True):
    """``work`` is done ``times`` times in one measurement: some milliseconds."""

    name: str
    sentence: str
    times: int
    work: Callable[[], object]


def cases() -> list[Case]:
    """Return every case, ready to run."""
    plain, tools = question.plain(SMALL), question.with_tools(SMALL)
    stream = script.body(BURST)
    pieces = [stream[place : place + READ] for place in range(0, len(stream), READ)]
    return [
        Case("convert", "a small request, bytes to bytes", 100, lambda: convert(plain)),
        Case("convert_tools", "an 80 kB request with 30 tools known before", 8, lambda: convert(tools)),
        Case("schema_cached", "the schema of a tool, known before", 2000, _same_schema(tools)),
        Case("schema_cold", "the schema of a tool, never seen", 20, _new_schemas(tools)),
        Case("transcode_burst", "1,000 frames that come back to back", 1, lambda: transcode(pieces)),
        Case("transcode_paced", "1,000 frames that come one by one", 1, lambda: transcode(script.frames(BURST))),
        Case("fold", "a small unary answer", 100, lambda: fold(script.body(SMALL))),
        Case("rotate_5", "acquire and report with 5 credentials", 400, _rotate(5)),
        Case("rotate_50", "the same with 50, 40 of them resting", 200, _rotate(50, cooldowns=40)),
    ]


_titles = itertools.count()
_dialect = AiStudio("http://127.0.0.1:1/v1beta", "bench")
_token = Token("fake-bench-key")


def convert(body: bytes) -> bytes:
    """Return what goes upstream for a client's body."""
    asked = reading.decode(body)
    plan = conversion.to_call(asked, capabilities(asked.model), {}, None, Options(), stream=False)
    return _dialect.ask(plan.call, _token, 1_800_000_000.0).body


def transcode(pieces: tuple[bytes, ...] | list[bytes]) -> bytes:
    """Return what a client of a stream gets for the pieces of an upstream's."""
    transcoder = _transcoder(ChatChunkWriter(_envelope(BURST)))
    written = [transcoder.feed(piece) or _late(transcoder) for piece in pieces]
    return b"".join((*written, transcoder.finish() or _late(transcoder)))


def _late(transcoder: Transcoder) -> bytes:
    """Do here what the server does beside its loop."""
    return transcoder.work() if transcoder.heavy else b""


def fold(body: bytes) -> bytes:
    """Return what a client that wants JSON gets for an upstream's unary body."""
    transcoder = _transcoder(ChatCompletionFold(_envelope(SMALL)))
    return transcoder.feed(body) + (transcoder.finish() or _late(transcoder))


def _envelope(played: Script) -> Heading:
    return Heading("chatcmpl-0123456789abcdef01234567", 1_800_000_000, played.model, f"ai_studio/{played.model}")


def _transcoder(writer: Writer) -> Transcoder:
    return Transcoder(_dialect.decode, AnswerReader(lambda: "call_0"), writer)


def _schemas(body: bytes) -> list[bytes]:
    asked = msgspec.json.decode(body, type=ChatRequest)
    return [bytes(tool.function.parameters) for tool in asked.tools or () if tool.function is not None]


def _same_schema(body: bytes) -> Callable[[], bytes]:
    schema = _schemas(body)[0]
    effort = Effort(1 << 62)
    return lambda: tool_schema(schema, effort)


def _new_schemas(body: bytes) -> Callable[[], bytes]:
    schema = _schemas(body)[0]
    # a title of its own makes it another schema for the cache, and the same work for the walk
    effort = Effort(1 << 62)
    return lambda: tool_schema(b'{"title":"%d",%b' % (next(_titles), schema[1:]), effort)


def _rotate(slots: int, cooldowns: int = 0) -> Callable[[], None]:
    pool = [Slot(f"slot-{number}", dialect="ai_studio") for number in range(slots)]
    rotator = Rotator(pool, Policy(), lambda: 1_800_000_000.0)
    rotator.restore(slot.record(script.MODEL, _rest(), 1.0) for slot in pool[:cooldowns])

    def work() -> None:
        rotator.report(rotator.acquire(script.MODEL), OK)

    return work


def _rest() -> Cooldown:
    return Cooldown(1_800_000_000.0 + 60, 1_800_000_000.0, "quota")
