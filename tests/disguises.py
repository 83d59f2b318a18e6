"""How software writes a secret down, as a table; and a judge that knows nothing of how they are looked for."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from urllib.parse import quote

import msgspec

Disguise = Callable[[str], str]


def _coded(before: int, *, urlsafe: bool = False) -> Disguise:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    return lambda secret: encode(b"u" * before + secret.encode() + b":behind").decode()


def _between(mark: str, every: int = 1) -> Disguise:
    """Put a mark after so many characters, again and again."""
    return lambda secret: mark.join(secret[place : place + every] for place in range(0, len(secret), every))


def _halves(mark: str) -> Disguise:
    return lambda secret: secret[: len(secret) // 2] + mark + secret[len(secret) // 2 :]


def _each(form: str) -> Disguise:
    return lambda secret: "".join(form.format(ord(char)) for char in secret)


def _percent(secret: str) -> str:
    return _each("%{:02X}")(secret)


def _unicode(secret: str) -> str:
    return _each("\\u{:04x}")(secret)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


DISGUISES: dict[str, Disguise] = {
    "as it is": lambda secret: secret,
    "in capitals": str.upper,
    "in small letters": str.lower,
    "glued to words": lambda secret: f"before{secret}after",
    "twice": lambda secret: f"{secret} and {secret}",
    "as a bearer": lambda secret: f"Authorization: Bearer {secret}",
    "as a query": lambda secret: f"https://example.test/x?key={secret}&alt=sse",
    "in a JSON text": lambda secret: _json({"key": secret}),
    "slashes escaped": lambda secret: _json(secret).replace("/", "\\/"),
    "JSON in a JSON text": lambda secret: _json(_json({"key": secret + '"/'})),
    "as the repr of bytes": lambda secret: repr(secret.encode()),
    "unicode escapes": _unicode,
    "unicode escapes in capitals": _each("\\u{:04X}"),
    "one unicode escape": lambda secret: _unicode(secret[0]) + secret[1:],
    "unicode escapes escaped": lambda secret: _unicode(secret).replace("\\", "\\\\"),
    "byte escapes": _each("\\x{:02x}"),
    "percent": _percent,
    "percent in small letters": _each("%{:02x}"),
    "percent where a URL needs it": lambda secret: quote(secret, safe=""),
    "every other character in percent": lambda secret: "".join(
        _percent(char) if place % 2 else char for place, char in enumerate(secret)
    ),
    "percent twice": lambda secret: quote(_percent(secret), safe=""),
    "percent in unicode escapes": lambda secret: _unicode(_percent(secret)),
    "entities by number": _each("&#{};"),
    "entities in hexadecimal": _each("&#x{:x};"),
    "entities by name": lambda secret: secret.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;"),
    **{f"base64 behind {before}": _coded(before) for before in range(3)},
    **{f"URL-safe base64 behind {before}": _coded(before, urlsafe=True) for before in range(3)},
    "base64 without its end": lambda secret: base64.b64encode(secret.encode()).decode().rstrip("="),
    "base64 in lines": lambda secret: _between("\n", 12)(_coded(1)(secret)),
    "base64 in percent": lambda secret: quote(_coded(2)(secret), safe=""),
    "base64 in unicode escapes": lambda secret: _unicode(_coded(0)(secret)),
    "as basic credentials": lambda secret: "Basic " + base64.b64encode(f"user:{secret}".encode()).decode(),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "hexadecimal in capitals": lambda secret: secret.encode().hex().upper(),
    "hexadecimal in pairs": lambda secret: secret.encode().hex(" "),
    "cut by a line end": _halves("\n"),
    "cut by CR and LF": _halves("\r\n"),
    "cut by an escaped line end": _halves("\\n"),
    "cut by a doubly escaped line end": _halves("\\\\n"),
    "cut by a line end in percent": _halves("%0A"),
    "cut by a continued line": _halves("\\\n"),
    "cut by a tab": _halves("\t"),
    "cut by a null": _halves("\0"),
    "wrapped and indented": _between("\n    ", 10),
    "blanks between all": _between(" "),
    "hard blanks": _between("\u00a0", 4),
    "zero width": _between("\u200b", 3),
    "zero width, escaped": _between("\\u200b", 3),
    "joiners": _between("\u200d", 5),
    "soft hyphens": _between("\u00ad", 5),
    "a mark of byte order": _halves("\ufeff"),
    "a line separator": _halves("\u2028"),
    "direction marks": lambda secret: f"\u202e{_between(chr(0x202C), 7)(secret)}",
    "percent, cut by a line end": lambda secret: _between("\n", 10)(_percent(secret)),
}


_HIDDEN = re.compile(r"[^!-~]+")  # all but ASCII that prints


def bare(text: str) -> str:
    """Return a text without all that does not show."""
    return _HIDDEN.sub("", text)  # a whole log at a time: letter by letter it took most of what its tests take


def leaks(told: str, secret: str, disguise: Disguise) -> bool:
    """Return whether a text holds the secret so disguised, or one half of it."""
    kept, middle = bare(told), len(secret) // 2
    found = [bare(disguise(secret)), bare(secret), bare(disguise(secret[:middle])), bare(disguise(secret[middle:]))]
    core = slice(0, None) if "base64" not in disguise.__qualname__ else slice(4, -4)
    return any(form[core] in kept for form in found)
