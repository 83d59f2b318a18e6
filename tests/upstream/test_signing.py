"""Signatures and ids of a history, per model family and upstream (docs/protocol.md 6 and 1.4)."""

import msgspec
import pytest

from gemproxy.upstream.signing import DUMMY, settle, terms
from gemproxy.wire.gemini import Blob, Content, FunctionCall, FunctionResponse, Part

THREE, OTHER_THREE, TWO_FIVE, TWO, GEMMA = (
    "gemini-3.8-flash",
    "gemini-3.1-pro-preview",
    "gemini-2.5-flash",
    "gemini-2.0-flash",
    "gemma-4-31b-it",
)
HERE = f"ai_studio/{THREE}"
BASE64_DUMMY = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="


def user(*parts):
    return Content([Part(text=part) if isinstance(part, str) else part for part in parts], "user")


def model(*parts):
    return Content([Part(text=part) if isinstance(part, str) else part for part in parts], "model")


def call(name="f", signature=None, origin="", id="c1"):  # noqa: A002 - Gemini's name
    return Part(function_call=FunctionCall(name, id=id), thought_signature=signature, origin=origin)


def result(name="f", id="c1"):  # noqa: A002 - Gemini's name
    return Part(function_response=FunctionResponse(name, {"output": 1}, id))


def text(signature=None, origin="", words="Hm."):
    return Part(text=words, thought_signature=signature, origin=origin)


def image(signature=None, origin=""):
    return Part(inline_data=Blob("image/png", "QUJD"), thought_signature=signature, origin=origin)


def signatures(contents):
    return [[part.thought_signature for part in content.parts] for content in contents]


# ----------------------------------------------------------------------------------------------- what may cross


@pytest.mark.parametrize(
    ("dialect", "model_id", "sent", "origin", "expected"),
    [
        pytest.param("ai_studio", THREE, "SIG", HERE, "SIG", id="made here, by this model"),
        pytest.param("ai_studio", THREE, "SIG", "", "SIG", id="of unknown origin"),
        pytest.param("ai_studio", THREE, "SIG", f"code_assist/{THREE}", DUMMY, id="made by another upstream"),
        pytest.param("vertex", THREE, "SIG", HERE, DUMMY, id="made by another upstream, seen from there"),
        pytest.param("ai_studio", THREE, "SIG", f"ai_studio/{OTHER_THREE}", DUMMY, id="made by another family"),
        pytest.param("ai_studio", THREE, "SIG", f"ai_studio/{THREE}-002", "SIG", id="another name of the family"),
        pytest.param("ai_studio", THREE, "SIG", "nonsense", DUMMY, id="an origin that says nothing"),
        pytest.param("ai_studio", THREE, None, "", DUMMY, id="none at all"),
        pytest.param("vertex", THREE, None, "", DUMMY, id="none at all, on Vertex"),
        pytest.param("code_assist", THREE, None, "", DUMMY, id="none at all, on Code Assist"),
        pytest.param("vertex", THREE, "context_engineering_is_the_way_to_go", "", DUMMY, id="the dummy Vertex lacks"),
        pytest.param("ai_studio", THREE, BASE64_DUMMY, "", DUMMY, id="the dummy as another proxy writes it"),
        pytest.param("ai_studio", TWO_FIVE, "SIG", f"ai_studio/{TWO_FIVE}", "SIG", id="2.5: its own"),
        pytest.param("ai_studio", TWO_FIVE, "SIG", HERE, None, id="2.5: never one of Gemini 3"),
        pytest.param("ai_studio", TWO_FIVE, None, "", None, id="2.5: never the dummy"),
        pytest.param("ai_studio", TWO_FIVE, DUMMY, "", None, id="2.5: not even a dummy the client sent"),
        pytest.param("ai_studio", TWO, "SIG", f"ai_studio/{TWO}", None, id="2.0: none"),
        pytest.param("ai_studio", TWO, None, "", None, id="2.0: no dummy either"),
        pytest.param("ai_studio", GEMMA, "SIG", "", None, id="Gemma: none"),
    ],
)
def test_a_call_gets_the_signature_its_upstream_and_model_take(dialect, model_id, sent, origin, expected):
    contents = [user("Do it."), model(call(signature=sent, origin=origin)), user(result())]
    settled = settle(contents, terms(dialect, model_id))
    assert signatures(settled) == [[None], [expected], [None]]
    assert b"origin" not in msgspec.json.encode(settled)


def test_a_signed_text_keeps_its_own_and_gets_no_dummy():
    contents = [user("Hi"), model(text("SIG", HERE)), user("And?")]
    assert signatures(settle(contents, terms("ai_studio", THREE))) == [[None], ["SIG"], [None]]
    assert signatures(settle(contents, terms("vertex", THREE))) == [[None], [None], [None]]
    assert b"origin" not in msgspec.json.encode(settle(contents, terms("ai_studio", THREE)))


def test_an_empty_text_whose_signature_cannot_cross_is_left_out():
    contents = [user("Hi"), model("Hello.", text("SIG", HERE, words="")), user("And?")]
    assert len(settle(contents, terms("ai_studio", THREE))[1].parts) == 2
    assert [part.text for part in settle(contents, terms("vertex", THREE))[1].parts] == ["Hello."]


def test_a_content_never_loses_its_last_part():
    contents = [user("Hi"), model(text("SIG", HERE, words="")), user("And?")]
    assert [part.text for part in settle(contents, terms("vertex", THREE))[1].parts] == [" "]


def test_an_image_of_the_model_is_signed_too_and_a_users_is_not():
    contents = [user("Draw", image()), model(image("SIG", HERE), image()), user("Bigger")]
    assert signatures(settle(contents, terms("ai_studio", THREE))) == [[None, None], ["SIG", DUMMY], [None]]
    assert signatures(settle(contents, terms("ai_studio", TWO_FIVE))) == [[None, None], [None, None], [None]]


# ------------------------------------------------------------------------------------- where the dummy is put


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        pytest.param(
            [user("Go"), model(call(), call("g", id="c2")), user(result(), result("g", "c2"))],
            [[None], [DUMMY, None], [None, None]],
            id="of parallel calls the first",
        ),
        pytest.param(
            [user("Go"), model("I will.", call()), user(result())],
            [[None], [None, DUMMY], [None]],
            id="the first call, not the first part",
        ),
        pytest.param(
            [user("Go"), model(call(signature="SIG")), user(result()), model(call()), user(result())],
            [[None], ["SIG"], [None], [DUMMY], [None]],
            id="every step of the turn by itself",
        ),
        pytest.param(
            [user("Go"), model(call()), user(result()), model("Done."), user("Again"), model(call()), user(result())],
            [[None], [None], [None], [None], [None], [DUMMY], [None]],
            id="not in turns that are over",
        ),
        pytest.param(
            [user("Go"), model(call()), user(result(), "And hurry")],
            [[None], [DUMMY], [None, None]],
            id="a text beside the results may or may not begin a turn: signed to be safe",
        ),
        pytest.param([model(call()), user(result())], [[DUMMY], [None]], id="a history that begins with the model"),
        pytest.param([user("Go"), user("!")], [[None], [None]], id="no call at all"),
        pytest.param(
            [user("Go"), model(call(), call("g", "SIG", id="c2")), user(result())],
            [[None], [DUMMY, "SIG"], [None]],
            id="a later call's own signature stays",
        ),
    ],
)
def test_the_first_call_of_each_step_of_the_current_turn_is_signed(contents, expected):
    assert signatures(settle(contents, terms("ai_studio", THREE))) == expected


def test_renewing_replaces_every_signature_in_every_turn():
    contents = [
        user("Go"),
        model(call(signature="BAD")),
        user(result()),
        model(text("BAD")),
        user("Again"),
        model(call(signature="BAD"), call("g", "BAD", id="c2")),
        user(result(), result("g", "c2")),
    ]
    settled = settle(contents, terms("ai_studio", THREE, renew=True))
    assert signatures(settled) == [[None], [DUMMY], [None], [None], [None], [DUMMY, None], [None, None]]
    assert signatures(settle(contents, terms("ai_studio", TWO_FIVE, renew=True))) == [
        [None] * len(content.parts) for content in contents
    ]


# ------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize("dialect", ["ai_studio", "code_assist", "vertex"])
@pytest.mark.parametrize(
    ("model_id", "strip", "kept"),
    [
        pytest.param(THREE, False, True, id="Gemini 3 has ids"),
        pytest.param(THREE, True, False, id="unless it refused them"),
        pytest.param(TWO_FIVE, False, False, id="Gemini 2.5 has none"),
        pytest.param(GEMMA, False, False, id="Gemma has none"),
    ],
)
def test_ids_stay_on_both_sides_or_on_neither(dialect, model_id, strip, kept):
    contents = [user("Go"), model(call(id="call_a1")), user(result(id="call_a1"))]
    _, asked, answered = settle(contents, terms(dialect, model_id, strip_ids=strip))
    expected = "call_a1" if kept else None
    assert (asked.parts[0].function_call.id, answered.parts[0].function_response.id) == (expected, expected)
    assert (asked.parts[0].function_call.name, answered.parts[0].function_response.name) == ("f", "f")


# ------------------------------------------------------------------------------------------- nothing is changed

HISTORY = [
    user("Go", image()),
    model(text("SIG", HERE, words=""), call("f", "SIG", HERE), call("g", id="c2")),
    user(result(), result("g", "c2")),
    Content(None, "model"),
]


@pytest.mark.parametrize("model_id", [THREE, OTHER_THREE, TWO_FIVE, TWO])
@pytest.mark.parametrize("dialect", ["ai_studio", "vertex"])
@pytest.mark.parametrize("renew", [False, True])
def test_what_came_in_stays_as_it_was(dialect, model_id, renew):
    before = msgspec.json.encode(HISTORY)
    settle(HISTORY, terms(dialect, model_id, strip_ids=True, renew=renew))
    assert msgspec.json.encode(HISTORY) == before


@pytest.mark.parametrize("model_id", [THREE, TWO_FIVE, TWO])
def test_a_plain_history_is_not_copied(model_id):
    contents = [user("Hi", image()), model("Hello."), user("And?")]
    assert settle(contents, terms("ai_studio", model_id)) is contents


def test_only_the_contents_that_change_are_copied():
    contents = [user("Hi"), model(call()), user(result())]
    settled = settle(contents, terms("ai_studio", THREE))
    assert settled[0] is contents[0]
    assert settled[1] is not contents[1]
    assert settled[2] is contents[2]
