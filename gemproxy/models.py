"""Which models there are, and what each can do.

In: a model name as a client writes it. Out: a ``Model`` (its capabilities), and for a wish on reasoning a ``Depth``
(a thinking budget or a thinking level). Must not: know a credential, an upstream's address or a request.
Facts: docs/protocol.md 4.3 and 8; unknown ``gemini-*`` and ``gemma-*`` ids get defaults from their name (8.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from gemproxy.errors import ClientFault

DYNAMIC = -1  # Google's word for "the model decides how long it thinks"
MAX_NAME = 128  # characters of a name that is passed on unknown: it is kept in caches and written into logs
# A name becomes a part of a URL: what could lead elsewhere in it (dots alone between slashes, a query) is no name.
_PART = r"[A-Za-z0-9_:@-][A-Za-z0-9._:@-]*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_PREFIXES = re.compile(r"(?:(?:models|google|gemini)/)+")  # Google's own, and how other software says whose it is
FIRST_DAY = 1_702_425_600  # 2023-12-13, when the Gemini API opened: no model is older

# --------------------------------------------------------------------------------------------------- what one can do


class Budget(Struct, frozen=True):
    """Thinking counted in tokens, 2.5 models (docs/protocol.md 4.3.2). ``default`` is DYNAMIC or 0 (off)."""

    least: int
    most: int
    can_disable: bool
    default: int = DYNAMIC


class Levels(Struct, frozen=True):
    """Thinking by level, models from 3 on (docs/protocol.md 4.3.1); ``values`` from least to most."""

    values: tuple[str, ...]
    default: str


class Model(Struct, frozen=True):
    """The capability record of one model (docs/protocol.md 8.5). Limits in tokens, ``created`` in Unix seconds.

    ``modern``: all that came with Gemini 3. Functions beside JSON answers and built-in tools, call ids, signatures that
    must come back, resolutions of single parts, media in a functionResponse (docs/protocol.md 1.4, 4.4 rule 8, 6.1).
    ``prefill``: a conversation may end with the model's own words, as far as is known.
    ``wire_name_code_assist`` is "" where Code Assist knows the model by its own id; ``shutdown_date`` is ISO 8601.
    """

    id: str
    family: str = "gemini"
    kind: str = ""  # "pro" "flash" "flash-lite" "image" "tts" or ""
    major: int = 3
    minor: int = 0
    created: int = FIRST_DAY
    out_limit: int = 65_536
    thinking: Budget | Levels | None = None
    sampling: bool = True
    logprobs: bool = False
    candidates: bool = False
    modern: bool = True
    image_output: bool = False
    vision: bool = True
    system_instruction: bool = True
    prefill: bool = True
    wire_name_code_assist: str = ""
    shutdown_date: str | None = None

    @property
    def thinks(self) -> bool:
        """True if the model thinks when nothing is said about it."""
        thinking = self.thinking
        return isinstance(thinking, Levels) or (thinking is not None and thinking.default != 0)


# ------------------------------------------------------------------------------------------- defaults from the name

_VERSIONED = re.compile(r"(?P<family>gemini|gemma)-(?P<major>\d+)(?:\.(?P<minor>\d+))?(?=-|$)")
_BUDGETS = {
    "pro": Budget(128, 32_768, can_disable=False),
    "flash": Budget(1, 24_576, can_disable=True),
    "flash-lite": Budget(512, 24_576, can_disable=True, default=0),
}
_LOW_UP = ("low", "medium", "high")
LEVELS = ("minimal", *_LOW_UP)


def _kind(name: str) -> str:
    if "image" in name or "nano-banana" in name:
        return "image"
    return next((kind for kind in ("tts", "flash-lite", "flash", "pro") if kind in name), "")


def _samples(version: tuple[int, int], kind: str) -> bool:
    # from 3.6 Flash and 3.5 Flash-Lite on temperature, topP and topK are ignored (docs/protocol.md 1.5)
    return version < (3, 6) and not (kind == "flash-lite" and version >= (3, 5))


def _prefills(version: tuple[int, int], kind: str) -> bool:
    # "Requests ending with a model turn are not supported." from 3.6 Flash and 3.5 Flash-Lite on
    return not (kind == "flash" and version >= (3, 6)) and not (kind == "flash-lite" and version >= (3, 5))


def _thinking(family: str, version: tuple[int, int], kind: str) -> Budget | Levels | None:
    if family != "gemini" or kind in ("image", "tts"):
        return None
    if version == (2, 5):
        return _BUDGETS.get(kind)
    return Levels(_LOW_UP, "medium") if version >= (3, 0) else None


def _from_name(name: str) -> Model:
    found = _VERSIONED.match(name)
    kind = _kind(name)
    family = "gemma" if name.startswith("gemma-") else "gemini"
    if found is None:
        # no version: taken for a current model, of whose thinking nothing is known, so nothing is sent about it
        return Model(name, family, kind, image_output=kind == "image")
    version = (int(found["major"]), int(found["minor"] or 0))
    modern = family == "gemini" and version >= (3, 0)
    return Model(
        name,
        family=family,
        kind=kind,
        major=version[0],
        minor=version[1],
        out_limit=65_536 if family == "gemini" and version >= (2, 5) else 8_192 if version < (4, 0) else 32_768,
        thinking=_thinking(family, version, kind),
        sampling=family == "gemma" or _samples(version, kind),
        candidates=family == "gemini" and not modern and kind not in ("image", "tts"),
        modern=modern,
        image_output=kind == "image",
        vision=kind != "tts",
        # "Developer instruction is not enabled" for Gemma before 4, speech, first image models (docs/protocol.md 9)
        system_instruction=kind != "tts"
        and version >= ((4, 0) if family == "gemma" else (1, 5))
        and not (kind == "image" and version < (2, 5)),
        prefill=family == "gemma" or _prefills(version, kind),
    )


# --------------------------------------------------------------------------------------------- the shipped catalogue


def _entry(name: str, created: int, **known: object) -> Model:
    return replace(_from_name(name), created=created, **known)


SHIPPED: tuple[Model, ...] = (
    _entry("gemini-2.5-pro", 1_750_118_400, shutdown_date="2026-12-01"),
    _entry("gemini-2.5-flash", 1_750_118_400, shutdown_date="2026-12-01"),
    _entry("gemini-2.0-flash-exp", 1_733_875_200, shutdown_date="2026-06-01"),
    _entry("gemini-1.5-pro", 1_715_644_800, shutdown_date="2025-09-29"),
    _entry("gemini-1.5-flash", 1_715_644_800, shutdown_date="2025-09-29"),
    _entry("gemini-2.5-flash-lite", 1_753_142_400),
    _entry("gemini-4-argon", 1_790_726_400),
    _entry("gemini-3.8-flash", 1_788_307_200),
    _entry("gemini-3.7-flash", 1_786_579_200),
    _entry("gemini-3.6-flash", 1_784_592_000, thinking=Levels(LEVELS, "medium")),
    _entry(
        "gemini-3.5-flash",
        1_779_148_800,
        thinking=Levels(LEVELS, "medium"),
        wire_name_code_assist="gemini-3-flash",
    ),
    _entry("gemini-3.5-flash-lite", 1_784_592_000, thinking=Levels(LEVELS, "minimal")),
    _entry("gemini-3.1-pro-preview", 1_771_459_200, thinking=Levels(_LOW_UP, "high")),
    _entry("gemini-3.1-pro-preview-customtools", 1_771_459_200, thinking=Levels(_LOW_UP, "high")),
    _entry(
        "gemini-3.1-flash-lite",
        1_778_112_000,
        thinking=Levels(LEVELS, "minimal"),
        shutdown_date="2027-05-07",
    ),
    _entry("gemini-3-flash-preview", 1_765_929_600, thinking=Levels(LEVELS, "high")),
    _entry("gemini-2.5-flash-image", 1_759_363_200, out_limit=32_768),
    _entry("gemini-3-pro-image", 1_779_926_400, out_limit=32_768),
    _entry("gemini-3.1-flash-image", 1_779_926_400, out_limit=32_768),
    _entry(
        "gemini-3.1-flash-lite-image",
        1_779_926_400,
        out_limit=4_096,
        thinking=Levels(("minimal", "high"), "minimal"),
    ),
    _entry("gemini-nano-banana-2.1", 1_779_926_400, out_limit=32_768),
    _entry("gemma-4-31b-it", 1_775_088_000),
    _entry("gemma-4-26b-a4b-it", 1_775_088_000),
    # these follow the newest model of their kind, so they get what all of the current ones understand
    _entry("gemini-pro-latest", FIRST_DAY, thinking=Levels(_LOW_UP, "high")),
    _entry("gemini-flash-latest", FIRST_DAY, thinking=Levels(_LOW_UP, "medium"), sampling=False, prefill=False),
    _entry("gemini-flash-lite-latest", FIRST_DAY, thinking=Levels(LEVELS, "minimal"), sampling=False, prefill=False),
)
_KNOWN = {model.id: model for model in SHIPPED}


@lru_cache(maxsize=256)
def capabilities(model_id: str) -> Model:
    """Return what is known of a model id: the shipped entry, else what its name tells. Never fails."""
    return _KNOWN.get(model_id) or _from_name(model_id)


class Catalogue:
    """The models that are offered: shipped, configured and discovered ones, and the aliases for them.

    ``extra`` holds configured ids, or whole ``Model`` records where the operator knows better; ``aliases`` maps a name
    to an id and is looked up first. One that holds ``*`` stands for every name that fits it and is neither listed nor
    another alias; of several the longest counts.
    """

    def __init__(
        self,
        entries: Iterable[Model] = SHIPPED,
        aliases: Mapping[str, str] | None = None,
        extra: Iterable[str | Model] = (),
    ) -> None:
        named = (aliases or {}).items()
        targets = {name.removeprefix("models/"): bare(target) for name, target in named}
        self.aliases = {name: target for name, target in targets.items() if "*" not in name}
        patterns = sorted((name for name in targets if "*" in name), key=len, reverse=True)
        self._patterns = [(pattern.split("*"), targets[pattern]) for pattern in patterns]
        self._entries: dict[str, Model] = {model.id: model for model in entries}
        for item in extra:
            model = capabilities(bare(item)) if isinstance(item, str) else item
            self._entries[model.id] = model

    def lookup(self, name: str) -> Model:
        """Return the model that a client means; raises ``ClientFault`` (404) for names of other makers."""
        found = self._entries.get(self.aliases.get(name, name))  # as nearly everybody writes it
        if found is not None:
            return found
        target = self.meant(name)
        if target in self._entries:
            return self._entries[target]
        passes = target.startswith(("gemini-", "gemma-")) and len(target) <= MAX_NAME and is_name(target)
        if passes or target != bare(name) or name in self.aliases:  # an alias is the operator's word
            return capabilities(target)
        shown = repr(name) if len(name) <= 80 else "named"
        raise ClientFault(
            f"The model {shown} does not exist here; GET /v1/models lists the known ones. "
            "The settings models.extra and models.aliases add more.",
            param="model",
            code="model_not_found",
            status=404,
        )

    def meant(self, name: str) -> str:
        """Return the id that a name stands for, whether there is such a model or not."""
        target = self.aliases.get(name)
        if target is None:
            name = bare(name)
            target = self.aliases.get(name)
        return target or (self._by_pattern(name) if self._patterns and name not in self._entries else name)

    def _by_pattern(self, name: str) -> str:
        return next((target for pieces, target in self._patterns if _fits(name, pieces)), name)

    def __contains__(self, model_id: str) -> bool:
        """Return whether an id is listed: unknown ones pass through, but are not."""
        return model_id in self._entries

    def listed(self) -> list[Model]:
        """Return every model that is offered by its own id, in the order in which it became known."""
        return list(self._entries.values())

    def add_discovered(self, ids: Iterable[str]) -> None:
        """Add ids that Google's own list names; what is known already stays as it is."""
        for name in map(bare, ids):
            self._entries.setdefault(name, capabilities(name))


def _fits(name: str, pieces: Sequence[str]) -> bool:
    """Return whether a name begins and ends with the first and last piece, and holds the others in between, in order.

    No regular expression: one with some stars would look at a long name for minutes.
    """
    if len(name) > MAX_NAME:
        return False
    first, *between, last = pieces
    place, end = len(first), len(name) - len(last)
    if place > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for piece in between:
        place = name.find(piece, place, end)
        if place < 0:
            return False
        place += len(piece)
    return True


def bare(name: str) -> str:
    """Return a name without what other software writes before it: ``models/``, ``google/``, ``gemini/``."""
    found = _PREFIXES.match(name) if "/" in name else None
    return name if found is None else name[found.end() :]


def is_name(text: str) -> bool:
    """Return whether this can be the name of a model at Google: it becomes a part of a URL."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def retired(model: Model, today: str) -> bool:
    """Return whether a model is past its shutdown date; ``today`` is ISO 8601."""
    return model.shutdown_date is not None and model.shutdown_date <= today


# ------------------------------------------------------------------------------------------ how hard a model thinks


class Depth(Struct, frozen=True):
    """How hard to think: ``budget`` in tokens, or a ``level`` as Google writes it; both None: say nothing."""

    budget: int | None = None
    level: str | None = None


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SILENT = Depth()
_BUDGET_OF_EFFORT = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
_LEVEL_OF_EFFORT = {"none": "minimal", "xhigh": "high", "max": "high"}


def depth_of_effort(model: Model, effort: str) -> Depth:
    """Return what ``reasoning_effort`` (one of ``EFFORTS``) means for a model (docs/protocol.md 4.3.3)."""
    if isinstance(model.thinking, Budget):
        return _budget(model.thinking, _BUDGET_OF_EFFORT.get(effort, model.thinking.most))
    return depth_of_level(model, _LEVEL_OF_EFFORT.get(effort, effort))


def depth_of_budget(model: Model, tokens: int) -> Depth:
    """Return what a thinking budget means; for a model with levels by the thresholds of docs/protocol.md 4.3.3."""
    if isinstance(model.thinking, Budget):
        return _budget(model.thinking, tokens)
    if tokens == DYNAMIC:
        return _SILENT
    steps = ((512, "minimal"), (1_024, "low"), (8_192, "medium"))
    return depth_of_level(model, next((level for most, level in steps if tokens <= most), "high"))


def depth_of_level(model: Model, level: str) -> Depth:
    """Return what one of ``LEVELS`` means; a model that lacks it gets the nearest that it has, the higher of two."""
    thinking = model.thinking
    if thinking is None:
        return _SILENT
    if isinstance(thinking, Budget):
        return _budget(thinking, _BUDGET_OF_EFFORT[level])
    wanted = LEVELS.index(level)
    nearest = min(reversed(thinking.values), key=lambda value: abs(LEVELS.index(value) - wanted))
    return Depth(level=nearest.upper())


def _budget(thinking: Budget, tokens: int) -> Depth:
    if tokens == DYNAMIC or (tokens == 0 and thinking.can_disable):
        return Depth(budget=tokens)
    return Depth(budget=min(max(tokens, thinking.least), thinking.most))
