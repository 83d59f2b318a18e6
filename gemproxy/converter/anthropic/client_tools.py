"""Anthropic's tools that the client runs itself, as functions: their models know them by heart, Gemini is told.

Pure. Their parameters as Anthropic documents them (docs/protocol.md 10.6).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

_encode = msgspec.json.encode


class Known(Struct, frozen=True):
    """What a tool does, and the JSON Schema of its parameters."""

    description: str
    parameters: Raw


def _parameters(required: list[str], **properties: dict[str, Any]) -> Raw:
    return Raw(_encode({"type": "object", "properties": properties, "required": required}))


def _text(about: str) -> dict[str, Any]:
    return {"type": "string", "description": about}


def _one_of(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


_NUMBER: Final = {"type": "integer"}
_RANGE: Final = {"type": "array", "items": _NUMBER, "description": "First and last line; -1 is the end of the file."}

_BASH: Final = Known(
    "Run a command in a bash session that lasts.",
    _parameters(
        [],
        command=_text("The command."),
        restart={"type": "boolean", "description": "Begin a new session instead of running a command."},
    ),
)
_EDITOR: Final = Known(
    "View, create and edit files.",
    _parameters(
        ["command", "path"],
        command=_one_of("view", "create", "str_replace", "insert", "undo_edit"),
        path=_text("An absolute path of a file or a folder."),
        view_range=_RANGE,
        file_text=_text("What a file that is created holds."),
        old_str=_text("What is replaced; it must stand in the file once."),
        new_str=_text("What stands in its place."),
        insert_line={"type": "integer", "description": "The line behind which is inserted; 0 is the beginning."},
        insert_text=_text("What is inserted."),
    ),
)
_MEMORY: Final = Known(
    "Keep notes in files below /memories, from one conversation to the next. Look there before anything else.",
    _parameters(
        ["command"],
        command=_one_of("view", "create", "str_replace", "insert", "delete", "rename"),
        path=_text("A path below /memories."),
        view_range=_RANGE,
        file_text=_text("What a file that is created holds."),
        old_str=_text("What is replaced; it must stand in the file once."),
        new_str=_text("What stands in its place."),
        insert_line=_NUMBER,
        insert_text=_text("What is inserted."),
        old_path=_text("What is renamed."),
        new_path=_text("Its new path."),
    ),
)
_BY_START: Final = {"bash_": _BASH, "text_editor_": _EDITOR, "memory_": _MEMORY}


def known(kind: str) -> Known | None:
    """Return the tool of a type, whatever date its name ends in; None if the client runs none of that type."""
    return next((tool for start, tool in _BY_START.items() if kind.startswith(start)), None)
