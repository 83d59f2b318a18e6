"""What a file is, by its first bytes, by its name, and by what is said of it. Out: a MIME type, or None.

Must not: read more than the first 32 bytes. Types as Gemini names them (docs/protocol.md 1.3).
"""

from __future__ import annotations

import re

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"ID3\x02", "audio/mp3"),  # three letters alone begin many a text
    (b"ID3\x03", "audio/mp3"),
    (b"ID3\x04", "audio/mp3"),
    (b"\xff\xfb", "audio/mp3"),
    (b"\xff\xfa", "audio/mp3"),
    (b"\xff\xf3", "audio/mp3"),
    (b"\xff\xf2", "audio/mp3"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"OggS\x00", "audio/ogg"),
    (b"fLaC\x00", "audio/flac"),
    (b"fLaC\x80", "audio/flac"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/avi"}
_BRANDS = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"heim": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"M4A ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_CONTAINERS = {  # these bytes begin a container that may as well hold something else: then what is said counts
    "video/mp4": ("audio/mp4", "audio/m4a", "audio/x-m4a", "video/3gpp", "video/quicktime", "image/heic", "image/heif"),
    "video/webm": ("audio/webm", "video/x-matroska"),
}
_TAKEN_TYPES = re.compile(
    r"text/[a-z0-9.+-]+|image/(?:png|jpeg|webp|heic|heif)|application/(?:pdf|json|rtf|xml|x-javascript)"
    r"|audio/(?:x-wav|wav|mp3|mpeg|mpga|mp4|m4a|aiff|aac|ogg|flac|webm|pcm|l16|opus)"
    r"|video/(?:mp4|mpeg|mov|quicktime|avi|x-flv|mpg|webm|wmv|3gpp|x-matroska)"
)
_ENDINGS = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "log": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "xml": "text/xml",
    "rtf": "text/rtf",
    "json": "application/json",
    "js": "text/javascript",
    "py": "text/x-python",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "mov": "video/quicktime",
    "avi": "video/avi",
    "webm": "video/webm",
    "wmv": "video/wmv",
    "3gp": "video/3gpp",
}


def sniff(data: bytes) -> str | None:
    """Return the type that the first bytes show, or None if they show none."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if data[:2] == b"BM" and data[6:10] == bytes(4):  # two letters alone begin many a text
        return "image/bmp"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    return next((mime for start, mime in _BEGINNINGS if data.startswith(start)), None)


def settle(data: bytes, said: str, other: str | None = None) -> str | None:
    """Return the type to send of a file that begins with these bytes, or None if nothing tells.

    The bytes know best; then a type that is ``said`` ("": none) and that Gemini takes; then ``other``, which its name
    or format tells; then ``said``, whatever it is.
    """
    shown = sniff(data)
    if shown in _CONTAINERS:
        return next((each for each in (said, other) if each in _CONTAINERS[shown]), shown)
    if shown is not None:
        return shown
    return said if _TAKEN_TYPES.fullmatch(said) else other or said or None


def mime_of_name(name: str | None) -> str | None:
    """Return the type that a file name or address ends in, or None."""
    if not name:
        return None
    stem, dot, ending = name.rpartition(".")
    return _ENDINGS.get(ending.lower()) if stem and dot else None
