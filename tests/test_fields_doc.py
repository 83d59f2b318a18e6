"""``docs/fields.md`` says what is so: every example of the page is asked, and no field is missing from it."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import Conversion, to_call
from gemproxy.models import Catalogue
from gemproxy.simulator import Simulator
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import Token
from gemproxy.wire.openai_chat import ChatRequest, ContentPart, Message
from tests.all_hold import all_hold
from tests.corpus import path_of
from tests.fields_page import Row, check_class, check_refusal, rows_of, that_become, with_more
from tests.gemini_schema import check_body
from tests.running import running

ROWS = rows_of("fields.md")
PLAIN = {"model": "gemini-2.5-flash-lite", "messages": [{"role": "user", "content": "Hi"}]}


def sent_by(row: Row) -> dict[str, Any]:
    return PLAIN | row.example


def planned(sent: dict[str, Any]) -> Conversion:
    request = decode(msgspec.json.encode(sent))
    return to_call(request, Catalogue().lookup(request.model), {}, None, Options(), stream=bool(request.stream))


def body(sent: dict[str, Any]) -> dict[str, Any]:
    """Return what AI Studio would be sent."""
    asked = AiStudio("http://127.0.0.1:9", "test").ask(planned(sent).call, Token("fake"), 0.0)
    found: dict[str, Any] = msgspec.json.decode(asked.body)
    return found


def plain(row: Row) -> dict[str, Any]:
    """Return what goes out without the field: the same model, and "Hi"."""
    return body(PLAIN | {"model": sent_by(row)["model"]})


def asks_for_thoughts(made: dict[str, Any]) -> bool:
    """Return whether thoughts are asked for: a model that thinks is, unless the request says none."""
    return bool(made.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts"))


# ------------------------------------------------------------------------------------------------ every row is so


@pytest.mark.parametrize("row", that_become(ROWS, "`{"))
def test_a_row_that_shows_a_body(row: Row) -> None:
    made, shown = body(sent_by(row)), msgspec.json.decode(row.quoted)
    base = plain(row)
    if asks_for_thoughts(base) and not asks_for_thoughts(made):
        del base["generationConfig"]
    assert made == with_more(base, shown)
    assert made != plain(row) or row.kind == "ignored"


@pytest.mark.parametrize("row", that_become(ROWS, "nothing"))
def test_a_row_that_says_nothing(row: Row) -> None:
    assert body(sent_by(row)) == plain(row)


@pytest.mark.parametrize("row", that_become(ROWS, "4"))
def test_a_row_that_is_refused(row: Row) -> None:
    check_refusal(row, lambda: planned(sent_by(row)))


@pytest.mark.parametrize("row", that_become(ROWS, "model "))
def test_a_row_that_names_a_model(row: Row) -> None:
    assert planned(sent_by(row)).call.model == row.quoted


@pytest.mark.parametrize("row", that_become(ROWS, "answer "))
async def test_a_row_that_shows_an_answer(row: Row, simulator: Simulator) -> None:
    async with running(simulator) as server:
        status, answer = await server.post("/v1/chat/completions", sent_by(row))
    assert status == 200
    assert row.quoted in answer.decode()


def test_every_row_is_of_the_class_it_says() -> None:
    all_hold(check_class, ((row,) for row in ROWS))


def test_what_goes_out_is_as_google_describes_it() -> None:
    all_hold(check_what_goes_out, ((row,) for row in ROWS if row.kind != "refused"))


def check_what_goes_out(row: Row) -> None:
    assert check_body(body(sent_by(row))) == []


# ---------------------------------------------------------------------------------------------- no field is missing


def fields(table: str) -> set[str]:
    return {row.field for row in ROWS if row.table == table}


def told(*tables: str) -> set[str]:
    return set().union(*(fields(table) for table in tables))


def test_every_field_that_is_read_has_a_row() -> None:
    known = {field.encode_name for field in msgspec.structs.fields(ChatRequest)}
    assert known <= told("OpenAI's fields", "Extensions")


def test_every_field_of_openai_has_a_row_and_no_other() -> None:
    schemas = msgspec.json.decode(path_of("openapi.chat-models.json").read_bytes())["components"]["schemas"]
    found: set[str] = set()
    waiting = [schemas["CreateChatCompletionRequest"]]
    for node in waiting:
        waiting += [
            schemas[branch["$ref"].rpartition("/")[2]] if "$ref" in branch else branch
            for branch in node.get("allOf", ())
        ]
        found |= set(node.get("properties", ()))
    assert len(found) > 35
    assert fields("OpenAI's fields") == found


def test_an_extension_is_none_of_openais_fields() -> None:
    both = fields("Extensions") & fields("OpenAI's fields")
    assert both == {"tools"}  # other types of tools
    assert fields("Extensions") - both <= {field.encode_name for field in msgspec.structs.fields(ChatRequest)}


def test_every_field_of_a_message_has_a_row() -> None:
    known = {
        f"{kind.__struct_config__.tag}.{field.encode_name}"
        for kind in typing.get_args(Message)
        for field in msgspec.structs.fields(kind)
    }
    assert fields("Messages") == known | {"assistant.audio", "assistant.reasoning_content"}


def test_every_part_has_a_row() -> None:
    assert fields("Parts of a content") == {kind.__struct_config__.tag for kind in typing.get_args(ContentPart)}
