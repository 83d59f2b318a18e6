"""``docs/fields-responses.md`` says what is so: every example is asked, and nothing of OpenAI's schema is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from gemproxy.simulator import Simulator
from gemproxy.wire.openai_responses import ResponsesRequest
from tests.converter.responses.request_schema import allowed, named, properties, variants
from tests.converter.responses.responses_page import PLAIN, body_of, body_without, page, planned
from tests.fields_page import Row, check_class, check_refusal, that_become, with_more
from tests.gemini_schema import check_body
from tests.running import running

ROWS = page()
FIELDS = "OpenAI's fields"
WITHIN = "Within text, reasoning, include and stream_options"

# ------------------------------------------------------------------------------------------------ every row is so


@pytest.mark.parametrize("row", that_become(ROWS, "`{"))
def test_a_row_that_shows_a_body(row: Row) -> None:
    made, plain = body_of(row.example), body_without(row)
    assert made == with_more(plain, msgspec.json.decode(row.quoted))
    assert made != plain
    assert check_body(made) == []


@pytest.mark.parametrize("row", that_become(ROWS, "nothing"))
def test_a_row_that_says_nothing(row: Row) -> None:
    assert body_of(row.example) == body_without(row)


@pytest.mark.parametrize("row", that_become(ROWS, "4"))
def test_a_row_that_is_refused(row: Row) -> None:
    check_refusal(row, lambda: planned(row.example))


@pytest.mark.parametrize("row", that_become(ROWS, "model "))
def test_a_row_that_names_a_model(row: Row) -> None:
    [call] = planned(row.example).calls
    assert call.model == row.quoted


async def test_rows_that_show_an_answer(simulator: Simulator) -> None:
    rows = [row for row in ROWS if row.becomes.startswith("answer ")]
    assert len(rows) > 5
    async with running(simulator) as server:
        for row in rows:
            status, answer = await server.post("/v1/responses", PLAIN | row.example)
            assert status == 200, row
            assert row.quoted in answer.decode(), row
            assert body_of(row.example) == body_without(row), row


def test_every_row_is_of_the_class_it_says() -> None:
    for row in ROWS:
        check_class(row)


# ---------------------------------------------------------------------------------- nothing is missing, or too much


TWINS = {"web_search_2025_08_26", "web_search_preview_2025_03_11"}  # names of a day, of tools that have others


def objects_in(value: Any) -> Iterable[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for held in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects_in(held)


def keys_shown() -> dict[str, set[str]]:
    """Return, by kind, every field that an example shows."""
    found: dict[str, set[str]] = {}
    for row in ROWS:
        for thing in objects_in(row.example):
            kind = thing.get("type", "message" if "role" in thing else None)
            if isinstance(kind, str):
                found.setdefault(kind, set()).update(thing)
    return found


KEYS = keys_shown()


def fields(table: str) -> set[str]:
    return {row.field for row in ROWS if row.table == table}


def test_every_field_of_openai_has_a_row_and_no_other() -> None:
    found = set(properties("CreateResponse"))
    assert len(found) > 30
    assert fields(FIELDS) == found


def test_every_field_that_is_read_is_openais() -> None:
    assert {field.encode_name for field in msgspec.structs.fields(ResponsesRequest)} == fields(FIELDS)


def test_every_field_within_one_has_a_row_and_no_other() -> None:
    formats = variants("TextResponseFormatConfiguration")
    kinds = {f"text.format: {word}" for form in formats for word in allowed(form, "type")}
    of_formats = {f"text.format.{name}" for form in formats for name in properties(form)} - {"text.format.type"}
    includes = {f"include: {word}" for word in named("IncludeEnum")["enum"]}
    objects = {"text": "ResponseTextParam", "reasoning": "Reasoning", "stream_options": "ResponseStreamOptions"}
    within = {f"{field}.{name}" for field, schema in objects.items() for name in properties(schema)}
    assert fields(WITHIN) == kinds | of_formats | includes | within


def test_every_choice_has_a_row_and_no_other() -> None:
    words = {"none", "auto", "required"}
    forms = [form for form in variants("ToolChoiceParam") if properties(form)]
    assert set(named("ToolChoiceOptions")["enum"]) == words
    assert fields("Choice of a tool") == words | {word for form in forms for word in allowed(form, "type")}


def kinds_of(forms: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """Return, by what they call themselves, the fields that things of a kind may have."""
    found: dict[str, set[str]] = {}
    for form in forms:
        for word in allowed(form, "type"):
            found[word] = found.get(word, set()) | set(properties(form))
    return found


def parts() -> list[dict[str, Any]]:
    return [*variants("InputContent"), *variants("OutputMessageContent")]


@pytest.mark.parametrize(
    ("table", "forms"),
    [("Tools", variants("Tool")), ("Items", variants("InputItem")), ("Parts of a content", parts())],
)
def test_every_kind_has_a_row_and_no_other(table: str, forms: list[dict[str, Any]]) -> None:
    kinds = kinds_of(forms)
    assert fields(table) == set(kinds)
    missing = {kind: known - KEYS[kind] - {"type"} for kind, known in kinds.items() if kind not in TWINS}
    assert {kind: names for kind, names in missing.items() if names} == {}


def test_an_extension_is_none_of_openais_parts() -> None:
    assert not fields("Extensions") & set(kinds_of(parts()))
