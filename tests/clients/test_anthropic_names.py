"""The lists of Anthropic's names that ``docs/fields-anthropic.md`` is held against are those of its own package.

Needs the extra ``clients``.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest

from tests.converter.anthropic import anthropic_names as names

pytest.importorskip("anthropic.types", reason="needs the extra clients: anthropic")
blocks = pytest.importorskip("anthropic.types.beta.beta_content_block_param")
tools = pytest.importorskip("anthropic.types.beta.beta_tool_union_param")
results = pytest.importorskip("anthropic.types.tool_result_block_param")
create = pytest.importorskip("anthropic.types.beta.message_create_params")


def kinds(form: Any) -> Iterator[str]:
    """Yield what the things of a union call themselves."""
    if hasattr(form, "__required_keys__"):
        yield from _words(typing.get_type_hints(form)["type"])
    elif hasattr(form, "model_fields"):
        yield from _words(form.model_fields["type"].annotation)
    else:
        for each in typing.get_args(form):
            yield from kinds(each)


def _words(form: Any) -> Iterator[str]:
    for each in typing.get_args(form):
        if isinstance(each, str):
            yield each
        else:
            yield from _words(each)


def test_the_fields_are_those_of_the_package() -> None:
    known = set(typing.get_type_hints(create.MessageCreateParamsBase)) | {"stream"}
    assert known - names.HEADERS == names.FIELDS


@pytest.mark.parametrize(
    ("form", "known"),
    [
        pytest.param(lambda: blocks.BetaContentBlockParam, names.BLOCKS, id="blocks"),
        pytest.param(lambda: results.Content, names.RESULT_BLOCKS, id="blocks within a result"),
        pytest.param(lambda: tools.BetaToolUnionParam, names.TOOLS, id="tools"),
    ],
)
def test_the_kinds_are_those_of_the_package(form: Any, known: set[str]) -> None:
    assert set(kinds(form())) == known
