"""Gemini's token counts, frame by frame -> one ``Usage`` event. Pure.

Counts are cumulative but neither monotonic nor complete: the last value seen of each field counts
(docs/protocol.md S.F).
"""

from __future__ import annotations

from gemproxy.converter.transcript import Usage
from gemproxy.wire.gemini import ModalityCount, UsageMetadata


class UsageCount:
    """The last value of every counter that was present in any frame."""

    __slots__ = ("_cached", "_candidates", "_output", "_prompt", "_prompt_parts", "_thoughts", "_tools", "_total")

    def __init__(self) -> None:
        self._prompt: int | None = None
        self._candidates: int | None = None
        self._thoughts: int | None = None
        self._tools: int | None = None
        self._cached: int | None = None
        self._total: int | None = None
        self._prompt_parts: list[ModalityCount] | None = None
        self._output: list[ModalityCount] | None = None

    def add(self, seen: UsageMetadata) -> None:
        """Take over what this frame counts; fields it lacks keep their last value."""
        if seen.prompt_token_count is not None:
            self._prompt = seen.prompt_token_count
        if seen.candidates_token_count is not None:
            self._candidates = seen.candidates_token_count
        if seen.thoughts_token_count is not None:
            self._thoughts = seen.thoughts_token_count
        if seen.tool_use_prompt_token_count is not None:
            self._tools = seen.tool_use_prompt_token_count
        if seen.cached_content_token_count is not None:
            self._cached = seen.cached_content_token_count
        if seen.total_token_count is not None:
            self._total = seen.total_token_count
        if seen.prompt_tokens_details is not None:
            self._prompt_parts = seen.prompt_tokens_details
        if seen.candidates_tokens_details is not None:
            self._output = seen.candidates_tokens_details

    def total(self) -> Usage:
        """Return OpenAI's view: built-in tools' results are prompt, thoughts completion (docs/protocol.md 4.8)."""
        prompt = (self._prompt or 0) + (self._tools or 0)
        visible, thoughts = self._candidates or 0, self._thoughts or 0
        inclusive = thoughts and self._total is not None and prompt + visible == self._total and visible >= thoughts
        return Usage(
            prompt=prompt,
            completion=visible if inclusive else visible + thoughts,
            reasoning=thoughts,
            cached=self._cached or 0,
            prompt_audio=_audio(self._prompt_parts),
            completion_audio=_audio(self._output),
        )


def _audio(details: list[ModalityCount] | None) -> int:
    tokens = 0
    for count in details or ():
        if count.modality == "AUDIO":
            tokens += count.token_count or 0
    return tokens
