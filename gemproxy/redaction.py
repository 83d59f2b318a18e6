"""Takes out of a text what must not leave the process: keys, tokens, accounts, projects, one-time links.

In: any text, mostly what Google wrote. Out: the same text with ``[key]``, ``[token]``, ``[e-mail]``, ``[project]`` and
the like in the places. Logs, captures, debug answers, metrics and client messages use it. Must not raise, whatever
comes. What this process holds is known and found in any disguise (``held``); the rest is known by its shape.

Google's own messages hold such things: a suspended key is quoted in its refusal, an account check carries a one-time
link, a disabled service names the project (docs/protocol.md 3.7, S38).

What a model says is not searched: no credential is ever part of a question, and to look for one across the pieces of a
stream would hold each of them back. An upstream that writes one into an answer has it, and is not kept from telling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gemproxy.held import Secrets

held: Final = Secrets()
"""What this process holds: the wiring and who mints tokens say it. There is one, as there is one log."""

LONGEST_MESSAGE: Final = 1_000
"""Characters of upstream text that a client may see; Google's real messages stay below 700."""

_LONGEST_READ: Final = 2 * LONGEST_MESSAGE  # more is not looked at: bounds the work on a hostile text
_PIECE: Final = 1 << 16  # characters of a longer text (a captured frame) that the rules see together

_WORD: Final = r"[^\s&'\",;]+"
_ASSIGNED: Final = r"['\"]?\s*[=:]\s*['\"]?"
_PROJECT_ID: Final = r"(?:[a-z0-9.-]{1,60}:)?[a-z0-9][a-z0-9-]{2,62}"
_PEM: Final = (
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]{0,8000}+(?:-(?!----)[^-]{0,8000}+){0,80}"
    r"(?:-----END [A-Z ]{0,40}KEY-----)?"
)

# Order counts: whole links before what may stand inside them, known shapes before the words around them.
_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # This one and the next but one fit wherever they begin: what they have read is not read again.
        (_PEM, "[key]"),
        (r"(?i)https?://accounts\.google\.com[^\s'\"<>]*", "[link]"),
        # A query never helps the reader, and holds key=, project=, plt= or access_token=.
        (r"(?i)(https?://[^\s?#'\"<>]{1,2000}+)(?:[?#][^\s'\"<>]*)?", r"\1"),
        (r"(://)[^/\s@'\"<>]{1,200}@", r"\1"),
        (r"AIza[0-9A-Za-z_-]{6,}", "[key]"),
        (r"(?<![A-Za-z])AQ\.[0-9A-Za-z_-]{16,}", "[key]"),
        (r"(?<![\w-])sk-[0-9A-Za-z_-]{16,}", "[key]"),
        (r"GOCSPX-[0-9A-Za-z_-]+", "[secret]"),
        (r"ya29\.[0-9A-Za-z._-]+", "[token]"),
        (r"(?<!\d)[14]/[/0][0-9A-Za-z_-]{8,}", "[token]"),
        (r"eyJ[0-9A-Za-z_-]{8,}(?:\.[0-9A-Za-z_-]+){1,2}", "[token]"),
        (r"(?i)\b(Bearer|Basic)\s+" + _WORD, r"\1 [token]"),
        (
            r"(?i)\b((?:access_|refresh_|id_)token|client_secret|code_verifier|plt)(" + _ASSIGNED + ")" + _WORD,
            r"\1\2[token]",
        ),
        (r"(?i)\b(api[ _-]?key)(" + _ASSIGNED + ")" + _WORD, r"\1\2[key]"),
        (r"(?i)\b(key=)" + _WORD, r"\1[key]"),
        (r"(?<![\w.+%-])[\w.+%-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+", "[e-mail]"),
        (r"(?i)\b(projects|billingAccounts|organizations|folders)/" + _PROJECT_ID, r"\1/[project]"),
        (r"(?i)\b(project[ _-]?(?:number|id)?" + _ASSIGNED + ")" + _WORD, r"\1[project]"),
        (r"(?i)\b(project[ _-]?(?:number|id)\s+['\"]?)(?=[a-z0-9-]*\d)" + _PROJECT_ID, r"\1[project]"),
        (r"(?i)\b((?:in|on|of|for|to|from|resource) project\s+['\"]?)" + _PROJECT_ID, r"\1[project]"),
        # Elsewhere "project" may be plain English; an id is told by its digit or hyphen.
        (r"(?i)\b(project\s+['\"]?)(?=[a-z0-9]*[0-9-])" + _PROJECT_ID, r"\1[project]"),
        (r"(?i)\b(containerInfo|consumer)(" + _ASSIGNED + ")" + _WORD, r"\1\2[project]"),
        # Media and signatures: of no use to a reader, and perhaps part of a prompt.
        (r"[0-9A-Za-z+/_=-]{200,}", "[data]"),
    )
)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def redact(text: str) -> str:
    """Return the text without keys, tokens, e-mails, projects and account links; applied twice it changes no more."""
    text = held.cut(text)  # first: a rule may fit a half of one that is disguised
    return _known_by_shape(text) if len(text) <= _PIECE else "".join(map(_known_by_shape, _pieces(text)))


def opening(text: str, most: int) -> str:
    """Return the beginning of a text, redacted; of one longer than twice ``most`` nothing that may be half a secret."""
    told = redact(text[: 2 * most])
    return told if len(text) <= 2 * most else told[:-most]


def for_client(text: str, most: int = LONGEST_MESSAGE) -> str:
    """Return upstream text as a client may read it: redacted, on one line, at most ``most`` characters."""
    told = held.cut(text[: 2 * _LONGEST_READ])  # before its lines are joined, and before its end is cut off
    if len(text) > 2 * _LONGEST_READ:  # its end may be half a secret, which those before it let move up as they go
        told = beginning(told, max(0, len(told) - _LONGEST_READ))
    line = " ".join(_CONTROL.sub(" ", beginning(told, _LONGEST_READ)).split())
    kept = _known_by_shape(line)
    return kept if len(kept) <= most else kept[: most - 1] + "…"


def _known_by_shape(text: str) -> str:
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _pieces(text: str) -> Iterator[str]:
    """Yield a long text in pieces that end where no key goes on, so that no rule holds up other threads for long."""
    begin = 0
    while begin < len(text):
        end = begin + _PIECE
        if end < len(text):
            end = 1 + max(text.rfind(" ", begin, end), text.rfind('"', begin, end)) or end
        yield text[begin:end]
        begin = end


def beginning(text: str, most: int) -> str:
    """Return what is looked at; cut between words, since half a key is no key to the rules but still a secret."""
    if len(text) <= most:
        return text
    words = text[:most].rsplit(None, 1)
    return words[0] if len(words) > 1 else ""
