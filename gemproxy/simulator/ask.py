"""One request for generation, read and normalised: what ``law`` judges and ``model`` answers.

In: the camelCase body that ``proto`` returns. Out: the views both need (turns, functions, the last words). Must not
judge.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gemproxy.simulator.catalogue import Model

Part = dict[str, Any]
Content = dict[str, Any]


class Turn(Struct):
    """Consecutive contents of one role; ``first`` is the index of the first of them."""

    role: str
    first: int
    parts: list[Part]

    def calls(self) -> list[Part]:
        """Return the parts that call a function."""
        return [part for part in self.parts if "functionCall" in part]

    def results(self) -> list[Part]:
        """Return the parts that answer a call."""
        return [part for part in self.parts if "functionResponse" in part]

    @property
    def speaks(self) -> bool:
        """Whether there is more than results in it: such a user turn begins the current turn (docs/protocol.md 6.1)."""
        return any("functionResponse" not in part for part in self.parts)


class Ask(Struct):
    """Who is asked (``upstream``), how (``method``), which model under which name, and the body."""

    upstream: str
    method: str
    name: str
    model: Model
    body: dict[str, Any]
    prefix: str = ""

    @property
    def contents(self) -> list[Content]:
        """The conversation; a missing role is the user's."""
        return self.body.get("contents") or []

    @property
    def config(self) -> dict[str, Any]:
        """The ``generationConfig``."""
        return self.body.get("generationConfig") or {}

    @property
    def schemas(self) -> list[Any]:
        """The schemas given for the answer; a lawful request has one at most."""
        keys = ("responseJsonSchema", "_responseJsonSchema", "responseSchema")
        return [found for key in keys if (found := self.config.get(key)) is not None]

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tool objects as given."""
        return self.body.get("tools") or []

    @property
    def declarations(self) -> list[dict[str, Any]]:
        """All function declarations in order."""
        return [found for tool in self.tools for found in tool.get("functionDeclarations") or []]

    @property
    def built_ins(self) -> list[str]:
        """The names of the built-in tools that are switched on."""
        return [name for tool in self.tools for name in tool if name != "functionDeclarations"]

    @property
    def calling(self) -> dict[str, Any]:
        """The ``functionCallingConfig``."""
        return (self.body.get("toolConfig") or {}).get("functionCallingConfig") or {}

    @property
    def mode(self) -> str:
        """The function calling mode; AUTO when it is not said."""
        mode: str = self.calling.get("mode") or "AUTO"
        return "AUTO" if mode == "MODE_UNSPECIFIED" else mode

    def turns(self) -> list[Turn]:
        """Return the contents with neighbours of one role put together (docs/protocol.md 0.0 item 5)."""
        turns: list[Turn] = []
        for number, content in enumerate(self.contents):
            role = "model" if content.get("role") == "model" else "user"
            if not turns or turns[-1].role != role:
                turns.append(Turn(role, number, []))
            turns[-1].parts.extend(content.get("parts") or [])
        return turns

    def current(self) -> list[Turn]:
        """Return the current turn: from the last user turn that says something to the end."""
        turns = self.turns()
        starts = [number for number, turn in enumerate(turns) if turn.role == "user" and turn.speaks]
        return turns[starts[-1] :] if starts else turns

    def last_text(self) -> str:
        """Return the text with which the current turn begins."""
        return texts(self.current()[0].parts) if self.contents else ""

    def results(self) -> list[dict[str, Any]]:
        """Return the function responses since the last words of the user, in order."""
        return [part["functionResponse"] for turn in self.current()[1:] for part in turn.results()]

    @property
    def system_text(self) -> str:
        """The text of the system instruction."""
        return texts((self.body.get("systemInstruction") or {}).get("parts") or [])

    def prompt_tokens(self) -> int:
        """Return the size of the prompt; a word is a token, a piece of media is 258 (docs/protocol.md 1.3)."""
        parts = [part for content in self.contents for part in content.get("parts") or []]
        return words(self.system_text) + sum(_weight(part) for part in parts) + 8 * len(self.declarations)


def texts(parts: list[Part]) -> str:
    """Return the visible texts of some parts, joined as they stand."""
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def words(text: str) -> int:
    """Return the number of tokens of a text: its words."""
    return len(text.split())


def _weight(part: Part) -> int:
    if "inlineData" in part or "fileData" in part:
        return 258
    if "functionCall" in part or "functionResponse" in part:
        return 8
    return words(part.get("text", ""))
