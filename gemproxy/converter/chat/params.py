"""What a field of Gemini's is to a client of OpenAI's: the conversion's way back (docs/protocol.md 4.1). Pure."""

from __future__ import annotations

from typing import Final

PARAMS: Final = {
    "tool_config": "tool_choice",
    "contents": "messages",
    "system_instruction": "messages",
    "max_output_tokens": "max_tokens",
    "stop_sequences": "stop",
    "candidate_count": "n",
    "response_mime_type": "response_format",
    "response_schema": "response_format",
    "response_json_schema": "response_format",
    "response_modalities": "modalities",
    "thinking_config": "reasoning_effort",
}


def param_of(field: str | None) -> str | None:
    """Return the parameter that a refused field came from; all others have the same name on both sides."""
    return PARAMS.get(field, field) if field is not None else None
