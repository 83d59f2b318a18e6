"""Images, sounds, videos and files of a request -> Gemini's ``inlineData`` and ``fileData``.

In: what a client's part says, whatever API it came by, and the remote images that were fetched for it. Out: one
``Part``. Must not: fetch anything (that is done at the edge), or drop a part in silence: what cannot be sent is a
``ClientFault`` naming the part, as ``param`` does. Facts: docs/protocol.md 1.3 and 4.4.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp, b2a_base64
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from gemproxy.converter.gemini.mime import mime_of_name, settle
from gemproxy.errors import ClientFault
from gemproxy.models import Model
from gemproxy.wire.gemini import Blob, FileData, Part, PartMediaResolution

# what Google fetches by itself (docs/protocol.md 4.4); not gs://, which would let any client name objects in the
# operator's buckets
_FILES_API = re.compile(r"https://generativelanguage\.googleapis\.com/v\w{1,16}/files/", re.IGNORECASE)
_YOUTUBE = re.compile(
    r"https?://(?:(?:www|m)\.)?(?:youtube\.com/(?:watch\?|shorts/|live/|embed/)|youtu\.be/)", re.IGNORECASE
)

_RESOLUTIONS = {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH", "original": "MEDIA_RESOLUTION_HIGH"}
_AUDIO_TYPES = {
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
_MAX_PREFIX = 4_096  # characters of a data: URL before its comma; a type, and options that nobody reads
_MAX_STRAYS = 1 << 16  # percent signs that begin no escape; each costs time, and so many are no mistake
_SLICE = 1 << 16  # characters of a large text that are looked at together, so that nothing is copied whole
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SPACE = b" \t\r\n\f\v"
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TO_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


class RemoteImage(Struct, frozen=True):
    """An image to be fetched; ``param`` is the part that names it, for the error message."""

    url: str
    param: str


def is_remote(url: str) -> bool:
    """Return whether an image has to be fetched here before it can be sent."""
    return url[:8].lower().startswith(("http://", "https://")) and not _google_fetches(url)


def _google_fetches(url: str) -> bool:
    return _FILES_API.match(url) is not None or _YOUTUBE.match(url) is not None


# ------------------------------------------------------------------------------------------------------- the parts


def picture(url: str, detail: str | None, param: str, images: Mapping[str, Blob], model: Model) -> Part:
    """Return the part for an image; ``images`` holds the fetched ones by address, ``detail`` is OpenAI's word."""
    if not model.vision:
        raise _unsupported(f"The model {model.id} takes no images.", param)
    if _is_data(url):
        part = Part(inline_data=_inline(url, param))
    elif _google_fetches(url):
        part = _by_reference(url)
    elif (fetched := images.get(url)) is not None:
        part = Part(inline_data=fetched)
    elif is_remote(url):
        raise ClientFault("The image could not be fetched.", param=param, code="invalid_image_url")
    else:
        raise ClientFault("An image must be a data: URL or an http(s) address.", param=param, code="invalid_image_url")
    resolution = _RESOLUTIONS.get(detail or "")
    if resolution is not None and model.modern:
        part.media_resolution = PartMediaResolution(resolution)
    return part


def medium(data: str, mime: str, param: str, model: Model) -> Part:
    """Return the part for base64 of a type that is said, be it an image or a document."""
    if mime.startswith("image/") and not model.vision:
        raise _unsupported(f"The model {model.id} takes no images.", param)
    return Part(inline_data=_blob("image/jpeg" if mime == "image/jpg" else mime, _base64(data, param), None, param))


def sound(data: str, form: str | None, param: str) -> Part:
    """Return the part for a sound: base64 or a data: URL, and the name of its format."""
    said = _AUDIO_TYPES.get(form.lower()) if form else None
    if form and said is None:
        raise _unsupported(f"The audio format must be one of {', '.join(_AUDIO_TYPES)}.", param)
    if _is_data(data):
        return Part(inline_data=_inline(data, param, said))
    return Part(inline_data=_blob("", _base64(data, param), said, param))


def video(url: str, param: str) -> Part:
    """Return the part for a video, by its address."""
    if _is_data(url):
        return Part(inline_data=_inline(url, param))
    if _google_fetches(url):
        return _by_reference(url)
    raise _unsupported("A video must be a data: URL, a YouTube address or the URI of a file in the Files API.", param)


def document(data: str, name: str | None, param: str) -> Part:
    """Return the part for a file: base64, a data: URL or the URI of a file in the Files API, and its name."""
    if _is_data(data):
        return Part(inline_data=_inline(data, param, mime_of_name(name)))
    if _google_fetches(data):
        return _by_reference(data, name)
    return Part(inline_data=_blob("", _base64(data, param), mime_of_name(name), param))


def document_at(url: str, name: str | None, param: str, fetched: Mapping[str, Blob]) -> Part:
    """Return the part for a file by its address; ``fetched`` holds what had to be fetched here."""
    if (blob := fetched.get(url)) is not None:
        return Part(inline_data=blob)
    if is_remote(url):
        raise ClientFault("The file could not be fetched.", param=param, code="invalid_image_url")
    if not _is_data(url) and not _google_fetches(url):
        raise _unsupported("The address of a file must be an http(s) one, or a data: URL.", param)
    return document(url, name, param)


def document_by_id(file_id: str, name: str | None, param: str) -> Part:
    """Return the part for a file that the client names only: Google's Files API is the one place that is looked in."""
    if _google_fetches(file_id):
        return _by_reference(file_id, name)
    raise _unsupported("Files by id are not kept here: send file_data, or the URI of a file in the Files API.", param)


def _by_reference(url: str, name: str | None = None) -> Part:
    if _YOUTUBE.match(url):
        return Part(file_data=FileData(url, "video/mp4"))  # Vertex wants a type, whichever the film has
    return Part(file_data=FileData(url, mime_of_name(url) or mime_of_name(name)))


# ------------------------------------------------------------------------------------------------ bytes and base64


def _inline(url: str, param: str, other: str | None = None) -> Blob:
    mime, data = _data_url(url, param)
    return _blob(mime, data, other, param)


def _blob(said: str, data: str, other: str | None, param: str) -> Blob:
    """Return checked base64 with its type; ``other`` is what a name or format tells of it."""
    return Blob(settle(a2b_base64(data[:64]), said, other) or _untyped(param), data)


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _data_url(url: str, param: str) -> tuple[str, str]:
    """Return type ("" if none is written) and base64 of a data: URL (RFC 2397)."""
    comma = url.find(",", 0, _MAX_PREFIX)
    if comma < 0:
        raise ClientFault(
            f"The data: URL holds no data: no comma is in its first {_MAX_PREFIX} characters.", param=param
        )
    mime, *options = (field.strip().lower() for field in url[5:comma].split(";"))
    if mime == "image/jpg":
        mime = "image/jpeg"
    if "/" not in mime or mime.endswith("/octet-stream"):
        mime = ""
    escaped = url.find("%", comma) >= 0
    if "base64" in options and escaped:
        return mime, _bare(_unescaped(url, comma + 1, param), param)
    if "base64" in options:
        return mime, _base64(url, param, comma + 1)
    if not escaped and not mime.startswith("text/"):
        raise _not_encoded(param)
    return mime, _encoded(_unescaped(url, comma + 1, param))


def _slices(text: str, start: int) -> Iterator[str]:
    """Yield a text from ``start`` on in pieces that cut no percent escape."""
    while start < len(text):
        end = start + _SLICE
        cut = text.rfind("%", end - 2, end) if end < len(text) else -1
        end = cut if cut >= 0 else end
        yield text[start:end]
        start = end


def _unescaped(text: str, start: int, param: str) -> Iterator[bytes]:
    """Yield the bytes of percent-encoded text from ``start`` on; a sign that begins no escape stands for itself.

    Quoted-printable is the same with another sign, but for that sign itself and line ends, and read in no time:
    ``unquote_to_bytes`` takes a microsecond an escape.
    """
    strays = 0
    for piece in _slices(text, start):
        plain = piece.encode().replace(b"=", b"=3D").replace(b"\n", b"=0A").replace(b"\r", b"=0D")
        escaped, count = _STRAY_PERCENT.subn(b"=25", plain)
        strays += count
        if strays > _MAX_STRAYS:
            raise _not_encoded(param)
        yield a2b_qp(escaped.replace(b"%", b"="))


def _encoded(pieces: Iterable[bytes]) -> str:
    """Return the base64 of what comes in pieces."""
    written: list[str] = []
    rest = b""
    for piece in pieces:
        piece = rest + piece
        whole = len(piece) - len(piece) % 3
        written.append(b2a_base64(piece[:whole], newline=False).decode())
        rest = piece[whole:]
    written.append(b2a_base64(rest, newline=False).decode())
    return "".join(written)


def _base64(text: str, param: str, start: int = 0) -> str:
    """Return what stands from ``start`` on as checked base64: in the standard alphabet, padded, no white space."""
    if _is_standard(text, start):
        return text[start:]  # nearly always
    return _bare((piece.encode() for piece in _slices(text, start)), param)


def _is_standard(text: str, start: int) -> bool:
    if len(text) == start or (len(text) - start) % 4 or not text.isascii():
        return False
    end = len(text) - text.endswith("=") - text.endswith("==")
    return not any(
        text[at : min(at + _SLICE, end)].encode().translate(None, _ALPHABET) for at in range(start, end, _SLICE)
    )


def _bare(pieces: Iterable[bytes], param: str) -> str:
    """Return the same of base64 in any alphabet and with white space, from its bytes in pieces."""
    written: list[str] = []
    size, ended = 0, False
    for piece in pieces:
        clean = piece.translate(_TO_STANDARD_ALPHABET, _SPACE)
        bare = clean.rstrip(b"=")
        if bare and (ended or bare.translate(None, _ALPHABET)):
            raise _not_base64(param)
        ended = ended or len(bare) < len(clean)
        size += len(bare)
        written.append(bare.decode())
    if not size or size % 4 == 1:
        raise _not_base64(param)
    return "".join((*written, "=" * (-size % 4)))


def _not_base64(param: str) -> ClientFault:
    return ClientFault("The data is not valid base64.", param=param, code="invalid_base64")


def _not_encoded(param: str) -> ClientFault:
    return ClientFault("The data: URL is neither base64 nor percent-encoded.", param=param)


def _untyped(param: str) -> str:
    raise ClientFault("The type of the data is not known: write it into the data: URL.", param=param)


def _unsupported(message: str, param: str) -> ClientFault:
    return ClientFault(message, param=param, code="unsupported_value")
