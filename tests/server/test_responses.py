"""Responses as OpenAI's own package asks for them: answers, streams, what is kept, summaries, counts, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from gemproxy.converter.responses.compaction import ASK
from gemproxy.simulator import Answer, Reset, Simulator, frames_answer, google_errors, sse
from tests import openai_package as openai
from tests.responses_schema import problems, response_problems
from tests.running import KEY, Running, configuration, running

MODEL = "gemini-3.5-flash"
USER: Any = {"role": "user", "content": "Hello"}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


@cache
def book() -> Any:
    """Return a class as pydantic makes it, which takes as long to import as the package itself."""
    import pydantic

    return pydantic.create_model("Book", title=(str, ...), pages=(int, ...))


def lend() -> Any:
    """Return the tool of the chat API's helper, in the flat form of Responses."""
    return {"type": "function", **openai.pydantic_function_tool(book())["function"]}


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


def asked(simulator: Simulator) -> list[list[str]]:
    """Return the texts of each content of the last request to Gemini."""
    return [[part["text"] for part in content["parts"]] for content in simulator.requests[-1].json()["contents"]]


async def test_an_answer_and_its_stream(server: Running) -> None:
    async with server.openai() as client:
        answer = await client.responses.create(model=MODEL, input="Hello", metadata={"a": "b"}, temperature=0.5)
        assert (answer.status, answer.object, answer.error) == ("completed", "response", None)
        assert answer.output_text == "Hello from the simulated Gemini. You said: Hello"
        assert (answer.metadata, answer.temperature, answer.top_p) == ({"a": "b"}, 0.5, 1.0)
        async with client.responses.stream(model=MODEL, input="Hello") as stream:
            told = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
            assert (await stream.get_final_response()).output_text == told == answer.output_text


async def test_the_client_that_waits_gets_the_same(server: Running) -> None:
    def ask(client: openai.OpenAI) -> list[str]:
        answer = client.responses.create(model=MODEL, input="Hello")
        with client.responses.stream(model=MODEL, input="Hello") as stream:
            told = stream.get_final_response()
        events = client.responses.create(model=MODEL, input="Hello", stream=True)
        pieces = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        return [answer.output_text, client.responses.retrieve(answer.id).output_text, told.output_text, pieces]

    plain = openai.DefaultHttpxClient(verify=False)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, http_client=plain) as client:
        assert await asyncio.to_thread(ask, client) == ["Hello from the simulated Gemini. You said: Hello"] * 4


async def test_the_answer_as_it_came(server: Running) -> None:
    async with server.openai() as client:
        raw = await client.responses.with_raw_response.create(model=MODEL, input="Hello")
        assert raw.headers["x-request-id"]
        assert raw.parse().output_text == "Hello from the simulated Gemini. You said: Hello"
        assert response_problems(msgspec.json.decode(raw.text)) == []
        async with client.responses.with_streaming_response.create(model=MODEL, input="Hello", stream=True) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert (await anext(stream.iter_lines())) == "event: response.created"


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_a_typed_answer(server: Running, simulator: Simulator, streamed: bool) -> None:
    async with server.openai() as client:
        if streamed:
            async with client.responses.stream(model=MODEL, input="A book", text_format=book()) as stream:
                answer = await stream.get_final_response()
        else:
            answer = await client.responses.parse(model=MODEL, input="A book", text_format=book())
    assert isinstance(answer.output_parsed, book())
    given = simulator.requests[-1].json()["generationConfig"]["responseJsonSchema"]
    assert set(given["properties"]) == {"title", "pages"}


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "unary"])
async def test_a_call_with_arguments_that_are_read(server: Running, simulator: Simulator, streamed: bool) -> None:
    asked: Any = {"model": MODEL, "input": "call Book", "tools": [lend()]}
    grown = ""
    async with server.openai() as client:
        if streamed:
            async with client.responses.stream(**asked) as stream:
                async for event in stream:
                    if event.type == "response.function_call_arguments.delta":
                        grown = event.snapshot
                answer = await stream.get_final_response()
        else:
            answer = await client.responses.parse(**asked)
    [call] = answer.output
    assert call.type == "function_call"
    assert call.parsed_arguments == {"title": "sample title", "pages": 1}
    assert grown == (call.arguments if streamed else "")
    assert [tool["name"] for tool in simulator.requests[-1].json()["tools"][0]["functionDeclarations"]] == ["Book"]


async def test_a_tool_that_waits_for_a_search_is_called_as_openai_calls_it(
    server: Running, simulator: Simulator
) -> None:
    """In a namespace of its own name, by which clients know that it was found."""
    tools: list[Any] = [
        {**lend(), "name": "lend", "defer_loading": True},
        {**lend(), "name": "buy"},
        {"type": "tool_search"},
    ]
    items: list[Any] = [{"role": "user", "content": "call lend and buy"}]
    async with server.openai() as client:
        calls: list[Any] = (await client.responses.create(model=MODEL, input=items, tools=tools)).output
        assert [(call.name, call.namespace) for call in calls] == [("lend", "lend"), ("buy", None)]
        items += [call.to_dict() for call in calls]
        items += [{"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in calls]
        await client.responses.create(model=MODEL, input=items, tools=tools)
    sent = simulator.requests[-1].json()
    assert [tool["name"] for tool in sent["tools"][0]["functionDeclarations"]] == ["lend", "buy"]
    assert [part["functionCall"]["name"] for part in sent["contents"][1]["parts"]] == ["lend", "buy"]


async def test_what_was_asked_is_listed_page_by_page(server: Running) -> None:
    async with server.openai() as client:
        items: list[Any] = [{"role": "user", "content": str(number)} for number in range(5)]
        answer = await client.responses.create(model=MODEL, input=items)
        for order, expected in ("asc", "01234"), ("desc", "43210"):
            pages: Any = client.responses.input_items.list(answer.id, limit=2, order=order)
            assert "".join([item.content[0].text async for item in pages]) == expected


async def test_what_is_kept_is_given_back_listed_and_forgotten(server: Running, simulator: Simulator) -> None:
    async with server.openai() as client:
        first = await client.responses.create(model=MODEL, input="Hello")
        assert (await client.responses.retrieve(first.id)).to_dict() == first.to_dict()
        [item] = (await client.responses.input_items.list(first.id)).to_dict()["data"]
        assert item["content"] == [{"type": "input_text", "text": "Hello"}]
        second = await client.responses.create(
            model=MODEL, input="And?", previous_response_id=first.id, instructions="Be brief."
        )
        assert second.previous_response_id == first.id
        assert asked(simulator) == [["Hello"], [first.output_text], ["And?"]]
        await client.responses.create(model=MODEL, input="So?", previous_response_id=second.id)
        assert "systemInstruction" not in simulator.requests[-1].json(), "instructions are those of one request"
        assert len(asked(simulator)) == 5
        with pytest.raises(openai.BadRequestError):
            await client.responses.cancel(first.id)
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model=MODEL, input="And?", previous_response_id=second.id)
        assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_an_item_that_is_named_by_its_id_is_found(server: Running, simulator: Simulator) -> None:
    async with server.openai() as client:
        first = await client.responses.create(model=MODEL, input="Hello")
        reference: Any = {"type": "item_reference", "id": first.output[0].id}
        await client.responses.create(model=MODEL, input=[USER, reference, USER])
        assert asked(simulator) == [["Hello"], [first.output_text], ["Hello"]]


async def test_what_is_not_to_be_kept_is_not(server: Running) -> None:
    async with server.openai() as client:
        answer = await client.responses.create(model=MODEL, input="Hello", store=False)
        assert answer.store is False
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)


async def test_nothing_is_kept_where_the_operator_says_so(simulator: Simulator, tmp_path: Path) -> None:
    config = configuration(simulator, tmp_path, '[responses]\nkeep = "off"\n')
    async with running(simulator, config) as server, server.openai() as client:
        answer = await client.responses.create(model=MODEL, input="Hello")
        with pytest.raises(openai.BadRequestError, match=r"responses\.keep"):
            await client.responses.create(model=MODEL, input="And?", previous_response_id=answer.id)


async def test_another_clients_response_is_as_if_it_were_not_there(simulator: Simulator, tmp_path: Path) -> None:
    clients = "".join(f'[[auth.clients]]\nname = "{name}"\nkey = "sk-{name}"\n' for name in ("one", "two"))
    async with running(simulator, configuration(simulator, tmp_path, clients)) as server:
        url = f"{server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-one", max_retries=0) as one:
            answer = await one.responses.create(model=MODEL, input="Hello")
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-two", max_retries=0) as two:
            for ask in (two.responses.retrieve, two.responses.delete, two.responses.cancel):
                with pytest.raises(openai.NotFoundError):
                    await ask(answer.id)
            with pytest.raises(openai.BadRequestError) as caught:
                await two.responses.create(model=MODEL, input="And?", previous_response_id=answer.id)
            assert caught.value.code == "previous_response_not_found"


async def test_a_stream_that_breaks_ends_in_a_failed_response(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    async with server.openai() as client:
        stream = await client.responses.create(model=MODEL, input="Hello", stream=True)
        events = [event async for event in stream]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None
    assert events[-1].response.error.code == "server_error"
    assert events[-1].response.output == []


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        pytest.param(1, " Please try again in 7s.", id="as long as nobody can serve"),
        pytest.param(2, "", id="at once if somebody can"),
    ],
)
async def test_a_limit_in_mid_stream_says_how_long_to_wait(
    simulator: Simulator, tmp_path: Path, keys: int, hint: str
) -> None:
    limit = google_errors.quota(MODEL, "Minute", limit=5, delay="7s").body()
    simulator.script(frames_answer([FRAME]).then(sse(limit)))
    async with running(simulator, configuration(simulator, tmp_path, keys=keys)) as server, server.openai() as client:
        stream = await client.responses.create(model=MODEL, input="Hello", stream=True)
        last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "rate_limit_exceeded"
    assert last.response.error.message == f"The upstream's quota per minute for this model is used up.{hint}"


async def test_a_websocket_is_refused_in_the_way_that_clients_understand(server: Running) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Authorization": "Bearer sk-test"}
    async with server.session.get(f"{server.url}/v1/responses", headers=headers) as answer:
        assert answer.status == 426
        assert (await answer.json())["error"]["message"]


async def test_tokens_are_counted_by_gemini(server: Running, simulator: Simulator) -> None:
    async with server.openai() as client:
        counted = await client.responses.input_tokens.count(model=MODEL, input="Hello")
    assert counted.input_tokens > 0
    assert simulator.requests[-1].path.endswith(":countTokens")


async def test_a_conversation_is_summed_up_and_gone_on_with(server: Running, simulator: Simulator) -> None:
    status, body = await server.post("/v1/responses/compact", {"model": MODEL, "input": "Hello"})
    assert status == 200
    assert problems("CompactResource", msgspec.json.decode(body)) == []
    async with server.openai() as client:
        made = await client.responses.compact(model=MODEL, input="Hello")
        assert made.object == "response.compaction"
        assert asked(simulator) == [["Hello", ASK]]
        user, summary = msgspec.json.decode(body)["output"]
        assert user["content"] == [{"type": "input_text", "text": "Hello"}]
        assert summary["type"] == "compaction"
        await client.responses.create(model=MODEL, input=[user, summary, {"role": "user", "content": "So?"}])
        [[first, told, last]] = asked(simulator)
        assert (first, last) == ("Hello", "So?")
        assert "Hello from the simulated Gemini" in told


async def test_a_conversation_that_is_kept_is_summed_up_with_what_the_user_said(server: Running) -> None:
    async with server.openai() as client:
        first = await client.responses.create(model=MODEL, input="Hello")
        second = await client.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
        made = await client.responses.with_raw_response.compact(model=MODEL, previous_response_id=second.id)
    *said, summary = msgspec.json.decode(made.text)["output"]
    assert [item["content"] for item in said] == [[{"type": "input_text", "text": text}] for text in ("Hello", "And?")]
    assert len({item["id"] for item in said}) == 2
    assert summary["type"] == "compaction"


async def test_a_trigger_makes_one_summary_and_nothing_else(server: Running, simulator: Simulator) -> None:
    trigger: Any = {"type": "compaction_trigger"}
    tool: Any = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
    async with server.openai() as client:
        stream = await client.responses.create(
            model=MODEL, input=[USER, trigger], tools=[tool], stream=True, store=False
        )
        events = [event async for event in stream]
    assert [event.type.removeprefix("response.") for event in events] == [
        *("created", "in_progress", "output_item.added", "output_item.done", "completed")
    ]
    assert events[-1].type == "response.completed"
    assert [item.type for item in events[-1].response.output] == ["compaction"]
    assert "tools" not in simulator.requests[-1].json()


async def test_a_summary_that_was_cut_off_is_none(server: Running, simulator: Simulator) -> None:
    cut: Answer = frames_answer([FRAME, {"candidates": [{"finishReason": "MAX_TOKENS"}]}])
    simulator.script(cut, times=None)
    async with server.openai() as client:
        with pytest.raises(openai.InternalServerError):
            await client.responses.compact(model=MODEL, input="Hello")


@pytest.mark.parametrize(("allowed", "status"), [('["127.0.0.1"]', 200), ("[]", 400)])
async def test_a_file_by_address_is_fetched_if_it_may_be(
    simulator: Simulator, tmp_path: Path, aiohttp_server: Any, allowed: str, status: int
) -> None:
    async def document(request: web.Request) -> web.Response:
        return web.Response(body=b"%PDF-1.4 Hello", content_type="application/octet-stream")

    app = web.Application()
    app.router.add_get("/a", document)
    url = str((await aiohttp_server(app)).make_url("/a"))
    content = [{"type": "input_text", "text": "Read."}, {"type": "input_file", "file_url": url}]
    config = configuration(simulator, tmp_path, f"[images]\nallow_hosts = {allowed}\n")
    async with running(simulator, config) as server:
        sent = {"model": MODEL, "input": [{"role": "user", "content": content}]}
        got, body = await server.post("/v1/responses", sent)
    assert got == status
    if status == 400:
        assert msgspec.json.decode(body)["error"]["param"] == "input[0].content[1]"
        assert simulator.generations == []
    else:
        part = simulator.generations[0].json()["contents"][0]["parts"][1]
        assert part == {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjQgSGVsbG8="}}


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-3-pro-image"])
@pytest.mark.parametrize("kept", [False, True], ids=["sent back", "kept"])
async def test_an_image_can_be_asked_to_be_changed(
    server: Running, simulator: Simulator, model: str, kept: bool
) -> None:
    drawing: dict[str, Any] = {"model": model, "tools": [{"type": "image_generation"}]}
    status, body = await server.post("/v1/responses", drawing | {"input": "Draw a cat."})
    first = msgspec.json.decode(body)
    [image] = [item for item in first["output"] if item["type"] == "image_generation_call"]
    further: dict[str, Any] = {"input": "Make it blue.", "previous_response_id": first["id"]}
    if not kept:
        further = {"input": [{"role": "user", "content": "Draw a cat."}, *first["output"], USER], "store": False}
    status, body = await server.post("/v1/responses", drawing | further)
    assert status == 200, body
    contents = simulator.generations[-1].json()["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user"]
    assert [part["inlineData"]["data"] for part in contents[1]["parts"] if "inlineData" in part] == [image["result"]]
