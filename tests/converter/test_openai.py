"""What all of OpenAI's APIs have in common: by which header a key is shown, how failures and models are told."""

from __future__ import annotations

import msgspec
import pytest

from gemproxy.converter.openai import EVENTS, OPENAI, under_both
from gemproxy.errors import ClientFault, NoCredential, unauthorized
from gemproxy.models import Catalogue


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer sk-one", "sk-one"),
        ("bearer  sk-two ", "sk-two"),
        ("BEARER sk-one", "sk-one"),
        ("Bearer sk-ü", "sk-ü"),
        ("Bearer \udcff\udcfe", "\udcff\udcfe"),
    ],
)
def test_a_key_stands_behind_bearer(header: str, key: str) -> None:
    assert OPENAI.key({"Authorization": header}, "") == key


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "sk-one", "Basic sk-one"])
def test_anything_else_is_401_and_not_repeated(header: str | None) -> None:
    # a web page in a browser cannot send a bearer across origins without asking first (CORS)
    with pytest.raises(ClientFault) as caught:
        OPENAI.key({} if header is None else {"Authorization": header}, "key=sk-one")
    fault = caught.value
    assert (fault.status, fault.type, fault.code) == (401, "authentication_error", "invalid_api_key")
    assert "sk-" not in fault.message


def test_a_failure_has_its_status_its_headers_and_all_four_keys() -> None:
    reply = OPENAI.failure(NoCredential("All rest.", returns_in=7.2), "id")
    assert (reply.status, reply.content_type, reply.headers["Retry-After"]) == (429, "application/json", "8")
    assert msgspec.json.decode(reply.body) == {
        "error": {"message": "All rest.", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    }
    assert OPENAI.failure(unauthorized("Who?"), "id").headers == {"WWW-Authenticate": "Bearer"}


def test_a_failure_in_a_stream_is_its_last_event() -> None:
    fault = ClientFault("No.", param="n")
    assert EVENTS.failure_event(fault) == b"data: " + OPENAI.failure(fault, "id").body + b"\n\n"


def test_models_are_shown_by_the_names_that_clients_use() -> None:
    model = Catalogue().lookup("gemini-2.5-flash")
    shown = msgspec.json.decode(OPENAI.model_list([("smart", model), (model.id, model)], ""))
    assert [each["id"] for each in shown["data"]] == ["smart", model.id]
    assert shown["object"] == "list"
    assert msgspec.json.decode(OPENAI.model("smart", model)) == shown["data"][0]


def test_a_path_stands_with_and_without_v1() -> None:
    assert under_both("/embeddings") == ("/v1/embeddings", "/embeddings")
