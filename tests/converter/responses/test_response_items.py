"""Items of a conversation in every legal order and form, and what Gemini is told of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.bounds import Bounds
from gemproxy.converter.gemini.signatures import SignatureCache, Signed, image_key
from gemproxy.converter.sealed import SIGNATURE, SUMMARY, digest, seal
from gemproxy.errors import ClientFault
from tests.clock import Clock
from tests.converter.responses.asking_responses import PICTURE, body_of, contents_of, plan_of

USER = {"role": "user", "content": "Hi"}
ORIGIN = "ai_studio/gemini-3.5-flash"
DRAWN = {"type": "image_generation_call", "id": "ig_1", "result": PICTURE}


def call(call_id: str = "c1", name: str = "f", arguments: str = '{"a":1}', **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def output(call_id: str = "c1", said: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def thought(call_id: str = "c1", signature: str = "c2ln", arguments: str = '{"a":1}') -> dict[str, Any]:
    sealed = seal(SIGNATURE, ORIGIN, call_id, signature, digest(arguments.encode()))
    return {"type": "reasoning", "summary": [], "encrypted_content": sealed}


def signed(contents: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """Return arguments and signature of every call."""
    parts = [part for content in contents for part in content["parts"] if part.get("functionCall")]
    return [(part["functionCall"]["args"], part.get("thoughtSignature")) for part in parts]


@pytest.mark.parametrize(
    ("items", "contents"),
    [
        pytest.param([USER], [("user", ["Hi"])], id="an easy message"),
        pytest.param([{"type": "message", **USER}], [("user", ["Hi"])], id="one that says what it is"),
        pytest.param(
            [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]}],
            [("user", ["a", "b"])],
            id="parts",
        ),
        pytest.param(
            [USER, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yo"}]}, USER],
            [("user", ["Hi"]), ("model", ["Yo"]), ("user", ["Hi"])],
            id="what the model said",
        ),
        pytest.param(
            [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, USER],
            [("user", ["Hi"]), ("model", ["No."]), ("user", ["Hi"])],
            id="a refusal",
        ),
        pytest.param(
            [USER, {"role": "developer", "content": "Be brief."}],
            [("user", ["Hi", "Be brief."])],
            id="instructions in the middle keep their place",
        ),
        pytest.param(
            [USER, {"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"type": "mcp_list_tools"}],
            [("user", ["Hi"])],
            id="what ran elsewhere is left out",
        ),
        pytest.param(
            [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, USER],
            [("user", ["Hi"])],
            id="a thought without anything of ours",
        ),
        pytest.param(
            [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo"}, USER],
            [("user", ["Hi"])],
            id="a thought of another service",
        ),
        pytest.param(
            [{"type": "compaction", "encrypted_content": seal(SUMMARY, "We said hello.")}, USER],
            [("user", ["The conversation up to here was summed up:\nWe said hello.", "Hi"])],
            id="a summary of ours",
        ),
        pytest.param([{"type": "compaction", "encrypted_content": "x"}, USER], [("user", ["Hi"])], id="a foreign one"),
    ],
)
def test_what_was_said(items: list[Any], contents: list[Any]) -> None:
    found = [(content["role"], [part["text"] for part in content["parts"]]) for content in contents_of(*items)]
    assert found == contents


def test_a_text_is_what_the_user_says() -> None:
    assert body_of({"input": "Hi"})["contents"] == [{"parts": [{"text": "Hi"}], "role": "user"}]


def test_instructions_come_before_those_of_the_items() -> None:
    sent = {"instructions": "First.", "input": [{"role": "system", "content": "Second."}, USER]}
    assert body_of(sent)["systemInstruction"] == {"parts": [{"text": "First."}, {"text": "Second."}]}


def test_instructions_behind_tools_that_come_as_an_item_lead_all_the_same() -> None:
    body = body_of({"input": [offering(tool("f")), {"role": "developer", "content": "First."}, USER]})
    assert body["systemInstruction"] == {"parts": [{"text": "First."}]}
    assert body["contents"] == [{"parts": [{"text": "Hi"}], "role": "user"}]


def test_calls_and_their_outputs_stand_in_one_step() -> None:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}
    contents = contents_of(
        USER,
        call("c1"),
        call("c2", "g", "{}"),
        output("c2", [picture, {"type": "input_text", "text": "seen"}]),
        output(),
    )
    assert [content["role"] for content in contents] == ["user", "model", "user"]
    asked, answered = contents[1]["parts"], contents[2]["parts"]
    assert [part["functionCall"]["name"] for part in asked] == ["f", "g"]
    assert [part["functionResponse"]["id"] for part in answered] == ["c1", "c2"]
    assert answered[0]["functionResponse"]["response"] == {"output": "done"}
    assert answered[1]["functionResponse"]["parts"][0]["inlineData"]["mimeType"] == "image/png"


def test_a_custom_call_goes_as_a_call_with_one_text() -> None:
    item = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "*** Begin"}
    contents = contents_of(USER, item, {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"})
    assert contents[1]["parts"][0]["functionCall"]["args"] == {"input": "*** Begin"}
    assert contents[2]["parts"][0]["functionResponse"]["response"] == {"output": "ok"}


def test_an_image_in_a_result_has_no_resolution_of_its_own() -> None:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}", "detail": "high"}
    _, _, answered = contents_of({"role": "user", "content": [picture]}, call(), output("c1", [picture]))
    [part] = answered["parts"][0]["functionResponse"]["parts"]
    assert part == {"inlineData": {"mimeType": "image/png", "data": PICTURE}}


def test_an_image_by_address_is_fetched_and_sent() -> None:
    item = {"role": "user", "content": [{"type": "input_image", "image_url": "https://pictures.test/a.png"}]}
    assert contents_of(item)[0]["parts"][0]["inlineData"] == {"mimeType": "image/png", "data": PICTURE}


def test_a_file_by_address_is_fetched_and_sent_whatever_it_is() -> None:
    item = output(said=[{"type": "input_file", "file_url": " HTTPS://files.test/a.pdf "}])
    assert (
        contents_of(USER, call(), item)[2]["parts"][0]["functionResponse"]["parts"][0]["inlineData"]["data"] == PICTURE
    )


@pytest.mark.parametrize("result", [None, "", "?", "aGk=", f"{PICTURE[:-1]}?"])
def test_an_image_of_which_nothing_is_left_is_left_out(result: Any) -> None:
    assert contents_of(USER, {"type": "image_generation_call", "id": "ig_1", "result": result}) == contents_of(USER)


def test_an_image_is_left_out_for_a_model_that_sees_none() -> None:
    assert "inlineData" not in str(body_of({"model": "gemini-3.8-flash-tts", "input": [USER, DRAWN, USER]}))


def test_calls_of_the_clients_own_tools_stand_in_steps_as_others_do() -> None:
    shell = {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}}
    written = [{"stdout": "é" * 20_000, "stderr": "", "outcome": {"type": "timeout"}}]
    asked, answered = contents_of(
        USER, call(), shell, output(), {"type": "shell_call_output", "call_id": "c2", "output": written}
    )[1:]
    assert [part["functionCall"]["name"] for part in asked["parts"]] == ["f", "shell"]
    assert [part["functionResponse"]["id"] for part in answered["parts"]] == ["c1", "c2"]
    assert msgspec.json.decode(answered["parts"][1]["functionResponse"]["response"]["output"]) == written


def test_the_output_of_a_local_shell_names_its_call_by_id() -> None:
    calls = [{"type": "local_shell_call", "call_id": key, "action": {"type": "exec"}} for key in ("c1", "c2")]
    outputs = [{"type": "local_shell_call_output", "id": key, "output": key} for key in ("c2", "c1")]
    [*_, answered] = contents_of(USER, *calls, *outputs)
    assert [part["functionResponse"]["response"] for part in answered["parts"]] == [{"output": "c1"}, {"output": "c2"}]


def test_such_calls_count_as_calls() -> None:
    shell = {"type": "shell_call", "call_id": "c", "action": {}}
    with pytest.raises(ClientFault) as caught:
        plan_of({"input": [call(), shell]}, options=Options(bounds=Bounds(calls=1)))
    assert "at most 1" in str(caught.value)


@pytest.mark.parametrize("url", ["gs://bucket/a.pdf", "file:///etc/passwd", "/a.pdf", "JVBERi0xLjQ="])
def test_a_file_that_nobody_can_fetch_is_refused_for_its_address(url: str) -> None:
    with pytest.raises(ClientFault, match="address") as caught:
        contents_of({"role": "user", "content": [{"type": "input_file", "file_url": url, "filename": "a.pdf"}]})
    assert caught.value.param == "input[0].content[0]"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"status": "completed"}, "completed"),
        ({"status": "failed"}, "failed"),
        ({"status": "completed", "output": "Done."}, "Done."),
        ({"status": "failed", "output": "No such file."}, "failed\nNo such file."),
    ],
)
def test_that_a_patch_failed_is_told(more: dict[str, str], told: str) -> None:
    patch = {"type": "apply_patch_call", "call_id": "c1", "operation": {"type": "delete_file", "path": "a"}}
    [*_, answered] = contents_of(USER, patch, {"type": "apply_patch_call_output", "call_id": "c1"} | more)
    assert answered["parts"][0]["functionResponse"]["response"] == {"output": told}


def offering(*tools: Any) -> dict[str, Any]:
    return {"type": "additional_tools", "role": "developer", "tools": list(tools)}


def tool(name: str, description: str = "") -> dict[str, Any]:
    return {"type": "function", "name": name, "description": description}


def described(**sent: Any) -> dict[str, str]:
    """Return what the declared functions are said to do, in their order."""
    [declared] = body_of(sent)["tools"]
    return {each["name"]: each["description"] for each in declared["functionDeclarations"]}


def test_tools_that_are_offered_anew_are_those_that_count() -> None:
    within = {"type": "namespace", "name": "n", "description": "", "tools": [tool("f", "inner"), tool("h", "inner")]}
    items = [offering(tool("f", "old"), within), USER, offering(tool("f", "new"), tool("g", "old"))]
    assert described(input=items) == {"n.f": "inner", "n.h": "inner", "f": "new", "g": "old"}
    again = within | {"tools": [tool("f", "again")]}
    custom = {"type": "custom", "name": "g", "description": "last"}
    assert described(input=items, tools=[custom, again]) == {"f": "new", "g": "last", "n.f": "again"}


def test_a_hundred_turns_may_offer_the_same_tools() -> None:
    tools = [{"type": "mcp"}, *(tool(f"f{number}") for number in range(511))]
    assert len(described(input=[offering(*tools), USER] * 100)) == 511


@pytest.mark.parametrize("items", [[offering(tool("f"), tool("f"))], [offering(*[{"type": "web_search"}] * 513)]])
def test_one_list_holds_no_tool_twice_and_not_too_many(items: list[Any]) -> None:
    with pytest.raises(ClientFault):
        plan_of({"input": [*items, USER, *items]})


@pytest.mark.parametrize("tools", [[3] * 513, [{"type": "namespace", "name": "n", "tools": [3] * 513}]])
def test_a_list_that_holds_too_many_is_not_looked_at(tools: list[Any]) -> None:
    with pytest.raises(ClientFault, match="at most 512"):
        plan_of({"input": "Hello", "tools": tools})


def test_several_lists_together_hold_not_too_many() -> None:
    tools = [tool(f"f{number}") for number in range(513)]
    with pytest.raises(ClientFault, match="at most 512"):
        plan_of({"input": [offering(*tools[:300]), USER, offering(*tools[300:])]})


# --------------------------------------------------------------------------------------------------- signatures


def test_a_signature_that_the_client_carried_stands_on_its_call() -> None:
    assert signed(contents_of(USER, thought(), call(), output())) == [({"a": 1}, "c2ln")]


def test_arguments_that_are_only_written_otherwise_are_the_same() -> None:
    contents = contents_of(USER, thought(arguments='{"b":2,"a":1}'), call(arguments='{ "a": 1, "b": 2 }'), output())
    assert signed(contents) == [({"a": 1, "b": 2}, "c2ln")]


def test_a_signature_does_not_go_with_other_arguments() -> None:
    assert signed(contents_of(USER, thought(), call(arguments="{}"), output())) == [({}, None)]


def test_a_changed_thought_is_ignored() -> None:
    item = thought()
    item["encrypted_content"] = item["encrypted_content"][:-8] + "AAAAAAA="
    assert signed(contents_of(USER, item, call(), output())) == [({"a": 1}, None)]


def test_a_remembered_call_goes_with_its_own_arguments(clock: Clock) -> None:
    cache = SignatureCache(clock).of("ci")
    cache.put("c1", Signed("c2ln", ORIGIN, '{"a":1}'))
    assert signed(contents_of(USER, call(arguments="{}"), output(), signatures=cache)) == [({"a": 1}, "c2ln")]


def test_a_call_without_a_signature_goes_with_its_own_arguments_too(clock: Clock) -> None:
    cache = SignatureCache(clock).of("ci")
    cache.put("c1", Signed("", ORIGIN, '{"a":1}'))
    assert signed(contents_of(USER, call(arguments="{}"), output(), signatures=cache)) == [({"a": 1}, None)]


def test_a_call_that_nobody_remembers_goes_without_a_signature() -> None:
    assert signed(contents_of(USER, call(), output())) == [({"a": 1}, None)]


def test_an_image_goes_back_with_the_signature_that_is_remembered_of_it(clock: Clock) -> None:
    cache = SignatureCache(clock).of("ci")
    cache.put(image_key(PICTURE), Signed("c2ln", ORIGIN))
    _, made = contents_of(USER, DRAWN, signatures=cache)[:2]
    assert [part["thoughtSignature"] for part in made["parts"]] == ["c2ln"]


BOTH_CALLED = [USER, thought(), call(), output(), call("c2"), output("c2")]


@pytest.mark.parametrize(
    ("items", "steps"),
    [
        pytest.param(BOTH_CALLED, [["c2ln", None]], id="calls of one answer, each with its result behind it"),
        pytest.param(
            [*BOTH_CALLED, thought("c3"), call("c3"), output("c3"), call("c4"), output("c4")],
            [["c2ln", None], ["c2ln", None]],
            id="a signature begins the next step",
        ),
        pytest.param(
            [*BOTH_CALLED[:4], {"role": "assistant", "content": "Now."}, *BOTH_CALLED[4:], call("c3"), output("c3")],
            [["c2ln"], [None], [None]],
            id="a word of the model stands between",
        ),
        pytest.param(
            [*BOTH_CALLED[:4], {"role": "developer", "content": "Now."}, *BOTH_CALLED[4:]],
            [["c2ln"], [None]],
            id="a word of the client stands between",
        ),
        pytest.param(
            [*BOTH_CALLED[:4], thought("c2", arguments="[]"), *BOTH_CALLED[4:]],
            [["c2ln"], [None]],
            id="a thought stands between",
        ),
        pytest.param(
            [*BOTH_CALLED[:4], DRAWN, *BOTH_CALLED[4:], call("c3"), output("c3")],
            [["c2ln"], [None], [None]],
            id="an image stands between",
        ),
        pytest.param([USER, *BOTH_CALLED[2:]], [[None], [None]], id="nothing is known of either"),
    ],
)
def test_a_call_without_a_signature_was_made_with_the_one_before_it(items: list[Any], steps: list[Any]) -> None:
    contents = contents_of(*items)
    turns = [signed([content]) for content in contents if content["role"] == "model"]
    assert [[signature for _, signature in turn] for turn in turns if turn] == steps
    answers = [
        sum("functionResponse" in part for part in content["parts"])
        for content in contents
        if content["role"] == "user"
    ]
    assert [count for count in answers if count] == [len(step) for step in steps]


# --------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        pytest.param({"input": [{}]}, "input[0].type", id="an item that is nothing"),
        pytest.param({"input": [{"role": "user", "content": 3}]}, "input[0].content", id="a content that is a number"),
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]},
            "input[0].content[0].text",
            id="a text that is a number",
        ),
        pytest.param({"input": [call(call_id=3)]}, "input[0].call_id", id="an id that is a number"),  # type: ignore[arg-type]
        pytest.param({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id", id="no id"),
        pytest.param({"input": [{"type": "item_reference"}]}, "input[0].id", id="a reference to nothing"),
        pytest.param(
            {"input": [USER, {"type": "item_reference", "id": "msg_a0001"}]}, "input[1].id", id="to the unknown"
        ),
    ],
)
def test_what_is_wrong_is_named(sent: dict[str, Any], param: str) -> None:
    with pytest.raises(ClientFault) as caught:
        plan_of(sent)
    assert caught.value.param == param
    assert caught.value.status == 400


def test_a_deep_item_is_refused() -> None:
    deep = msgspec.Raw(b"[" * 10_000 + b"]" * 10_000)
    with pytest.raises(ClientFault) as caught:
        plan_of({"input": [{"role": "user", "content": deep}]})
    assert caught.value.code == "invalid_json"
