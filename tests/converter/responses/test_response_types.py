"""A value of the wrong type is a 400 that names its path, for every field of OpenAI's schema; nothing is ever a 5xx."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from gemproxy.errors import ClientFault
from tests.converter.responses.request_schema import allowed, misfits, properties, variants
from tests.converter.responses.responses_page import body_of, page
from tests.fields_page import Row

COMPACTING = [{"role": "user", "content": "Hi"}, {"type": "compaction_trigger"}]


def outcome(sent: dict[str, Any]) -> dict[str, Any] | str:
    """Return what goes out, or with which status which field is refused. All else that is raised fails the test."""
    try:
        return body_of(sent)
    except ClientFault as fault:
        return f"{fault.status} {fault.param}"


def with_value(example: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the example with another value at a path."""
    sent = copy.deepcopy(example)
    *way, last = path.replace("[", ".").replace("]", "").split(".")
    holder: Any = sent
    for step in way:
        holder = holder[int(step)] if step.isdecimal() else holder.setdefault(step, {})
    holder[last] = value
    return sent


# --------------------------------------------------------------------------------------------- fields of the request


def inner_fields() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the fields within fields: path, schema, and an example that may hold them."""
    objects = {"text": "ResponseTextParam", "reasoning": "Reasoning", "stream_options": "ResponseStreamOptions"}
    for field, name in objects.items():
        for inner, schema in properties(name).items():
            yield f"{field}.{inner}", schema, {}
    for form in variants("TextResponseFormatConfiguration"):
        [kind] = allowed(form, "type")
        for inner, schema in properties(form).items():
            yield f"text.format.{inner}", schema, {"text": {"format": {"type": kind, "schema": {"type": "object"}}}}


TOP = [(name, schema, {}) for name, schema in properties("CreateResponse").items()]
FIELDS = [pytest.param(*found, id=f"{place} {found[0]}") for place, found in enumerate([*TOP, *inner_fields()])]


@pytest.mark.parametrize(("path", "schema", "example"), FIELDS)
def test_a_field_of_the_wrong_type_is_named(path: str, schema: dict[str, Any], example: dict[str, Any]) -> None:
    wrong = misfits(schema)
    assert wrong
    for value in wrong:
        if (path, value) != ("text.format.schema", True):  # that is a schema, too
            assert outcome(with_value(example, path, value)) == f"400 {path}", value
        if "." not in path and path != "input":
            assert outcome({"input": COMPACTING, path: value}) == f"400 {path}", value


# ---------------------------------------------------------------------- fields of items, of their parts, and of tools


def first_rows(*tables: str) -> Iterator[Row]:
    """Return a row of each kind, one that is not refused if there is any."""
    found: dict[str, Row] = {}
    for row in page():
        if row.table in tables and (row.field not in found or found[row.field].kind == "refused"):
            found[row.field] = row
    yield from found.values()


def place_of(row: Row) -> str:
    """Return the path of the thing that a row is about."""
    for path, thing in things_in(row.example):
        if thing.get("type", "message" if "role" in thing else None) == row.field:
            return path
    raise AssertionError(row)


def things_in(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for name, held in value.items():
            yield from things_in(held, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for place, held in enumerate(value):
            yield from things_in(held, f"{path}[{place}]")


SCHEMAS = {"Tools": ["Tool"], "Items": ["InputItem"], "Parts of a content": ["InputContent", "OutputMessageContent"]}


def fields_of(table: str, kind: str) -> dict[str, dict[str, Any]]:
    """Return the fields of a kind; one that has several forms may hold what any of them may."""
    forms = [form for name in SCHEMAS[table] for form in variants(name) if kind in allowed(form, "type")]
    found: dict[str, dict[str, Any]] = {}
    for form in forms:
        for name, schema in properties(form).items():
            found.setdefault(name, {"anyOf": []})["anyOf"].append(schema)
    return found


TAKEN_TOO = [  # though the schema does not have it
    ("function", "parameters", True),  # a JSON Schema that takes everything
    ("function_call", "arguments", {}),  # not written as a text
    ("shell_call_output", "output", "x"),  # a text, as that of other tools
]
KINDS = [pytest.param(row, id=f"{row.field}") for row in first_rows("Tools", "Items", "Parts of a content")]


@pytest.mark.parametrize("row", KINDS)
def test_fields_are_judged_as_the_page_says(row: Row) -> None:
    """Those that the page names are refused by their paths; all others change nothing."""
    found, place = fields_of(row.table, row.field), place_of(row)
    judged = set(row.judged.replace("`", "").split())
    assert judged <= set(found)
    before = outcome(row.example)
    for name, schema in found.items():
        path = f"{place}.{name}"
        for value in misfits(schema):
            if (row.field, name, value) not in TAKEN_TOO:
                found_out = outcome(with_value(row.example, path, value))
                assert found_out == (f"400 {path}" if name in judged else before), (path, value)


def test_every_row_of_a_kind_judges_the_same() -> None:
    judged = {(row.table, row.field): row.judged for row in page()}
    assert [row for row in page() if row.judged != judged[row.table, row.field]] == []


NAMELESS = {"type": "function"}
CHOSEN: list[tuple[Any, str]] = [
    ({"type": 3}, "tool_choice.type"),
    ({"type": "nonsense"}, "tool_choice.type"),
    ({"type": "function"}, "tool_choice.name"),
    ({"type": "function", "name": 3}, "tool_choice.name"),
    ({"type": "custom", "name": []}, "tool_choice.name"),
    ({"type": "allowed_tools", "mode": 3, "tools": []}, "tool_choice.mode"),
    ({"type": "allowed_tools", "mode": "none", "tools": []}, "tool_choice.mode"),
    ({"type": "allowed_tools", "mode": "required", "tools": []}, "tool_choice.tools"),
    ({"type": "allowed_tools", "mode": "auto", "tools": {}}, "tool_choice.tools"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [3]}, "tool_choice.tools[0]"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [NAMELESS]}, "tool_choice.tools[0].name"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [NAMELESS | {"name": 3}]}, "tool_choice.tools[0].name"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [NAMELESS | {"name": "g"}]}, "tool_choice.tools"),
    ("sometimes", "tool_choice"),
]


@pytest.mark.parametrize(("form", "param"), CHOSEN)
def test_a_choice_that_is_none_is_named(form: Any, param: str) -> None:
    assert outcome({"tools": [{"type": "function", "name": "f"}], "tool_choice": form}) == f"400 {param}"


TOOLS: list[tuple[Any, str]] = [
    ([3], "tools[0]"),
    ([NAMELESS], "tools[0].name"),
    ([{"type": "namespace", "tools": []}], "tools[0].name"),
    ([{"type": "namespace", "name": "n", "tools": [3]}], "tools[0].tools[0]"),
    ([{"type": "namespace", "name": "n", "tools": [NAMELESS | {"name": 3}]}], "tools[0].tools[0].name"),
    ([{"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": 3}}], "tools[0].format.syntax"),
]


@pytest.mark.parametrize(("tools", "param"), TOOLS)
def test_a_tool_that_is_none_is_named(tools: Any, param: str) -> None:
    assert outcome({"tools": tools}) == f"400 {param}"
    assert outcome({"input": [{"type": "additional_tools", "tools": tools}]}) == f"400 input[0].{param}"


@pytest.mark.parametrize("tools", [[3], [{"type": "function", "name": 3}]])
def test_so_is_one_beside_the_wish_for_a_summary(tools: Any) -> None:
    assert str(outcome({"input": COMPACTING, "tools": tools})).startswith("400 tools[0]")


ITEMS: list[tuple[Any, str]] = [
    (3, ""),
    ({"type": "nonsense"}, ".type"),
    ({"role": "user", "content": [3]}, ".content[0]"),
    ({"role": "user", "content": [{}]}, ".content[0].type"),
    ({"role": "user", "content": [{"type": "nonsense"}]}, ".content[0].type"),
    ({"role": "user", "content": [{"type": "input_audio", "input_audio": 3}]}, ".content[0].input_audio"),
    (
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": 3}}]},
        ".content[0].input_audio.data",
    ),
    ({"type": "function_call_output", "call_id": "c", "output": [{"type": 3}]}, ".output[0].type"),
    ({"type": "shell_call", "call_id": "c"}, ".action"),
    ({"type": "apply_patch_call", "call_id": "c"}, ".operation"),
    ({"type": "computer_call", "call_id": "c"}, ".action"),
    ({"type": "computer_call_output", "call_id": "c", "output": {"file_id": "file-1"}}, ".output.file_id"),
    ({"type": "computer_call_output", "call_id": "c", "output": {"image_url": 3}}, ".output.image_url"),
]


@pytest.mark.parametrize(("item", "param"), ITEMS)
def test_what_stands_within_an_item_is_named(item: Any, param: str) -> None:
    assert outcome({"input": [{"role": "user", "content": "Hi"}, item]}) == f"400 input[1]{param}"


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"include": [3]}, "include[0]"),
        ({"metadata": {"a": 3}}, "metadata[...]"),
        ({"context_management": [3]}, "context_management[0]"),
    ],
)
def test_what_stands_in_a_list_is_named(sent: dict[str, Any], param: str) -> None:
    assert outcome(sent) == f"400 {param}"
