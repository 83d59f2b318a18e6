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
from gemproxy.converter.anthropic import heading as messages_heading
from gemproxy.converter.anthropic import operation as messages
from gemproxy.converter.anthropic import output as messages_output
from gemproxy.converter.anthropic.stream import Opening
from gemproxy.converter.anthropic.stream import Stream as MessageStream
from gemproxy.converter.anthropic.whole import Whole
from gemproxy.converter.api import Known, Options, Received, Settled
from gemproxy.converter.chat import reading
from gemproxy.converter.chat import request as conversion
from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.events import Text
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.responses import heading as responses_heading
from gemproxy.converter.responses import operation
from gemproxy.converter.responses.output import Output
from gemproxy.converter.responses.stream import Stream
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
from gemproxy.wire.openai_responses import Echo

READ = 64 * 1024  # bytes that arrive together when frames come back to back
SMALL, BURST = SCRIPTS["small"], SCRIPTS["burst"]
DELTAS = 1900  # as many as a long answer has


class Case(Struct, frozen=True):
    """``work`` is done ``times`` times in one measurement: some milliseconds."""

    name: str
    sentence: str
    times: int
    work: Callable[[], object]


class Beside(Struct, frozen=True):
    """A case that may cost so many times another at ``most``."""

    case: str
    other: str
    most: float


BESIDE = (
    Beside("responses_deltas", "deltas", 1.3),
    Beside("responses_burst", "transcode_burst", 1.3),
    Beside("messages_deltas", "deltas", 1.3),
    Beside("messages_burst", "transcode_burst", 1.3),
)


def cases() -> list[Case]:
    """Return every case, ready to run."""
    plain, tools = question.plain(SMALL), question.with_tools(SMALL)
    responses, responses_tools = question.to_responses(plain), question.to_responses(tools)
    asked, asked_tools = question.to_messages(plain), question.to_messages(tools)
    stream = script.body(BURST)
    pieces = [stream[place : place + READ] for place in range(0, len(stream), READ)]
    return [
        Case("convert", "a small request, bytes to bytes", 100, lambda: convert(plain)),
        Case("convert_tools", "an 80 kB request with 30 tools known before", 8, lambda: convert(tools)),
        Case("schema_cached", "the schema of a tool, known before", 2000, _same_schema(tools)),
        Case("schema_cold", "the schema of a tool, never seen", 20, _new_schemas(tools)),
        Case("transcode_burst", "1,000 frames that come back to back", 1, lambda: transcode(pieces)),
        Case("transcode_paced", "1,000 frames that come one by one", 1, lambda: transcode(script.frames(BURST))),
        Case("deltas", "1,900 chunks of text, written alone", 2, _deltas(_chunks)),
        Case("fold", "a small unary answer", 100, lambda: fold(script.body(SMALL))),
        Case("responses_convert", "a small request of Responses", 100, lambda: convert_responses(responses)),
        Case("responses_tools", "80 kB with 30 tools", 8, lambda: convert_responses(responses_tools)),
        Case("responses_burst", "1,000 frames back to back", 1, lambda: transcode(pieces, _stream(BURST))),
        Case("responses_deltas", "1,900 deltas of text, written alone", 2, _deltas(_stream)),
        Case("responses_fold", "a small unary answer", 100, lambda: fold(script.body(SMALL), Output(_heading(SMALL)))),
        Case("messages_convert", "a small request of Messages", 100, lambda: convert_messages(asked)),
        Case("messages_tools", "80 kB with 30 tools", 8, lambda: convert_messages(asked_tools)),
        Case("messages_burst", "1,000 frames back to back", 1, lambda: transcode(pieces, message_stream(BURST))),
        Case("messages_deltas", "1,900 deltas of text, written alone", 2, _deltas(message_stream)),
        Case("messages_fold", "a small unary answer", 100, lambda: fold(script.body(SMALL), Whole(_message(SMALL)))),
        Case("rotate_5", "acquire and report with 5 credentials", 400, _rotate(5)),
        Case("rotate_50", "the same with 50, 40 of them resting", 200, _rotate(50, cooldowns=40)),
    ]


_titles = itertools.count()
_ID = "0123456789abcdef01234567"
_ECHO = msgspec.json.encode(Echo())
_OPTIONS = Options()
_dialect = AiStudio("http://127.0.0.1:1/v1beta", "bench")
_token = Token("fake-bench-key")


def convert(body: bytes) -> bytes:
    """Return what goes upstream for a client's body."""
    asked = reading.decode(body)
    plan = conversion.to_call(asked, capabilities(asked.model), {}, None, Options(), stream=False)
    return _dialect.ask(plan.call, _token, 1_800_000_000.0).body


def convert_responses(body: bytes) -> bytes:
    """Return what goes upstream for a body of Responses; what the answer repeats of it is made, too."""
    asked = operation.read(Received(body, {}, question.RESPONSES), _OPTIONS)
    plan = asked.plan(_known(), Settled(capabilities(asked.model), asked.model, False, Effort(1 << 62)))
    return _dialect.ask(plan.calls[0], _token, 1_800_000_000.0).body


def convert_messages(body: bytes) -> bytes:
    """Return what goes upstream for a body of Messages."""
    asked = messages.read(Received(body, {}, question.MESSAGES), _OPTIONS)
    plan = asked.plan(_known(), Settled(capabilities(asked.model), asked.model, False, Effort(1 << 62)))
    return _dialect.ask(plan.calls[0], _token, 1_800_000_000.0).body


def transcode(pieces: tuple[bytes, ...] | list[bytes], writer: Writer | None = None) -> bytes:
    """Return what a client of a stream gets for the pieces of an upstream's, by default one of chat."""
    transcoder = _transcoder(writer or _chunks(BURST))
    written = [transcoder.feed(piece) or _late(transcoder) for piece in pieces]
    return b"".join((*written, transcoder.finish() or _late(transcoder)))


def _late(transcoder: Transcoder) -> bytes:
    """Do here what the server does beside its loop."""
    return transcoder.work() if transcoder.heavy else b""


def _deltas(writer: Callable[[Script], Writer]) -> Callable[[], None]:
    texts = [Text(0, text) for text in (script.texts(BURST) * 2)[:DELTAS]]

    def work() -> None:
        write = writer(BURST).write
        for text in texts:
            write(text)

    return work


def fold(body: bytes, writer: Writer | None = None) -> bytes:
    """Return what a client that wants JSON gets for an upstream's unary body, by default one of chat."""
    transcoder = _transcoder(writer or ChatCompletionFold(_envelope(SMALL)))
    return transcoder.feed(body) + (transcoder.finish() or _late(transcoder))


def _chunks(played: Script) -> ChatChunkWriter:
    return ChatChunkWriter(_envelope(played))


def _stream(played: Script) -> Stream:
    return Stream(_heading(played))


def _heading(played: Script) -> responses_heading.Heading:
    return responses_heading.Heading(_ID, 1_800_000_000, lambda: 1_800_000_001.0, played.model, _ECHO)


def message_stream(played: Script) -> MessageStream:
    """Return what writes a stream of Messages."""
    return MessageStream(_message(played), Opening())


def _message(played: Script) -> messages_heading.Heading:
    return messages_heading.Heading(_ID, played.model, lambda: "x")


def _known() -> Known:
    return Known(_ID, 1_800_000_000, lambda: "call_0", options=_OPTIONS)


def _envelope(played: Script) -> Heading:
    return Heading(f"chatcmpl-{_ID}", 1_800_000_000, played.model, f"ai_studio/{played.model}")


def _transcoder(writer: Writer) -> Transcoder:
    reader = AnswerReader(lambda: "call_0")
    if isinstance(writer, messages_output.Output):
        writer.count_by(reader.usage)
    return Transcoder(_dialect.decode, reader, writer)


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
