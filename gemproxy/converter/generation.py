"""What every API that generates does alike with an answer: reads events, remembers signatures, keeps frames. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial

from gemproxy.converter.api import Known, Settled
from gemproxy.converter.events import Image, ToolCall
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.gemini.signatures import Signatures, Signed, image_key
from gemproxy.converter.transcoder import Transcoder, Writer
from gemproxy.converter.transcript import Usage
from gemproxy.upstream.dialect import Dialect


def generation(
    known: Known,
    settled: Settled,
    dialect: Dialect,
    writer: Writer,
    names: Mapping[str, str] | None = None,
    taken: Container[str] = (),
    *,
    call_prefix: str = "call_",
    declared: frozenset[str] = frozenset(),
    grounded: bool = True,
    every_call: bool = False,
    alone: bool = False,
    count_by: Callable[[Callable[[], Usage]], object] = bool,
) -> Transcoder:
    """Return the transcript of one attempt, in the words of ``writer``; without a stream these come at its end.

    The rest is what the answer is read with (``AnswerReader``); ``call_prefix`` begins the ids of calls. With
    ``every_call`` those without a signature are remembered, too, for clients that lose the arguments. ``count_by`` gets
    what tells the tokens counted so far.
    """
    made_by = origin(dialect, settled)
    keep = partial(_keep, known.signatures, made_by, every_call) if known.signatures is not None else None
    new_id = partial(_call_id, call_prefix, known)
    reader = AnswerReader(new_id, names, taken, declared=declared, grounded=grounded, alone=alone)
    count_by(reader.usage)
    return Transcoder(dialect.decode, reader, writer, keep, known.tape(), at_once=not settled.stream)


def origin(dialect: Dialect, settled: Settled) -> str:
    """Return who makes an answer, upstream and model; it goes with signatures, so that they never cross upstreams."""
    return f"{dialect.name}/{settled.model.id}"


def _call_id(prefix: str, known: Known) -> str:
    return prefix + known.new_id()


def _keep(signatures: Signatures, origin: str, every_call: bool, made: ToolCall | Image) -> None:
    if isinstance(made, ToolCall):
        if made.signature is not None or every_call:
            signatures.put(made.id, Signed(made.signature or "", origin, made.arguments))
    elif made.signature is not None:
        signatures.put(image_key(made.data), Signed(made.signature, origin))
