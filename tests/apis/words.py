"""What the throw-away protocols share: failures in words, and a prompt that is the whole body."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from gemproxy import errors
from gemproxy.converter.api import Api, Format, Known, Options, Received, Reply, Settled, Wants
from gemproxy.converter.openai import OPENAI
from gemproxy.errors import Failure
from gemproxy.upstream.dialect import Call
from gemproxy.wire.gemini import Content, GenerateRequest, Part

FAILED = "\nfailed: "


def failure(fault: Failure, request_id: str) -> Reply:
    return Reply(fault.status, errors.headers(fault), failure_event(fault), "text/plain")


def failure_event(fault: Failure) -> bytes:
    return f"{FAILED}{fault.code}: {fault.message}".encode()


WORDS: Api = replace(OPENAI, name="words", failure=failure)
PLAIN = Format("text/plain", failure_event=failure_event)


class Prompt(Struct, frozen=True):
    """``POST /…/MODEL?stream``, and the body is what the user says."""

    model: str
    stream: bool
    text: str

    @classmethod
    def read(cls, received: Received, options: Options) -> Self:
        url = urlsplit(received.path)
        return cls(url.path.rpartition("/")[2], url.query.startswith("stream"), received.body.decode())

    def call(self, settled: Settled, more: str = "") -> Call:
        body = GenerateRequest([Content([Part(text=self.text + more)], "user")])
        return Call(settled.method, settled.model.id, body)

    def format(self, stream: bool, known: Known) -> Format:
        return PLAIN

    def wants(self, known: Known) -> Wants | None:
        return None
