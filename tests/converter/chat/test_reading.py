"""Large bodies are read in steps, and nobody can tell: not by what is read, not by what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from msgspec import Raw

from gemproxy.converter import steps
from gemproxy.converter.api import Options
from gemproxy.converter.bounds import Bounds, weighed
from gemproxy.converter.chat import reading
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import Conversion, to_call
from gemproxy.errors import ClientFault
from gemproxy.load import weigh
from gemproxy.models import Catalogue
from gemproxy.wire import text
from tests.examples import draws
from tests.growth import TRIES, seconds
from tests.random_requests import conversations

CATALOGUE = Catalogue()
LONG_TEXT = "Grüße 🎈 " * 60_000
USER = {"role": "user", "content": "Hi"}


def large(**fields: Any) -> bytes:
    """Return a body that is read in steps, whatever is in it."""
    return msgspec.json.encode(
        {"model": "gemini-2.5-flash", "messages": [USER], "zzz": "z" * reading.LARGEST_STEP, **fields}
    )


def messages(*said: dict[str, Any]) -> bytes:
    return large(messages=list(said))


# ----------------------------------------------------------------------------------------------------- what is read


def called(body: bytes) -> Conversion:
    read = decode(body)
    return to_call(read, CATALOGUE.lookup(read.model), {}, None, Options(), stream=False)


def outcome(body: bytes) -> Any:
    """Return what would be asked, or why nothing is."""
    try:
        return msgspec.json.decode(msgspec.json.encode(called(body).call.body))
    except ClientFault as fault:
        return fault.param, fault.code


@draws(12)
@given(conversations())
@pytest.mark.parametrize("small", [1, 60, 400])
def test_a_request_read_in_steps_asks_the_same(small: int, sent: dict[str, Any]) -> None:
    expected = outcome(msgspec.json.encode(sent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weigh, "SMALL_SIZE", small)
        patch.setattr(reading, "LARGEST_STEP", small)
        patch.setattr(reading, "LONG_TEXT", 3)
        patch.setattr(text, "LONG_TEXT", 3)
        assert outcome(msgspec.json.encode(sent)) == expected


@pytest.mark.parametrize(
    ("role", "content"),
    [
        *((role, LONG_TEXT) for role in ("system", "developer", "user", "assistant", "tool", "function")),
        ("user", [{"type": "text", "text": LONG_TEXT}, {"type": "text", "text": "short"}]),
    ],
)
def test_long_texts_stay_as_they_came(role: str, content: Any) -> None:
    message = {"role": role, "content": content, **({"name": "f"} if role == "function" else {})}
    read: Any = decode(messages(USER, message)).messages[1].content
    kept = read[0].text if isinstance(read, list) else read
    assert isinstance(kept, Raw)
    assert text.plain(kept) == LONG_TEXT
    if isinstance(read, list):
        assert read[1].text == "short"


@pytest.mark.parametrize(
    ("arguments", "goes"),
    [
        ({"text": LONG_TEXT, "n": 1}, {"text": LONG_TEXT, "n": 1}),
        (msgspec.json.encode({"text": LONG_TEXT}).decode(), {"text": LONG_TEXT}),
        (LONG_TEXT, {"_raw": LONG_TEXT}),
    ],
    ids=["an object", "an object as text", "no JSON"],
)
def test_long_arguments_go_on_as_an_object(arguments: Any, goes: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    sent = {"model": "gemini-2.5-flash", "messages": [USER, {"role": "assistant", "tool_calls": [call]}]}
    contents = msgspec.json.decode(msgspec.json.encode(called(msgspec.json.encode(sent)).call.body))["contents"]
    assert contents[1]["parts"][0]["functionCall"]["args"] == goes


def test_lists_that_are_empty_or_null_mean_the_same_as_in_a_small_body() -> None:
    read = decode(large(tools=[], functions=None, messages=[USER, {"role": "assistant", "tool_calls": None}]))
    assert (read.tools, read.functions, read.messages[1].tool_calls) == (None, None, None)  # type: ignore[union-attr]


# -------------------------------------------------------------------------------------------------- what is refused

WRONG = [
    pytest.param({"messages": None}, id="no messages"),
    pytest.param({"messages": {"a": 1}}, id="messages are no list"),
    pytest.param({"messages": [5]}, id="a message is no object"),
    pytest.param({"messages": [USER, {"role": "nobody"}]}, id="an unknown role"),
    pytest.param({"messages": [USER, {"content": "x"}]}, id="no role"),
    pytest.param({"messages": [USER, {"role": "user", "content": [{"type": "x"}]}]}, id="an unknown part"),
    pytest.param({"messages": [USER, {"role": "user", "content": [{"type": "image_url"}]}]}, id="a part lacks a field"),
    pytest.param({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, id="a call lacks its name"),
    pytest.param({"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": 5}}]}, id="arguments"),
    pytest.param({"tools": [{"function": {"name": 5}}]}, id="a tool's name is no text"),
    pytest.param({"functions": [{}]}, id="a function lacks its name"),
    pytest.param({"model": None}, id="no model"),
    pytest.param({"temperature": "hot"}, id="a number that is none"),
]


def refused(read: Callable[[], object]) -> tuple[int, str | None, str | None, str]:
    with pytest.raises(ClientFault) as caught:
        read()
    return caught.value.status, caught.value.param, caught.value.code, caught.value.message


@pytest.mark.parametrize("bulk", [0, 2 * weigh.SMALL_SIZE], ids=["small things", "large things"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_fault_is_named_as_in_a_small_body(wrong: dict[str, Any], bulk: int) -> None:
    small = {"model": "gemini-2.5-flash", "messages": [USER], **wrong}
    told = refused(lambda: decode(msgspec.json.encode(small)))
    fat = msgspec.json.decode(msgspec.json.encode(small))
    for name in ("messages", "tools", "functions"):
        for item in fat.get(name) or ():
            if isinstance(item, dict) and bulk:
                item["zzz"] = "z" * bulk
    assert refused(lambda: decode(msgspec.json.encode({**fat, "zzz": "z" * reading.LARGEST_STEP}))) == told


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(large()[:-1], "not valid JSON", id="cut off"),
        pytest.param(large() + b"x", "not valid JSON", id="more behind the end"),
        pytest.param(
            b'{"zzz":"%s\xff"}' % (b"z" * reading.LARGEST_STEP), "not valid UTF-8", id="not UTF-8 in an unknown field"
        ),
        pytest.param(
            large(user="é" * (reading.LARGEST_STEP // 2))[:-3], "not valid UTF-8", id="cut off within a letter"
        ),
        pytest.param(b'{"zzz":%s}' % (b"[" * 2 * reading.LARGEST_STEP), "nested too deep", id="too deep"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, message: str) -> None:
    assert message in refused(lambda: decode(body))[3]


@pytest.mark.parametrize(
    ("body", "bounds", "setting"),
    [
        (messages(*[USER] * 11), Bounds(messages=10), "server.max_messages"),
        (
            messages(*[{"role": "user", "content": [{"type": "text", "text": "a"}] * 6}] * 2),
            Bounds(parts=11),
            "server.max_parts",
        ),
        (
            messages({"role": "user", "content": [{"type": "text", "text": "a" * 9_000}] * 11}),
            Bounds(parts=10),
            "server.max_parts",
        ),
        (
            messages({"role": "assistant", "tool_calls": [{"id": "a" * 9_000, "function": {"name": "f"}}] * 11}),
            Bounds(calls=10),
            "server.max_calls",
        ),
        (
            messages(*[{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 6}] * 2),
            Bounds(calls=11),
            "server.max_calls",
        ),
    ],
    ids=["messages", "parts of several messages", "parts of a large one", "calls of a large message", "calls"],
)
def test_more_than_an_honest_client_sends_is_refused_by_its_setting(body: bytes, bounds: Bounds, setting: str) -> None:
    status, param, _, message = refused(lambda: decode(body, bounds))
    assert (status, param) == (400, "messages")
    assert setting in message


def test_too_many_values_are_refused_before_any_is_made() -> None:
    body = large(zzz=[{}] * 1_000)
    assert weighed(body, Bounds(values=3_000)) < 3_000
    assert "server.max_values = 1500" in refused(lambda: weighed(body, Bounds(values=1_500)))[3]


def test_a_field_that_only_holds_a_little_may_not_be_large() -> None:
    decode(large(metadata={"a": "x" * steps.MAX_FIELD}))  # nobody reads it
    told = refused(lambda: decode(large(logit_bias={"a": "x" * steps.MAX_FIELD})))
    assert told[1] == "logit_bias"
    assert "larger than 512 KiB" in told[3]


@pytest.mark.parametrize("field", ["role", "type"])
def test_a_word_of_megabytes_is_refused_without_being_looked_through(field: str) -> None:
    """msgspec quotes it: a pattern that goes through it letter by letter took two seconds for 30 MB."""
    part = {"type": "text" if field == "role" else " - at `x" * 500_000, "text": "a"}
    message = {"role": "user" if field == "type" else "a" * 4_000_000, "content": [part]}
    body, usual = messages(message), messages({"role": "user", "content": "a" * 4_000_000})
    told = refused(lambda: decode(body))
    found: list[float] = []
    while not found or (found[-1] >= 8 and len(found) < TRIES):
        found.append(seconds(lambda: refused(lambda: decode(body))) / seconds(lambda: decode(usual)))
    assert found[-1] < 8, found
    assert told[1] == ("messages[0].role" if field == "role" else "messages[0].content[0].type")
    assert len(told[3]) < 200
