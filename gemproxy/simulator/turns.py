"""What Google refuses in the order of a conversation: calls, their results, and thought signatures.

In: an ``Ask`` and the signer whose signatures count (None: any). Out: nothing, or a ``Refusal``.
Sources: docs/protocol.md 1.4, 3.2, 4.4, 6.1-6.3 and 0.0 (items 3 to 6). Flash from 3.6 and Flash-Lite from 3.5 on
refuse to go on with their own words (Vali-98/ChatterUI#620, anomalyco/opencode#47034).
"""

from __future__ import annotations

from itertools import pairwise

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.ask import Ask, Part, Turn
from gemproxy.simulator.signatures import Signer, dummy

_DOCS = "Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
_VERTEX_DOCS = "Learn more: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures"
_AFTER_CALL = "Please ensure that function response turn comes immediately after a function call turn."
_AFTER_USER = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
)
_NUMBER = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)


def judge(ask: Ask, signer: Signer | None) -> None:
    """Raise ``Refusal`` for the first turn that is out of order or lacks its signature."""
    turns = ask.turns()
    if turns[0].role == "model" and turns[0].calls():
        raise errors.invalid(_AFTER_USER)
    if turns[0].results():
        raise errors.invalid(_AFTER_CALL)
    for before, turn in pairwise(turns):
        _pair(ask, before, turn)
    if turns[-1].role == "model" and not ask.model.prefill:
        raise errors.invalid("Requests ending with a model turn are not supported.")
    if ask.model.signs:
        _mandatory(ask)
    if signer is not None and ask.model.thinking:
        _genuine(ask, signer)


def _pair(ask: Ask, before: Turn, turn: Turn) -> None:
    """Judge a user turn by the model turn before it."""
    if turn.role == "model":
        return
    calls, results = before.calls()[len(before.results()) :], turn.results()  # servers' tools answer in place
    if results and not calls:
        raise errors.invalid(_AFTER_CALL)
    if not results and ask.upstream == "vertex" and ask.model.major < 3:
        return  # recorded: a call that nobody answered is passed over
    if len(results) != len(calls):
        raise errors.invalid(_NUMBER)
    if ask.model.major >= 3:
        _ids(calls, results)


def _ids(calls: list[Part], results: list[Part]) -> None:
    """Only ids on both sides that differ are refused (docs/protocol.md 0.0 item 4)."""
    asked = [part["functionCall"].get("id") for part in calls]
    given = [found for part in results if (found := part["functionResponse"].get("id"))]
    if all(asked) and (not set(given) <= set(asked) or len(set(given)) < len(given)):
        raise errors.invalid("functionResponse.id does not match functionCall.id")


# ------------------------------------------------------------------------------------------------ signatures


def _mandatory(ask: Ask) -> None:
    """The first call of each step of the current turn must carry one (docs/protocol.md 6.1)."""
    for turn in ask.current():
        if turn.role == "model" and (calls := turn.calls()) and not calls[0].get("thoughtSignature"):
            raise errors.invalid(_missing(ask, calls[0]["functionCall"].get("name", ""), turn.first + 1))
    if not ask.model.image:
        return
    for number, content in enumerate(ask.contents):
        for index, part in enumerate(content["parts"]):
            if content.get("role") == "model" and "inlineData" in part and not part.get("thoughtSignature"):
                raise errors.invalid(
                    f"Image part is missing a thought_signature in content position {number + 1}, part position "
                    f"{index + 1}. {_DOCS}"
                )


def _missing(ask: Ask, name: str, position: int) -> str:
    if ask.upstream == "vertex":
        return (
            f"Unable to submit request because function call `default_api:{name}` in the {position}. content block is "
            f"missing a `thought_signature`. {_VERTEX_DOCS}"
        )
    return (
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
        "correctly, and missing thought_signature may lead to degraded model performance. Additional data, function "
        f"call `default_api:{name}` , position {position}. {_DOCS}"
    )


def _genuine(ask: Ask, signer: Signer) -> None:
    for content in ask.contents:
        for part in content["parts"]:
            signature = part.get("thoughtSignature")
            if not signature or dummy(signature, ask.upstream):
                continue
            if not signer.genuine(signature, ask.upstream, ask.model.family):
                raise errors.invalid("Corrupted thought signature.")
