"""The models that the simulated Google has, and what each can do (docs/protocol.md 4.3, 8.1, 8.2, 8.4).

In: a model id. Out: a ``Model``, or None for one that is unknown or has been shut down; the list of them. Written apart
from the proxy's own catalogue on purpose: one is the check of the other.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from msgspec import Struct


class Model(Struct, frozen=True):
    """One model. ``levels`` empty and ``budget`` None: it does not think.

    ``prefill``: whether a conversation may end with the model's own words.
    ``budget`` is the allowed range in tokens, ``can_rest`` whether budget 0 is taken, ``thinks`` whether it thinks
    unless told otherwise.
    """

    id: str
    major: int
    kind: str  # pro, flash, flash-lite, gemma
    levels: tuple[str, ...] = ()
    default_level: str = ""
    budget: tuple[int, int] | None = None
    can_rest: bool = False
    thinks: bool = True
    image: bool = False
    output: int = 65536
    context: int = 1048576
    prefill: bool = True

    @property
    def family(self) -> str:
        """What a thought signature is bound to, besides the upstream."""
        return f"{self.kind}-{self.major}"

    @property
    def thinking(self) -> bool:
        """Whether it knows a thinkingConfig."""
        return bool(self.levels) or self.budget is not None

    @property
    def signs(self) -> bool:
        """Whether a first function call must bring its signature back (docs/protocol.md 6.1)."""
        return self.major >= 3 and self.kind != "gemma"

    @property
    def one_candidate(self) -> bool:
        """Whether candidateCount above 1 is refused (docs/protocol.md 1.5)."""
        return self.image or (self.major >= 3 and self.kind != "pro")


_ALL = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_UP = ("LOW", "MEDIUM", "HIGH")


def _three(
    id: str,  # noqa: A002
    kind: str,
    levels: tuple[str, ...],
    default: str,
    *,
    rests: bool = False,
    prefill: bool = True,
) -> Model:
    return Model(id, 3, kind, levels, default, (0, 32768), can_rest=rests, prefill=prefill)


def _two(id: str, kind: str, low: int, high: int, *, thinks: bool = True) -> Model:  # noqa: A002
    return Model(id, 2, kind, budget=(low, high), can_rest=kind != "pro", thinks=thinks)


_TABLE = [
    Model("gemini-4-argon", 4, "pro", _UP, "MEDIUM", (0, 32768)),
    _three("gemini-3.8-flash", "flash", _UP, "MEDIUM", prefill=False),
    _three("gemini-3.7-flash", "flash", _UP, "MEDIUM", prefill=False),
    _three("gemini-3.6-flash", "flash", _ALL, "MEDIUM", prefill=False),
    _three("gemini-3.5-flash", "flash", _ALL, "MEDIUM", rests=True),
    _three("gemini-3.5-flash-lite", "flash-lite", _ALL, "MINIMAL", rests=True, prefill=False),
    _three("gemini-3.1-pro-preview", "pro", _UP, "HIGH"),
    _three("gemini-3.1-pro-preview-customtools", "pro", _UP, "HIGH"),
    _three("gemini-3.1-flash-lite", "flash-lite", _ALL, "MINIMAL", rests=True),
    _three("gemini-3-flash-preview", "flash", _ALL, "HIGH", rests=True),
    _two("gemini-2.5-pro", "pro", 128, 32768),
    _two("gemini-2.5-flash", "flash", 1, 24576),
    _two("gemini-2.5-flash-lite", "flash-lite", 512, 24576, thinks=False),
    Model("gemma-4-31b-it", 4, "gemma", output=32768, context=262144),
    Model("gemma-4-26b-a4b-it", 4, "gemma", output=32768, context=262144),
    Model("gemini-2.5-flash-image", 2, "flash", image=True, output=32768, context=65536),
    Model("gemini-3-pro-image", 3, "pro", _UP, "HIGH", image=True, output=32768, context=65536),
    Model("gemini-3.1-flash-image", 3, "flash", _ALL, "MINIMAL", image=True, output=32768, context=131072),
    Model("gemini-3.1-flash-lite-image", 3, "flash-lite", ("MINIMAL", "HIGH"), "MINIMAL", image=True, output=4096),
]
MODELS = {model.id: model for model in _TABLE}
ALIASES = {
    "gemini-pro-latest": "gemini-3.1-pro-preview",
    "gemini-flash-latest": "gemini-3.8-flash",
    "gemini-flash-lite-latest": "gemini-3.5-flash-lite",
}
CODE_ASSIST = {
    "gemini-3-pro-preview": "gemini-3.1-pro-preview",
    "gemini-3-flash": "gemini-3.5-flash",  # the wire name of 3.5 Flash (docs/protocol.md 2.3)
}


def lookup(name: str, upstream: str, allowed: frozenset[str] | set[str] = frozenset()) -> Model | None:
    """Return the model of that name at that upstream; ``allowed`` names are taken whatever they are."""
    renamed = CODE_ASSIST if upstream == "code_assist" else ALIASES
    known = MODELS.get(renamed.get(name, name))
    return known or (guess(name) if name in allowed else None)


def guess(name: str) -> Model:
    """Return what a name promises: generation and kind, nothing else."""
    found = re.match(r"(?:gemini|gemma)-(\d+)(?:\.(\d+))?", name)
    major, minor = (int(found[1]), int(found[2] or 0)) if found else (3, 0)
    kind = "gemma" if name.startswith("gemma") else next((k for k in ("flash-lite", "pro") if k in name), "flash")
    image = "image" in name
    if major >= 3 and kind != "gemma":
        return Model(name, major, kind, _UP, "HIGH", (0, 32768), image=image)
    if (major, minor) == (2, 5) and not image:
        return Model(name, major, kind, budget=(128 if kind == "pro" else 1, 32768), can_rest=kind != "pro")
    return Model(name, major, kind, image=image, output=8192)


def described(model: Model) -> dict[str, Any]:
    """Return a model as the list shows it (docs/protocol.md 1.1)."""
    return {
        "name": f"models/{model.id}",
        "version": "001",
        "displayName": model.id.replace("-", " ").title(),
        "description": "A simulated model.",
        "inputTokenLimit": model.context,
        "outputTokenLimit": model.output,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": model.thinking,
    }


def listed(size: str | None, token: str | None) -> dict[str, Any]:
    """Return one page of the models; 50 a page unless asked otherwise (docs/protocol.md 1.1)."""
    start = int(base64.urlsafe_b64decode(token)) if token else 0
    end = start + min(int(size or 50), 1000)
    models = list(MODELS.values())
    page: dict[str, Any] = {"models": [described(model) for model in models[start:end]]}
    if end < len(models):
        page["nextPageToken"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return page
