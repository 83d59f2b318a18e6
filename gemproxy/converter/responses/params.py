"""What a field of Gemini's is to a client of Responses: the conversion's way back (docs/protocol.md 7.3). Pure."""

from __future__ import annotations

from typing import Final

PARAMS: Final = {
    "tool_config": "tool_choice",
    "contents": "input",
    "system_instruction": "instructions",
    "logprobs": "top_logprobs",
    "response_mime_type": "text.format",
    "response_schema": "text.format",
    "response_json_schema": "text.format",
    "response_modalities": "tools",
    "thinking_config": "reasoning",
}


def param_of(field: str | None) -> str | None:
    """Return the parameter that a refused field came from; all others have the same name on both sides."""
    return PARAMS.get(field, field) if field is not None else None
