"""Order of calls and results, ids, and thought signatures."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.simulator.asking import (
    FLASH,
    OLD_FLASH,
    call,
    declare,
    frames,
    google,
    model,
    parts,
    post,
    read,
    refused,
    result,
    results,
    user,
)

DUMMY = "skip_thought_signature_validator"
OTHER_DUMMY = "context_engineering_is_the_way_to_go"
AFTER_CALL = "Please ensure that function response turn comes immediately after a function call turn."
AFTER_USER = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
)
NUMBER = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)
IDS = "functionResponse.id does not match functionCall.id"
CORRUPTED = "Corrupted thought signature."
MISSING = (
    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, "
    "and missing thought_signature may lead to degraded model performance. Additional data, function call "
    "`default_api:{}` , position {}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more "
    "details."
)
signed = call(signature=DUMMY)

BAD: dict[str, tuple[list[Any], str]] = {
    "a call before anybody spoke": ([model(signed), results(result())], AFTER_USER),
    "a result before anything": ([results(result())], AFTER_CALL),
    "a result after text": ([user(), model({"text": "a"}), results(result())], AFTER_CALL),
    "one result for two calls": ([user(), model(signed, call("g")), results(result())], NUMBER),
    "two results for one call": ([user(), model(signed), results(result(), result())], NUMBER),
    "no result": ([user(), model(signed), user("go on")], NUMBER),
    "calls and results one by one": (
        [user(), model(signed), results(result()), model(call("g")), results(result("g"))],
        MISSING.format("g", 4),
    ),
    "another id": ([user(), model(call(id="a", signature=DUMMY)), results(result(id="b"))], IDS),
    "another id for one of two": (
        [user(), model(call(id="a", signature=DUMMY), call(id="b")), results(result(), result(id="c"))],
        IDS,
    ),
    "one id twice": (
        [user(), model(call(id="a", signature=DUMMY), call(id="b")), results(result(id="a"), result(id="a"))],
        IDS,
    ),
    "no signature": ([user(), model(call()), results(result())], MISSING.format("f", 2)),
    "no signature in the second step": (
        [user(), model(signed), results(result()), model(call("h")), results(result("h"))],
        MISSING.format("h", 4),
    ),
    "the signature on the second call": (
        [user(), model(call(), call("g", DUMMY)), results(result(), result("g"))],
        MISSING.format("f", 2),
    ),
    "a signature nobody made": ([user(), model(call(signature="QUJD")), results(result())], CORRUPTED),
    "a made-up signature on text": ([user(), model({"text": "a", "thoughtSignature": "QUJD"}), user()], CORRUPTED),
}


@pytest.mark.parametrize(("contents", "message"), BAD.values(), ids=BAD.keys())
def test_turns_out_of_order_are_refused(contents: list[Any], message: str) -> None:
    assert refused(post(google(), {"contents": contents, "tools": declare("f", "g", "h")})) == (400, message)


LAWFUL: dict[str, list[Any]] = {
    "results in another order, by id": [
        user(),
        model(call(id="a", signature=DUMMY), call(id="b")),
        results(result(id="b"), result(id="a")),
    ],
    "an id on the call only": [user(), model(call(id="a", signature=DUMMY)), results(result())],
    "an id on the result only": [user(), model(signed), results(result(id="a"))],
    "no id": [user(), model(signed), results(result())],
    "text after the results": [user(), model(signed), results(result(), {"text": "and now?"})],
    "several model contents before the results": [user(), model(signed), model({"text": ""}), results(result())],
    "results in two contents": [user(), model(signed, call("g")), results(result()), results(result("g"))],
    "a server's tool that answered itself": [user(), model(signed), model(result(), {"text": "done"}), user()],
    "no signature in an earlier turn": [
        user(),
        model(call()),
        results(result()),
        model({"text": "done"}),
        user("next"),
    ],
    "the dummy as base64": [
        user(),
        model(call(signature=base64.b64encode(DUMMY.encode()).decode())),
        results(result()),
    ],
    "the other dummy": [user(), model(call(signature=OTHER_DUMMY)), results(result())],
}


@pytest.mark.parametrize("contents", LAWFUL.values(), ids=LAWFUL.keys())
def test_turns_in_order_are_answered(contents: list[Any]) -> None:
    assert post(google(), {"contents": contents, "tools": declare("f", "g")}).status == 200


def test_older_models_need_no_signature_and_ignore_ids() -> None:
    body = {"contents": [user(), model(call(id="a")), results(result(id="b"))]}
    assert post(google(), body, name=OLD_FLASH).status == 200


def test_vertex_has_words_of_its_own_and_one_dummy_only() -> None:
    missing = {"contents": [user(), model(call("f")), results(result())]}
    assert (
        "function call `default_api:f` in the 2. content block is missing a `thought_signature`"
        in refused(post(google(), missing, upstream="vertex"))[1]
    )
    dummy = {"contents": [user(), model(call(signature=OTHER_DUMMY)), results(result())]}
    assert refused(post(google(), dummy, upstream="vertex")) == (400, CORRUPTED)
    assert post(google(), {"contents": [user(), model(signed), results(result())]}, upstream="vertex").status == 200


def test_vertex_passes_over_an_unanswered_call_of_an_old_model() -> None:
    body = {"contents": [user(), model(call()), user("go on")]}
    assert post(google(), body, upstream="vertex", name=OLD_FLASH).status == 200
    assert refused(post(google(), body, name=OLD_FLASH)) == (400, NUMBER)


# ------------------------------------------------------------------------------------------------ real signatures


def called(target: Any, upstream: str = "ai_studio", name: str = FLASH) -> dict[str, Any]:
    """Return the content in which this model calls f, as it must be sent back."""
    body = {"contents": [user("call f")], "tools": declare("f")}
    frame = read(post(target, body, upstream=upstream, name=name))
    content: dict[str, Any] = frame.get("response", frame)["candidates"][0]["content"]
    return content


def goes_on(target: Any, content: Any, upstream: str = "ai_studio", name: str = FLASH) -> Any:
    done = results(result(id=content["parts"][0]["functionCall"].get("id")))
    body = {"contents": [user("call f"), content, done], "tools": declare("f")}
    return post(target, body, upstream=upstream, name=name)


@pytest.mark.parametrize("upstream", ["ai_studio", "code_assist", "vertex"])
def test_own_signature_is_taken_back(upstream: str) -> None:
    target = google()
    assert goes_on(target, called(target, upstream), upstream).status == 200


@pytest.mark.parametrize(("upstream", "name"), [("vertex", FLASH), ("ai_studio", "gemini-3.1-pro-preview")])
def test_signature_of_elsewhere_is_refused(upstream: str, name: str) -> None:
    target = google()
    content = called(target)
    assert refused(goes_on(target, content, upstream, name)) == (400, CORRUPTED)


def test_altered_signature_is_refused_unless_all_are_allowed() -> None:
    target = google()
    content = called(target)
    whole = content["parts"][0]["thoughtSignature"]
    content["parts"][0]["thoughtSignature"] = whole[:-8] + "AAAAAAA="
    assert refused(goes_on(target, content)) == (400, CORRUPTED)
    target.accept_any_signature = True
    assert goes_on(target, content).status == 200


def test_signature_goes_on_within_a_family() -> None:
    target = google()
    assert goes_on(target, called(target, name="gemini-3.5-flash"), name=FLASH).status == 200


def test_image_without_its_signature_is_refused_by_image_models() -> None:
    target, name = google(), "gemini-3.1-flash-image"
    picture = read(post(target, {"contents": [user("simulate: image")]}, name=name))["candidates"][0]["content"]
    ask = {"contents": [user(), picture, user("bluer")]}
    assert post(target, ask, name=name).status == 200
    del picture["parts"][1]["thoughtSignature"]
    assert (
        "Image part is missing a thought_signature in content position 2, part position 2"
        in refused(post(target, ask, name=name))[1]
    )


def test_text_of_a_stream_is_signed_on_its_empty_tail() -> None:
    last = frames(post(google(), {"contents": [user()]}, method="streamGenerateContent"))[-1]
    assert parts(last)[0]["text"] == ""
    assert parts(last)[0]["thoughtSignature"]
    assert last["candidates"][0]["finishReason"] == "STOP"


ENDS = {"contents": [user(), model({"text": "Once upon a"})]}


@pytest.mark.parametrize(
    "name", ["gemini-3.8-flash", "gemini-3.6-flash", "gemini-3.5-flash-lite", "gemini-flash-latest"]
)
def test_some_models_do_not_go_on_with_their_own_words(name: str) -> None:
    message = "Requests ending with a model turn are not supported."
    assert refused(post(google(), ENDS, name=name)) == (400, message)


@pytest.mark.parametrize("name", ["gemini-3.5-flash", "gemini-3.1-flash-lite", "gemini-2.5-flash", "gemma-4-31b-it"])
def test_others_do(name: str) -> None:
    assert post(google(), ENDS, name=name).status == 200
