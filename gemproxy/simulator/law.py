"""What Google refuses in a request that its JSON reader could read.

In: an ``Ask`` and the signer whose signatures count (None: any). Out: nothing, or a ``Refusal`` in Google's words.
This file has the order of the checks and the contents; ``settings``, ``toolbox`` and ``turns`` have the rest.
Sources: docs/protocol.md 1.3, 3.2, 4.4, 9; where recorded traffic shows that Google accepts, 0.0 wins.
"""

from __future__ import annotations

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator import settings, toolbox, turns
from gemproxy.simulator.ask import Ask, Part
from gemproxy.simulator.proto import ONE_OF, decoded, snake
from gemproxy.simulator.signatures import Signer

_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_BEGINS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"\0\0\0")  # of any of them: the type is not held against it
_SOUNDS = "wav x-wav mp3 mpeg mpga mp4 m4a aiff aac ogg flac webm pcm l16 opus".split()
_FILMS = "mp4 mpeg mov quicktime avi x-flv mpg webm wmv 3gpp x-matroska".split()
_PAPERS = ("application/pdf", "application/json", "application/x-javascript", "application/rtf", "application/xml")
_MORE = "Learn more: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/gemini"
_NO_CONTENTS = f"Unable to submit request because at least one contents field is required. {_MORE}"
_NO_PARTS = (
    "Unable to submit request because it must include at least one parts field, which describes the prompt input. "
    f"{_MORE}"
)
_NO_TEXT = (
    f"Unable to submit request because it must have a text parameter. Add a text parameter and try again. {_MORE}"
)


def judge(ask: Ask, signer: Signer | None) -> None:
    """Raise ``Refusal`` for the first thing that Google would not take."""
    _contents(ask)
    settings.judge(ask)
    toolbox.judge(ask)
    turns.judge(ask, signer)
    _size(ask)


def _contents(ask: Ask) -> None:
    strict = ask.upstream != "ai_studio"  # Vertex AI and Code Assist have their own words and one rule more
    if not ask.contents:
        if strict:
            raise errors.invalid(_NO_CONTENTS)
        raise errors.broken("contents", "contents is not specified")
    for number, content in enumerate(ask.contents):
        place = f"contents[{number}]"
        if content.get("role", "" if strict else "user") not in ("user", "model"):
            raise errors.invalid("Please use a valid role: user, model.")
        if not content.get("parts"):
            raise (
                errors.invalid(_NO_PARTS)
                if strict
                else errors.broken(f"{place}.parts", "contents.parts must not be empty.")
            )
        for index, part in enumerate(content["parts"]):
            _part(part, f"{place}.parts[{index}]", strict)
    _system(ask)


def _system(ask: Ask) -> None:
    parts = (ask.body.get("systemInstruction") or {}).get("parts") or []
    for index, part in enumerate(parts):
        _part(part, f"system_instruction.parts[{index}]", strict=False)
    if parts and ask.name.startswith("gemma-3"):
        raise errors.invalid(f"Developer instruction is not enabled for models/{ask.name}")
    if ask.body.get("cachedContent") and any(ask.body.get(key) for key in ("systemInstruction", "tools", "toolConfig")):
        raise errors.invalid(
            "CachedContent can not be used with GenerateContent request setting system_instruction, tools or "
            "tool_config."
        )


def _part(part: Part, place: str, strict: bool) -> None:
    if not any(name in part for name in ONE_OF):
        raise errors.broken(f"{place}.data", "required oneof field 'data' must have one initialized field")
    if strict and part.get("text") == "" and "thoughtSignature" not in part:
        raise errors.invalid(_NO_TEXT)
    for name in ("functionCall", "functionResponse"):
        if name in part and not part[name].get("name"):
            raise errors.broken(f"{place}.{snake(name)}.name", "Name cannot be empty.")
    if "inlineData" in part:
        _blob(part["inlineData"])
    if "fileData" in part:
        _file(part["fileData"])
    for inner in (part.get("functionResponse") or {}).get("parts") or []:
        if "inlineData" in inner:
            _blob(inner["inlineData"])


def _blob(blob: dict[str, str]) -> None:
    kind, begin = blob.get("mimeType", ""), decoded(blob.get("data", "")[:16]) or b""
    family, _, name = kind.partition(";")[0].partition("/")
    known = kind in _IMAGES or kind in _PAPERS or (family == "text" and bool(name))
    known = known or (family == "audio" and name.lower() in _SOUNDS) or (family == "video" and name.lower() in _FILMS)
    if not known:
        raise errors.invalid(f"Unsupported MIME type: {kind}")
    if family == "image" and not begin.startswith(_BEGINS):
        raise errors.invalid(
            "Unable to process input image. Please retry or report in "
            "https://developers.generativeai.google/guide/troubleshooting"
        )


def _file(file: dict[str, str]) -> None:
    uri = file.get("fileUri", "")
    if not uri.startswith(("https://", "gs://")):
        raise errors.invalid(f"Invalid or unsupported file uri: {uri}")


def _size(ask: Ask) -> None:
    count = ask.prompt_tokens()
    if count > ask.model.context:
        raise errors.invalid(
            f"The input token count ({count}) exceeds the maximum number of tokens allowed ({ask.model.context})."
        )
