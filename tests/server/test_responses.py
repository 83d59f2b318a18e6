from __future__ import annotations

import openai
import pytest

from gemproxy.simulator import Simulator
from tests.running import running


async def test_a_client_gets_an_answer(simulator: Simulator) -> None:
    async with running(simulator) as server, server.openai() as client:
        answer = await client.responses.create(model="gemini-3.5-flash", input="Hello")
        assert answer.status == "completed"
        assert answer.output_text
        stream = await client.responses.create(model="gemini-3.5-flash", input="Hello", stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        got = await client.responses.retrieve(answer.id)
        assert got.model_dump() == answer.model_dump()
        items = await client.responses.input_items.list(answer.id)
        print(items)
        again = await client.responses.create(model="gemini-3.5-flash", input="And?", previous_response_id=answer.id)
        print(again.output_text, simulator.requests[-1].json()["contents"])
        assert again.previous_response_id == answer.id
        await client.responses.delete(answer.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="gemini-3.5-flash", input="And?", previous_response_id=again.id)
        print(caught.value.body)


async def test_a_websocket_is_refused_in_the_way_that_clients_understand(simulator: Simulator) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Authorization": "Bearer sk-test"}
    async with (
        running(simulator) as server,
        server.session.get(f"{server.url}/v1/responses", headers=headers) as answer,
    ):
        assert answer.status == 426
        assert (await answer.json())["error"]["message"]


async def test_a_conversation_is_summed_up(simulator: Simulator) -> None:
    async with running(simulator) as server, server.openai() as client:
        made = await client.responses.compact(model="gemini-3.5-flash", input="Hello")
        print(made)
        counted = await client.responses.input_tokens.count(model="gemini-3.5-flash", input="Hello")
        print(counted)
        trigger = {"type": "compaction_trigger"}
        stream = await client.responses.create(
            model="gemini-3.5-flash", input=[{"role": "user", "content": "Hello"}, trigger], stream=True, store=False
        )
        events = [event async for event in stream]
        print([event.type for event in events])
        again = await client.responses.create(
            model="gemini-3.5-flash",
            input=[*made.model_dump(warnings=False)["output"], {"role": "user", "content": "So?"}],
        )
        print(simulator.requests[-1].json()["contents"], again.status)
