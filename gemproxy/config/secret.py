"""Secrets: what may never be shown, and where one may come from.

In: a value, the name of an environment variable or of a file. Out: a ``Secret``. Must not put a secret, or what may be
one (a key written where a variable's name belongs), into a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from gemproxy.errors import ConfigFault

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# What is written where a name belongs and is the key itself: by how Google's and OpenAI's begin, or by its length.
_KEY = re.compile(r"(?:AIza|AQ\.|GOCSPX-|ya29\.|1//|sk-).*|(?=.*\d)[A-Za-z0-9_-]{24,}", re.DOTALL)
_QUOTES = "'\"`"  # an env file of Docker's keeps them, a shell does not
_MAX_FILE = 65_536  # bytes; no key is longer, and a wrong path should not be read whole


class Secret:
    """A string that no repr, log or message shows; ``reveal`` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(...)"


ABSENT = Secret("")  # the default of every secret field: left out, which is not the same as empty
UNREAD = Secret("-")  # stands where a secret was to be and could not be had, so that all else can be judged


class Places(Struct, frozen=True):
    """Where secrets may lie: the environment, and the folder that relative names start from."""

    environ: Mapping[str, str]
    folder: Path

    def __repr__(self) -> str:
        return f"Places({str(self.folder)!r})"

    def locate(self, name: str) -> Path:
        """Return the path that a name in the configuration means.

        A relative one is looked up in ``$CREDENTIALS_DIRECTORY`` first (systemd's ``LoadCredential=``), else it is
        relative to the configuration's folder, whether it exists there or not.
        """
        given = self.environ.get("CREDENTIALS_DIRECTORY")
        if given and is_there(Path(given) / name):
            return Path(given) / name
        return self.beside(name)

    def beside(self, name: str) -> Path:
        """Return the absolute path of a name that starts from the configuration's folder."""
        return (self.folder / Path(name).expanduser()).absolute()


def is_there(path: Path) -> bool:
    """Return whether something is there that this process may know of; where it may not, ``Path.exists`` raises."""
    try:
        return path.exists()
    except OSError:
        return False


def resolve(key: str, value: Secret, variable: str | None, file: str | None, places: Places) -> Secret:
    """Return the secret that ``key``, ``key_env`` or ``key_file`` gives (``key`` is the dotted name of the first).

    Raises ``ConfigFault`` unless exactly one of the three is there and yields one printable word.
    """
    given = [value is not ABSENT, variable is not None, file is not None]
    if sum(given) != 1:
        count = "none" if not any(given) else "more than one"
        raise ConfigFault(f"{key}: give exactly one of {key}, {key}_env and {key}_file; {count} is set")
    if variable is not None:
        return _word(f"{key}_env", from_variable(f"{key}_env", variable, places))
    if file is not None:
        return _word(f"{key}_file", read_text(f"{key}_file", file, places))
    return _word(key, value.reveal())


def from_variable(key: str, variable: str, places: Places) -> str:
    """Return the text of an environment variable that a setting names."""
    text = places.environ.get(variable)
    if text is None:
        plain = _VARIABLE.fullmatch(variable) and _is_name(variable)
        shown = f"the environment variable {variable}" if plain else "the variable it names"
        raise ConfigFault(f"{key}: {shown} is not set")
    return text


def read_text(key: str, name: str, places: Places) -> str:
    """Return the text of a file that a setting names; raises ``ConfigFault`` if it cannot be read."""
    path = places.locate(name)
    shown = str(path) if _is_name(name) else "the file it names"
    if not Path(name).is_absolute():
        shown += " (looked up in $CREDENTIALS_DIRECTORY first)"
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigFault(f"{key}: cannot read {shown}: {reason}") from None
    if len(data) > _MAX_FILE:
        raise ConfigFault(f"{key}: {shown} is longer than {_MAX_FILE} bytes")
    try:
        return data.decode().removeprefix("\ufeff")  # some editors begin a file with a byte-order mark
    except UnicodeDecodeError:
        raise ConfigFault(f"{key}: {shown} is not UTF-8 text") from None


def _is_name(text: str) -> bool:
    """Return whether a name may be shown: it is not the key itself, written in the wrong place."""
    return text.isprintable() and not _KEY.fullmatch(text)


def words(key: str, secrets: list[Secret]) -> list[Secret]:
    """Return a list of secrets, each checked as ``resolve`` checks one."""
    return [_word(f"{key}[{place}]", secret.reveal()) for place, secret in enumerate(secrets)]


def lines(key: str, text: str) -> list[Secret]:
    """Return the secrets of a file with one per line; blank lines and lines that begin with # are left out."""
    kept = [line.strip() for line in text.split("\n")]
    found = [_word(key, line) for line in kept if line and not line.startswith("#")]
    if not found:
        raise ConfigFault(f"{key}: the file holds no key; write one per line")
    return found


def listed(name: str, environ: Mapping[str, str]) -> list[Secret]:
    """Return the secrets of a comma-separated environment variable; blank items are left out."""
    items = [item.strip() for item in environ.get(name, "").split(",")]
    return [_word(name, item) for item in items if item]


def _word(key: str, text: str) -> Secret:
    # A key goes into an HTTP header as it is: a line break there would be a header of the writer's choice.
    text = text.strip()
    if not text:
        raise ConfigFault(f"{key}: an empty key is refused")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigFault(f"{key}: a key is one word of printable ASCII characters")
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        raise ConfigFault(f"{key}: the key stands in quotes, which would be sent as a part of it; take them away")
    return Secret(text)
