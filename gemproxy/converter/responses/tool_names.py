"""Tools in namespaces: two of them may hold a tool of one name, and Gemini knows no namespaces. Pure."""

from __future__ import annotations

JOIN = "."  # which Gemini takes in a name


def declared_name(name: str, namespace: str | None) -> str:
    """Return the name under which a tool is declared, and called in the history.

    One that is in a namespace of its own name stands in none: so are tools called that a search has found.
    """
    return f"{namespace}{JOIN}{name}" if namespace and namespace != name else name
