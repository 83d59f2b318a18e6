"""The smallest typed converter, ``python -m bench.typed http://upstream port``: the other end of the scale.

aiohttp on both sides as in the forwarder, each JSON answer's body decoded into Structs, converted and encoded. It knows
one form of question and one of answer, and no key, log, rotation, failure or stream. What it costs above the forwarder
nobody saves who reads what is passed on; what gemproxy costs above it is the price of all else.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
from aiohttp import web
from msgspec import Struct

from bench.forwarder import SESSION, UPSTREAM, main


class Said(Struct):
    role: str
    content: str
    refusal: None = None


class Question(Struct):
    model: str
    messages: list[Said]
    temperature: float | None = None
    max_tokens: int | None = None


class Part(Struct):
    text: str = ""


class Content(Struct, omit_defaults=True):
    parts: list[Part] = []
    role: str | None = None


class Generation(Struct, rename="camel", omit_defaults=True):
    temperature: float | None = None
    max_output_tokens: int | None = None


class Asked(Struct, rename="camel", omit_defaults=True):
    contents: list[Content]
    system_instruction: Content | None = None
    generation_config: Generation | None = None


class Candidate(Struct, rename="camel"):
    content: Content
    finish_reason: str = "STOP"


class Counts(Struct, rename="camel"):
    prompt_token_count: int = 0
    candidates_token_count: int = 0


class Answer(Struct, rename="camel"):
    candidates: list[Candidate]
    usage_metadata: Counts
    model_version: str = ""


class Choice(Struct):
    index: int
    message: Said
    finish_reason: str
    logprobs: None = None


class Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(Struct):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str
    object: str = "chat.completion"


_question = msgspec.json.Decoder(Question).decode
_answer = msgspec.json.Decoder(Answer).decode
_json = msgspec.json.Encoder().encode


async def convert(request: web.Request) -> web.Response:
    """Answer one question."""
    question = _question(await request.read())
    url = f"{request.app[UPSTREAM]}/v1beta/models/{question.model}:generateContent"
    headers = {"x-goog-api-key": "fake-bench-key", "Content-Type": "application/json"}
    async with request.app[SESSION].post(url, data=_json(asked(question)), headers=headers) as answer:
        completion = said(question.model, _answer(await answer.read()))
    return web.Response(body=_json(completion), content_type="application/json")


def asked(question: Question) -> Asked:
    """Return Gemini's form of a question."""
    system = [Part(message.content) for message in question.messages if message.role == "system"]
    contents = [Content([Part(message.content)], "user") for message in question.messages if message.role == "user"]
    return Asked(contents, Content(system), Generation(question.temperature, question.max_tokens))


def said(model: str, answer: Answer) -> Completion:
    """Return OpenAI's form of an answer."""
    text = "".join([part.text for part in answer.candidates[0].content.parts])
    prompt, visible = answer.usage_metadata.prompt_token_count, answer.usage_metadata.candidates_token_count
    choices = [Choice(0, Said("assistant", text), "stop")]
    return Completion("chatcmpl-1", 1, model, choices, Usage(prompt, visible, prompt + visible), answer.model_version)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), convert))
