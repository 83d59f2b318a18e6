"""Takes out of a text what must not leave the process: keys, tokens, accounts, projects, one-time links.

In: any text, mostly what Google wrote. Out: the same text with ``[key]``, ``[token]``, ``[e-mail]``, ``[project]`` and
the like in the places. Logs, debug answers, metrics and client messages use it. Must not raise, whatever comes.

Google's own messages hold such things: a suspended key is quoted in its refusal, an account check carries a one-time
link, a disabled service names the project (PROTOCOL 3.7, SURPRISES 38).
"""

from __future__ import annotations

import re
from typing import Final

LONGEST_MESSAGE: Final = 1_000
"""Characters of upstream text that a client may see; Google's real messages stay below 700."""

_LONGEST_READ: Final = 16_000  # more is not looked at: bounds the work on a hostile text

_WORD: Final = r"[^\s&'\",;]+"
_ASSIGNED: Final = r"['\"]?\s*[=:]\s*['\"]?"
_PROJECT_ID: Final = r"(?:[a-z0-9.-]{1,60}:)?[a-z0-9][a-z0-9-]{2,62}"

# Order counts: whole links before what may stand inside them, known shapes before the words around them.
_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?s:.){0,8000}?(?:-----END [A-Z ]{0,40}KEY-----|\Z)", "[key]"),
        (r"(?i)https?://accounts\.google\.com[^\s'\"<>]*", "[link]"),
        # A query never helps the reader, and holds key=, project=, plt= or access_token=.
        (r"(?i)(https?://[^\s?#'\"<>]{1,2000})[?#][^\s'\"<>]*", r"\1"),
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
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def for_client(text: str) -> str:
    """Return upstream text as a client may read it: redacted, on one line, at most ``LONGEST_MESSAGE`` characters."""
    line = " ".join(_CONTROL.sub(" ", _beginning(text)).split())
    kept = redact(line)
    return kept if len(kept) <= LONGEST_MESSAGE else kept[: LONGEST_MESSAGE - 1] + "…"


def _beginning(text: str) -> str:
    """Return what is looked at; cut between words, since half a key is no key to the rules but still a secret."""
    if len(text) <= _LONGEST_READ:
        return text
    words = text[:_LONGEST_READ].rsplit(None, 1)
    return words[0] if len(words) > 1 else ""
