"""What msgspec refused, in the operator's words: dotted key, value, what is allowed.

In: msgspec's message and the table that it refused. Out: one line, and the place. msgspec decides; only words are made
here. Must not show a value that may be a secret.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gemproxy.config.secret import Secret
from gemproxy.config.sections import Config, Credential, Section, read_secret

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_STEP = re.compile(r"\[\.\.\.\]|\[\d+\]|[^.\[\]]+")
_INDEX = re.compile(r"\[\d+\]")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONG = 80  # characters of a value that a message shows
_ANY = "[...]"  # how msgspec writes "some value of this table"
_HIDDEN = {"key", "keys", "admin_keys", "client_id", "client_secret"}  # their values are never shown
_DELICATE = {"auth", "oauth", "credentials"}  # a string in the place of the whole section may be a key, too
_KINDS: dict[str, type[Section]] = {one.__struct_config__.tag: one for one in typing.get_args(Credential)}
_PLAIN: dict[Any, str] = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


class Mistake(Struct, frozen=True):
    """What is wrong, in one line, and where: the steps to the key, whether it is one at all, whether it is there."""

    text: str
    path: list[str]
    unknown: bool = False

    @property
    def key(self) -> str:
        """Return the dotted key."""
        return _dotted(self.path)


def explain(message: str, table: dict[str, Any]) -> Mistake:
    """Return what names the key, its value unless that may be a secret, and what is allowed."""
    found = _MESSAGE.fullmatch(message)
    assert found is not None  # the pattern matches any text
    what, path = found["what"], _STEP.findall(found["path"] or "")
    if unknown := _UNKNOWN.fullmatch(what):
        return Mistake(_unknown(path, unknown[1], table), [*path, unknown[1]], unknown=True)
    if missing := _MISSING.fullmatch(what):
        return Mistake(_missing(path, missing[1]), [*path, missing[1]])
    path, value, kind = _follow(path, table)
    return Mistake(f"{_dotted(path)}{_shown(path, value)}: expected {_allowed(path, kind)}", path)


def _unknown(path: list[str], key: str, table: dict[str, Any]) -> str:
    struct = _follow(path, table)[2]
    tag = struct.__struct_config__.tag_field
    known = [*([tag] if tag else []), *(field.encode_name for field in msgspec.structs.fields(struct))]
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {_dotted([*path, near[0]])}?" if near else f"known here: {', '.join(known)}"
    return f"{_dotted([*path, key])}: unknown key; {hint}"


def _missing(path: list[str], key: str) -> str:
    allowed = f"; it is one of {_listed(_KINDS)}" if key == "kind" else ""
    return f"{_dotted([*path, key])}: required, but left out{allowed}"


def _follow(path: list[str], table: dict[str, Any]) -> tuple[list[str], Any, Any]:
    """Walk along a path; return it with every "some value" named, what is found there, and its type."""
    named: list[str] = []
    value: Any = table
    kind: Any = Config
    for step in path:
        kind = _inner(kind, step)
        if step == _ANY:
            step = next((key for key, one in value.items() if not _fits(one, kind)), _ANY)
        named.append(step)
        value = value[int(step[1:-1])] if isinstance(value, list) else value.get(step)
        if kind == Credential and isinstance(value, dict) and isinstance(value.get("kind"), str):
            kind = _KINDS.get(value["kind"], Credential)
    return named, value, kind


def _inner(kind: Any, step: str) -> Any:
    """Return the type of what a step leads to, from within a type."""
    if kind == Credential:
        return str  # the step is ``kind`` itself, and wrong
    if isinstance(kind, type) and issubclass(kind, Section):
        return typing.get_type_hints(kind, include_extras=True).get(step, str)
    return typing.get_args(kind)[-1]  # of a list its item, of a dict its value


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, dec_hook=read_secret)
    except msgspec.ValidationError:
        return False
    return True


def _allowed(path: list[str], kind: Any) -> str:
    if path[-1:] == ["kind"]:
        return f"one of {_listed(_KINDS)}"
    if _is_table(kind):
        return f"a table, [{_dotted(path)}]"
    if typing.get_origin(kind) is list and _is_table(typing.get_args(kind)[0]):
        return f"an array of tables, [[{_dotted(path)}]]"
    return _described(kind)


def _is_table(kind: Any) -> bool:
    struct = isinstance(kind, type) and issubclass(kind, Section)
    return struct or kind == Credential or typing.get_origin(kind) is dict


def _described(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return next(note.description for note in inner if isinstance(note, Meta) and note.description)
    if origin is Literal:
        return f"one of {_listed(inner)}"
    if origin is list:
        return f"an array, each item {_described(inner[0])}"
    if inner:  # a type or None: TOML has no null, so None cannot be what was meant
        return _described(inner[0])
    return "a string" if kind is Secret else _PLAIN[kind]


def _shown(path: list[str], value: Any) -> str:
    names = [step for step in path if not step.startswith("[")]
    if isinstance(value, bool):
        return f" = {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f" = {value}"
    hidden = names[-1] in _HIDDEN or (len(names) == 1 and names[0] in _DELICATE)
    return f" = {_quoted(value)}" if isinstance(value, str) and not hidden else ""


def _dotted(path: list[str]) -> str:
    """Return a path as TOML writes it: what is no bare key is quoted, so that a message stays one line."""
    steps = (
        step if _INDEX.fullmatch(step) else f".{step if _BARE.fullmatch(step) else _quoted(step)}" for step in path
    )
    return "".join(steps).removeprefix(".")


def _quoted(text: str) -> str:
    return msgspec.json.encode(text if len(text) <= _LONG else f"{text[:_LONG]}…").decode()


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f'"{value}"' for value in values)
