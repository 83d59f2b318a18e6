"""instructor, which gets typed answers out of any chat model: by tools, JSON or schema, whole, in part, in series.

Needs the extra ``clients-pinned``.
"""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from gemproxy.simulator import Simulator, unary_answer
from gemproxy.simulator.model import PIXEL
from tests import openai_package as openai

instructor = pytest.importorskip("instructor", reason="needs the extra clients-pinned: instructor")

BOTH = pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])


class Book(pydantic.BaseModel):
    """A book in a library."""

    title: str
    pages: int
    tags: list[str]


def client(openai_client: openai.AsyncOpenAI, mode: str) -> Any:
    return instructor.from_openai(openai_client, mode=instructor.Mode[mode])


def ask(text: str) -> list[Any]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


@BOTH
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
async def test_a_typed_answer(openai_client: openai.AsyncOpenAI, model: str, mode: str) -> None:
    book = await client(openai_client, mode).create(model=model, messages=ask("A book"), response_model=Book)
    assert isinstance(book, Book)
    assert book.title == "sample title"


@BOTH
@pytest.mark.parametrize("mode", ["JSON", "MD_JSON"])
async def test_a_typed_answer_from_plain_json(
    openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str, mode: str
) -> None:
    """These modes tell the schema in words, which the simulated model does not read."""
    text = '{"title": "t", "pages": 3, "tags": []}'
    parts = [{"text": f"```json\n{text}\n```" if mode == "MD_JSON" else text}]
    simulator.script(unary_answer({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}))
    book = await client(openai_client, mode).create(model=model, messages=ask("A book"), response_model=Book)
    assert book.model_dump() == {"title": "t", "pages": 3, "tags": []}


@BOTH
async def test_a_wrong_answer_is_asked_for_again(
    openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str
) -> None:
    """The second request repeats the call and tells what was wrong with it as its result."""
    call = {"functionCall": {"name": "Book", "args": {"title": "t", "pages": "many", "tags": []}}}
    simulator.script(unary_answer({"candidates": [{"content": {"parts": [call]}, "finishReason": "STOP"}]}))
    book = await client(openai_client, "TOOLS").create(
        model=model, messages=ask("A book"), response_model=Book, max_retries=2
    )
    assert isinstance(book, Book)
    assert [request.status for request in simulator.generations] == [200, 200]
    told = simulator.generations[1].json()["contents"]
    assert "valid integer" in str(told[2]["parts"][0]["functionResponse"]["response"])


@BOTH
async def test_a_partial_answer_grows(openai_client: openai.AsyncOpenAI, model: str) -> None:
    stream = client(openai_client, "TOOLS").create_partial(model=model, messages=ask("A book"), response_model=Book)
    books = [book async for book in stream]
    assert books[-1].title == "sample title"


@BOTH
async def test_a_series_of_answers(openai_client: openai.AsyncOpenAI, model: str) -> None:
    stream = client(openai_client, "TOOLS").create_iterable(model=model, messages=ask("Books"), response_model=Book)
    books = [book async for book in stream]
    assert len(books) > 1
    assert all(isinstance(book, Book) for book in books)


@BOTH
async def test_an_answer_with_its_usage(openai_client: openai.AsyncOpenAI, model: str) -> None:
    _, completion = await client(openai_client, "TOOLS").create_with_completion(
        model=model, messages=ask("A book"), response_model=Book
    )
    assert completion.usage.total_tokens > 0


@BOTH
async def test_a_picture_is_seen(openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str) -> None:
    picture = instructor.Image.from_base64(f"data:image/png;base64,{PIXEL}")
    messages: list[Any] = [{"role": "user", "content": ["Which book?", picture]}]
    book = await client(openai_client, "TOOLS").create(model=model, messages=messages, response_model=Book)
    assert isinstance(book, Book)
    [turn] = simulator.generations[0].json()["contents"]
    assert turn["parts"][1]["inlineData"]["mimeType"] == "image/png"
