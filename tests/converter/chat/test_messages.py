"""Messages -> contents: a row a shape, and what holds for any tree of messages (docs/protocol.md 4.4)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.wire.gemini import Blob
from tests.chat_bodies import JPEG, PNG, asks, body, call, contents, gives, plan, refused
from tests.gemini_schema import check_body

OLD, NEW = "gemini-2.5-flash", "gemini-3.8-flash"
PREFILLED = "gemini-3.5-flash"  # as new as NEW, but it goes on with its own words
GO_ON = ("user", [{"text": "Continue."}])
LOST = {"error": "no result"}


def system(text: Any) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **fields}


def parts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def t(*texts: str) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def fc(call_id: str, args: Any = None, name: str = "f") -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": args or {}, "id": call_id}}


def fr(call_id: str, response: Any, name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": response, "id": call_id, **fields}}


OK = {"output": "ok"}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
SHOWN = {"inlineData": {"mimeType": "image/png", "data": PNG}}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([user("a")], [("user", t("a"))], id="one message"),
        pytest.param([user(parts("a", "b"))], [("user", t("a", "b"))], id="parts stay parts"),
        pytest.param([user("a"), user("b")], [("user", t("a", "b"))], id="users in a row merge"),
        pytest.param(
            [user("a"), says("b"), user("c"), says("d")],
            [("user", t("a")), ("model", t("b")), ("user", t("c")), ("model", t("d"))],
            id="a conversation; the prefill stays",
        ),
        pytest.param([user("a"), says("b"), says("c")], [("user", t("a")), ("model", t("b", "c"))], id="models merge"),
        pytest.param([says("b"), user("c")], [("user", t(" ")), ("model", t("b")), ("user", t("c"))], id="model first"),
        pytest.param([user("a"), says("")], [("user", t("a"))], id="an empty prefill goes"),
        pytest.param([user("a"), says(None), user("b")], [("user", t("a", "b"))], id="an empty answer goes"),
        pytest.param([user("a"), user(None), user("")], [("user", t("a"))], id="empty users go"),
        pytest.param([user(parts("", "a", ""))], [("user", t("a"))], id="empty texts go"),
        pytest.param([user(" ")], [("user", t(" "))], id="white space is text"),
        pytest.param([{**user("a"), "name": "Bob"}], [("user", t("a"))], id="names have no counterpart"),
        pytest.param(
            [user("a"), says(None, refusal="No.")], [("user", t("a")), ("model", t("No."))], id="a refusal is text"
        ),
        pytest.param(
            [user("a"), says([{"type": "refusal", "refusal": "No."}, {"type": "refusal"}])],
            [("user", t("a")), ("model", t("No."))],
            id="a part of refusal is text",
        ),
        pytest.param(
            [user("a"), says("b", audio={"id": "x"}, reasoning_content="hm", annotations=[])],
            [("user", t("a")), ("model", t("b"))],
            id="what only OpenAI keeps is dropped",
        ),
        pytest.param([user([*parts("see"), PICTURE])], [("user", [*t("see"), SHOWN])], id="an image keeps its place"),
        pytest.param(
            [user("draw"), says("Here", images=[PICTURE])],
            [("user", t("draw")), ("model", [*t("Here"), SHOWN])],
            id="an image that the model made",
        ),
        pytest.param([user("draw"), says([PICTURE])], [("user", t("draw")), ("model", [SHOWN])], id="in its content"),
    ],
)
def test_plain_messages(messages: list[dict[str, Any]], expected: list[Any]) -> None:
    assert contents(*messages, model=PREFILLED) == expected


@pytest.mark.parametrize(
    ("messages", "ending"),
    [
        pytest.param([user("a"), says("b")], [("model", t("b")), GO_ON], id="a text"),
        pytest.param([user("a"), says("b"), says("c")], [("model", t("b", "c")), GO_ON], id="two texts"),
        pytest.param([says("b")], [("model", t("b")), GO_ON], id="nothing else"),
        pytest.param([user("a"), says(None, refusal="No.")], [("model", t("No.")), GO_ON], id="a refusal"),
        pytest.param([user("a"), says([PICTURE])], [("model", [SHOWN]), GO_ON], id="a picture in its content"),
        pytest.param([user("a"), says(None, images=[PICTURE])], [("model", [SHOWN]), GO_ON], id="a picture it made"),
        pytest.param([user("a"), says("")], [("user", t("a"))], id="an answer that says nothing"),
        pytest.param([user("a"), says("b"), user("c")], [("user", t("c"))], id="the user's words"),
        pytest.param([user("a"), says("b"), user("")], [("model", t("b")), GO_ON], id="a user who says nothing"),
    ],
)
@pytest.mark.parametrize("model", [NEW, "gemini-3.5-flash-lite", "gemini-flash-latest", "gemini-flash-lite-latest"])
def test_a_conversation_that_ends_with_the_model_is_ended_by_the_user(
    messages: list[Any], ending: list[Any], model: str
) -> None:
    assert contents(*messages, model=model)[-len(ending) :] == ending


def test_a_conversation_that_ends_with_the_model_after_a_result_is_ended_by_the_user() -> None:
    found = contents(user("a"), asks(call("c")), gives("c"), says("b"))
    assert found[2:] == [("user", [fr("c", OK)]), ("model", t("b")), GO_ON]
    assert contents(user("a"), asks(call("c")))[2:] == [("user", [fr("c", LOST)])]


def test_images_of_the_model_may_have_been_fetched() -> None:
    url = "https://example.org/a.jpg"
    found = contents(
        user("draw"), says(None, images=[{"image_url": {"url": url}}]), images={url: Blob("image/jpeg", JPEG)}
    )
    assert found[1] == ("model", [{"inlineData": {"mimeType": "image/jpeg", "data": JPEG}}])


def test_images_of_the_model_that_cannot_be_sent_are_refused_by_place() -> None:
    fault = refused(messages=[user("a"), says("b", images=[PICTURE, {"image_url": "nowhere"}])])
    assert fault.param == "messages[1].images[1]"


def test_images_of_the_model_may_be_files_at_google() -> None:
    uri = "https://generativelanguage.googleapis.com/v1beta/files/a"
    found = contents(user("draw"), says("b", images=[{"image_url": uri}]))
    assert found[1][1][1] == {"fileData": {"fileUri": uri}}


# ---------------------------------------------------------------------------------------------- what the system says


@pytest.mark.parametrize(
    ("messages", "told", "expected"),
    [
        pytest.param([system("S"), user("a")], t("S"), [("user", t("a"))], id="a system message"),
        pytest.param(
            [system("S"), {"role": "developer", "content": parts("D", "E")}, user("a")],
            t("S", "D", "E"),
            [("user", t("a"))],
            id="all that lead, developers' too",
        ),
        pytest.param([system(""), system(None), user("a")], None, [("user", t("a"))], id="empty ones"),
        pytest.param([system([]), system(parts("")), user("a")], None, [("user", t("a"))], id="empty lists"),
        pytest.param(
            [system("S"), user("a"), says("b"), system("T"), user("c")],
            t("S"),
            [("user", t("a")), ("model", t("b")), ("user", t("T", "c"))],
            id="one in mid-conversation keeps its place",
        ),
        pytest.param([user("a"), system("T")], None, [("user", t("a", "T"))], id="one at the end is said by the user"),
        pytest.param(
            [user("a"), asks(call("c")), system("T"), gives("c")],
            None,
            [("user", t("a")), ("model", [fc("c")]), ("user", [fr("c", OK), *t("T")])],
            id="never between a call and its result",
        ),
        pytest.param([system("S"), system("T")], None, [("user", t("S", "T"))], id="only instructions"),
        pytest.param([system("S"), user("")], None, [("user", t("S"))], id="only instructions that say something"),
        pytest.param(
            [system("S"), says("b")], t("S"), [("user", t(" ")), ("model", t("b"))], id="instructions and an answer"
        ),
    ],
)
def test_system_messages(messages: list[Any], told: Any, expected: list[Any]) -> None:
    found = body(PREFILLED, messages=messages)
    assert found.get("systemInstruction", {}).get("parts") == told
    assert [(item["role"], item["parts"]) for item in found["contents"]] == expected


def test_system_messages_hold_text_only() -> None:
    fault = refused(messages=[system([*parts("a"), PICTURE]), user("b")])
    assert fault.param == "messages[0].content[1].type"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([system("S"), user("a")], [("user", t("S", "a"))], id="before what the user says"),
        pytest.param(
            [system("S"), says("b"), user("c")],
            [("user", t("S")), ("model", t("b")), ("user", t("c"))],
            id="before what the model says",
        ),
    ],
)
def test_a_model_without_system_instruction_is_told_by_the_user(messages: list[Any], expected: list[Any]) -> None:
    found = body("gemma-3-27b-it", messages=messages)
    assert "systemInstruction" not in found
    assert [(item["role"], item["parts"]) for item in found["contents"]] == expected


@pytest.mark.parametrize("messages", [[], [user("")], [user(None), says("")], [system("")], [user([])]])
def test_a_conversation_that_says_nothing_is_refused(messages: list[Any]) -> None:
    assert refused(messages=messages).param == "messages"


# ----------------------------------------------------------------------------------------------- calls and results

Q = user("q")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param(
            [asks(call("a")), gives("a")], [("model", [fc("a")]), ("user", [fr("a", OK)])], id="a call and its result"
        ),
        pytest.param(
            [says("Look.", tool_calls=[call("a")]), gives("a")],
            [("model", [*t("Look."), fc("a")]), ("user", [fr("a", OK)])],
            id="text before the call",
        ),
        pytest.param(
            [asks(call("a"), call("b")), gives("b", "2"), gives("a", "1")],
            [("model", [fc("a"), fc("b")]), ("user", [fr("a", {"output": "1"}), fr("b", {"output": "2"})])],
            id="results in the order of the calls",
        ),
        pytest.param(
            [asks(call("a")), gives("a", "1"), asks(call("b")), gives("b", "2"), says("done")],
            [
                ("model", [fc("a")]),
                ("user", [fr("a", {"output": "1"})]),
                ("model", [fc("b")]),
                ("user", [fr("b", {"output": "2"})]),
                ("model", t("done")),
            ],
            id="step after step",
        ),
        pytest.param(
            [asks(call("a")), asks(call("b")), gives("a", "1"), gives("b", "2")],
            [("model", [fc("a"), fc("b")]), ("user", [fr("a", {"output": "1"}), fr("b", {"output": "2"})])],
            id="parallel calls in two messages are one step",
        ),
        pytest.param(
            [asks(call("a"), call("b")), gives("b")],
            [("model", [fc("a"), fc("b")]), ("user", [fr("a", LOST), fr("b", OK)])],
            id="a missing result is made up",
        ),
        pytest.param([asks(call("a"))], [("model", [fc("a")]), ("user", [fr("a", LOST)])], id="nothing after the call"),
        pytest.param(
            [asks(call("a")), says("never mind")],
            [("model", [fc("a"), *t("never mind")]), ("user", [fr("a", LOST)])],
            id="the model went on without a result",
        ),
        pytest.param(
            [asks(call("a")), user("stop"), says("ok")],
            [("model", [fc("a")]), ("user", [fr("a", LOST), *t("stop")]), ("model", t("ok"))],
            id="the user cut in",
        ),
        pytest.param(
            [asks(call("a"), call("b")), gives("a"), user("and?"), gives("b")],
            [("model", [fc("a"), fc("b")]), ("user", [fr("a", OK), fr("b", OK), *t("and?")])],
            id="the user spoke between two results",
        ),
        pytest.param(
            [asks(call("a")), says(""), gives("a")],
            [("model", [fc("a")]), ("user", [fr("a", OK)])],
            id="an empty answer between call and result",
        ),
        pytest.param(
            [asks(call("a")), gives("a"), gives("a")],
            [("model", [fc("a")]), ("user", [fr("a", OK)])],
            id="the same result twice",
        ),
        pytest.param(
            [asks(call("a")), gives("a"), gives("a", "other")],
            [("model", [fc("a")]), ("user", [fr("a", OK), *t("Result of a tool: other")])],
            id="a second result that differs",
        ),
        pytest.param(
            [asks(call("a")), gives("a"), gives("z", "stray")],
            [("model", [fc("a")]), ("user", [fr("a", OK), *t("Result of a tool: stray")])],
            id="a result of no call",
        ),
        pytest.param(
            [gives("z", "stray", name="g"), says("b")],
            [("user+", t("Result of g: stray")), ("model", t("b"))],
            id="a result without any call before",
        ),
        pytest.param([gives("z", ""), says("b")], [("model", t("b"))], id="a stray that says nothing"),
        pytest.param(
            [asks(call("a"), call("b")), gives(None, "1"), gives(None, "2")],
            [("model", [fc("a"), fc("b")]), ("user", [fr("a", {"output": "1"}), fr("b", {"output": "2"})])],
            id="results without ids, by position",
        ),
        pytest.param(
            [asks(call("a"), call("b", "g")), gives("x", "1", name="g"), gives("y", "2")],
            [
                ("model", [fc("a"), fc("b", name="g")]),
                ("user", [fr("a", {"output": "2"}), fr("b", {"output": "1"}, "g")]),
            ],
            id="results with ids of their own, by name and then by position",
        ),
        pytest.param(
            [asks(call("a"), call("b")), gives("z", "1"), gives("a", "2")],
            [("model", [fc("a"), fc("b")]), ("user", [fr("a", {"output": "2"}), fr("b", {"output": "1"})])],
            id="a known id comes before a guess",
        ),
        pytest.param(
            [asks(call(None), call("")), gives(None, "1"), gives("", "2")],
            [
                ("model", [fc("call_1_0"), fc("call_1_1")]),
                ("user", [fr("call_1_0", {"output": "1"}), fr("call_1_1", {"output": "2"})]),
            ],
            id="calls without ids get some",
        ),
        pytest.param(
            [asks(call("a"), call("a")), gives("a", "1"), gives("a", "2")],
            [("model", [fc("a"), fc("a_2")]), ("user", [fr("a", {"output": "1"}), fr("a_2", {"output": "2"})])],
            id="two calls of one id are told apart",
        ),
        pytest.param(
            [
                says(None, function_call={"name": "f", "arguments": "{}"}),
                {"role": "function", "name": "f", "content": "ok"},
            ],
            [("model", [fc("call_1_0")]), ("user", [fr("call_1_0", OK)])],
            id="the function call of old",
        ),
        pytest.param(
            [
                asks({"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}),
                gives("a"),
                asks({"id": "b", "type": "custom", "custom": {"name": "f"}}),
                gives("b"),
            ],
            [
                ("model", [fc("a", {"input": "x"})]),
                ("user", [fr("a", OK)]),
                ("model", [fc("b", {"input": ""})]),
                ("user", [fr("b", OK)]),
            ],
            id="calls of custom tools",
        ),
    ],
)
def test_calls_and_results(messages: list[Any], expected: list[Any]) -> None:
    merges = expected[0][0] == "user+"  # with the question
    opening = [("user", t("q") + expected.pop(0)[1])] if merges else [("user", t("q"))]
    assert contents(Q, *messages, model=PREFILLED) == opening + expected


def test_a_call_of_nothing_is_refused_by_place() -> None:
    fault = refused(messages=[Q, asks(call("a"), {"id": "b", "type": "function"})])
    assert fault.param == "messages[1].tool_calls[1].function"


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        pytest.param('{"a":1}', {"a": 1}, id="an object"),
        pytest.param({"a": 1}, {"a": 1}, id="an object that is no string"),
        pytest.param("", {}, id="an empty string"),
        pytest.param(" \n", {}, id="white space"),
        pytest.param(None, {}, id="null"),
        pytest.param("null", {}, id="null as string"),
        pytest.param("{}", {}, id="an empty object"),
        pytest.param("[]", {"value": []}, id="a list"),
        pytest.param("5", {"value": 5}, id="a number"),
        pytest.param('"x"', {"value": "x"}, id="a string in a string"),
        pytest.param("{a:1}", {"_raw": "{a:1}"}, id="no JSON"),
        pytest.param('{"a":', {"_raw": '{"a":'}, id="cut short"),
        pytest.param("[" * 50_000, {"_raw": "[" * 50_000}, id="too deep"),
        pytest.param('{"a":"\\ud800"}', {"_raw": '{"a":"\\ud800"}'}, id="a lone surrogate in it"),
        pytest.param('{"a":[-6371298176326611879,1]}', {"a": ["-6371298176326611879", 1]}, id="a long integer"),
        pytest.param({"a": 6371298176326611879}, {"a": "6371298176326611879"}, id="a long integer that is no string"),
        pytest.param("6371298176326611879", {"value": "6371298176326611879"}, id="a long integer by itself"),
        pytest.param('{"a":1.00000000000000000001}', {"a": "1.00000000000000000001"}, id="a long fraction"),
        pytest.param('{"a":1,"a":2}', {"a": 2}, id="a doubled name: the tool was called with the last"),
        pytest.param('{"a":1e400}', {"_raw": '{"a":1e400}'}, id="a number beyond all doubles"),
    ],
)
def test_arguments(arguments: Any, args: dict[str, Any]) -> None:
    found = contents(Q, asks(call("a", "f", arguments)))
    assert found[1][1][0]["functionCall"]["args"] == args


@pytest.mark.parametrize(
    "text",
    [
        '{"n":9007199254740992,"f":1.0}',
        '{ "b": 1, "a": 2 }',
        '{"n":-100000000000000000000,"f":[0.30000000000000004,1E+25,-0]}',
        '{"id":"-6371298176326611879","at":"12:30:00.1234567890123456789"}',
    ],
)
def test_arguments_and_results_go_through_as_they_are_written(text: str) -> None:
    messages = [Q, asks(call("a", "f", text)), gives("a", text)]
    written = msgspec.json.encode(plan(messages=messages).call.body).decode()
    assert f'"args":{text}' in written
    assert f'"response":{text}' in written


@pytest.mark.parametrize(
    ("content", "response"),
    [
        pytest.param("rain", {"output": "rain"}, id="text"),
        pytest.param('{"c":21}', {"c": 21}, id="an object"),
        pytest.param(' {"c":21}', {"c": 21}, id="an object after a space"),
        pytest.param("[1]", {"output": "[1]"}, id="a list is text"),
        pytest.param("5", {"output": "5"}, id="a number is text"),
        pytest.param('{"c":', {"output": '{"c":'}, id="no JSON"),
        pytest.param('{"a":{"$ref":"x"}}', {"output": '{"a":{"$ref":"x"}}'}, id="a ref would be looked up"),
        pytest.param('{"a":{"\\u0024ref":1}}', {"output": '{"a":{"\\u0024ref":1}}'}, id="an escaped one too"),
        pytest.param('{"a":' * 50_000, {"output": '{"a":' * 50_000}, id="too deep"),
        pytest.param("", {"output": ""}, id="an empty text"),
        pytest.param(None, {"output": ""}, id="null"),
        pytest.param(parts("a", "b"), {"output": "a\nb"}, id="parts of text"),
        pytest.param(parts('{"c":21}'), {"c": 21}, id="an object in a part"),
    ],
)
def test_result(content: Any, response: dict[str, Any]) -> None:
    found = contents(Q, asks(call("a")), gives("a", content))
    assert found[2][1][0]["functionResponse"]["response"] == response


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"id": -6371298176326611879, "name": "milk"}', id="a long integer"),
        pytest.param('{"ids":[1,{"a":9007199254740993}]}', id="the first that a double cannot hold, deep inside"),
        pytest.param('{"sum":12345678901234567.89}', id="more digits than a double has"),
        pytest.param('{"a":0.1234567890123456789012}', id="a long fraction"),
        pytest.param('{"a":' + "1" * 3000 + "}", id="a number of thousands of digits"),
        pytest.param('{"a":1e-400}', id="a number that would be 0"),
        pytest.param('{"a":1e-99999999999999999999}', id="an exponent beyond all measure"),
        pytest.param('{"a":1e400}', id="a number that would be infinite"),
        pytest.param('{"a":NaN}', id="no number"),
        pytest.param('{"a":1,"a":2}', id="a doubled name"),
        pytest.param('{"b":[{"a" : {"x:y":1}, "a": 2}], "c": ":"}', id="a doubled name, deep inside"),
        pytest.param('{"a":1,"\\u0061":2}', id="a name doubled by an escape"),
        pytest.param('{"a":1,"a":2,"b":"\\u003a"}', id="a doubled name and an escaped colon"),
    ],
)
def test_a_result_that_would_change_on_the_way_goes_as_text(text: str) -> None:
    found = contents(Q, asks(call("a")), gives("a", text))
    assert found[2][1][0]["functionResponse"]["response"] == {"output": text}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param(
            [("a", "1"), ("a", "2"), ("a", "1")], [fr("a", {"output": "1"}), fr("a_2", {"output": "2"})], id="all"
        ),
        pytest.param(
            [("a", "1"), ("a", "2"), ("a", "2")], [fr("a", {"output": "1"}), fr("a_2", {"output": "2"})], id="last"
        ),
        pytest.param(
            [("a", [PICTURE]), ("a", [PICTURE]), ("a", [PICTURE]), ("a", "")],
            [fr("a", {"output": ""}, parts=[SHOWN]), fr("a_2", {"output": ""}, parts=[SHOWN])],
            id="a picture is a part of what is said",
        ),
    ],
)
def test_a_result_that_says_what_another_of_its_id_says_is_told_once(results: Any, expected: list[Any]) -> None:
    found = contents(Q, asks(call("a"), call("a")), *(gives(*result) for result in results))
    assert found[2] == ("user", expected)


def test_an_image_in_a_result_goes_inside_from_3_on() -> None:
    found = contents(Q, asks(call("a")), gives("a", [*parts("see"), PICTURE]))
    assert found[2] == ("user", [fr("a", {"output": "see"}, parts=[SHOWN])])


def test_an_image_in_a_result_goes_after_the_results_before_3() -> None:
    found = contents(Q, asks(call("a"), call("b")), gives("a", [PICTURE]), gives("b"), user("?"), model=OLD)
    assert found[2] == ("user", [fr("a", {"output": ""}), fr("b", OK), SHOWN, *t("?")])


def test_what_a_result_cannot_hold_goes_after_it() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    found = contents(Q, asks(call("a")), gives("a", [sound, PICTURE]))
    heard = {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}
    assert found[2] == ("user", [fr("a", {"output": ""}, parts=[SHOWN]), heard])


def test_a_stray_result_keeps_its_image() -> None:
    assert contents(Q, gives("z", [PICTURE])) == [("user", [*t("q"), SHOWN])]


def test_a_call_id_of_an_earlier_step_is_a_stray_by_then() -> None:
    found = contents(Q, asks(call("a"), call("b")), gives("a"), says("hm"), gives("b", "late"))
    assert found[2] == ("user", [fr("a", OK), fr("b", LOST)])
    assert found[4] == ("user", t("Result of a tool: late"))


# ---------------------------------------------------------------------------------------- whatever the messages are

TEXT = st.sampled_from(["", " ", "a", "b", None])
IDS = st.sampled_from(["a", "b", "c", "", None])
CALLS = st.lists(
    st.builds(call, IDS, st.sampled_from(["f", "g h"]), st.sampled_from(["{}", "", "[1]", "x"])), max_size=3
)
MESSAGE = st.one_of(
    st.builds(system, TEXT),
    st.builds(user, TEXT | st.just([*parts("x"), PICTURE])),
    st.builds(lambda text, calls: says(text, tool_calls=calls), TEXT, CALLS),
    st.builds(lambda text: says(text, function_call={"name": "f"}), TEXT),
    st.builds(gives, IDS, TEXT | st.just([PICTURE])),
    st.builds(lambda text: {"role": "function", "name": "f", "content": text}, TEXT),
)


def kinds(content: dict[str, Any], name: str) -> list[tuple[str, str]]:
    return [(part[name]["id"], part[name]["name"]) for part in content["parts"] if name in part]


@given(st.lists(MESSAGE, max_size=12), st.sampled_from([OLD, NEW, "gemma-3-27b-it"]))
def test_any_messages_give_contents_that_google_takes(messages: list[Any], model: str) -> None:
    found = body(model, messages=[*messages, user("last words")])
    turns = found["contents"]
    assert turns[0]["role"] == "user"
    assert all(first["role"] != second["role"] for first, second in pairwise(turns))
    for position, content in enumerate(turns):
        assert content["parts"]
        assert all(part for part in content["parts"])
        assert all(part.get("text") != "" for part in content["parts"])
        calls = kinds(content, "functionCall")
        assert len({call_id for call_id, _ in calls}) == len(calls)
        answered = kinds(turns[position + 1], "functionResponse") if position + 1 < len(turns) else []
        assert answered == calls
        responses = ["functionResponse" in part for part in content["parts"]]
        assert responses == sorted(responses, reverse=True)
        assert not any(responses) or position > 0
    assert sum("last words" in part.get("text", "") for content in turns for part in content["parts"]) == 1


@given(st.lists(MESSAGE, max_size=8))
def test_any_messages_give_what_google_describes(messages: list[Any]) -> None:
    assert check_body(body(NEW, messages=[*messages, user("last words")])) == []
