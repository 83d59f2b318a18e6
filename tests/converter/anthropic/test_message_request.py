"""Messages in every legal order and form, and what Gemini is told of them."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest

from gemproxy.converter import signed_calls
from gemproxy.converter.anthropic.operation import read
from gemproxy.converter.anthropic.reading import decode
from gemproxy.converter.api import Known, Options, Received
from gemproxy.converter.bounds import BOUNDS, Bounds
from gemproxy.converter.gemini.signatures import SignatureCache, Signed, image_key
from gemproxy.converter.sealed import SIGNATURE, digest, seal
from gemproxy.converter.steps import LARGEST_STEP
from gemproxy.errors import ClientFault
from gemproxy.simulator.model import PIXEL
from gemproxy.wire.text import LONG_TEXT
from tests.clock import Clock
from tests.converter.anthropic.asking_messages import PLAIN, body_of, contents_of, plan_of

MODEL = "gemini-3.5-flash"
USER = {"role": "user", "content": "Hi"}
ORIGIN = f"ai_studio/{MODEL}"
TOOL = {"name": "f", "input_schema": {"type": "object"}}
KINDS = {"functionCall", "functionResponse", "inlineData"}
ESSAY = 'Grüße "an" alle\\n ' * LONG_TEXT


def call(call_id: str = "t1", name: str = "f", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given or {"a": 1}}


def result(call_id: str = "t1", content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def model(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def thought(call_id: str = "t1", signature: str = "c2ln", **given: Any) -> dict[str, Any]:
    made_for = digest(msgspec.json.encode(given or {"a": 1}))
    return {"type": "thinking", "thinking": "", "signature": seal(SIGNATURE, ORIGIN, call_id, signature, made_for)}


def kinds(contents: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return who says what: texts, and of other parts what they are."""
    return [
        (turn["role"], [part.get("text") or max(part.keys() & KINDS) for part in turn["parts"]]) for turn in contents
    ]


def signed(contents: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """Return arguments and signature of every call."""
    parts = [part for turn in contents for part in turn["parts"] if "functionCall" in part]
    return [(part["functionCall"]["args"], part.get("thoughtSignature")) for part in parts]


def sent(*messages: Any, signatures: Any = None, **more: Any) -> list[dict[str, Any]]:
    asked = {"model": MODEL, "messages": list(messages), **more}
    found: list[dict[str, Any]] = body_of(asked, signatures=signatures)["contents"]
    return found


# ------------------------------------------------------------------------------------------------------ who says what


def test_results_go_before_what_is_said_beside_them_and_in_the_order_of_the_calls() -> None:
    asked = model(text("So:"), call("t1"), call("t2", "g"))
    told = sent(USER, asked, user(text("Go on."), result("t2", "two"), result("t1", "one")))
    assert kinds(told)[1:] == [
        ("model", ["So:", "functionCall", "functionCall"]),
        ("user", ["functionResponse", "functionResponse", "Go on."]),
    ]
    responses = [part["functionResponse"] for part in told[2]["parts"][:2]]
    assert [(each["name"], each["response"]) for each in responses] == [
        *(("f", {"output": "one"}), ("g", {"output": "two"})),
    ]


def test_an_instruction_between_calls_and_results_comes_behind_them() -> None:
    told = sent(USER, model(call()), {"role": "system", "content": "Be brief."}, user(result()))
    assert kinds(told)[2] == ("user", ["functionResponse", "<system-reminder>\nBe brief.\n</system-reminder>"])


def test_a_call_without_a_result_gets_one() -> None:
    told = sent(USER, model(call("t1"), call("t2")), user(result("t2")))
    assert [part["functionResponse"]["response"] for part in told[2]["parts"]] == [
        *({"error": "no result"}, {"output": "done"}),
    ]


def test_a_result_that_failed_says_so_whatever_it_holds() -> None:
    told = sent(USER, model(call()), user(result(content='{"a": 1}', is_error=True)))
    assert told[2]["parts"][0]["functionResponse"]["response"] == {"error": '{"a": 1}'}


def test_instructions_alone_are_asked_as_a_question() -> None:
    assert kinds(contents_of({"role": "system", "content": "Be brief."})) == [("user", ["Be brief."])]


def test_an_instruction_that_was_for_one_turn_is_gone_after_it() -> None:
    once = {"role": "system", "content": "Once.", "clear_at": "next_user_message"}
    assert "Once." in kinds(sent(USER, once))[0][1][1]
    assert kinds(sent(USER, once, model(text("a")), USER)) == [("user", ["Hi"]), ("model", ["a"]), ("user", ["Hi"])]


def test_claude_codes_word_about_its_build_is_left_out_of_the_system_text_alone() -> None:
    line = "x-anthropic-billing-header: cc_version=2"
    body = body_of({"system": [text(line), text("Be brief.")], "messages": [user(text(line))]})
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert kinds(body["contents"]) == [("user", [line])]


# -------------------------------------------------------------------------------------------------------- signatures


def test_a_signature_comes_back_with_its_call() -> None:
    assert signed(sent(USER, model(thought(), call()), user(result()))) == [({"a": 1}, "c2ln")]


def test_a_signature_for_other_arguments_does_not() -> None:
    told = sent(USER, model(thought(), call(a=1, replace_all=False)), user(result()), signatures=None)
    assert signed(told) == [({"a": 1, "replace_all": False}, "skip_thought_signature_validator")]


def test_a_call_that_is_remembered_goes_as_it_was_made(clock: Clock) -> None:
    cache = SignatureCache(clock).of("ci")
    cache.put("t1", Signed("c2ln", ORIGIN, '{"a":1}'))
    cache.put("t2", Signed("", ORIGIN, '{"b":2}'))
    asked = model(call("t1", a=1, replace_all=False), call("t2", b=2, replace_all=False))
    told = sent(USER, asked, user(result("t1"), result("t2")), signatures=cache)
    assert signed(told) == [({"a": 1}, "c2ln"), ({"b": 2}, None)]


def test_arguments_that_no_model_makes_are_not_looked_into(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(signed_calls, "digest", lambda given: str(seen.append(len(given))))
    cache = SignatureCache(clock).of("ci")
    cache.put("t1", Signed("c2ln", ORIGIN, '{"a":1}'))
    told = sent(
        USER, model(thought("t2"), call("t1", a="x" * 2_000_000), call("t2", a="x" * 2_000_000)), signatures=cache
    )
    assert max(seen) < 100
    (first, signature), (second, _) = signed(told)
    assert (first, signature, len(second["a"])) == ({"a": 1}, "c2ln", 2_000_000)


@pytest.mark.parametrize("signature", ["", "EqQBCkYIARgCKkDA", seal("t0")])
def test_a_signature_that_is_none_of_ours_is_passed_over(signature: str) -> None:
    foreign = {"type": "thinking", "thinking": "hm", "signature": signature}
    told = sent(USER, model(foreign, call()), user(result()))
    assert signed(told) == [({"a": 1}, "skip_thought_signature_validator")]


@pytest.mark.parametrize("before", ["Here: ", "Here: " + "word " * LONG_TEXT], ids=["short", "long"])
def test_an_image_that_was_written_into_a_text_is_one_again(clock: Clock, before: str) -> None:
    cache = SignatureCache(clock).of("ci")
    cache.put(image_key(PIXEL), Signed("c2ln", "ai_studio/gemini-3-pro-image"))
    drawn = f"{before}![image](data:image/png;base64,{PIXEL}) and ![image](data:image/png;base64,*)."
    asked = {"model": "gemini-3-pro-image", "messages": [USER, model(text(drawn)), USER]}
    parts = body_of(asked, signatures=cache)["contents"][1]["parts"]
    assert parts[0] == {"text": before}
    assert parts[1] == {"inlineData": {"mimeType": "image/png", "data": PIXEL}, "thoughtSignature": "c2ln"}
    assert parts[2] == {"text": " and ![image](data:image/png;base64,*)."}, "what is none stays what it is"
    assert [part["text"] for part in sent(user(text(drawn)))[0]["parts"]] == [drawn], "the user's words are the user's"


# -------------------------------------------------------------------------------------------------------------- tools


def declared(**asked: Any) -> list[str]:
    specs = body_of({"model": MODEL, **asked}).get("tools", [])
    return [each["name"] for spec in specs for each in spec.get("functionDeclarations", [])]


def test_deferred_tools_are_declared_when_they_were_found() -> None:
    late = [{**TOOL, "name": name, "defer_loading": True} for name in ("g", "h", "DeferredToolPlaceholder")]
    tools = [TOOL, *late]
    assert declared(tools=tools) == ["f"]
    found = user(result(content=[{"type": "tool_reference", "tool_name": "g"}]))
    assert declared(tools=tools, messages=[USER, model(call()), found]) == ["f", "g"]
    assert declared(tools=tools, tool_choice={"type": "tool", "name": "h"}) == ["f", "h"]
    searching = [*tools, {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}]
    assert declared(tools=searching) == ["f", "g", "h"], "all, but for a placeholder"


def test_a_tool_that_is_gone_may_come_back() -> None:
    def changed(*kinds: str) -> dict[str, Any]:
        blocks = [{"type": kind, "tool": {"type": "tool_reference", "name": "f"}} for kind in kinds]
        return {"role": "system", "content": blocks}

    assert declared(tools=[TOOL], messages=[USER, changed("tool_removal")]) == []
    assert declared(tools=[TOOL], messages=[USER, changed("tool_removal", "tool_addition")]) == ["f"]
    found = user(result(content=[{"type": "tool_reference", "tool_name": "f"}]))
    assert declared(tools=[TOOL], messages=[USER, changed("tool_removal"), model(call()), found]) == ["f"]
    assert declared(tools=[TOOL], messages=[USER, model(call()), found, changed("tool_removal")]) == []


def test_a_tool_that_a_message_defines_is_named_where_it_stands() -> None:
    block = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {**TOOL, "input_schema": []}}}
    with pytest.raises(ClientFault) as caught:
        plan_of({"messages": [USER, {"role": "system", "content": [block]}]})
    assert caught.value.param == "messages[1].content[0].tool.definition.input_schema"


def test_a_search_is_left_out_beside_functions_where_a_model_cannot_have_both() -> None:
    tools = [TOOL, {"type": "web_search_20250305", "name": "web_search"}]
    assert [next(iter(spec)) for spec in body_of({"tools": tools})["tools"]] == ["functionDeclarations"]
    assert plan_of({"tools": tools}).ignored == ("tools",)
    both = body_of({"model": MODEL, "tools": tools})["tools"]
    assert [next(iter(spec)) for spec in both] == ["functionDeclarations", "googleSearch"]


# ------------------------------------------------------------------------------------------------- large and too much


LARGE = {
    "system": [text(ESSAY), text("Be brief.")],
    "messages": [
        *(USER for _ in range(2_000)),
        user(text(ESSAY), {"type": "search_result", "source": "s", "title": "t", "content": [text(ESSAY)]}),
        model(text("So:"), call(a=ESSAY), *(call(f"t{number}") for number in range(2, 2_000))),
        user(result(content=[text("x" * 100)] * 1_000), result("t2", ESSAY)),
    ],
    "tools": [TOOL],
}


def test_a_large_request_says_the_same() -> None:
    large = body_of(LARGE)
    assert len(msgspec.json.encode(LARGE)) > LARGEST_STEP
    said = large["contents"]
    assert large["systemInstruction"]["parts"] == [{"text": ESSAY}, {"text": "Be brief."}]
    assert [len(turn["parts"]) for turn in said] == [2_003, 2_000, 1_999]
    assert said[0]["parts"][2_000:] == [{"text": ESSAY}, {"text": "t\ns"}, {"text": ESSAY}]
    assert said[1]["parts"][1]["functionCall"]["args"] == {"a": ESSAY}
    assert said[2]["parts"][1]["functionResponse"]["response"] == {"output": ESSAY}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": [*(USER for _ in range(9_000)), {"role": "odd"}]}, "messages[9000].role"),
        ({"messages": [user(*(text("a") for _ in range(40_000)), {"type": "odd"})]}, "messages[0].content[40000].type"),
        ({"system": [*(text("a") for _ in range(40_000)), {"type": "image"}]}, "system[40000].type"),
        ({"messages": [USER], "system": ESSAY, "max_tokens": "1"}, "max_tokens"),
    ],
)
def test_what_is_wrong_in_a_large_request_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(ClientFault) as caught:
        plan_of({"system": ESSAY, **change})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("bounds", "what"),
    [(Bounds(messages=2), "messages"), (Bounds(parts=2), "parts"), (Bounds(calls=2), "calls")],
)
def test_too_much_is_refused(bounds: Bounds, what: str) -> None:
    messages = {
        "messages": [USER] * 3,
        "parts": [user(result(content=[text("a"), text("b"), text("c")]))],
        "calls": [USER, model(call("t1"), call("t2"), call("t3"))],
    }
    with pytest.raises(ClientFault, match=f"server.max_{what}"):
        decode(msgspec.json.encode(PLAIN | {"messages": messages[what]}), bounds)
    decode(msgspec.json.encode(PLAIN | {"messages": messages[what]}), BOUNDS)


def test_what_is_nested_in_itself_is_no_way_to_crash() -> None:
    inner: Any = "a"
    for _ in range(300):
        inner = [result(content=inner)]
    with pytest.raises(ClientFault):
        plan_of({"messages": [user(*inner)]})


def test_many_images_are_named_once_too_often() -> None:
    block = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    asked = plan_of({"messages": [user(*[block] * 3)]}, options=Options(max_images=3))
    assert len(asked.calls[0].media) == 3


def test_what_a_stream_is_begun_and_ended_with_keeps_no_request() -> None:
    asked = read(Received(msgspec.json.encode(PLAIN | {"stream": True}), {}, "/v1/messages"), Options())
    form = asked.format(True, Known("m1", 1_800_000_000, lambda: "x"))
    reached, waiting = {id(form)}, [form.opening, form.failure_event]
    for thing in waiting:
        if id(thing) not in reached and not isinstance(thing, type | ModuleType):
            reached.add(id(thing))
            waiting += (thing.__closure__ or ()) if isinstance(thing, FunctionType) else gc.get_referents(thing)
    assert form.opening()
    assert id(asked) not in reached
    assert id(asked.asking) not in reached
