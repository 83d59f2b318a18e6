"""One JSON document for another: nothing comes out before the whole is well."""

from __future__ import annotations

import msgspec
import pytest

from gemproxy.converter import document
from gemproxy.converter.document import Document
from gemproxy.converter.transcript import ErrorFrame, Usage
from gemproxy.errors import UpstreamFault
from gemproxy.load.weigh import SMALL_SIZE

COUNTED = b'{"totalTokens":7}'


def write(body: bytes) -> tuple[bytes, Usage]:
    tokens = msgspec.json.decode(body)["totalTokens"]
    return b"%d tokens" % tokens, Usage(prompt=tokens)


def test_the_document_is_written_at_its_end() -> None:
    made = Document(write)
    assert [made.feed(COUNTED[:5]), made.feed(COUNTED[5:])] == [b"", b""]
    assert made.held == len(COUNTED)
    assert (made.finish(), made.usage) == (b"7 tokens", Usage(prompt=7))
    made.check()


def test_a_large_document_is_written_beside_the_loop() -> None:
    made = Document(write)
    made.feed(b" " * SMALL_SIZE + COUNTED)
    assert (made.finish(), made.heavy) == (b"", True)
    assert (made.work(), made.heavy) == (b"7 tokens", False)


@pytest.mark.parametrize("body", [b"", b"<html>", COUNTED[:-1], b'{"totalTokens":"\xff"}', b"[" * 5000])
def test_what_cannot_be_read_is_a_fault_of_the_upstream(body: bytes) -> None:
    made = Document(write)
    made.feed(body)
    with pytest.raises(UpstreamFault, match="cannot be read"):
        made.finish()


def test_an_error_is_for_its_dialect_to_judge_and_a_word_is_none() -> None:
    made = Document(write)
    made.feed(b'{"error":{"code":503}}')
    with pytest.raises(ErrorFrame) as caught:
        made.finish()
    assert caught.value.body == b'{"error":{"code":503}}'
    well = Document(lambda body: (body, Usage()))
    well.feed(b'{"text":"an \\"error\\"","error":null}')
    assert well.finish()


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 10)
    made = Document(write)
    made.feed(b"x" * 10)
    with pytest.raises(UpstreamFault, match="larger than 10 bytes"):
        made.feed(b"x")
