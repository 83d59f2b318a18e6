"""Multipart bodies as clients send them, and as nobody should."""

from __future__ import annotations

import pytest

from gemproxy.converter.api import Upload
from gemproxy.converter.forms import MAX_HEADERS, MAX_PARTS, read_form
from gemproxy.errors import ClientFault
from tests.growth import Task, check_linear

KIND = "multipart/form-data; boundary=b"


def part(disposition: str, data: bytes, more: str = "") -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n".encode() + data + b"\r\n"


def test_fields_and_files_come_in_their_order() -> None:
    form = read_form(
        part('name="n"', b"1")
        + part('name="file"; filename="p\u00e4th.webm"', b"\x00\r\n--\xff", "Content-Type: audio/webm;codecs=opus\r\n")
        + part("name=n", "\u00fc".encode())
        + part('name="image[]"; filename=""', b"")
        + b"--b--\r\nepilogue",
        KIND,
    )
    assert form.fields == [("n", "1"), ("n", "\u00fc")]
    assert form.files == [
        Upload("file", "p\u00e4th.webm", "audio/webm", b"\x00\r\n--\xff"),
        Upload("image[]", "", "application/octet-stream", b""),
    ]
    assert "webm" not in repr(form) + repr(form.files)


@pytest.mark.parametrize(
    "kind",
    [
        'multipart/form-data; boundary="b"',
        "multipart/form-data;boundary=b; charset=utf-8",
        "Multipart/Form-Data; charset=utf-8; Boundary=b",
    ],
)
@pytest.mark.parametrize("before", [b"", b"\r\n", b"preamble\r\n"])
def test_a_boundary_is_found_wherever_it_stands(kind: str, before: bytes) -> None:
    assert read_form(before + part('name="a"', b"x") + b"--b--", kind).fields == [("a", "x")]


def test_what_looks_like_a_boundary_within_a_line_is_data() -> None:
    data = b"a--b\r\n --b--\r\n-b"
    assert read_form(part('name="a"', data) + b"--b--\r\n", KIND).fields == [("a", data.decode())]


@pytest.mark.parametrize(
    "disposition", ["filename*=utf-8''p%C3%A4th.bin; name=\"f\"", 'name="f"; filename="p\u00e4th.bin"']
)
def test_a_files_name_may_be_written_in_two_ways(disposition: str) -> None:
    assert read_form(part(disposition, b"") + b"--b--", KIND).files[0].filename == "p\u00e4th.bin"


def test_a_charset_of_old_is_a_field_like_any() -> None:
    body = part('name="_charset_"', b"utf-8" * 20) + part('name="a"', b"x") + b"--b--"
    assert dict(read_form(body, KIND).fields)["a"] == "x"


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"--b--", "multipart/form-data", "no boundary"),
        (b"", KIND, "end with its boundary"),
        (b"\n" * 9, KIND, "end with its boundary"),
        (part('name="a"', b"x"), KIND, "end with its boundary"),
        (b"--bad\r\n", KIND, "does not end its line"),
        (b"--b\r\nno end of headers", KIND, "headers of a part"),
        (part(f'name="{"x" * MAX_HEADERS}"', b"") + b"--b--", KIND, "headers of a part"),
        (part('name="a"', b"secret\xff") + b"--b--", KIND, "not UTF-8"),
        (b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\r\n--b--', KIND, "not UTF-8"),
        (b"--b\r\n\r\nsecret\r\n--b--", KIND, "no name"),
        (b"--b\r\n\r\n\r\n--b--", KIND, "no name"),
        (part("nonsense secret", b"") + b"--b--", KIND, "no name"),
        (part('name="a"', b"", "Content-Type: multipart/mixed; boundary=c\r\n") + b"--b--", KIND, "parts of its own"),
        (part('name="a"', b"x") * (MAX_PARTS + 1) + b"--b--", KIND, f"more than {MAX_PARTS} parts"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_read_is_refused_without_being_repeated(body: bytes, kind: str, words: str) -> None:
    with pytest.raises(ClientFault, match=words) as caught:
        read_form(body, kind)
    assert caught.value.status == 400
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "piece", [b"\n", b"\r\n", b"\r\n--", b"-", b"\r\n--b"], ids=["LF", "CRLF", "dashes", "dash", "nearly a boundary"]
)
def test_the_work_is_linear_whatever_the_bytes(piece: bytes) -> None:
    def work(times: int) -> Task:
        body = part('name="a"', piece * times + b".") + b"--bb--"

        def read() -> None:
            with pytest.raises(ClientFault):
                read_form(body, KIND)

        return read

    check_linear(work, 800_000)
