"""A refused field of Gemini's is told by the name that a client of Responses knows it by."""

from __future__ import annotations

import pytest

from gemproxy.converter.api import Operation
from gemproxy.converter.responses.compacting import COMPACT
from gemproxy.converter.responses.counting import INPUT_TOKENS
from gemproxy.converter.responses.operation import RESPONSES
from gemproxy.converter.responses.params import PARAMS, param_of
from gemproxy.wire.openai_responses import ResponsesRequest


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("contents", "input"),
        ("system_instruction", "instructions"),
        ("tool_config", "tool_choice"),
        ("thinking_config", "reasoning"),
        ("response_json_schema", "text.format"),
        ("logprobs", "top_logprobs"),
        pytest.param("max_output_tokens", "max_output_tokens", id="one that has the same name on both sides"),
        pytest.param("input[0].content[1]", "input[0].content[1]", id="a part, by the client's own name"),
        pytest.param(None, None, id="nothing tells"),
    ],
)
def test_a_field_is_told_as_the_clients_parameter(field: str | None, param: str | None) -> None:
    assert param_of(field) == param


def test_every_field_is_told_as_one_that_a_request_has() -> None:
    assert {param.partition(".")[0] for param in PARAMS.values()} <= set(ResponsesRequest.__struct_fields__)


@pytest.mark.parametrize("operation", [RESPONSES, INPUT_TOKENS, COMPACT], ids=lambda operation: operation.paths[0])
def test_every_operation_tells_it_so(operation: Operation) -> None:
    assert operation.param("contents") == "input"
