"""pydantic-ai on its Responses model: tools over many steps, thoughts sent back or left out, the previous response
named, output by tool and by schema, streams, search, a history that is summed up.

Needs the extra ``clients``.
"""

from __future__ import annotations

import base64
from typing import Any

import pydantic
import pytest
from openai import AsyncOpenAI

from gemproxy.simulator import Simulator, frames_answer
from gemproxy.simulator.model import PIXEL
from tests.clients.test_signature_journeys import ASKED, NAMES, STEPS, signed, statuses
from tests.running import Running

pydantic_ai = pytest.importorskip("pydantic_ai", reason="needs the extra clients: pydantic-ai-slim[openai]")
capabilities = pytest.importorskip("pydantic_ai.capabilities")
native_tools = pytest.importorskip("pydantic_ai.native_tools")
messages = pytest.importorskip("pydantic_ai.messages")
openai_models = pytest.importorskip("pydantic_ai.models.openai")
openai_provider = pytest.importorskip("pydantic_ai.providers.openai")
profiles = pytest.importorskip("pydantic_ai.profiles.openai")

BOTH = pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])
REASONS = {"openai_supports_encrypted_reasoning_content": True, "openai_supports_reasoning": True}


class Book(pydantic.BaseModel):
    title: str
    pages: int
    tags: list[str]


def tool(name: str) -> Any:
    def work(what: str) -> str:
        return f"{name} did {what}"

    return pydantic_ai.Tool(work, name=name, description="Works.")


TOOLS = [tool(name) for name in NAMES]


def agent(
    openai_client: AsyncOpenAI,
    model: str,
    settings: dict[str, Any] | None = None,
    profile: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    provider = openai_provider.OpenAIProvider(openai_client=openai_client)
    responses = openai_models.OpenAIResponsesModel(
        model, provider=provider, profile=profiles.OpenAIModelProfile(**profile) if profile else None
    )
    return pydantic_ai.Agent(responses, instructions="Be brief.", model_settings=settings, **options)


def signatures(simulator: Simulator) -> list[list[str]]:
    return [signed(request) for request in simulator.generations]


@BOTH
@pytest.mark.parametrize(
    ("settings", "profile", "carried"),
    [
        pytest.param({}, {}, False, id="thoughts left out"),
        pytest.param({"openai_reasoning_summary": "auto"}, {}, False, id="thoughts told and left out"),
        pytest.param({"openai_reasoning_summary": "auto"}, REASONS, True, id="thoughts sealed and sent back"),
        pytest.param({"openai_store": False}, REASONS, True, id="thoughts sealed, nothing kept here"),
        pytest.param({"openai_previous_response_id": "auto"}, {}, True, id="the previous response named"),
    ],
)
async def test_five_steps_and_a_second_question(
    server: Running,
    openai_client: AsyncOpenAI,
    simulator: Simulator,
    model: str,
    settings: dict[str, Any],
    profile: dict[str, Any],
    carried: bool,
) -> None:
    if carried:
        server.forget_signatures()
    guide = agent(openai_client, model, settings, profile, tools=TOOLS)
    first = await guide.run(ASKED)
    assert "beta did sample what" in first.output
    assert signatures(simulator) == [["real"] * n for n in range(STEPS + 1)]
    second = await guide.run("Thank you", message_history=first.all_messages())
    assert "Thank you" in second.output
    assert statuses(simulator) == [200] * (STEPS + 2)
    sent = simulator.generations[-1].json()
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert len(sent["contents"]) == 2 * STEPS + 3
    assert first.usage.total_tokens > 0


@BOTH
async def test_thoughts_come_as_thinking(openai_client: AsyncOpenAI, model: str) -> None:
    guide = agent(openai_client, model, {"openai_reasoning_summary": "detailed", "openai_reasoning_effort": "low"})
    result = await guide.run("Think about it")
    thinking, text = result.new_messages()[-1].parts
    assert (thinking.part_kind, text.part_kind) == ("thinking", "text")
    assert "Think about it" in thinking.content


@BOTH
async def test_output_by_a_tool(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    result = await agent(openai_client, model, output_type=Book, tools=TOOLS).run("call alpha then final_result")
    assert isinstance(result.output, Book)
    assert signatures(simulator) == [[], ["real"]]
    assert simulator.generations[0].json()["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"


@BOTH
async def test_output_by_a_schema(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    result = await agent(openai_client, model, output_type=pydantic_ai.NativeOutput(Book)).run("A book, please")
    assert isinstance(result.output, Book)
    schema = simulator.generations[0].json()["generationConfig"]["responseJsonSchema"]
    assert set(schema["properties"]) == {"title", "pages", "tags"}


@BOTH
async def test_a_streamed_run_tells_words_and_usage(openai_client: AsyncOpenAI, model: str) -> None:
    async with agent(openai_client, model).run_stream("Good morning to everybody in the house") as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        usage = run.usage
    assert "Good morning" in "".join(pieces)
    assert len(pieces) > 1
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


@BOTH
@pytest.mark.parametrize("profile", [{}, REASONS], ids=["plain", "sealed"])
async def test_a_streamed_run_with_tools(
    server: Running, openai_client: AsyncOpenAI, simulator: Simulator, model: str, profile: dict[str, Any]
) -> None:
    if profile:
        server.forget_signatures()
    guide = agent(openai_client, model, {"openai_reasoning_summary": "auto"}, profile, tools=TOOLS)
    async with guide.run_stream(ASKED) as run:
        output = await run.get_output()
    assert "beta did sample what" in output
    assert signatures(simulator) == [["real"] * n for n in range(STEPS + 1)]


@BOTH
async def test_a_search_gives_its_sources(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    search = capabilities.NativeTool(native_tools.WebSearchTool())
    result = await agent(openai_client, model, capabilities=[search]).run("What is new?")
    assert result.output.startswith("Café guide: ")
    assert simulator.generations[0].json()["tools"] == [{"googleSearch": {}}]
    await agent(openai_client, model, capabilities=[search]).run("More", message_history=result.all_messages())
    assert statuses(simulator) == [200] * 2


async def test_a_history_is_summed_up_on_the_way(openai_client: AsyncOpenAI, simulator: Simulator) -> None:
    compaction = openai_models.OpenAICompaction(trigger=lambda messages: len(messages) == 3)
    guide = agent(openai_client, "gemini-3.5-flash", capabilities=[compaction], tools=TOOLS)
    first = await guide.run("Remember Ginkgo")
    second = await guide.run("What was it?", message_history=first.all_messages())
    summing, asked = simulator.generations[-2:]
    assert summing.json()["contents"][0]["parts"][0]["text"] == "Remember Ginkgo"
    [said] = asked.json()["contents"]
    summary, question = (part["text"] for part in said["parts"])
    assert summary.startswith("The conversation up to here was summed up:")
    assert question == "What was it?"
    assert question in second.output


async def test_thoughts_of_another_service_are_left_out(openai_client: AsyncOpenAI, simulator: Simulator) -> None:
    thought = messages.ThinkingPart("hm", id="rs_1", signature="gAAAAABforeign==", provider_name="openai")
    history = [
        messages.ModelRequest([messages.UserPromptPart("Hi")]),
        messages.ModelResponse([thought, messages.TextPart("Ho", id="msg_1")], provider_name="openai"),
    ]
    result = await agent(openai_client, "gemini-3.5-flash", profile=REASONS).run("More", message_history=history)
    assert "More" in result.output
    contents = simulator.generations[0].json()["contents"]
    assert [content["parts"] for content in contents] == [[{"text": text}] for text in ("Hi", "Ho", "More")]


async def test_tokens_are_counted_before_the_request(openai_client: AsyncOpenAI, simulator: Simulator) -> None:
    guide = agent(openai_client, "gemini-3.5-flash", profile={"openai_supports_input_token_counting": True})
    limits = pydantic_ai.UsageLimits(count_tokens_before_request=True, input_tokens_limit=10)
    assert (await guide.run("Hello", usage_limits=limits)).output
    with pytest.raises(pydantic_ai.UsageLimitExceeded):
        await guide.run("Hello " * 20, usage_limits=limits)
    assert [request.call for request in simulator.requests] == ["countTokens", "generateContent", "countTokens"]


@BOTH
async def test_a_picture_is_seen(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    picture = pydantic_ai.BinaryContent(base64.b64decode(PIXEL), media_type="image/png")
    result = await agent(openai_client, model).run(["What is it?", picture])
    assert "I see image/png" in result.output
    [turn] = simulator.generations[0].json()["contents"]
    assert turn["parts"][1]["inlineData"]["data"] == PIXEL


async def test_a_blocked_answer_is_an_error_of_its_own(openai_client: AsyncOpenAI, simulator: Simulator) -> None:
    simulator.script(frames_answer([{"promptFeedback": {"blockReason": "SAFETY"}}]))
    with pytest.raises(pydantic_ai.exceptions.ContentFilterError):
        async with agent(openai_client, "gemini-3.5-flash").run_stream("Hello") as run:
            await run.get_output()
