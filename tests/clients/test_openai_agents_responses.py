"""The OpenAI Agents SDK on its default model, Responses: tools over many steps, sessions of each kind, hand-offs, typed
output, streams, web search.

Needs the extra ``clients``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest
from openai import AsyncOpenAI
from openai.types.shared import Reasoning

from gemproxy.simulator import Simulator, frames_answer
from gemproxy.simulator.model import PIXEL
from tests.clients.test_signature_journeys import ASKED, NAMES, STEPS, signed, statuses
from tests.running import Running, configuration, running

agents = pytest.importorskip("agents", reason="needs the extra clients: openai-agents")
agents.set_tracing_disabled(True)  # it would report to OpenAI

BOTH = pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])
SEALED = {"store": False, "response_include": ["reasoning.encrypted_content"]}


class Book(pydantic.BaseModel):
    title: str
    pages: int
    tags: list[str]


def tool(name: str, **options: Any) -> Any:
    def work(what: str) -> str:
        return f"{name} did {what}"

    return agents.function_tool(work, name_override=name, description_override="Works.", **options)


TOOLS = [tool(name) for name in NAMES]


def agent(openai_client: AsyncOpenAI, model: str, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    responses = agents.OpenAIResponsesModel(model=model, openai_client=openai_client)
    given = {"name": "guide", "instructions": "Be brief.", "model": responses}
    return agents.Agent(**given | options, model_settings=agents.ModelSettings(**settings or {}))


def all_signed(simulator: Simulator) -> bool:
    """Return whether each step in each request for the first question was signed by Gemini itself."""
    return [signed(request) for request in simulator.generations][: STEPS + 1] == [
        ["real"] * n for n in range(STEPS + 1)
    ]


@BOTH
@pytest.mark.parametrize(
    ("settings", "way", "carried"),
    [
        pytest.param({}, {}, False, id="all items back"),
        pytest.param(SEALED, {}, True, id="all items back, thoughts sealed"),
        pytest.param(SEALED | {"reasoning": Reasoning(summary="auto")}, {}, True, id="and told"),
        pytest.param({}, {"auto_previous_response_id": True}, True, id="the previous response named"),
    ],
)
async def test_five_steps_and_a_second_question(
    server: Running,
    openai_client: AsyncOpenAI,
    simulator: Simulator,
    model: str,
    settings: dict[str, Any],
    way: dict[str, Any],
    carried: bool,
) -> None:
    if carried:
        server.forget_signatures()
    guide = agent(openai_client, model, settings, tools=TOOLS)
    first = await agents.Runner.run(guide, ASKED, max_turns=STEPS + 1, **way)
    assert "beta did sample what" in first.final_output
    assert all_signed(simulator)
    said: Any = "Thank you"
    if way:
        way = {"previous_response_id": first.last_response_id}
    else:
        said = [*first.to_input_list(), {"role": "user", "content": said}]
    second = await agents.Runner.run(guide, said, **way)
    assert "Thank you" in second.final_output
    assert statuses(simulator) == [200] * (STEPS + 2)
    sent = simulator.generations[-1].json()
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert len(sent["contents"]) == 2 * STEPS + 3
    assert second.context_wrapper.usage.total_tokens > 0


@BOTH
async def test_a_streamed_run_tells_thoughts_words_calls_and_usage(
    openai_client: AsyncOpenAI, simulator: Simulator, model: str
) -> None:
    guide = agent(openai_client, model, {"reasoning": Reasoning(effort="low", summary="auto")}, tools=TOOLS)
    run = agents.Runner.run_streamed(guide, ASKED)
    text, thoughts, names = "", "", []
    async for event in run.stream_events():
        if event.type == "raw_response_event":
            kind = event.data.type
            text += event.data.delta if kind == "response.output_text.delta" else ""
            thoughts += event.data.delta if kind == "response.reasoning_summary_text.delta" else ""
        elif event.type == "run_item_stream_event":
            names.append(event.name)
    assert text == run.final_output != ""
    assert "The user says: call alpha" in thoughts
    assert names.count("tool_called") == names.count("tool_output") == len(NAMES) + 1
    assert run.context_wrapper.usage.requests == STEPS + 1
    assert all_signed(simulator)


@BOTH
async def test_a_session_remembers(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    session = agents.SQLiteSession("one")
    guide = agent(openai_client, model, tools=TOOLS)
    await agents.Runner.run(guide, "call alpha and beta then gamma", session=session)
    await agents.Runner.run(guide, "Thank you", session=session)
    session.close()
    texts = [part.get("text") for content in simulator.generations[-1].json()["contents"] for part in content["parts"]]
    assert texts[0] == "call alpha and beta then gamma"
    assert texts[-1] == "Thank you"
    assert statuses(simulator) == [200] * 4


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # openai knows no user's words there
async def test_a_session_that_is_summed_up_goes_on(simulator: Simulator, tmp_path: Path) -> None:
    """The SDK sums up by models of OpenAI's names alone."""
    config = configuration(simulator, tmp_path, '[models.aliases]\n"gpt-4.1" = "gemini-3.5-flash"\n')
    async with running(simulator, config) as server, server.openai() as client:
        kept = agents.SQLiteSession("one")
        session = agents.OpenAIResponsesCompactionSession("one", kept, client=client)
        guide = agent(client, "gpt-4.1", tools=TOOLS)
        await agents.Runner.run(guide, "Remember Ginkgo", session=session)
        await session.run_compaction({"force": True})
        assert [item.get("type") for item in await session.get_items()] == ["message", "compaction"]
        answer = await agents.Runner.run(guide, "What was it?", session=session)
        kept.close()
    [sent] = simulator.generations[-1].json()["contents"]
    said = [part["text"] for part in sent["parts"]]
    assert (said[0], said[2]) == ("Remember Ginkgo", "What was it?")
    assert "summed up" in said[1]
    assert "What was it?" in answer.final_output


@BOTH
async def test_typed_output_is_parsed(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    result = await agents.Runner.run(agent(openai_client, model, output_type=Book), "A book, please")
    assert isinstance(result.final_output, Book)
    config = simulator.generations[0].json()["generationConfig"]
    assert set(config["responseJsonSchema"]["properties"]) == {"title", "pages", "tags"}


async def test_typed_output_beside_tools(openai_client: AsyncOpenAI, simulator: Simulator) -> None:
    guide = agent(openai_client, "gemini-3.5-flash", output_type=Book, tools=TOOLS)
    result = await agents.Runner.run(guide, "call alpha then beta")
    assert isinstance(result.final_output, Book)
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(3)]


@BOTH
async def test_a_hand_off_to_another_agent(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    poet = agent(openai_client, model, name="poet", instructions="Speak in verse.", tools=TOOLS)
    guide = agent(openai_client, model, handoffs=[poet])
    result = await agents.Runner.run(guide, "call transfer_to_poet then alpha then beta")
    assert result.last_agent.name == "poet"
    assert "beta did sample what" in result.final_output
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(3)]
    told = [request.json()["systemInstruction"]["parts"][0]["text"] for request in simulator.generations]
    assert told == ["Be brief.", "Speak in verse.", "Speak in verse."]


@BOTH
async def test_tools_in_a_namespace_and_tools_to_be_searched_for(
    openai_client: AsyncOpenAI, simulator: Simulator, model: str
) -> None:
    """Both are offered at once; a call must say where its tool stands, or the SDK does not find it."""
    spaced = agents.tool_namespace(name="crm", description="Customers.", tools=[tool("alpha"), tool("beta")])
    late = [tool("alpha", defer_loading=True), agents.ToolSearchTool()]
    guide = agent(openai_client, model, tools=[*spaced, *late])
    result = await agents.Runner.run(guide, "call crm.beta and alpha then crm.alpha")
    done = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    assert done == ["beta did sample what", "alpha did sample what 1", "alpha did sample what"]
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(3)]


@pytest.mark.parametrize("way", [{}, {"auto_previous_response_id": True}], ids=["all items back", "previous"])
async def test_a_tool_that_takes_free_text(
    openai_client: AsyncOpenAI, simulator: Simulator, way: dict[str, Any]
) -> None:
    async def patch(context: Any, text: str) -> str:
        return f"patched with {text}"

    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}
    free = agents.CustomTool(name="patch", description="Patches.", on_invoke_tool=patch, format=grammar)
    guide = agent(openai_client, "gemini-3.5-flash", tools=[free, *TOOLS])
    result = await agents.Runner.run(guide, "call patch then alpha then patch", **way)
    assert result.final_output.count("patched with sample input") == 2
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(4)]


@BOTH
async def test_results_may_hold_pictures_and_papers(
    openai_client: AsyncOpenAI, simulator: Simulator, model: str
) -> None:
    def show(what: str) -> list[Any]:
        paper = agents.ToolOutputFileContent(file_data="data:application/pdf;base64,JVBERi0xLjQK", filename="a.pdf")
        return [agents.ToolOutputImage(image_url=f"data:image/png;base64,{PIXEL}"), paper]

    guide = agent(openai_client, model, tools=[agents.function_tool(show)])
    await agents.Runner.run(guide, "call show")
    result, *behind = simulator.generations[-1].json()["contents"][-1]["parts"]
    shown = behind if model == "gemini-2.5-flash" else result["functionResponse"]["parts"]
    assert [part["inlineData"]["data"] for part in shown] == [PIXEL, "JVBERi0xLjQK"]


@BOTH
async def test_a_search_gives_its_sources(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    guide = agent(openai_client, model, tools=[agents.WebSearchTool(), *TOOLS])
    result = await agents.Runner.run(guide, "What is new?")
    [message] = [item for item in result.new_items if item.type == "message_output_item"]
    sources = [source for part in message.raw_item.content for source in part.annotations]
    searched = {"googleSearch": {}} in simulator.generations[0].json()["tools"]
    assert searched is (model != "gemini-2.5-flash"), "before Gemini 3 it cannot stand beside functions"
    assert bool(sources) is searched
    again = [*result.to_input_list(), {"role": "user", "content": "More"}]
    await agents.Runner.run(guide, again)
    assert statuses(simulator) == [200] * 2


@BOTH
async def test_a_picture_is_seen(openai_client: AsyncOpenAI, simulator: Simulator, model: str) -> None:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    content = [{"type": "input_text", "text": "What is it?"}, picture]
    result = await agents.Runner.run(agent(openai_client, model), [{"role": "user", "content": content}])
    assert "I see image/png" in result.final_output
    [turn] = simulator.generations[0].json()["contents"]
    assert turn["parts"][1]["inlineData"]["data"] == PIXEL


async def test_an_answer_that_was_cut_is_an_error_of_the_sdk(openai_client: AsyncOpenAI, simulator: Simulator) -> None:
    simulator.script(frames_answer([{"candidates": [{"finishReason": "MAX_TOKENS"}]}]))
    run = agents.Runner.run_streamed(agent(openai_client, "gemini-3.5-flash"), "Hello")
    with pytest.raises(agents.exceptions.ModelBehaviorError, match="incomplete"):
        async for _ in run.stream_events():
            pass
