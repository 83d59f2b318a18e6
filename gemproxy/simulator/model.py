"""The small deterministic model: what the simulated Gemini says to a lawful request.

In: an ``Ask``. Out: one ``Speech`` per candidate. It echoes, thinks, calls declared functions when it is told to
("call NAME", "call A and B then C", "use the tool"), quotes their results, and fills JSON schemas. Tokens are words.
Must not refuse anything and not know the HTTP around it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gemproxy.simulator.ask import Ask, Part, words
from gemproxy.simulator.frames import Beat, Speech
from gemproxy.simulator.schema import fit
from gemproxy.simulator.signatures import Signer

CALL_TOKENS = 8
_LEVELS = {"MINIMAL": 2, "LOW": 16, "MEDIUM": 32, "HIGH": 64}
_DYNAMIC = 32  # tokens of thought with no budget or -1
_CALLED = "Model generated function call(s)."
_PIECES = (1, 4, 8, 16)  # words per frame; the last for ever
_LEAD = "Café guide: "  # not ASCII: Google's offsets count bytes (docs/protocol.md 1.6)
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f0001050101"
        "2718e3660000000049454e44ae426082"
    )
).decode()


class Gemini:
    """Speaks. Holds the signer and a counter, so that ids and signatures are its own and never repeat."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self._calls = 0

    def speak(self, ask: Ask) -> list[Speech]:
        """Return what each candidate says."""
        count = ask.config.get("candidateCount") or 1
        return [self._one(ask, number) for number in range(count)]

    def _one(self, ask: Ask, number: int) -> Speech:
        if names := planned(ask):
            return self.call(ask, names)
        if ask.model.image and "IMAGE" in [str(each).upper() for each in ask.config.get("responseModalities") or []]:
            return self.picture(ask)
        text = reply(ask) + (f" (take {number + 1})" if number else "")
        return self.say(ask, text)

    # ------------------------------------------------------------------------------------------------ kinds of speech

    def say(self, ask: Ask, text: str, finish: str = "STOP", pieces: list[str] | None = None) -> Speech:
        """Return a text answer, cut where a limit or a stop sequence says so."""
        thoughts, limit = thinking_cost(ask), ask.config.get("maxOutputTokens")
        if limit is not None and thoughts and limit <= thoughts:  # thinking ate it all (docs/protocol.md A.9)
            return Speech([Beat([], thoughts=limit)], "MAX_TOKENS")
        text = _stopped(text, ask.config.get("stopSequences") or [])
        if limit is not None and words(text) > limit - thoughts:
            text, pieces, finish = "".join(_tokens(text)[: limit - thoughts]), None, "MAX_TOKENS"
        beats = [Beat([{"text": piece}], words(piece)) for piece in pieces or _pieces(text)]
        if ask.model.signs:
            beats.append(Beat([{"text": "", "thoughtSignature": self._sign(ask)}]))
        return Speech(_thinking(ask, beats), finish, extra={**_grounding(ask, text), **_logprobs(ask, text)})

    def call(self, ask: Ask, names: list[str]) -> Speech:
        """Return calls of these functions: in one frame, or one frame each if the text says "spread"."""
        parts = [self._call(ask, name, number) for number, name in enumerate(names)]
        if ask.model.thinking:
            parts[0]["thoughtSignature"] = self._sign(ask)
        rows = [[part] for part in parts] if "spread" in ask.last_text() else [parts]
        beats = [Beat(row, CALL_TOKENS * len(row)) for row in rows]
        if ask.model.signs:  # the finish comes in a frame of its own (docs/protocol.md S16)
            beats.append(Beat([{"text": ""}]))
        return Speech(_thinking(ask, beats), "STOP", _CALLED)

    def picture(self, ask: Ask) -> Speech:
        """Return a text and a picture of one pixel."""
        part: Part = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
        if ask.model.signs:
            part["thoughtSignature"] = self._sign(ask)
        return Speech([Beat([{"text": "Here is your picture."}], 4), Beat([part], 258)])

    def _call(self, ask: Ask, name: str, number: int) -> Part:
        declared = next((each for each in ask.declarations if each.get("name") == name), {})
        schema = declared.get("parametersJsonSchema") or declared.get("parameters")
        call: dict[str, Any] = {"name": name, "args": fit(schema, number) if schema else {}}
        self._calls += 1
        if ask.model.signs and ask.upstream != "vertex":  # ids come and go upstream (docs/protocol.md S24)
            call["id"] = f"{self._calls:08x}"
        return {"functionCall": call}

    def _sign(self, ask: Ask) -> str:
        return self.signer.sign(ask.upstream, ask.model.family)


# ------------------------------------------------------------------------------------------------ thinking


def thinking_cost(ask: Ask) -> int:
    """Return how many tokens the model spends on thoughts before it speaks (docs/protocol.md 4.3)."""
    model, config = ask.model, ask.config.get("thinkingConfig") or {}
    if not model.thinking:
        return 0
    budget = config.get("thinkingBudget")
    if budget is not None:
        return _DYNAMIC if budget < 0 else min(budget, _DYNAMIC)
    if model.levels:
        return _LEVELS[config.get("thinkingLevel") or model.default_level]
    return _DYNAMIC if model.thinks else 0


def _thinking(ask: Ask, beats: list[Beat]) -> list[Beat]:
    """Return the beats with what thinking cost; the thoughts themselves only if they were asked for."""
    cost = thinking_cost(ask)
    if not cost:
        return beats
    if not (ask.config.get("thinkingConfig") or {}).get("includeThoughts"):
        beats[0].thoughts = cost
        return beats
    text = f"**Considering the request**\n\nThe user says: {ask.last_text()[:80]}\n\n\n"
    return [Beat([{"text": text, "thought": True}], thoughts=cost), *beats]


# ------------------------------------------------------------------------------------------------ text


def reply(ask: Ask) -> str:
    """Return the whole text of an answer: JSON if that was asked for, the tools' results if there are any."""
    kind = ask.config.get("responseMimeType")
    schema = next(iter(ask.schemas), None)
    if kind == "text/x.enum":
        return str(fit(schema))
    if kind == "application/json":
        return msgspec.json.encode(fit(schema) if schema else {"answer": ask.last_text()}).decode()
    if found := ask.results():
        said = [f"{each.get('name')}: {msgspec.json.encode(each.get('response')).decode()}" for each in found]
        return "The tools answered. " + "; ".join(said)
    lead = _LEAD if "googleSearch" in ask.built_ins else ""
    system = f" I keep to this: {ask.system_text}" if ask.system_text else ""
    return f"{lead}Hello from the simulated Gemini. You said: {ask.last_text()}{_media(ask)}{system}"


def _media(ask: Ask) -> str:
    parts = [part for turn in ask.current()[:1] for part in turn.parts]
    kinds = [(part.get("inlineData") or part.get("fileData") or {}).get("mimeType") for part in parts]
    seen = [kind for kind in kinds if kind]
    return f" I see {', '.join(seen)}." if seen else ""


def _stopped(text: str, stops: list[str]) -> str:
    """Return the text up to the first stop sequence, which is not part of it (docs/protocol.md 1.5)."""
    hits = [found for stop in stops if stop and (found := text.find(stop)) >= 0]
    return text[: min(hits)] if hits else text


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+(?:\s+$)?", text)


def _pieces(text: str) -> list[str]:
    """Return the text as frames carry it: a word first, then more and more."""
    tokens = _tokens(text)
    return ["".join(tokens[start:end]) for start, end in _bounds(len(tokens))] or [text]


def _bounds(total: int) -> Iterator[tuple[int, int]]:
    start = 0
    for number in range(total):
        if start >= total:
            return
        end = start + _PIECES[min(number, len(_PIECES) - 1)]
        yield start, end
        start = end


def _grounding(ask: Ask, text: str) -> dict[str, Any]:
    if "googleSearch" not in ask.built_ins or not text.startswith(_LEAD):
        return {}
    start = len(_LEAD.encode())
    segment = {"startIndex": start, "endIndex": len(text.encode()), "text": text[len(_LEAD) :]}
    web = {"uri": "https://vertexaisearch.cloud.google.com/grounding-api-redirect/sim", "title": "example.com"}
    return {
        "groundingMetadata": {
            "webSearchQueries": [ask.last_text()[:60]],
            "groundingChunks": [{"web": web}],
            "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0]}],
        }
    }


def _logprobs(ask: Ask, text: str) -> dict[str, Any]:
    if not ask.config.get("responseLogprobs"):
        return {}
    tokens = enumerate(_tokens(text))
    chosen = [{"token": token, "tokenId": number, "logProbability": -0.25} for number, token in tokens]
    result: dict[str, Any] = {"chosenCandidates": chosen}
    if ask.config.get("logprobs"):
        result["topCandidates"] = [{"candidates": [token]} for token in chosen]
    return {"avgLogprobs": -0.25, "logprobsResult": result}


# ------------------------------------------------------------------------------------------------ which functions


def planned(ask: Ask) -> list[str]:
    """Return the functions to call now; none: it is time to speak.

    Each "then" in the text begins a further step; a step is over when its results are there.
    """
    names = [str(each.get("name")) for each in ask.declarations]
    allowed = [name for name in names if name in (ask.calling.get("allowedFunctionNames") or names)]
    if ask.mode == "NONE" or not allowed:
        return []
    steps = _steps(ask.last_text(), allowed)
    done = sum(1 for turn in ask.current() if turn.role == "model" and turn.calls())
    if done < len(steps):
        return steps[done]
    return allowed[:1] if ask.mode == "ANY" else []


def _steps(text: str, names: list[str]) -> list[list[str]]:
    if not (found := re.search(r"\b(?:call|use the tools?)\b", text)):
        return []
    if text[found.start() :].startswith("use the tool"):
        return [names[:1]]
    longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    known = re.compile(rf"(?<![\w.:-])(?:{longest_first})(?![\w:-])")
    steps = [known.findall(step) for step in re.split(r"\bthen\b", text[found.end() :])]
    return [step for step in steps if step]
