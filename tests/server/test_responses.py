"""Responses as OpenAI's own package asks for them: answers, streams, what is kept, summaries, counts, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from gemproxy.converter.responses.compaction import ASK
from gemproxy.simulator import Answer, Reset, Simulator, frames_answer, google_errors, sse
from tests.responses_schema import problems
from tests.running import Running, configuration, running

MODEL = "gemini-3.5-flash"
USER: Any = {"role": "user", "content": "Hello"}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


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
