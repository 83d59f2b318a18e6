"""``docs/fields-anthropic.md`` says what is so: each example is asked, and nothing of the package is missing."""

from __future__ import annotations

import re

import msgspec
import pytest

from gemproxy.errors import ClientFault
from gemproxy.simulator import Simulator
from gemproxy.wire.anthropic import MessagesRequest
from tests.converter.anthropic.anthropic_names import BLOCKS, FIELDS, RESULT_BLOCKS, TOOLS
from tests.converter.anthropic.asking_messages import PLAIN, body_of, plan_of
from tests.fields_page import Row, check_class, check_refusal, rows_of, that_become, with_more
from tests.gemini_schema import check_body
from tests.running import running

ROWS = rows_of("fields-anthropic.md")
THROUGH = ("model", "max_tokens")  # what the plain request has as the row has it, unless the row is about it


def body_without(row: Row) -> dict[str, object]:
    """Return what goes out without the field: the same model, and "Hi"."""
    kept = THROUGH if row.field != "max_tokens" else ("model",)
    made = body_of({name: row.example[name] for name in kept if name in row.example})
    if row.field == "max_tokens":
        del made["generationConfig"]
    return made


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
    check_refusal(row, lambda: plan_of(row.example))


@pytest.mark.parametrize("row", that_become(ROWS, "model "))
def test_a_row_that_names_a_model(row: Row) -> None:
    [call] = plan_of(row.example).calls
    assert call.model == row.quoted


async def test_rows_that_show_an_answer(simulator: Simulator) -> None:
    rows = [row for row in ROWS if row.becomes.startswith("answer ")]
    assert len(rows) == 3
    async with running(simulator) as server:
        for row in rows:
            status, answer = await server.post("/v1/messages", PLAIN | row.example)
            assert status == 200, row
            assert row.quoted in answer.decode(), row


def test_every_row_is_of_the_class_it_says() -> None:
    for row in ROWS:
        check_class(row)


# ---------------------------------------------------------------------------------- nothing is missing, or too much


def fields(table: str) -> set[str]:
    return {row.field for row in ROWS if row.table == table}


def test_every_field_of_the_package_has_a_row_and_no_other() -> None:
    assert fields("Anthropic's fields") == FIELDS


def test_every_field_that_is_read_has_a_row() -> None:
    known = {field.encode_name for field in msgspec.structs.fields(MessagesRequest)}
    assert known <= fields("Anthropic's fields") | fields("Fields of older clients")


def test_every_block_has_a_row_and_no_other() -> None:
    assert fields("Blocks of a message") == BLOCKS | {"odd"}
    assert fields("Within a tool_result") == RESULT_BLOCKS | {"content", "is_error"}


def family(kind: str) -> str:
    """Return the type of a tool without its date."""
    return re.sub(r"_\d{8}$", "", kind)


def test_every_family_of_tools_has_a_row_and_no_other() -> None:
    assert set(map(family, fields("Tools"))) == set(map(family, TOOLS))


@pytest.mark.parametrize("kind", sorted(TOOLS))
def test_a_tool_of_any_date_is_as_its_family(kind: str) -> None:
    rows = [row for row in ROWS if row.table == "Tools" and family(row.field) == family(kind)]
    sent = {"tools": [{"type": kind, "name": "f", "input_schema": {"type": "object"}}]}
    if all(row.kind == "refused" for row in rows):
        with pytest.raises(ClientFault, match="is not offered here"):
            plan_of(sent)
    else:
        assert plan_of(sent).calls
