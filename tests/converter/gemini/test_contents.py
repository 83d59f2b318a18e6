"""Contents: who speaks when, where results go, what opens and ends a conversation (docs/protocol.md 4.4, 6.1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from gemproxy.converter.gemini.contents import Contents, arguments_of, lines, opened, sign, sign_text
from gemproxy.converter.gemini.signatures import Signed
from gemproxy.converter.gemini.struct_values import LARGEST_OBJECT
from gemproxy.converter.gemini.tool_results import Asked, Result
from gemproxy.models import Model
from gemproxy.wire.gemini import Blob, Content, FunctionCall, Part
from gemproxy.wire.text import LONG_TEXT

NEW, OLD = Model("new"), Model("old", modern=False)
STRICT = Model("strict", prefill=False)
PLAIN = Model("plain", system_instruction=False)
SIGNED = Signed("SIG", "ai_studio/new")
PICTURE = Part(inline_data=Blob("image/png", "AAAA"))


def texts(*said: str) -> list[Part]:
    return [Part(text=text) for text in said]


def user(*said: str) -> Content:
    return Content(texts(*said), "user")


def model(*said: str) -> Content:
    return Content(texts(*said), "model")


def asks(contents: Contents, *ids: str) -> None:
    """Let the model make calls of f with these ids."""
    calls = [FunctionCall("f", Raw(b"{}"), call_id) for call_id in ids]
    contents.model([Part(function_call=call) for call in calls], [Asked(call, call.id or "", "f") for call in calls])


def gives(contents: Contents, call_id: str, text: str = "ok", media: list[Part] | None = None) -> None:
    contents.result(Result(call_id, "f", text, media or []))


def shown(contents: Contents) -> list[tuple[str | None, list[Any]]]:
    """Return roles and parts; of a text itself, of a call its id, of a response its id and what it holds."""
    return [(content.role, [_shown(part) for part in content.parts or ()]) for content in contents.finish()]


def _shown(part: Part) -> Any:
    if part.function_call is not None:
        return f"call {part.function_call.id}"
    if part.function_response is None:
        return part.text if part.text is not None else "media"
    response = part.function_response
    return response.id, response.response, len(response.parts or ())


OK = {"output": "ok"}

# ------------------------------------------------------------------------------------------------------- the turns


def test_contents_of_one_role_merge_and_their_parts_do_not() -> None:
    contents = Contents(NEW)
    contents.user(texts("a"))
    contents.user(texts("b", "c"))
    contents.model(texts("d"), [])
    contents.model(texts("e"), [])
    contents.user(texts("f"))
    assert shown(contents) == [("user", ["a", "b", "c"]), ("model", ["d", "e"]), ("user", ["f"])]


def test_who_says_nothing_has_no_turn() -> None:
    contents = Contents(NEW)
    contents.user([])
    contents.model([], [])
    assert contents.finish() == []


def test_the_results_of_a_step_follow_its_calls_in_their_order() -> None:
    contents = Contents(NEW)
    asks(contents, "a", "b")
    gives(contents, "b")
    gives(contents, "a", "first")
    assert shown(contents) == [
        ("model", ["call a", "call b"]),
        ("user", [("a", {"output": "first"}, 0), ("b", OK, 0)]),
    ]


def test_what_the_user_says_within_a_step_goes_behind_its_results() -> None:
    contents = Contents(NEW)
    asks(contents, "a")
    contents.user(texts("hurry"))
    gives(contents, "a")
    assert shown(contents) == [("model", ["call a"]), ("user", [("a", OK, 0), "hurry"])]


def test_calls_before_any_result_belong_to_one_step() -> None:
    contents = Contents(NEW)
    asks(contents, "a")
    asks(contents, "b")
    gives(contents, "b")
    gives(contents, "a")
    assert shown(contents) == [("model", ["call a", "call b"]), ("user", [("a", OK, 0), ("b", OK, 0)])]


def test_a_step_ends_when_the_model_speaks_after_a_result() -> None:
    contents = Contents(NEW)
    asks(contents, "a")
    gives(contents, "a")
    contents.model(texts("done"), [])
    gives(contents, "a", "late")
    assert shown(contents) == [
        ("model", ["call a"]),
        ("user", [("a", OK, 0)]),
        ("model", ["done"]),
        ("user", ["Result of f: late"]),
    ]


def test_a_call_that_nobody_answers_is_answered() -> None:
    contents = Contents(NEW)
    asks(contents, "a")
    assert shown(contents) == [("model", ["call a"]), ("user", [("a", {"error": "no result"}, 0)])]


@pytest.mark.parametrize(
    ("kind", "inside", "behind"), [(NEW, 1, []), (OLD, 0, ["media"])], ids=["from 3 on", "before 3"]
)
def test_media_of_a_result_go_where_the_model_takes_them(kind: Model, inside: int, behind: list[str]) -> None:
    contents = Contents(kind)
    asks(contents, "a")
    gives(contents, "a", media=[PICTURE])
    assert shown(contents)[1] == ("user", [("a", OK, inside), *behind])


# ----------------------------------------------------------------------------------------- how it opens, how it ends


@pytest.mark.parametrize(
    ("kind", "contents", "expected"),
    [
        pytest.param(NEW, [user("a")], (["s"], [user("a")]), id="system parts stay by themselves"),
        pytest.param(NEW, [], ([], [user("s")]), id="instructions only are what the user says"),
        pytest.param(NEW, [model("b"), user("c")], (["s"], [user(" "), model("b"), user("c")]), id="the model first"),
        pytest.param(NEW, [user("a"), model("b")], (["s"], [user("a"), model("b")]), id="the model last"),
        pytest.param(
            STRICT,
            [user("a"), model("b")],
            (["s"], [user("a"), model("b"), user("Continue.")]),
            id="it may not be last",
        ),
        pytest.param(STRICT, [user("a")], (["s"], [user("a")]), id="the user last"),
        pytest.param(PLAIN, [user("a")], ([], [user("s", "a")]), id="no system parts: the user says them"),
        pytest.param(PLAIN, [model("b")], ([], [user("s"), model("b")]), id="no system parts: the user opens by them"),
    ],
)
def test_opened(kind: Model, contents: list[Content], expected: tuple[list[str], list[Content]]) -> None:
    system, found = opened(texts("s"), contents, kind)
    assert ([part.text for part in system], found) == expected


def test_without_instructions_a_model_without_system_parts_is_opened_as_any() -> None:
    assert opened([], [model("b")], PLAIN) == ([], [user(" "), model("b")])


# ------------------------------------------------------------------------------------------------------- signatures


def test_a_signature_hangs_on_its_part_with_where_it_was_made() -> None:
    part = Part(text="a")
    sign(part, SIGNED)
    assert (part.thought_signature, part.origin) == (SIGNED.signature, SIGNED.origin)


def test_no_signature_and_no_part_are_left_alone() -> None:
    part = Part(text="a", thought_signature="OWN", origin="here")
    sign(part, None)
    sign(None, SIGNED)
    assert (part.thought_signature, part.origin) == ("OWN", "here")


def test_a_text_answer_is_signed_on_its_last_text() -> None:
    parts = [*texts("a", "b"), PICTURE]
    assert sign_text(parts, SIGNED)
    assert [part.thought_signature for part in parts] == [None, "SIG", None]


def test_without_a_text_nothing_is_signed() -> None:
    part = Part(inline_data=Blob("image/png", "AAAA"))
    assert not sign_text([part], SIGNED)
    assert part.thought_signature is None


# ------------------------------------------------------------------------------------------------ arguments and texts


@pytest.mark.parametrize(
    ("sent", "arguments"),
    [
        pytest.param('{"b": 1.0, "a": 2}', b'{"b": 1.0, "a": 2}', id="an object goes as it is written"),
        pytest.param({"a": [1]}, b'{"a":[1]}', id="an object that is no text"),
        pytest.param(None, b"{}", id="none"),
        pytest.param("", b"{}", id="an empty text"),
        pytest.param(" \n", b"{}", id="white space"),
        pytest.param("null", b"{}", id="null"),
        pytest.param("[1, 2]", b'{"value":[1, 2]}', id="a list"),
        pytest.param("9007199254740993", b'{"value":"9007199254740993"}', id="a number that no double holds"),
        pytest.param('{"a": 1', b'{"_raw":"{\\"a\\": 1"}', id="what is cut off"),
        pytest.param(Raw(b'{"a": 1}'), b'{"a": 1}', id="JSON that was not read"),
    ],
)
def test_arguments(sent: Any, arguments: bytes) -> None:
    assert bytes(arguments_of(sent)) == arguments


def test_a_long_text_of_arguments_is_read_as_the_object_that_it_holds() -> None:
    held = '{"a": "%s"}' % ("x" * LONG_TEXT)
    assert bytes(arguments_of(Raw(msgspec.json.encode(held)))) == held.encode()


def test_arguments_too_large_to_be_looked_into_go_as_text() -> None:
    sent = "[" + "1," * (LARGEST_OBJECT // 2) + "1]"
    assert msgspec.json.decode(arguments_of(sent)) == {"_raw": sent}


def test_lines_are_characters_or_json_if_they_are_many() -> None:
    long = "x" * LARGEST_OBJECT
    assert lines(["a", Raw(b'"b"'), "c"]) == "a\nb\nc"
    assert lines([]) == ""
    found = lines([Raw(msgspec.json.encode(long)), "y"])
    assert isinstance(found, Raw)
    assert msgspec.json.decode(found) == f"{long}\ny"
