from __future__ import annotations

from gemproxy.simulator import Simulator
from tests.running import running


async def test_a_client_gets_an_answer(simulator: Simulator) -> None:
    async with running(simulator) as server, server.openai() as client:
        answer = await client.responses.create(model="gemini-3.5-flash", input="Hello")
        print(answer)
        assert answer.status == "completed"
        assert answer.output_text
        events = [
            event async for event in await client.responses.create(model="gemini-3.5-flash", input="Hello", stream=True)
        ]
        print([event.type for event in events])
        assert events[-1].type == "response.completed"
