"""What a field of Gemini's is to a client of Anthropic's: the conversion's way back (docs/protocol.md 10.3). Pure."""

from __future__ import annotations

from typing import Final

PARAMS: Final = {
    "tool_config": "tool_choice",
    "contents": "messages",
    "system_instruction": "system",
    "max_output_tokens": "max_tokens",
    "response_mime_type": "output_config.format",
    "response_schema": "output_config.format",
    "response_json_schema": "output_config.format",
    "thinking_config": "thinking",
}


def param_of(field: str | None) -> str | None:
    """Return the parameter that a refused field came from; all others have the same name on both sides."""
    return PARAMS.get(field, field) if field is not None else None
