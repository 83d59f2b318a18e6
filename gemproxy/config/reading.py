"""TOML text to a ``Config``.

In: a path, or the bytes of a file. Out: a ``Config`` as written (secrets not looked up yet). Raises ``ConfigFault``
with the line of a TOML error, or the dotted key of a wrong setting. Must not read the environment.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from gemproxy.config.sections import Config, read_secret
from gemproxy.config.wording import explain
from gemproxy.errors import ConfigFault

BOM = b"\xef\xbb\xbf"  # some editors begin a file with it


def read(path: Path) -> Config:
    """Return the configuration that a TOML file holds."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigFault(f"cannot read the configuration: {error.strerror}") from None


def parse(data: bytes) -> Config:
    """Return the configuration that TOML text holds."""
    try:
        table = tomllib.loads(data.removeprefix(BOM).decode())
    except UnicodeDecodeError as error:
        raise ConfigFault(f"not UTF-8 text (at line {_line(data[: error.start])})") from None
    except tomllib.TOMLDecodeError as error:
        where = str(error).replace("at end of document", f"at line {_line(data.rstrip())}, its last")
        raise ConfigFault(f"not TOML: {where}") from None
    except RecursionError:
        raise ConfigFault("not TOML that can be read: nested too deep") from None
    try:
        return msgspec.convert(table, Config, dec_hook=read_secret)
    except msgspec.ValidationError as error:
        raise ConfigFault(explain(str(error), table)) from None


def _line(before: bytes) -> int:
    return before.count(b"\n") + 1
