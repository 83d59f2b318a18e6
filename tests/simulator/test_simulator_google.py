"""Addresses, models, refusals in the dress of a stream, and who is recorded as having asked."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.simulator import Account, KeyState, error_answer, text_answer
from gemproxy.simulator.catalogue import MODELS
from tests.simulator.asking import FLASH, google, post, read, refused, request, user

BODY = {"contents": [user()]}
KEY = {"x-goog-api-key": "test-key-1"}


@pytest.mark.parametrize(
    ("verb", "path"),
    [("GET", "/"), ("GET", f"/v1beta/models/{FLASH}:generateContent"), ("POST", "/v1beta/models"), ("PUT", "/token")],
)
def test_unknown_address_gets_the_page_of_the_front_end(verb: str, path: str) -> None:
    answer = google().answer(request(verb, path, b"", **KEY))
    assert answer.status == 404
    assert answer.content_type.startswith("text/html")
    assert b"That\xe2\x80\x99s an error." in answer.body[0]  # type: ignore[operator]


@pytest.mark.parametrize("name", ["gemini-9", "gemini-1.5-pro", "gemini-2.0-flash", "gemini-3-pro-preview", "gpt-4o"])
def test_dead_and_unknown_models_are_not_found(name: str) -> None:
    status, message = refused(post(google(), BODY, name=name))
    assert (status, message) == (
        404,
        (
            f"models/{name} is not found for API version v1beta, or is not supported for generateContent. "
            "Call ListModels to see the list of available models and their supported methods."
        ),
    )


def test_allowed_model_is_taken_for_what_its_name_promises() -> None:
    target = google()
    target.allow_models.add("gemini-1.5-pro")
    assert post(target, BODY, name="gemini-1.5-pro").status == 200


def test_method_that_does_not_exist_is_not_found() -> None:
    assert "is not supported for embedContent" in refused(post(google(), BODY, method="embedContent"))[1]


# ------------------------------------------------------------------------------------------------ models and tokens


def test_models_are_listed_page_by_page() -> None:
    target, names, token = google(), [], ""
    while True:
        page = read(target.answer(request("GET", f"/v1beta/models?pageSize=7&pageToken={token}", **KEY)))
        assert len(page["models"]) <= 7
        names += [model["name"] for model in page["models"]]
        if not (token := page.get("nextPageToken", "")):
            break
    assert names == [f"models/{name}" for name in MODELS]


def test_one_model_is_described() -> None:
    found = read(google().answer(request("GET", f"/v1beta/models/{FLASH}", **KEY)))
    assert found["name"] == f"models/{FLASH}"
    assert "generateContent" in found["supportedGenerationMethods"]
    assert google().answer(request("GET", "/v1beta/models/gemini-9", **KEY)).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [user("one two")]},
        {"generateContentRequest": {"model": f"models/{FLASH}", "contents": [user("one two")]}},
    ],
)
def test_tokens_are_counted(body: dict[str, Any]) -> None:
    found = read(post(google(), body, method="countTokens"))
    assert found == {"totalTokens": 2, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2}]}


def test_tokens_of_a_system_text_count_only_in_the_long_form() -> None:
    body = {"contents": [user()], "systemInstruction": {"parts": [{"text": "a"}]}}
    assert post(google(), body, method="countTokens").status == 400


def test_vertex_counts_too() -> None:
    assert read(post(google(), BODY, upstream="vertex", method="countTokens"))["totalTokens"] == 1


# ------------------------------------------------------------------------------------------------ dress and order


def test_refusal_of_a_stream_calls_itself_an_event_stream() -> None:
    answer = post(google(), {}, method="streamGenerateContent")
    assert answer.content_type == "text/event-stream"
    assert read(answer)["error"]["code"] == 400


def test_refusal_of_an_array_stream_is_wrapped_in_an_array() -> None:
    answer = post(google(), {}, method="streamGenerateContent", alt="")
    assert answer.content_type == "application/json; charset=UTF-8"
    assert [each["error"]["code"] for each in read(answer)] == [400]


def test_key_is_judged_before_model_and_body() -> None:
    target = google()
    target.keys["test-key-1"] = KeyState.LEAKED
    assert post(target, {}, name="gemini-9").status == 403


def test_pace_puts_pauses_between_frames() -> None:
    target = google()
    plain = post(target, BODY, method="streamGenerateContent")
    target.pace = 0.01
    paced = post(target, BODY, method="streamGenerateContent")
    assert len(paced.body) == 2 * len(plain.body) - 1


# ------------------------------------------------------------------------------------------------ what is recorded


@pytest.mark.parametrize(
    ("url", "upstream", "call", "model"),
    [
        (f"/v1beta/models/{FLASH}:generateContent", "ai_studio", "generateContent", FLASH),
        ("/v1beta/models/a%2Fb:countTokens", "ai_studio", "countTokens", "a/b"),
        ("/v1internal:streamGenerateContent", "code_assist", "streamGenerateContent", "m"),
        (
            "/vertex/v1/projects/p/locations/l/publishers/google/models/m:generateContent",
            "vertex",
            "generateContent",
            "m",
        ),
        ("/token", "oauth", "token", ""),
        ("/elsewhere", "", "", ""),
    ],
)
def test_request_is_recorded_with_whom_it_asked(url: str, upstream: str, call: str, model: str) -> None:
    seen = request("POST", url, {"model": "m"}, **KEY)
    google().answer(seen)
    assert (seen.upstream, seen.call, seen.model) == (upstream, call, model)
    assert seen.raw_path == url


def test_broken_envelope_is_recorded_without_a_model() -> None:
    seen = request("POST", "/v1internal:generateContent", b"{")
    google().answer(seen)
    assert (seen.call, seen.model) == ("generateContent", "")


def test_credential_and_account_are_recorded() -> None:
    target = google()
    token = target.accounts.issue(target.accounts.add(Account("fake-refresh-1")))
    seen = request("POST", "/v1internal:generateContent", b"{}", Authorization=f"Bearer {token}")
    target.answer(seen)
    assert (seen.credential, seen.account) == (token, "fake-refresh-1")
    refresh = request("POST", "/token", b"grant_type=refresh_token&refresh_token=fake-refresh-1")
    target.answer(refresh)
    assert refresh.account == "fake-refresh-1"


# ------------------------------------------------------------------------------------------------ scripts


def test_scripted_answers_come_first_in_order_and_as_often_as_they_say() -> None:
    target = google()
    target.script(error_answer(503, "one"), times=2)
    target.script(error_answer(500, "two"))
    assert [post(target, BODY).status for _ in range(4)] == [503, 503, 500, 200]


def test_script_for_ever_never_ends() -> None:
    target = google()
    target.script(error_answer(503, "x"), times=None)
    assert {post(target, BODY).status for _ in range(5)} == {503}


def test_script_fits_by_credential_model_and_method() -> None:
    target = google()
    target.script(error_answer(501, "key"), credential="test-key-2")
    target.script(error_answer(502, "model"), model="gemini-2.5-pro")
    target.script(error_answer(503, "method"), method="countTokens")
    target.script(error_answer(504, "account"), credential="fake-refresh-1")
    assert post(target, BODY).status == 200
    assert post(target, BODY, key="test-key-2").status == 501
    assert post(target, BODY, name="gemini-2.5-pro").status == 502
    assert post(target, BODY, method="countTokens").status == 503
    assert post(target, BODY, upstream="vertex").status == 504


def test_script_without_a_method_spares_the_token_endpoint() -> None:
    target = google()
    target.script(error_answer(503, "x"))
    refresh = request("POST", "/token", b"grant_type=refresh_token&refresh_token=fake-refresh-1&client_id=c")
    assert target.answer(refresh).status == 200
    target.script(error_answer(502, "x"), method="token")
    assert target.answer(refresh).status == 502
    assert target.refreshes["fake-refresh-1"] == 1


def test_script_may_be_made_from_the_request() -> None:
    target = google()
    target.script(lambda seen: text_answer(f"you sent {len(seen.body)} bytes"))
    assert b"you sent 54 bytes" in post(target, BODY).body[0]  # type: ignore[operator]
