"""Images, sounds, videos and files of a request -> Gemini's ``inlineData`` and ``fileData``.

In: a content part, and the remote images that were fetched for it. Out: one ``Part``. Must not: fetch anything (the
plan of ``remote_images`` is carried out at the edge), or drop a part in silence: what cannot be sent is a
``ClientFault`` naming the part. Facts: PROTOCOL 1.3 and 4.4.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gemproxy.converter.magic import mime_of_name, sniff
from gemproxy.errors import ClientFault
from gemproxy.models import Model
from gemproxy.wire.gemini import Blob, FileData, Part, PartMediaResolution
from gemproxy.wire.openai import (
    AssistantMessage,
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    ImageUrl,
    InputAudio,
    InputFile,
    VideoPart,
    VideoUrl,
)

MediaPart = ImagePart | AudioPart | FilePart | VideoPart

# what Google fetches by itself (PROTOCOL 4.4); not gs://, which would let any client name objects in the operator's
# buckets
_FILES_API = re.compile(r"https://generativelanguage\.googleapis\.com/v\w+/files/", re.IGNORECASE)
_YOUTUBE = re.compile(
    r"https?://(?:(?:www|m)\.)?(?:youtube\.com/(?:watch\?|shorts/|live/|embed/)|youtu\.be/)", re.IGNORECASE
)

_RESOLUTIONS = {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"}
_AUDIO = {
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "webm": "audio/webm",
}
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SPACE = b" \t\r\n\f\v"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class RemoteImage(Struct, frozen=True):
    """An image to be fetched; ``param`` is the part that names it, for the error message."""

    url: str
    param: str


def remote_images(request: ChatRequest) -> list[RemoteImage]:
    """Return the http(s) images that a request names, in order and at every mention: each is sent as often."""
    found: list[RemoteImage] = []
    for index, message in enumerate(request.messages):
        if isinstance(message.content, list):
            for position, part in enumerate(message.content):
                if type(part) is ImagePart and _is_remote(url := address(part.image_url)):
                    found.append(RemoteImage(url, f"messages[{index}].content[{position}]"))
        if isinstance(message, AssistantMessage) and message.images:
            for position, image in enumerate(message.images):
                if _is_remote(url := address(image.image_url)):
                    found.append(RemoteImage(url, f"messages[{index}].images[{position}]"))
    return found


def address(image: ImageUrl | VideoUrl | str) -> str:
    """Return the address of an image or video, without the spaces that templates leave around it."""
    return (image if isinstance(image, str) else image.url).strip()


def _is_remote(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://")) and not _google_fetches(url)


def _google_fetches(url: str) -> bool:
    return _FILES_API.match(url) is not None or _YOUTUBE.match(url) is not None


# ------------------------------------------------------------------------------------------------------- the parts


def media_part(part: MediaPart, param: str, images: Mapping[str, Blob], model: Model) -> Part:
    """Return the part for any content part that is not text. ``param`` names it in faults."""
    if type(part) is ImagePart:
        return picture(part.image_url, param, images, model)
    if type(part) is AudioPart:
        return Part(inline_data=_sound(part.input_audio, param))
    if type(part) is VideoPart:
        return _video(part, param)
    assert type(part) is FilePart
    return _file(part.file, param)


def picture(image: ImageUrl | str, param: str, images: Mapping[str, Blob], model: Model) -> Part:
    """Return the part for an image; ``images`` holds the fetched ones by address."""
    if not model.vision:
        raise _unsupported(f"The model {model.id} takes no images.", param)
    url = address(image)
    if _is_data(url):
        mime, data = _data_url(url, param)
        part = Part(inline_data=Blob(_sniffed(data) or mime or _untyped(param), data))  # the bytes know best
    elif _google_fetches(url):
        part = _by_reference(url)
    elif (fetched := images.get(url)) is not None:
        part = Part(inline_data=fetched)
    elif _is_remote(url):
        raise ClientFault("The image could not be fetched.", param=param, code="invalid_image_url")
    else:
        raise ClientFault("An image must be a data: URL or an http(s) address.", param=param, code="invalid_image_url")
    detail = None if isinstance(image, str) else _RESOLUTIONS.get(image.detail or "")
    if detail is not None and model.modern:
        part.media_resolution = PartMediaResolution(detail)
    return part


def _sound(audio: InputAudio, param: str) -> Blob:
    said = _AUDIO.get(audio.format.lower()) if audio.format else None
    if audio.format and said is None:
        raise _unsupported(f"The audio format must be one of {', '.join(_AUDIO)}.", param)
    if _is_data(audio.data):
        mime, data = _data_url(audio.data, param)
    else:
        mime, data = "", _base64(audio.data, param)
    return Blob(said or _sniffed(data) or mime or _untyped(param), data)


def _video(part: VideoPart, param: str) -> Part:
    url = address(part.video_url)
    if _is_data(url):
        return Part(inline_data=_inline(url, param, None))
    if _google_fetches(url):
        return _by_reference(url)
    raise _unsupported("A video must be a data: URL, a YouTube address or the URI of a file in the Files API.", param)


def _file(file: InputFile, param: str) -> Part:
    data = file.file_data
    if data:
        if _is_data(data):
            return Part(inline_data=_inline(data, param, file.filename))
        if _google_fetches(data):
            return _by_reference(data, file.filename)
        data = _base64(data, param)
        return Part(inline_data=Blob(mime_of_name(file.filename) or _sniffed(data) or _untyped(param), data))
    if file.file_id and _google_fetches(file.file_id):
        return _by_reference(file.file_id, file.filename)
    if file.file_id:
        raise _unsupported(
            "Files by id are not kept here: send file_data, or the URI of a file in the Files API.", param
        )
    raise ClientFault("The file has neither file_data nor file_id.", param=param)


def _by_reference(url: str, name: str | None = None) -> Part:
    if _YOUTUBE.match(url):
        return Part(file_data=FileData(url, "video/mp4"))  # Vertex wants a type, whichever the film has
    return Part(file_data=FileData(url, mime_of_name(url) or mime_of_name(name)))


# ------------------------------------------------------------------------------------------------ bytes and base64


def _inline(url: str, param: str, name: str | None) -> Blob:
    mime, data = _data_url(url, param)
    return Blob(mime or mime_of_name(name) or _sniffed(data) or _untyped(param), data)


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _data_url(url: str, param: str) -> tuple[str, str]:
    """Return type ("" if none is written) and base64 of a data: URL (RFC 2397)."""
    head, comma, data = url.partition(",")
    if not comma:
        raise ClientFault("The data: URL holds no data.", param=param)
    mime, *options = (field.strip().lower() for field in head[5:].split(";"))
    if mime == "image/jpg":
        mime = "image/jpeg"
    if mime == "application/octet-stream":
        mime = ""
    if "base64" in options:
        return mime, _base64(unquote_to_bytes(data).decode("latin-1") if "%" in data else data, param)
    if "%" not in data and not mime.startswith("text/"):
        raise ClientFault("The data: URL is neither base64 nor percent-encoded.", param=param)
    return mime, b64encode(unquote_to_bytes(data)).decode()


def _base64(text: str, param: str) -> str:
    """Return checked base64 in the standard alphabet, padded, without white space."""
    if not text.isascii():
        raise _not_base64(param)
    data = text.encode()
    rest = data.translate(None, _ALPHABET)
    if data and len(data) % 4 == 0 and rest in (b"", b"=", b"==") and data.endswith(rest):
        return text  # nearly always; a large image is not copied once more
    bare = data.translate(_TO_STANDARD, _SPACE).rstrip(b"=")
    if not bare or len(bare) % 4 == 1 or bare.translate(None, _ALPHABET):
        raise _not_base64(param)
    return (bare + b"=" * (-len(bare) % 4)).decode()


def _sniffed(data: str) -> str | None:
    return sniff(binascii.a2b_base64(data[:64]))


def _not_base64(param: str) -> ClientFault:
    return ClientFault("The data is not valid base64.", param=param, code="invalid_base64")


def _untyped(param: str) -> str:
    raise ClientFault("The type of the data is not known: write it into the data: URL.", param=param)


def _unsupported(message: str, param: str) -> ClientFault:
    return ClientFault(message, param=param, code="unsupported_value")
