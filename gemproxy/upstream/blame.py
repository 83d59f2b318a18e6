"""Which field of the request Google refuses, and which part of its contents, as far as its messages show.

In: a ``Refusal``. Out: Gemini's own name of the field, or None when nothing tells; a ``Suspect`` if it is about one
part, and what the client calls that part. What a field is to a client, each API says (``converter/chat/params``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gemproxy.upstream.dialect import Call, Suspect
from gemproxy.upstream.refusals.error_body import Refusal
from gemproxy.wire.gemini import GenerateRequest, Part

# Where Google names a field: details (read by ``error_body``), "at 'contents[0].role'", "GenerateContentRequest.tools:
# …".
_NAMED_FIELD: Final = re.compile(r"(?i)(?:\bat '|generatecontentrequest\.)([a-z_][\w.\[\]]*)")

# Looked for in the path (without underscores, lower case), the most telling first.
_FIELDS: Final = (
    ("functioncallingconfig", "tool_config"),
    ("toolconfig", "tool_config"),
    ("tools", "tools"),
    ("contents", "contents"),
    ("systeminstruction", "system_instruction"),
    ("temperature", "temperature"),
    ("topp", "top_p"),
    ("topk", "top_k"),
    ("maxoutputtokens", "max_output_tokens"),
    ("stopsequences", "stop_sequences"),
    ("candidatecount", "candidate_count"),
    ("seed", "seed"),
    ("presencepenalty", "presence_penalty"),
    ("frequencypenalty", "frequency_penalty"),
    ("logprobs", "logprobs"),
    ("responsemimetype", "response_mime_type"),
    ("responseschema", "response_schema"),
    ("responsejsonschema", "response_json_schema"),
    ("responsemodalities", "response_modalities"),
    ("thinking", "thinking_config"),
    ("safetysettings", "safety_settings"),
    ("cachedcontent", "cached_content"),
    ("servicetier", "service_tier"),
)

PENALTY: Final = r"penalty is not|penalties are not"
LOGPROBS: Final = r"logprobs (?:is|are) not"

# Sentences without a path (docs/protocol.md 3.2).
_SENTENCES: Final = (
    (
        re.compile(r"function (?:call|response) (?:turn|parts)|model turn|input image|inline ?data|valid role"),
        "contents",
    ),
    (re.compile(r"thinking (?:level|budget|mode|is not)"), "thinking_config"),
    (re.compile(PENALTY), "presence_penalty"),
    (re.compile(LOGPROBS), "logprobs"),
    (re.compile(r"response[_ ]schema|response mime type"), "response_schema"),
)


def blamed(refused: Refusal) -> str | None:
    """Return the field that Google complains about; None if the answer does not tell."""
    for path in (*refused.fields, *_NAMED_FIELD.findall(refused.message)):
        plain = path.lower().replace("_", "")
        for fragment, field in _FIELDS:
            if fragment in plain:
                return field
    return next((field for pattern, field in _SENTENCES if pattern.search(refused.text)), None)


# --------------------------------------------------------------------------------------- one part of the messages

_PART: Final = re.compile(r"(?i)contents\[(\d{1,6})\]\.parts\[(\d{1,6})\](?:\.function_?response\.parts\[(\d{1,6})\])?")
_MIME_TYPE: Final = re.compile(r"mime[ _]?type(?: parameter with value)?\W{1,3}([\w.+/-]{0,200}\w)")
_FAULTS: Final = r"(?:process|decode|read|open|parse|invalid|unsupported|corrupt(?:ed)?|broken|empty)"

# What Google says of media without a path, and how their types begin; the most telling first.
_MEDIA: Final = (
    *(
        (re.compile(rf"\b(?:input|provided|source|inline) {name}|\b{_FAULTS} (?:the |or corrupt(?:ed)? )?{name}"), kind)
        for name, kind in (
            ("image", "image/"),
            ("audio", "audio/"),
            ("video", "video/"),
            (r"(?:document|pdf)", "application/pdf"),
        )
    ),
    (re.compile(r"\bthe document has no pages"), "application/pdf"),
    (re.compile(r"\bfile ?uri\b|content from the provided url|\b(?:access|find) the file\b|\bfiles?/"), "file"),
    (re.compile(r"mime[ _]?type|\binline_?data\b|\bbase64 decod"), ""),
)
_MEDIA_PLACE: Final = re.compile(r"\b(?:image|audio|video|document) (\d{1,4})\b")


def suspected(refused: Refusal) -> Suspect | None:
    """Return what tells the refused part of the messages; None if the refusal is not about a medium."""
    if blamed(refused) not in (None, "contents"):
        return None
    path = next(filter(_PART.search, (*refused.fields, *_NAMED_FIELD.findall(refused.message))), "")
    said = f"{refused.text}\n{refused.debug}"
    kind = next((kind for pattern, kind in _MEDIA if pattern.search(said)), None)
    if kind is None:
        return Suspect(path) if path else None
    mime, place = _MIME_TYPE.search(said), _MEDIA_PLACE.search(said)
    return Suspect(path, kind, mime[1] if mime else "", int(place[1]) if place else None)


def parts_of(suspect: Suspect, call: Call) -> list[str]:
    """Return what the client calls the parts that may be meant; none if it is none of the media."""
    if suspect.path:
        meant = list(_at(suspect.path, call))
        those = {id(part) for part in meant}
        return [named.name for named in call.media if id(named.part) in those]
    alike = [named.name for named in call.media if _fits(named.part, suspect.kind)]
    typed = [named.name for named in call.media if suspect.mime and suspect.mime == _mime(named.part)]
    if suspect.place is not None and not typed:
        return alike[suspect.place : suspect.place + 1] or alike
    return typed or alike


def _at(path: str, call: Call) -> Iterator[Part]:
    """Yield the part at one of Gemini's paths; of a tool's result that is meant as a whole, its media."""
    found = _PART.search(path)
    assert found is not None
    content, place, inner = (None if number is None else int(number) for number in found.groups())
    contents = call.body.contents if isinstance(call.body, GenerateRequest) else []
    parts = [part for each in contents[content : (content or 0) + 1] for part in each.parts or ()]
    for part in parts[place : (place or 0) + 1]:
        yield part
        media = part.function_response.parts if part.function_response is not None else None
        yield from (media or ()) if inner is None else (media or ())[inner : inner + 1]


def _fits(part: Part, kind: str) -> bool:
    if kind == "file":
        return part.file_data is not None
    return (_mime(part) or "").startswith(kind) if kind else part.inline_data is not None


def _mime(part: Part) -> str | None:
    medium = part.inline_data or part.file_data
    return medium.mime_type if medium is not None else None
