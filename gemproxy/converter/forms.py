"""A multipart body -> ``Form`` (RFC 7578). Pure, and linear in the body, which may be large: then not on the loop.

aiohttp reads such a body line by line, for seconds if it is all line feeds, and repeats some of its words as warnings.
"""

from __future__ import annotations

import email.policy
import re
from collections.abc import Iterator
from email.parser import HeaderParser
from typing import Final

from gemproxy.converter.api import Form, Upload
from gemproxy.errors import ClientFault
from gemproxy.load.turns import pass_turn

MAX_PARTS: Final = 128  # OpenAI's forms have 16 pictures at most and as many settings
MAX_HEADERS: Final = 1 << 10  # bytes of the headers of a part, which cost more than linear time; clients send 200
_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";]{1,70}))', re.IGNORECASE)
_parse: Final = HeaderParser(policy=email.policy.compat32).parsestr


def read_form(body: bytes, content_type: str) -> Form:
    """Return the fields and files of a body; raises ``ClientFault`` 400, which repeats nothing of it."""
    fields: list[tuple[str, str]] = []
    files: list[Upload] = []
    for place, (headers, data) in enumerate(_parts(body, _delimiter(content_type))):
        if place == MAX_PARTS:
            raise ClientFault(f"The form has more than {MAX_PARTS} parts.", code="request_too_large")
        name, filename, kind = _described(headers)
        pass_turn(len(data))
        if filename is None:
            fields.append((name, _text(data)))
        else:
            files.append(Upload(name, filename, kind, data))
    return Form(fields, files)


def _delimiter(content_type: str) -> bytes:
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _broken("its Content-Type names no boundary")
    return b"--" + (found[1] or found[2]).encode(errors="surrogateescape")


def _parts(body: bytes, delimiter: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers and the data of each part. What stands before the first and behind the last is no part."""
    place = 0 if body.startswith(delimiter) else _after(body, b"\r\n" + delimiter, 0) - len(delimiter)
    while True:
        place += len(delimiter)
        if body.startswith(b"--", place):
            return
        line = body.find(b"\r\n", place, place + MAX_HEADERS)
        if line < 0 or body[place:line].strip(b" \t"):
            raise _broken("a boundary does not end its line")
        head = body.find(b"\r\n\r\n", line, line + MAX_HEADERS)
        if head < 0:
            raise _broken(f"the headers of a part do not end within {MAX_HEADERS} bytes")
        place = _after(body, b"\r\n" + delimiter, head + 2) - len(delimiter)
        yield body[line + 2 : head + 2], body[head + 4 : place - 2]


def _after(body: bytes, sought: bytes, start: int) -> int:
    found = body.find(sought, start)
    if found < 0:
        raise _broken("it does not end with its boundary")
    return found + len(sought)


def _described(headers: bytes) -> tuple[str, str | None, str]:
    """Return a part's name, the name of its file (None: it is a field) and its type, all of them the client's words."""
    told = _parse(_text(headers))
    name, filename = told.get_param("name", header="content-disposition"), told.get_filename()
    if not isinstance(name, str) or told.get_content_maintype() == "multipart":
        raise ClientFault("A part of the form has no name, or parts of its own.")
    kind = told.get_content_type() if "content-type" in told else "application/octet-stream"
    return name, filename, kind


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _broken("a field or its name is not UTF-8") from None


def _broken(why: str) -> ClientFault:
    return ClientFault(f"The multipart body cannot be read: {why}.")
