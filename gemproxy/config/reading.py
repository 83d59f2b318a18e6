"""TOML text to a ``Config``.

In: a path, or the bytes of a file. Out: a ``Draft``: a ``Config`` as written (secrets not looked up yet), and every
mistake in it. Raises ``ConfigFault`` for what is no TOML, with the line. Must not read the environment.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gemproxy.config.sections import Config, read_secret
from gemproxy.config.wording import Mistake, explain
from gemproxy.errors import ConfigFault

STAND_IN = "-"
ITEMS = {"credentials": {"kind": "api_key", "name": STAND_IN}, "auth.clients": {"name": STAND_IN}}
BOM = b"\xef\xbb\xbf"  # some editors begin a file with it


class Draft(Struct, frozen=True):
    """A configuration in which something harmless stands where a ``fault`` was; ``spoilt`` are the keys of those."""

    config: Config = Config()
    faults: Sequence[str] = ()
    spoilt: Sequence[str] = ()

    def doubts(self, message: str) -> bool:
        """Return whether what a rule says may come of a mistake that is told already."""
        related = {"server.host": "auth", "models.": "models."}
        causes = [cause for effect, cause in related.items() if message.startswith(effect)]
        return any(key in message or key.startswith(tuple(causes)) for key in self.spoilt)


def read(path: Path) -> Draft:
    """Return the configuration that a TOML file holds."""
    try:
        return draft(path.read_bytes())
    except OSError as error:
        raise ConfigFault(f"cannot read the configuration: {error.strerror}") from None


def draft(data: bytes) -> Draft:
    """Return what TOML text holds, mistakes and all. Raises ``ConfigFault`` for what is no TOML."""
    return survey(_table(data))


def survey(table: dict[str, Any]) -> Draft:
    """Return what a table holds; it is mended on the way."""
    mistakes: list[Mistake] = []
    while True:
        try:
            config = msgspec.convert(table, Config, dec_hook=read_secret)
        except msgspec.ValidationError as error:  # the first of several: mended, so that the next one is found, too
            mistakes.append(explain(str(error), table))
            _mend(table, mistakes[-1])
        else:
            spoilt = [_spoilt(mistake) for mistake in mistakes if not mistake.unknown]
            return Draft(config, [mistake.text for mistake in mistakes], spoilt)


def _table(data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.removeprefix(BOM).decode())
    except UnicodeDecodeError as error:
        raise ConfigFault(f"not UTF-8 text (at line {_line(data[: error.start])})") from None
    except tomllib.TOMLDecodeError as error:
        where = str(error).replace("at end of document", f"at line {_line(data.rstrip())}, its last")
        raise ConfigFault(f"not TOML: {where}") from None
    except RecursionError:
        raise ConfigFault("not TOML that can be read: nested too deep") from None


def _mend(table: dict[str, Any], mistake: Mistake) -> None:
    """Put something that may stand there in the place of a mistake: its default, or what fits where there is none."""
    path = mistake.path[:-1] if _is_kind(mistake) else mistake.path  # without a kind nothing else can be judged
    holder: Any = table
    for step in path[:-1]:
        holder = holder[_place(step) if isinstance(holder, list) else step]
    if isinstance(holder, list):
        holder[_place(path[-1])] = {**ITEMS[key]} if (key := ".".join(path[:-1])) in ITEMS else STAND_IN
    elif path[-1] in ("name", "file") and not mistake.unknown:
        holder[path[-1]] = STAND_IN
    else:
        del holder[path[-1]]


def _is_kind(mistake: Mistake) -> bool:
    return mistake.path[0] == "credentials" and mistake.path[-1] == "kind" and not mistake.unknown


def _place(step: str) -> int:
    return int(step[1:-1])


def _spoilt(mistake: Mistake) -> str:
    """Return the key of which nothing more can be said."""
    return mistake.key.removesuffix(".kind") if _is_kind(mistake) else mistake.key


def _line(before: bytes) -> int:
    return before.count(b"\n") + 1
