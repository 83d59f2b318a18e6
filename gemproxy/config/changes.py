"""What a new configuration brings, in an operator's words.

In: the configuration in force and the next one. Out: which credentials, clients and models came, went and changed, by
their names, and which environment variables nobody reads any more. Must not show what is secret: names alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gemproxy.config.sections import Config, Loaded, Models

MOST = 20  # names of a list; more are counted


def changes(old: Config, new: Config, renewed: Collection[str] = ()) -> str:
    """Return what came, went and changed; ``renewed`` are credentials whose files hold something new."""
    told = [
        _told("credentials", {one.name: one for one in old.credentials}, {one.name: one for one in new.credentials}),
        _told("clients", {one.name: one for one in old.auth.clients}, {one.name: one for one in new.auth.clients}),
        _told("models", _models(old.models), _models(new.models)),
    ]
    same = {one.name for one in new.credentials if one in old.credentials}
    if fresh := sorted(same.intersection(renewed)):
        told.append(f"new in its file: {_names(fresh)}")
    return "; ".join(filter(None, told)) or "the same credentials, clients and models"


def dropped(old: Config, new: Config) -> list[str]:
    """Return the variables that the old configuration took something from, and the new one does not."""
    if not (isinstance(old, Loaded) and isinstance(new, Loaded)):
        return []
    return sorted(old.variables - new.variables)


def _told(kind: str, old: Mapping[str, object], new: Mapping[str, object]) -> str:
    came, went = [name for name in new if name not in old], [name for name in old if name not in new]
    changed = [name for name, value in new.items() if name in old and old[name] != value]
    parts = [
        f"{word} {_names(names)}" for word, names in (("new", came), ("gone", went), ("changed", changed)) if names
    ]
    return f"{kind}: {', '.join(parts)}" if parts else ""


def _names(names: list[str]) -> str:
    more = len(names) - MOST
    return " ".join(names[:MOST]) + (f" and {more} more" if more > 0 else "")


def _models(models: Models) -> dict[str, object]:
    """Return what is said of each model, by the name under which it is asked for."""
    named = {*models.aliases, *models.extra, *models.logprobs, *models.fallbacks}
    return {
        name: (models.aliases.get(name), name in models.extra, name in models.logprobs, models.fallbacks.get(name))
        for name in sorted(named)
    }
