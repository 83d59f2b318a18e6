"""A refused field of Gemini's is told by the name that the client knows it by."""

from __future__ import annotations

import pytest

from gemproxy.converter.chat.params import param_of


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("contents", "messages"),
        ("system_instruction", "messages"),
        ("tool_config", "tool_choice"),
        ("max_output_tokens", "max_tokens"),
        ("stop_sequences", "stop"),
        ("candidate_count", "n"),
        ("response_mime_type", "response_format"),
        ("response_json_schema", "response_format"),
        ("response_modalities", "modalities"),
        ("thinking_config", "reasoning_effort"),
        pytest.param("temperature", "temperature", id="one that has the same name on both sides"),
        pytest.param("messages[0].content[1]", "messages[0].content[1]", id="a part, by the client's own name"),
        pytest.param(None, None, id="nothing tells"),
    ],
)
def test_a_field_is_told_as_the_clients_parameter(field: str | None, param: str | None) -> None:
    assert param_of(field) == param
