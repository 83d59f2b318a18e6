"""Home Assistant's agent for conversations, as it asks and reads: it takes an answer apart into contents of its own,
runs a tool as soon as its call is whole, and sends back what it made of that. Two calls of one answer thus go back one
after the other, each with its result.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gemproxy.simulator import KeyState, Reset, Simulator, frames_answer
from gemproxy.simulator.model import PIXEL
from tests import openai_package as openai
from tests.clients.test_signature_journeys import ASKED, NAMES, SKIP, STEPS, signed, statuses
from tests.running import Running, configuration, running

MODELS = pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])
SEARCH = {"type": "web_search_preview", "search_context_size": "medium"}
TOOLS: list[Any] = [
    *({"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False} for name in NAMES)
]
ALIAS = '[models.aliases]\n"gpt-5-mini" = "gemini-3.5-flash"\n'
PAPER = "data:application/pdf;base64,JVBERi0xLjQK"


class ToldError(Exception):
    """What the user is told."""


class Content(Struct):
    """What one content of the log holds: words, thoughts, calls, or what is carried for the service."""

    text: str = ""
    thoughts: str = ""
    calls: list[Any] = []
    carried: Any = None

    def items(self) -> list[Any]:
        """Return what goes back of it, results last."""
        said: list[Any] = [{"type": "message", "role": "assistant", "content": self.text}] if self.text else []
        for call in self.calls:
            arguments = msgspec.json.encode(msgspec.json.decode(call.arguments)).decode()
            said.append({"type": "function_call", "name": call.name, "arguments": arguments, "call_id": call.call_id})
        if self.carried is not None and self.carried.type == "image_generation_call":
            said.append(self.carried.to_dict())
        elif self.carried is not None:
            summary = [{"type": "summary_text", "text": self.thoughts}] if self.thoughts else []
            sealed = self.carried.encrypted_content
            said.append({"type": "reasoning", "id": self.carried.id, "summary": summary, "encrypted_content": sealed})
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": '{"done": true}'} for call in self.calls
        ]
        return said + results


class Agent:
    """One conversation; ``items`` are all that was said."""

    def __init__(self, server: Running, model: str, *, search: bool = False, **options: Any) -> None:
        self.items: list[Any] = [{"type": "message", "role": "developer", "content": "Be brief."}]
        self.tools = [*TOOLS, SEARCH] if search else TOOLS
        self.server = server
        self._asks = {"model": model, "max_output_tokens": 3000, "top_p": 1.0, "temperature": 1.0}
        self._asks |= {"user": "01CONVERSATION", "store": False, "stream": True} | options
        if model.startswith(("o", "gpt-5")):
            self._asks["reasoning"] = {"effort": "low", "summary": "auto"}
            self._asks |= {"include": ["reasoning.encrypted_content"], "text": {"verbosity": "medium"}}

    async def ask(self, content: Any, rounds: int = 10) -> list[Content]:
        """Say something, run the tools that are called; return what was heard last."""
        self.items.append({"type": "message", "role": "user", "content": content})
        return await self.go_on(rounds)

    async def go_on(self, rounds: int = 10) -> list[Content]:
        """Ask until no tool is called any more."""
        heard: list[Content] = []
        async with self.server.openai() as client:
            for _ in range(rounds):
                stream = await client.responses.create(**self._asks, input=self.items, tools=self.tools)
                heard = [content async for content in contents(stream)]
                self.items += [item for content in heard for item in content.items()]
                if not heard or not heard[-1].calls:
                    break
        return heard


async def contents(stream: AsyncIterator[Any]) -> AsyncIterator[Content]:
    """Yield what each content of an answer holds; a call is one of its own."""
    content, begun, call = Content(), False, None
    summary: int | None = None  # the last one of a thought; -1: it had none
    async for event in stream:
        if event.type == "response.output_item.added":
            kind = event.item.type
            if kind in ("function_call", "message") or (kind == "reasoning" and summary is not None) or not begun:
                if content != Content():
                    yield content
                content, begun, summary = Content(), True, None
            call = event.item
        elif event.type == "response.output_item.done" and event.item.type == "reasoning":
            assert content.carried is None, "a second one would be lost"
            content.carried, summary = event.item, len(event.item.summary) - 1
        elif event.type == "response.output_item.done" and event.item.type == "image_generation_call":
            content.carried, summary = event.item, -1
        elif event.type == "response.output_text.delta":
            content.text += event.delta
        elif event.type == "response.reasoning_summary_text.delta":
            if summary not in (None, event.summary_index):
                yield content
                content = Content()
            content.thoughts, summary = content.thoughts + event.delta, event.summary_index
        elif event.type == "response.function_call_arguments.delta":
            call.arguments += event.delta
        elif event.type == "response.function_call_arguments.done":
            content.calls.append(call)
        elif event.type == "response.incomplete":
            raise ToldError(event.response.incomplete_details.reason)
        elif event.type == "response.failed":
            raise ToldError(event.response.error.message)
    if content != Content():
        yield content


@MODELS
@pytest.mark.parametrize("search", [True, False], ids=["search beside the tools", "tools alone"])
async def test_five_steps_and_a_second_question(
    server: Running, simulator: Simulator, model: str, search: bool
) -> None:
    agent = Agent(server, model, search=search)
    [answer] = await agent.ask(ASKED)
    assert answer.text.startswith('The tools answered. alpha: {"done":true}; beta: {"done":true}; gamma')
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    [answer] = await agent.ask("Thank you")
    assert "Thank you" in answer.text
    assert statuses(simulator) == [200] * (STEPS + 2)
    sent = simulator.generations[-1].json()
    assert sent["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert ({"googleSearch": {}} in sent["tools"]) is (search and model != "gemini-2.5-flash")


async def test_calls_of_one_answer_stay_together(server: Running, simulator: Simulator) -> None:
    """They go back one by one; only the first of them was signed, and Gemini wants a signature on each step."""
    agent = Agent(server, "gemini-3.5-flash")
    await agent.ask("call alpha and beta and gamma then delta")
    kinds = [
        [part for content in request.json()["contents"] for part in map(_kinds, content["parts"])]
        for request in simulator.generations
    ]
    together = ["text", *["functionCall"] * 3, *["functionResponse"] * 3]
    assert kinds == [["text"], together, [*together, "functionCall", "functionResponse"]]
    assert signed(simulator.generations[-1]) == ["real", "real"]


def _kinds(part: dict[str, Any]) -> str:
    return next(key for key in part if key != "thoughtSignature")


async def test_thoughts_are_carried_over_a_restart(simulator: Simulator, tmp_path: Path) -> None:
    """Under a name of OpenAI's it takes the model for one that reasons, and carries what nobody else keeps."""
    config = configuration(simulator, tmp_path, ALIAS)
    async with running(simulator, config) as server:
        agent = Agent(server, "gpt-5-mini")
        first = await agent.ask(ASKED, rounds=2)
    async with running(simulator, config) as agent.server:
        last = await agent.go_on()
    assert first[0].thoughts.startswith("**Considering the request**")
    assert last[-1].text.startswith("The tools answered.")
    assert signed(simulator.generations[-1]) == ["real"] * STEPS
    assert statuses(simulator) == [200] * (STEPS + 1)


async def test_a_conversation_that_began_at_openai_goes_on(server: Running, simulator: Simulator) -> None:
    agent = Agent(server, "gemini-3.5-flash", search=True)
    agent.items += [
        {"type": "message", "role": "user", "content": "What is new? And call alpha"},
        {"type": "reasoning", "id": "rs_0a1b", "summary": [], "encrypted_content": "gAAAAABforeign=="},
        {"type": "web_search_call", "id": "ws_0a1b", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "function_call", "name": "alpha", "arguments": "{}", "call_id": "call_foreign"},
        {"type": "function_call_output", "call_id": "call_foreign", "output": '{"done": true}'},
        {"type": "message", "role": "assistant", "content": "Nothing."},
    ]
    [answer] = await agent.ask("Good morning")
    assert "Good morning" in answer.text
    assert statuses(simulator) == [200]
    sent = simulator.generations[0].body
    assert b"gAAAAABforeign" not in sent
    assert b"web_search" not in sent
    assert [content["role"] for content in msgspec.json.decode(sent)["contents"]] == ["user", "model"] * 2 + ["user"]


@MODELS
async def test_a_form_is_filled_in(server: Running, simulator: Simulator, model: str) -> None:
    """Its forms have words of OpenAI's in them, and none of them must fail at Gemini."""
    schema = {
        "type": "object",
        "strict": True,
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string", "description": "A title"},
            "rooms": {"type": "array", "items": {"type": "string"}},
            "note": {"type": ["string", "null"]},
        },
        "required": ["title", "rooms", "note"],
    }
    form = {"type": "json_schema", "name": "task", "schema": schema}
    agent = Agent(server, model, text={"format": form})
    agent.tools = []
    [answer] = await agent.ask("Fill it in")
    assert set(msgspec.json.decode(answer.text)) == {"title", "rooms", "note"}
    given = simulator.generations[0].json()["generationConfig"]["responseJsonSchema"]
    assert given["properties"]["note"]["type"] == ["string", "null"]
    assert "strict" not in given


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-3-pro-image"])
async def test_a_picture_is_made_and_changed(server: Running, simulator: Simulator, model: str) -> None:
    agent = Agent(server, model, tool_choice={"type": "image_generation"}, store=True)
    agent.tools = [{"type": "image_generation", "input_fidelity": "high", "output_format": "png"}]
    made = [content.carried.result for content in await agent.ask("A cat") if content.carried is not None]
    assert made == [PIXEL]
    assert [content for content in await agent.ask("Now a dog") if content.carried is not None]
    assert statuses(simulator) == [200] * 2
    [_, said, _] = simulator.generations[1].json()["contents"]
    [picture] = [part for part in said["parts"] if "inlineData" in part]
    assert picture["inlineData"]["data"] == PIXEL
    assert picture.get("thoughtSignature", "real") != SKIP


async def test_pictures_and_papers_are_seen(server: Running, simulator: Simulator) -> None:
    content = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
        {"type": "input_file", "filename": "/media/bill.pdf", "file_data": PAPER},
    ]
    [answer] = await Agent(server, "gemini-2.5-flash").ask(content)
    assert "I see image/png, application/pdf." in answer.text
    parts = simulator.generations[0].json()["contents"][0]["parts"]
    assert [part["inlineData"]["data"] for part in parts[1:]] == [PIXEL, PAPER.partition(",")[2]]


async def test_the_user_hears_why_there_is_no_answer(server: Running, simulator: Simulator) -> None:
    agent = Agent(server, "gemini-2.5-flash", max_output_tokens=1)
    with pytest.raises(ToldError, match="max_output_tokens"):
        await agent.ask("Good morning")
    simulator.script(frames_answer([{"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}]).then(Reset()))
    with pytest.raises(ToldError, match="upstream"):
        await agent.ask("Good morning")
    simulator.keys["test-key-1"] = KeyState.PER_MINUTE
    with pytest.raises(openai.RateLimitError):
        await agent.ask("Good morning")
