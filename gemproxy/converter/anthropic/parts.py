"""Blocks of a message -> parts of Gemini's. Pure.

In: blocks, the path at which they stand, fetched images. Out: parts, in their order. Must not: leave anything out in
silence of what a client shows the model: what cannot be sent is a ``ClientFault`` naming the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, Final

from msgspec import Raw, Struct, field

from gemproxy.converter.anthropic.said import Answered, Content, Enclosed, Message
from gemproxy.converter.gemini import media
from gemproxy.converter.gemini.contents import sign
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.gemini.names import Names
from gemproxy.converter.gemini.signatures import SignatureLookup, image_key, known
from gemproxy.errors import ClientFault
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import NamedPart
from gemproxy.wire.anthropic import (
    CompactionBlock,
    ContainerUploadBlock,
    DocumentBlock,
    ImageBlock,
    Source,
    TextBlock,
    ToolReferenceBlock,
)
from gemproxy.wire.gemini import Blob, Part
from gemproxy.wire.text import plain

DRAWING: Final = "![image](data:"  # how an image begins that an answer holds (``output``)
_DRAWN: Final = re.compile(r"!\[image\]\(data:(image/[\w.+-]{1,64});base64,([\w+/=-]+)\)", re.ASCII)


class Setting(Struct, frozen=True):
    """What the messages are read with; ``media`` gathers the parts that are no text, and what the client calls each.

    ``effort`` tells, before each medium and call, whether the client still waits.
    """

    model: Model
    names: Names
    images: Mapping[str, Blob]
    signatures: SignatureLookup | None = None
    media: list[NamedPart] = []
    effort: Effort = field(default_factory=partial(Effort, 0))


def parts_of(content: Content, path: str, setting: Setting) -> list[Part]:
    """Return the parts of a content; empty texts are left out, they are a 400 on some models."""
    if not isinstance(content, list):
        return [Part(text=content)] if content else []
    return [part for place, block in enumerate(content) for part in block_parts(block, f"{path}[{place}]", setting)]


def block_parts(block: Any, path: str, setting: Setting) -> list[Part]:
    """Return the parts of one block; none of what other services have done, and only they understand."""
    if isinstance(block, TextBlock):
        return [Part(text=block.text)] if block.text else []
    if isinstance(block, ImageBlock):
        return [_named(_image(block.source, path, setting), path, setting)]
    if isinstance(block, DocumentBlock):
        return _document(block, path, setting)
    if isinstance(block, Enclosed):
        return _texts(block.title) + parts_of(block.content, f"{path}.content", setting)
    if isinstance(block, CompactionBlock):
        return _texts(block.content)
    if isinstance(block, ToolReferenceBlock):
        return [Part(text=f"The tool {block.tool_name} is available now.")]
    if isinstance(block, ContainerUploadBlock):
        raise ClientFault("Containers are not offered here.", param=path, code="unsupported_value")
    return []


def spoken(text: str | Raw | None, path: str, setting: Setting) -> list[Part]:
    """Return the parts of what the model said; an image that an answer wrote into its text is one again.

    As a text it would cost as many tokens as a book. A model that sees none goes on without it.
    """
    if not text or not _draws(text):
        return _texts(text)
    parts: list[Part] = []
    said, place = plain(text), 0
    for drawn in _DRAWN.finditer(said):
        parts += _texts(said[place : drawn.start()])
        place = drawn.end()
        with suppress(ClientFault):
            part = _named(media.medium(drawn[2], drawn[1], path, setting.model), path, setting)
            sign(part, known(None, setting.signatures, partial(image_key, drawn[2])))
            parts.append(part)
    return parts + _texts(said[place:])


def _draws(text: str | Raw) -> bool:
    return DRAWING in text if isinstance(text, str) else DRAWING.encode() in bytes(text)


def remote_images(messages: Sequence[Message], most: int) -> list[RemoteImage]:
    """Return what messages name by http(s), in order and at every mention; at most one more than ``most``."""
    found = (each for message in messages for each in _remote(message.content, f"messages[{message.place}].content"))
    return list(islice(found, most + 1))


def _remote(content: Content, path: str) -> Iterator[RemoteImage]:
    if not isinstance(content, list):
        return
    for place, block in enumerate(content):
        if isinstance(block, ImageBlock | DocumentBlock):
            url = (block.source.url or "").strip()
            if block.source.type == "url" and media.is_remote(url):
                yield RemoteImage(url, f"{path}[{place}]")
        elif isinstance(block, Answered | Enclosed):
            yield from _remote(block.content, f"{path}[{place}].content")


def _texts(text: str | Raw | None) -> list[Part]:
    return [Part(text=text)] if text else []


def _named(part: Part, path: str, setting: Setting) -> Part:
    setting.effort.spend(0)
    setting.media.append(NamedPart(part, path))
    return part


def _image(source: Source, path: str, setting: Setting) -> Part:
    if source.type == "base64":
        return media.medium(_of(source, "data", path), source.media_type or "", path, setting.model)
    if source.type == "url":
        return media.picture(_of(source, "url", path).strip(), None, path, setting.images, setting.model)
    if source.type == "file":
        return _file(source, None, path)
    raise _unknown(path)


def _document(block: DocumentBlock, path: str, setting: Setting) -> list[Part]:
    source = block.source
    about = _texts("\n".join(filter(None, (block.title, block.context))))
    if source.type == "text":
        return about + _texts(source.data)
    if source.type == "base64":
        mime = source.media_type or "application/pdf"
        return [*about, _named(media.medium(_of(source, "data", path), mime, path, setting.model), path, setting)]
    if source.type == "url":
        fetched = media.picture(_of(source, "url", path).strip(), None, path, setting.images, setting.model)
        return [*about, _named(fetched, path, setting)]
    if source.type == "file":
        return [_file(source, block.title, path)]
    raise _unknown(path)


def _file(source: Source, name: str | None, path: str) -> Part:
    file_id = _of(source, "file_id", path)
    try:
        return media.document_by_id(file_id, name, path)
    except ClientFault:  # which speaks of OpenAI's fields
        raise ClientFault(
            "Files are not kept here: send what is in them, or their address.", param=path, code="unsupported_value"
        ) from None


def _of(source: Source, name: str, path: str) -> str:
    found: str | None = getattr(source, name)
    if not found:
        raise ClientFault(f"{path}.source.{name} is missing.", param=f"{path}.source.{name}")
    return found


def _unknown(path: str) -> ClientFault:
    return ClientFault(
        f"{path}.source.type must be that of a source that is taken here.",
        param=f"{path}.source.type",
        code="unsupported_value",
    )
