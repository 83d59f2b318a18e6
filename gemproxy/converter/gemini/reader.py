"""Gemini's frames -> events: the one mapping that streams and unary answers share. Pure.

Takes decoded frames in order, gives the events each of them says; ``finish`` says how the answer ended, or raises when
it did not end. Knows nothing of bytes, HTTP or OpenAI's format; ids are made by the function passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

import msgspec
from msgspec import Raw

from gemproxy.converter.events import (
    Event,
    Finish,
    Image,
    Logprobs,
    Meta,
    Refusal,
    Text,
    Thought,
    TokenLogprob,
    ToolCall,
    TopToken,
)
from gemproxy.converter.gemini.grounding import MOST_METADATA, annotate
from gemproxy.converter.gemini.partial_call import PartialCall
from gemproxy.converter.gemini.usage import UsageCount
from gemproxy.converter.transcript import Usage
from gemproxy.errors import BadAnswer, UpstreamFault
from gemproxy.redaction import for_client
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import (
    Candidate,
    ChosenToken,
    FunctionCall,
    GenerateResponse,
    LogprobsResult,
    Part,
)
from gemproxy.wire.text import plain

MAX_CANDIDATES = 8  # of one answer (docs/protocol.md 1.6)
_LENGTH_REASONS = frozenset({"MAX_TOKENS", "CONTINUATION"})
_BLOCKED_REASONS = frozenset(
    (
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "ESCALATION",
        "MODEL_ARMOR",
        "PUP_LIMITED_DISABLED",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_OTHER",
        "NO_IMAGE",
        "IMAGE_RECITATION",
    )
)
_MALFORMED_REASONS = frozenset(
    (
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    )
)
_LONGEST_WORD = 64  # characters of a finish reason or a version: an upstream may invent some
# the model's own name space, which leaks into calls (docs/protocol.md 4.4 rule 12); both of one length
_PREFIXES = ("default_api:", "default_api.")

# What no honest answer reaches: an upstream must not fill our memory with an answer that says little.
_MOST_EVENTS = 1 << 16  # of one frame; each becomes a chunk of some hundred bytes
_MOST_CALLS_AND_MEDIA = 10_000  # calls and media of one answer
_MOST_KEPT_BYTES = 1 << 24  # bytes of what has to be kept until its end: the longest answer of any model has a fortieth
_PIECE_OVERHEAD = 64  # bytes that keeping a piece costs beyond its own
_LONGEST_ID = 256  # characters


class _Choice:
    """What one candidate has said so far."""

    __slots__ = ("called", "early", "grounding", "message", "partial", "reason", "said", "texts")

    def __init__(self) -> None:
        self.said = False  # any event that a reader sees
        self.early: list[Event] = []  # signatures and the like that came before: alone they say nothing
        self.called = False
        self.reason: str | None = None
        self.message: str | None = None
        self.texts: list[str] = []  # for the offsets of annotations
        self.grounding: Raw | None = None
        self.partial: PartialCall | None = None


class AnswerReader:
    """Reads one answer. ``new_id`` makes a call id; ``names`` maps sanitised tool names back to the client's;
    ``taken`` holds the call ids of the conversation so far, which a new call must not repeat; ``declared`` the client's
    names of its tools. ``grounded``: sources may come, whose places are counted in the whole text; otherwise what was
    said is not kept. ``alone``: the client has room for one candidate, the first; of others nothing is told. ``kept``
    counts the bytes of memory that wait here for the rest of the answer.
    """

    def __init__(
        self,
        new_id: Callable[[], str],
        names: Mapping[str, str] | None = None,
        taken: Container[str] = (),
        *,
        declared: frozenset[str] = frozenset(),
        grounded: bool = True,
        alone: bool = False,
    ) -> None:
        self._new_id = new_id
        self._names = names or {}
        self._taken = taken
        self._declared = declared
        self._given: set[str] = set()
        self._choices: dict[int, _Choice] = {}
        self._usage = UsageCount()
        self._version: str | None = None
        self._blocked: str | None = None
        self._grounded = grounded
        self._alone = alone
        self._made = 0
        self.kept = 0

    def read(self, frame: GenerateResponse) -> list[Event]:
        """Return what this frame says, in order."""
        events: list[Event] = []
        if self._version is None and frame.model_version:
            self._version = frame.model_version[:_LONGEST_WORD]  # it stands in every chunk
            events.append(Meta(self._version))
        if frame.usage_metadata is not None:
            self._usage.add(frame.usage_metadata)
        if frame.prompt_feedback is not None and frame.prompt_feedback.block_reason:
            self._blocked = frame.prompt_feedback.block_reason_message or frame.prompt_feedback.block_reason
        for candidate in frame.candidates or ():
            self._candidate(candidate, events)
            if len(events) > _MOST_EVENTS or self.kept > _MOST_KEPT_BYTES:
                raise UpstreamFault("The upstream's answer is larger than that of any model.")
        return events

    def finish(self, whole: bool) -> list[Event]:
        """Return how the answer ends: annotations, one ``Finish`` a choice, then ``Usage``.

        ``whole``: the body is known to be complete (bare JSON), so a missing finish reason is proto3's left-out
        default and not a cut. Raises ``BadAnswer`` when there is nothing usable, ``UpstreamFault`` when it was cut.
        """
        events: list[Event] = []
        if self._blocked is not None and not any(choice.said for choice in self._choices.values()):
            events += [Refusal(0, _blocked_prompt(self._blocked)), Finish(0, "content_filter")]
        elif not self._choices:
            raise BadAnswer("The model gave no answer (no candidates).")
        else:
            for index, choice in sorted(self._choices.items()):
                events += self._end(index, choice, whole)
        events.append(self._usage.total())
        return events

    def usage(self) -> Usage:
        """Return the counts so far; they are known also for an answer that does not end well."""
        return self._usage.total()

    # ------------------------------------------------------------------------------------------------- one frame

    def _candidate(self, candidate: Candidate, events: list[Event]) -> None:
        index = candidate.index or 0
        choice = self._choices.get(index)
        if choice is None:
            if self._alone and self._choices:
                return
            choice = self._new_choice(index)
        # STOP may repeat (docs/protocol.md S19), also behind a reason that says more
        if candidate.finish_reason is not None and (choice.reason is None or candidate.finish_reason != "STOP"):
            choice.reason = candidate.finish_reason
            choice.message = candidate.finish_message
        if candidate.grounding_metadata and self._grounded:
            _ground(choice, candidate.grounding_metadata)
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                text = part.text
                if text and not part.thought and part.thought_signature is None:
                    # nine parts of ten: told here, which saves two calls a frame
                    if not choice.said:
                        _speak(choice, events)
                    if self._grounded:
                        self.kept += len(text) + _PIECE_OVERHEAD
                        choice.texts.append(plain(text))
                    events.append(Text(index, text))  # type: ignore[arg-type]  # ``Raw`` for whoever asked for it
                else:
                    self._part(index, choice, part, events)
        if candidate.logprobs_result is not None:
            self._logprobs(index, choice, candidate.logprobs_result, events)

    def _new_choice(self, index: int) -> _Choice:
        if len(self._choices) == MAX_CANDIDATES:
            raise UpstreamFault(f"The upstream sent more than the {MAX_CANDIDATES} candidates that can be asked for.")
        choice = self._choices[index] = _Choice()
        return choice

    def _part(self, index: int, choice: _Choice, part: Part, events: list[Event]) -> None:
        if part.text is not None:
            self._text(index, choice, part.text, part, events)
        elif part.executable_code is not None:
            code = part.executable_code
            self._text(index, choice, f"```{code.language.lower()}\n{code.code.rstrip()}\n```\n", part, events)
        elif part.code_execution_result is not None:
            output = part.code_execution_result.output.rstrip()
            self._text(index, choice, f"```output\n{output}\n```\n", part, events)
        elif part.thought:
            return  # a draft: neither a picture nor a call of the answer, and OpenAI has no place for it
        elif part.function_call is not None:
            self._call(index, choice, part.function_call, part.thought_signature, events)
        elif part.inline_data is not None and part.inline_data.data:
            self._make(choice, events)
            events.append(Image(index, part.inline_data.mime_type, part.inline_data.data, part.thought_signature))
        # toolCall, toolResponse and functionResponse are the server's own traffic: OpenAI has no place for it

    def _call(
        self, index: int, choice: _Choice, call: FunctionCall, signature: str | None, events: list[Event]
    ) -> None:
        if choice.reason == "UNEXPECTED_TOOL_CALL":
            return  # a call to what was never declared is no call (docs/protocol.md S23); ``finish`` tells of it
        if choice.partial is not None or call.partial_args is not None or call.will_continue:
            self._partial(index, choice, call, signature, events)
            return
        self._emit_call(index, choice, call.name, call.id, _arguments(call), signature, events)

    def _partial(
        self, index: int, choice: _Choice, call: FunctionCall, signature: str | None, events: list[Event]
    ) -> None:
        partial = choice.partial
        if partial is None or call.name:
            partial = choice.partial = PartialCall(call.name, call.id, signature)
        for piece in call.partial_args or ():
            self.kept += len(piece.string_value or "") + _PIECE_OVERHEAD
        partial.add(call.partial_args or [])
        if not call.will_continue:
            choice.partial = None
            self._emit_call(index, choice, partial.name, partial.id, partial.arguments(), partial.signature, events)

    def _emit_call(
        self,
        index: int,
        choice: _Choice,
        name: str,
        call_id: str | None,
        arguments: str,
        signature: str | None,
        events: list[Event],
    ) -> None:
        self._make(choice, events)
        choice.called = True
        events.append(ToolCall(index, self._unique(call_id), self._client_name(name), arguments, signature))

    def _make(self, choice: _Choice, events: list[Event]) -> None:
        """Get ready for a call or a medium."""
        _speak(choice, events)
        self._made += 1
        if self._made > _MOST_CALLS_AND_MEDIA:
            raise UpstreamFault(f"The upstream's answer holds more than {_MOST_CALLS_AND_MEDIA} calls and media.")

    def _text(self, index: int, choice: _Choice, text: str | Raw, part: Part, events: list[Event]) -> None:
        if part.thought:
            if text:
                _speak(choice, events)
                events.append(Thought(index, text))  # type: ignore[arg-type]
        elif text:
            _speak(choice, events)
            if self._grounded:
                self.kept += len(text) + _PIECE_OVERHEAD
                choice.texts.append(plain(text))
            events.append(Text(index, text, part.thought_signature))  # type: ignore[arg-type]
        elif part.thought_signature is not None:
            signed = Text(index, "", part.thought_signature)
            self._silent(choice, signed, len(part.thought_signature), events)

    def _logprobs(self, index: int, choice: _Choice, result: LogprobsResult, events: list[Event]) -> None:
        top = result.top_candidates or []
        tokens = [
            _token(chosen, top[place].candidates or [] if place < len(top) else [])
            for place, chosen in enumerate(result.chosen_candidates or [])
        ]
        if tokens:
            size = _PIECE_OVERHEAD * sum(1 + len(token.top) for token in tokens)
            self._silent(choice, Logprobs(index, tuple(tokens)), size, events)

    def _silent(self, choice: _Choice, event: Event, size: int, events: list[Event]) -> None:
        """Tell what no reader sees: not before what one sees, since an attempt that says nothing else is repeated."""
        if choice.said:
            events.append(event)
        else:
            self.kept += size + _PIECE_OVERHEAD
            choice.early.append(event)

    def _unique(self, call_id: str | None) -> str:
        if call_id is not None and len(call_id) > _LONGEST_ID:
            call_id = None
        while not call_id or call_id in self._given or call_id in self._taken:
            call_id = self._new_id()
        self._given.add(call_id)
        return call_id

    def _client_name(self, name: str) -> str:
        if name in self._names or name in self._declared or not name.startswith(_PREFIXES):
            return self._names.get(name, name)
        bare = name[len(_PREFIXES[0]) :]
        bare = self._names.get(bare, bare)
        return bare if bare in self._declared or not self._declared else name

    # --------------------------------------------------------------------------------------------------- the end

    def _end(self, index: int, choice: _Choice, whole: bool) -> list[Event]:
        if choice.partial is not None or (choice.reason is None and not whole and self._blocked is None):
            raise UpstreamFault("The upstream closed the stream before the answer was complete.")
        reason = choice.reason or ""
        events = choice.early
        if choice.grounding is not None:
            events += annotate(index, choice.grounding, "".join(choice.texts))
        if reason in _MALFORMED_REASONS:
            raise BadAnswer(_malformed(reason, choice.message))
        if reason in _BLOCKED_REASONS or self._blocked is not None:
            if not choice.said:
                events.append(Refusal(index, _blocked_answer(self._blocked or reason, choice.message)))
            events.append(Finish(index, "content_filter"))
        elif reason in _LENGTH_REASONS:
            events.append(Finish(index, "length"))
        elif choice.said:
            events.append(Finish(index, "tool_calls" if choice.called else "stop"))
        else:
            told = for_client(reason, _LONGEST_WORD) or "none"
            raise BadAnswer(f"The model gave an empty answer (finish reason {told}).")
        return events


def _speak(choice: _Choice, events: list[Event]) -> None:
    """Get ready for something that a reader sees: what came early goes first."""
    if not choice.said:
        choice.said = True
        events += choice.early
        choice.early = []


def _ground(choice: _Choice, metadata: Raw) -> None:
    if len(metadata) <= MOST_METADATA and bytes(metadata) != b"null":
        choice.grounding = metadata.copy()  # as it is, it would keep all of its frame


def _arguments(call: FunctionCall) -> str:
    args = bytes(call.args)
    if not args or args == b"null":
        return "{}"
    try:
        return msgspec.json.format(args, indent=-1).decode()  # one line, numbers and key order untouched
    except UNREADABLE:
        raise UpstreamFault("The upstream sent a tool call whose arguments are not JSON.") from None


def _token(chosen: ChosenToken, top: list[ChosenToken]) -> TokenLogprob:
    ranked = tuple(TopToken(token.token, token.log_probability or 0.0) for token in top)
    return TokenLogprob(chosen.token, chosen.log_probability or 0.0, ranked)


def _blocked_prompt(reason: str) -> str:
    return f"The prompt was blocked by the upstream's content filter: {for_client(reason)}."


def _blocked_answer(reason: str, message: str | None) -> str:
    return f"The answer was blocked by the upstream's content filter: {for_client(message or reason)}."


def _malformed(reason: str, message: str | None) -> str:
    return f"The model's answer cannot be used ({reason}{': ' + for_client(message) if message else ''})."
