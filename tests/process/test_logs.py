"""The log as operators read it: one line a record, plain or JSON, without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gemproxy.converter.transcript import Usage
from gemproxy.process import logs
from gemproxy.redaction import held
from gemproxy.server.access_log import Access
from gemproxy.server.context import Context, request_id, shortened
from tests.waiting import soon


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("gemproxy.x", logging.WARNING, "f.py", 1, message, (), None)
    made.created = 1_800_000_000.25
    made.__dict__.update(extra)
    return made


def test_plain_line_begins_with_the_time() -> None:
    line = logs.Plain(journal=False).format(record("hello"))
    assert line == "2027-01-15T08:00:00.250Z WARNING gemproxy.x hello"


def test_journal_line_begins_with_the_priority() -> None:
    assert logs.Plain(journal=True).format(record("hello")) == "<4>gemproxy.x hello"


def test_json_line_in_the_journal_begins_with_the_priority_too() -> None:
    prefix, brace, rest = logs.JsonLines(journal=True).format(record("hello")).partition("{")
    assert (prefix, msgspec.json.decode(brace + rest)["message"]) == ("<4>", "hello")


def test_json_line_holds_the_fields() -> None:
    assert msgspec.json.decode(logs.JsonLines().format(record("hello"))) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "logger": "gemproxy.x",
        "message": "hello",
    }
    line = msgspec.json.decode(logs.JsonLines().format(record("a=1", fields={"a": 1, "status": 200})))
    assert (line["a"], line["status"], "message" in line) == (1, 200, False)


@pytest.mark.parametrize("formatter", [logs.Plain(journal=False), logs.JsonLines()])
def test_what_looks_like_a_secret_is_taken_out(formatter: logging.Formatter) -> None:
    key = "AIzaSy" + "FAKE" * 8 + "0"
    assert key not in formatter.format(record(f"refused {key}"))
    try:
        raise ValueError(f"inner {key}")
    except ValueError:
        failed = record("failed")
        failed.exc_info = sys.exc_info()
    shown = formatter.format(failed)
    assert "ValueError" in shown
    assert key not in shown


@pytest.mark.parametrize("formatter", [logs.Plain(journal=False), logs.JsonLines()])
def test_no_line_is_longer_than_a_reader_has_use_for(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("y" * 100_000)
    except ValueError:
        failed = record("x y" * 100_000)
        failed.exc_info = sys.exc_info()
    shown = formatter.format(failed)
    assert "ValueError" in shown
    assert max(map(len, shown.split("\n"))) < 10_000
    assert len(shown) < 20_000


def test_a_held_secret_is_cut_out_before_its_line_end_is_escaped() -> None:
    held.hold("test of the log", ["fake-held-secret-0001"])
    assert logs.Plain(journal=True).format(record("no fake-held-\nsecret-0001\n!")) == "<4>gemproxy.x no [secret]\\n!"


def test_configure_sets_the_level_of_gemproxy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    access = logging.getLogger("gemproxy.access")
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("debug", "json")
        assert logging.getLogger("gemproxy").level == logging.DEBUG
        assert root.level == logging.WARNING
        assert isinstance(root.handlers[0].formatter, logs.JsonLines)
    finally:
        root.handlers[:] = handlers
        access.handlers[:], access.propagate = [], True
        root.setLevel(level)
        logging.getLogger("gemproxy").setLevel(logging.NOTSET)


@contextlib.contextmanager
def journal(folder: Path) -> Iterator[socket.socket]:
    """Listen in the place of the journal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "stdout"))
        listener.listen()
        listener.settimeout(5)
        yield listener


def test_access_lines_reach_the_journal_under_an_identifier_of_their_own(tmp_path: Path) -> None:
    with journal(tmp_path) as listener:
        stream = logs.journal_stream("gemproxy-access", str(tmp_path / "stdout"))
        assert stream is not None
        handler = logs.Batches(stream)
        handler.setFormatter(logs.Plain(journal=True))
        handler.handle(record("hello"))
        heard, _ = listener.accept()
        with heard:
            heard.settimeout(5)
            assert heard.recv(4096) == b"gemproxy-access\n\n6\n1\n0\n0\n0\n<4>gemproxy.x hello\n", (
                "sd_journal_stream_fd(3)"
            )
        stream.close()


def test_access_lines_go_the_common_way_once_the_journal_is_gone(tmp_path: Path) -> None:
    spare = io.StringIO()
    with journal(tmp_path) as listener:
        stream = logs.journal_stream("gemproxy-access", str(tmp_path / "stdout"))
        assert stream is not None
        handler = logs.Batches(stream, spare)
        listener.accept()[0].close()
    for word in ("one", "two"):
        handler.handle(record(word))
    assert spare.getvalue() == "one\ntwo\n"
    with contextlib.suppress(OSError):
        stream.close()


def test_without_a_journal_there_is_no_stream_to_it(tmp_path: Path) -> None:
    assert logs.journal_stream("gemproxy-access", str(tmp_path / "stdout")) is None


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param("{dev}:{ino}", True, id="standard error is the journal's"),
        pytest.param("9:9", False, id="it was sent elsewhere"),
        pytest.param(None, False, id="no journal"),
    ],
)
def test_the_journal_is_where_standard_error_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, expected: bool
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with (tmp_path / "log").open("w") as sink:
        found = os.fstat(sink.fileno())
        if named is not None:
            monkeypatch.setenv("JOURNAL_STREAM", named.format(dev=found.st_dev, ino=found.st_ino))
        assert logs.to_journal(sink) is expected
    assert logs.to_journal(io.StringIO()) is False


async def test_lines_of_a_moment_are_written_together_and_warnings_at_once() -> None:
    class Counted(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    sink = Counted()
    handler = logs.Batches(sink)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for number in range(10):
        quiet = record(f"line {number}")
        quiet.levelno = logging.INFO
        handler.handle(quiet)
    assert sink.writes == 0
    await soon(lambda: sink.writes)
    assert (sink.writes, sink.getvalue().count("\n")) == (1, 10)
    handler.handle(record("now"))
    assert sink.getvalue().endswith("line 9\nnow\n")


def test_without_a_loop_a_line_is_written_at_once() -> None:
    sink = io.StringIO()
    handler = logs.Batches(sink)
    quiet = record("hello")
    quiet.levelno = logging.INFO
    handler.handle(quiet)
    assert sink.getvalue() == "hello\n"


@pytest.mark.parametrize("fault", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), ValueError("closed file")])
async def test_a_log_that_cannot_be_written_ends_nobodys_answer(fault: Exception) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            tried.set()
            raise fault

    tried, uncaught = asyncio.Event(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(context))
    handler = logs.Batches(Broken())
    quiet = record("later")
    quiet.levelno = logging.INFO
    handler.handle(quiet)
    await asyncio.wait_for(tried.wait(), 5)
    handler.handle(record("now"))
    assert uncaught == []


def test_access_line_tells_the_request() -> None:
    context = Context("req_1", float, 10.0, "POST", "/v1/chat/completions", client="ci", model="m", stream=True)
    context.first_byte, context.usage, context.finish, context.status = 10.25, Usage(3, 4), "stop", 200
    access = Access(logging.INFO, context, 10.5)
    assert access.getMessage() == (
        "id=req_1 client=ci method=POST path=/v1/chat/completions status=200 model=m stream=true credential=- "
        "attempts=0 first_ms=250 total_ms=500 tokens_in=3 tokens_out=4 finish=stop error=-"
    )
    assert " ".join(f"{key}={value}" for key, value in access.fields.items()) == access.getMessage()


@pytest.mark.parametrize("evil", ["a b", "a\nfake=1", 'a"b', "a\x1b[31m", "\u202e"])
def test_no_client_can_write_a_line_of_its_own(evil: str) -> None:
    line = Access(logging.INFO, Context("req_1", float, 0.0, "GET", evil), 1.0).getMessage()
    assert line.isprintable()
    assert line.count("=") - evil.count("=") == line.count(" ") + 1 == 15


def test_a_strangers_word_has_an_end() -> None:
    assert shortened("/" + "p" * 8_000) == "/" + "p" * 199 + "..."
    assert shortened("GET", 20) == "GET"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1._Z", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False), ("é", False)],
)
def test_only_harmless_request_ids_are_kept(given: str, kept: bool) -> None:
    assert (request_id(given) == given) is kept
    assert request_id(None).startswith("req_")
