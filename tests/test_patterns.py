"""Regular expressions mean the same on every Python that is supported."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1] / "gemproxy"
# Python before 3.11.5 (Debian 12 has 3.11.2) loses its place in them where the group holds a choice: it left the end of
# private keys in texts, and long numbers as they were. Of single characters they are sound.
_SOUND = ["converter/sse.py"]  # whose group holds no choice, and nothing that gives back
_POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{+\d*,?\d*\}+)\+|\(\?>")


def test_no_group_of_a_pattern_is_possessive() -> None:
    files = [file for file in ROOT.rglob("*.py") if _POSSESSIVE_GROUP.search(file.read_text("utf-8"))]
    assert [str(file.relative_to(ROOT)) for file in files] == _SOUND


def test_the_search_finds_what_it_looks_for() -> None:
    for pattern in (r"(?:a|b)++", r"(?:a|b){0,8}+", "(?:a|b){{0,8}}+", r"(?>a|b)"):
        assert _POSSESSIVE_GROUP.search(pattern)
    assert not _POSSESSIVE_GROUP.search(r"[^x]*+(?:a){0,8}")
