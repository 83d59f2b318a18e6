"""Images, sounds, videos, files: a row a shape, and the plan of what is fetched (docs/protocol.md 4.4)."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.converter.api import Options
from gemproxy.converter.chat.media import remote_images
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import to_call
from gemproxy.converter.gemini import media
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.gemini.mime import mime_of_name, sniff
from gemproxy.errors import ClientFault
from gemproxy.models import capabilities
from gemproxy.wire.gemini import Blob
from gemproxy.wire.openai_chat import ChatRequest
from tests.chat_bodies import JPEG, PNG, USER, contents, refused
from tests.growth import Task, check_linear

OLD, NEW = "gemini-2.5-flash", "gemini-3.8-flash"
WAV = b64encode(b"RIFF\x00\x00\x00\x00WAVEfmt ").decode()
PDF = b64encode(b"%PDF-1.7\n").decode()
OGG = b64encode(b"OggS\x00\x02\x00\x00").decode()
MP4 = b64encode(b"\x00\x00\x00\x18ftypisom").decode()
TEXT = b64encode(b"BMW is a maker of cars").decode()
FILE_URI = "https://generativelanguage.googleapis.com/v1beta/files/abc"
YOUTUBE = "https://www.youtube.com/watch?v=abc"


def image(url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def file(**fields: Any) -> dict[str, Any]:
    return {"type": "file", "file": fields}


def audio(data: str, form: str | None = None) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": form}}


def video(url: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url}}


def inline(mime: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime, "data": data}}


def by_uri(uri: str, mime: str | None = None) -> dict[str, Any]:
    return {"fileData": {"fileUri": uri, **({"mimeType": mime} if mime else {})}}


def converted(part: dict[str, Any], model: str = NEW, **given_: Any) -> dict[str, Any]:
    found = contents({"role": "user", "content": [part]}, model=model, **given_)
    assert len(found) == 1
    assert len(found[0][1]) == 1
    return found[0][1][0]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(image(f"data:image/png;base64,{PNG}"), inline("image/png", PNG), id="an image"),
        pytest.param(
            {"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"},
            inline("image/png", PNG),
            id="an address without an object around it",
        ),
        pytest.param(image(f"DATA:IMAGE/PNG;BASE64,{PNG}"), inline("image/png", PNG), id="in capitals"),
        pytest.param(image(f"  data:image/png;base64,{PNG}\n"), inline("image/png", PNG), id="with space around it"),
        pytest.param(image(f"data:image/jpg;base64,{JPEG}"), inline("image/jpeg", JPEG), id="jpg is jpeg"),
        pytest.param(image("data:image/jpg;base64,AAAA"), inline("image/jpeg", "AAAA"), id="jpg of unknown bytes"),
        pytest.param(image(f"data:image/jpeg;base64,{PNG}"), inline("image/png", PNG), id="the bytes know best"),
        pytest.param(image(f"data:;base64,{PNG}"), inline("image/png", PNG), id="no type written"),
        pytest.param(image(f"data:;charset=x;base64,{PNG}"), inline("image/png", PNG), id="a parameter before base64"),
        pytest.param(
            image(f"data:application/octet-stream;base64,{JPEG}"), inline("image/jpeg", JPEG), id="a type of nothing"
        ),
        pytest.param(
            image(f"data:image/png;base64,{PNG[:8]}\n {PNG[8:]}"), inline("image/png", PNG), id="space in base64"
        ),
        pytest.param(
            image(f"data:image/png;base64,{PNG.rstrip('=')}"), inline("image/png", PNG), id="padding left out"
        ),
        pytest.param(
            image("data:image/webp;base64,-_-_"), inline("image/webp", "+/+/"), id="the alphabet of addresses"
        ),
        pytest.param(
            image(f"data:image/png;base64,{PNG.replace('=', '%3D')}"), inline("image/png", PNG), id="base64, escaped"
        ),
        pytest.param(
            image("data:image/png,%89PNG%0D%0A%1A%0A"),
            inline("image/png", b64encode(b"\x89PNG\r\n\x1a\n").decode()),
            id="percent-encoded",
        ),
        pytest.param(image(f"data:application/pdf;base64,{PDF}"), inline("application/pdf", PDF), id="a PDF as image"),
        pytest.param(image(FILE_URI), by_uri(FILE_URI), id="in Google's Files API"),
        pytest.param(audio(WAV, "wav"), inline("audio/wav", WAV), id="a wav"),
        pytest.param(audio(WAV, "MP3"), inline("audio/wav", WAV), id="a wav that is called an mp3"),
        pytest.param(audio("AAAA", "MP3"), inline("audio/mp3", "AAAA"), id="an mp3, as the client says"),
        pytest.param(audio(OGG, "mp3"), inline("audio/ogg", OGG), id="an ogg that is called an mp3"),
        pytest.param(audio(MP4, "m4a"), inline("audio/mp4", MP4), id="a container that may hold a sound"),
        pytest.param(audio(MP4, "wav"), inline("video/mp4", MP4), id="a container that holds no wav"),
        pytest.param(
            audio("data:audio/x;base64,AAAA", "wav"),
            inline("audio/wav", "AAAA"),
            id="a format where the type is no use",
        ),
        pytest.param(audio(WAV), inline("audio/wav", WAV), id="a sound of unsaid format"),
        pytest.param(audio(f"data:audio/x;base64,{WAV}"), inline("audio/wav", WAV), id="a sound as address"),
        pytest.param(audio("data:audio/x;base64,AAAA"), inline("audio/x", "AAAA"), id="of a type that only it knows"),
        pytest.param(audio("AAAA", "opus"), inline("audio/ogg", "AAAA"), id="opus comes in ogg"),
        pytest.param(video(YOUTUBE), by_uri(YOUTUBE, "video/mp4"), id="YouTube"),
        pytest.param(video("https://youtu.be/abc"), by_uri("https://youtu.be/abc", "video/mp4"), id="YouTube, short"),
        pytest.param(video(f"data:video/webm;base64,{MP4}"), inline("video/mp4", MP4), id="a video of another type"),
        pytest.param(
            video(f"data:video/3gpp;base64,{MP4}"), inline("video/3gpp", MP4), id="a video in an mp4's clothes"
        ),
        pytest.param(video(f"data:mp4;base64,{MP4}"), inline("video/mp4", MP4), id="a video whose type is none"),
        pytest.param(
            {"type": "video_url", "video_url": "data:video/webm;base64,AAAA"},
            inline("video/webm", "AAAA"),
            id="a video in the request",
        ),
        pytest.param(
            file(file_data=f"data:application/pdf;base64,{PDF}"), inline("application/pdf", PDF), id="a file as address"
        ),
        pytest.param(
            file(file_data=f"data:text/plain;base64,{TEXT}"), inline("text/plain", TEXT), id="text stays text"
        ),
        pytest.param(
            file(file_data=f"data:application/ogg;base64,{OGG}", filename="voice.ogg"),
            inline("audio/ogg", OGG),
            id="a voice note",
        ),
        pytest.param(
            file(file_data=f"data:pdf;base64,{PDF}", filename="a.pdf"), inline("application/pdf", PDF), id="half a type"
        ),
        pytest.param(
            file(file_data="data:pdf;base64,AAAA", filename="a.md"), inline("text/markdown", "AAAA"), id="and a name"
        ),
        pytest.param(
            file(file_data=f"data:text/plain;base64,{PDF}"),
            inline("application/pdf", PDF),
            id="a PDF that is called text",
        ),
        pytest.param(file(file_data=PDF, filename="a.txt"), inline("application/pdf", PDF), id="or named like text"),
        pytest.param(
            file(file_data=f"data:application/vnd.ms-excel;base64,{TEXT}", filename="a.csv"),
            inline("text/csv", TEXT),
            id="a name where the type is no use",
        ),
        pytest.param(
            file(file_data=f"data:application/x-own;base64,{TEXT}", filename="a.own"),
            inline("application/x-own", TEXT),
            id="a type that nobody knows, and nothing better",
        ),
        pytest.param(
            file(file_data=f"data:binary/octet-stream;base64,{TEXT}", filename="a.md"),
            inline("text/markdown", TEXT),
            id="another type of nothing",
        ),
        pytest.param(file(file_data="data:text/plain,hello"), inline("text/plain", "aGVsbG8="), id="text written out"),
        pytest.param(
            file(file_data=f"data:;base64,{TEXT}", filename="a.md"), inline("text/markdown", TEXT), id="type by name"
        ),
        pytest.param(
            file(file_data=PDF, filename="report.PDF"), inline("application/pdf", PDF), id="bare base64 and a name"
        ),
        pytest.param(file(file_data=PDF), inline("application/pdf", PDF), id="bare base64 that shows its type"),
        pytest.param(file(file_data=FILE_URI), by_uri(FILE_URI), id="a file that Google holds"),
        pytest.param(file(file_id=FILE_URI), by_uri(FILE_URI), id="by the URI as its id"),
        pytest.param(
            file(file_id=FILE_URI, filename="a.pdf"), by_uri(FILE_URI, "application/pdf"), id="by its URI and a name"
        ),
    ],
)
def test_part(part: dict[str, Any], expected: dict[str, Any]) -> None:
    assert converted(part) == expected


@pytest.mark.parametrize(
    ("part", "said"),
    [
        pytest.param(image("data:image/png" + ";x" * 3_000 + ";base64,AAAA"), "4096", id="options without end"),
        pytest.param(file(file_data="data:" + "x" * 5_000 + ",AAAA"), "4096", id="a type without end"),
        pytest.param(image("data:image/png;base64,AA=A"), "base64", id="an end in the middle"),
        pytest.param(image("data:image/png;base64,AA%3DA"), "base64", id="an end in the middle, escaped"),
        pytest.param(image("data:image/png;base64,%FF%FF%FF%FF"), "base64", id="bytes beyond ASCII, escaped"),
        pytest.param(file(file_data="data:pdf;base64,AAAA"), "type", id="half a type and unknown bytes"),
        pytest.param(image("data:image/png;base64,***"), "base64", id="no base64"),
        pytest.param(image("data:image/png;base64,AAAAA"), "base64", id="a length that base64 never has"),
        pytest.param(image("data:image/png;base64,"), "base64", id="empty base64"),
        pytest.param(image("data:image/png;base64,ÄÄÄÄ"), "base64", id="letters beyond ASCII"),
        pytest.param(image("data:image/png;base64"), "no data", id="no comma"),
        pytest.param(image("data:text/plain," + "%z" * 70_000), "neither", id="nothing but percent signs"),
        pytest.param(image(f"data:image/png,{PNG}"), "neither", id="base64 that does not say so"),
        pytest.param(image("data:;base64,AAAA"), "type", id="bytes that say nothing"),
        pytest.param(image(""), "address", id="no address"),
        pytest.param(image("ftp://example.org/a.png"), "address", id="another scheme"),
        pytest.param(image("/etc/passwd"), "address", id="a path"),
        pytest.param(image("https://example.org/a.png"), "fetched", id="an image that was not fetched"),
        pytest.param(audio(WAV, "pcm16"), "format", id="a format that Gemini does not know"),
        pytest.param(audio("AAAA"), "type", id="a sound that shows no type"),
        pytest.param(audio("???", "wav"), "base64", id="a sound that is none"),
        pytest.param(video("https://example.org/a.mp4"), "YouTube", id="a video anywhere"),
        pytest.param(file(file_id="file-abc"), "file_data", id="a file at OpenAI"),
        pytest.param(image("gs://b/a.png"), "address", id="an image in the operator's bucket"),
        pytest.param(video("gs://b/v.mov"), "Files API", id="a video in a bucket"),
        pytest.param(file(file_id="gs://b/x.pdf"), "Files API", id="a file in a bucket"),
        pytest.param(file(file_data="gs://b/x.pdf"), "base64", id="a bucket as data"),
        pytest.param(file(filename="a.pdf"), "file_data", id="a name without a file"),
        pytest.param(file(file_data="AAAA", filename="a.unknown"), "type", id="a file of no known type"),
        pytest.param(file(file_data="AAAA", filename="README"), "type", id="a name without ending"),
    ],
)
def test_part_that_cannot_be_sent_is_refused_by_place(part: dict[str, Any], said: str) -> None:
    fault = refused(messages=[*USER, {"role": "user", "content": [{"type": "text", "text": "a"}, part]}])
    assert (fault.status, fault.param) == (400, "messages[1].content[1]")
    assert said in fault.message


def test_a_model_without_eyes_takes_no_image() -> None:
    part = image(f"data:image/png;base64,{PNG}")
    fault = refused("gemini-2.5-pro-preview-tts", messages=[{"role": "user", "content": [part]}])
    assert (fault.param, fault.code) == ("messages[0].content[0]", "unsupported_value")


@pytest.mark.parametrize(
    ("model", "detail", "resolution"),
    [
        (NEW, "low", {"level": "MEDIA_RESOLUTION_LOW"}),
        (NEW, "high", {"level": "MEDIA_RESOLUTION_HIGH"}),
        (NEW, "original", {"level": "MEDIA_RESOLUTION_HIGH"}),
        (NEW, "auto", None),
        (NEW, None, None),
        (OLD, "low", None),
    ],
)
def test_detail_is_a_resolution_where_parts_have_one(
    model: str, detail: str | None, resolution: dict[str, str] | None
) -> None:
    found = converted(image(f"data:image/png;base64,{PNG}", detail=detail), model)
    assert found.get("mediaResolution") == resolution


# ---------------------------------------------------------------------------------------------------- what to fetch

A, B = "https://example.org/a.png", "http://example.org/b"


def planned(*messages: dict[str, Any]) -> list[RemoteImage]:
    return remote_images(decode(msgspec.json.encode({"model": "m", "messages": messages})))


def test_plan_ends_with_the_first_image_too_many() -> None:
    request = decode(msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": [image(A)] * 100}]}))
    assert len(remote_images(request)) == 100
    assert [found.param for found in remote_images(request, 2)] == [f"messages[0].content[{n}]" for n in range(3)]


def test_plan_names_every_mention_with_its_place() -> None:
    assert planned(
        {"role": "user", "content": "text"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, image(A), image(B)]},
        {"role": "assistant", "content": None, "images": [{"image_url": {"url": "HTTPS://example.org/c"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [image(A), {"type": "image_url", "image_url": f" {B}x "}]},
    ) == [
        RemoteImage(A, "messages[1].content[1]"),
        RemoteImage(B, "messages[1].content[2]"),
        RemoteImage("HTTPS://example.org/c", "messages[2].images[0]"),
        RemoteImage(A, "messages[3].content[0]"),
        RemoteImage(f"{B}x", "messages[3].content[1]"),
    ]


@pytest.mark.parametrize("url", [f"data:image/png;base64,{PNG}", YOUTUBE, FILE_URI, "gs://b/a.png", "file:///etc/x"])
def test_plan_leaves_out_what_is_not_to_be_fetched(url: str) -> None:
    assert planned({"role": "user", "content": [image(url)]}) == []


def test_fetched_images_take_the_place_of_their_addresses() -> None:
    found = contents(
        {"role": "user", "content": [image(A), image(f"data:image/png;base64,{PNG}")]},
        images={A: Blob("image/jpeg", JPEG)},
    )
    assert found == [("user", [inline("image/jpeg", JPEG), inline("image/png", PNG)])]


# ------------------------------------------------------------------------------------------------------- first bytes


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF....WEBP", "image/webp"),
        (b"RIFF....WAVE", "audio/wav"),
        (b"RIFF....????", None),
        (b"BM\x00\x00\x00\x00\x00\x00\x00\x00", "image/bmp"),
        (b"BMW is a maker", None),
        (b"ID3 is a way to grow decision trees", None),
        (b"ID3\x04\x00\x00", "audio/mp3"),
        (b"\xff\xf2", "audio/mp3"),
        (b"OggSpace", None),
        (b"OggS\x00\x02", "audio/ogg"),
        (b"fLaC\x00\x00\x00\x22", "audio/flac"),
        (b"\x00\x00\x00\x18ftypheic", "image/heic"),
        (b"\x00\x00\x00\x18ftypavif", "image/avif"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"FORM....AIFF", "audio/aiff"),
        (b"FORM....????", None),
        (b"%PDF-1.4", "application/pdf"),
        (b"<svg", None),
        (b"", None),
    ],
)
def test_sniff(data: bytes, mime: str | None) -> None:
    assert sniff(data) == mime


@pytest.mark.parametrize(
    ("name", "mime"),
    [("a.pdf", "application/pdf"), ("A.B.CSV", "text/csv"), (".pdf", None), ("pdf", None), ("", None), (None, None)],
)
def test_mime_of_name(name: str | None, mime: str | None) -> None:
    assert mime_of_name(name) == mime


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_come_through_whole(data: bytes) -> None:
    encoded = b64encode(data).decode()
    found = converted(file(file_data=f"data:text/plain;base64,{encoded}"))
    assert found == inline(sniff(data) or "text/plain", encoded)


PIECES = st.lists(
    st.sampled_from(["%", "%4", "%41", "%zz", "%%", "=", "=3D", "a", "\n", "\r", "ä", "%C3%A4"]), max_size=20
)


@given(PIECES, st.integers(2, 9))
def test_percent_escapes_are_read_wherever_a_slice_ends(pieces: list[str], size: int) -> None:
    text = "%20" + "".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "_SLICE", size + 1)
        found = converted(file(file_data=f"data:text/plain,{text}"))
    assert found == inline("text/plain", b64encode(unquote_to_bytes(text)).decode())


@given(st.text("AZaz09+/-_= \n", max_size=30), st.sampled_from(["", "%41", "%3D", "%0A"]), st.integers(3, 9))
def test_base64_is_judged_the_same_wherever_a_slice_ends(text: str, escaped: str, size: int) -> None:
    part = image(f"data:image/x-own;base64,{text}{escaped}")
    whole = outcome(part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "_SLICE", size)
        assert outcome(part) == whole


def outcome(part: dict[str, Any]) -> Any:
    try:
        return converted(part)
    except ClientFault as fault:
        return fault.message


# ----------------------------------------------------------------------------------------------------- large ones

MANY = 3_000_000


def peak(part: dict[str, Any]) -> int:
    """Return the most bytes that converting takes beside the request."""
    request = request_of(part)
    gc.collect()
    tracemalloc.start()
    try:
        to_call(request, capabilities(NEW), {}, None, Options(), False)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("data:image/png;base64," + "iVBORw0KGgo/" * (MANY // 12), id="base64"),
        pytest.param("data:image/png;base64," + "iVBORw0KGgo/\nAAAA" * (MANY // 17), id="base64 in lines"),
        pytest.param("data:image/png;base64," + "_-_-" * (MANY // 4), id="the alphabet of addresses"),
        pytest.param("data:image/png;base64," + "iVBORw0KG%2B/" * (MANY // 13 // 4 * 4), id="base64, escaped"),
        pytest.param("data:image/png," + "%89PNG" * (MANY // 6), id="percent-encoded"),
        pytest.param("data:image/png," + "%41" * (MANY // 3), id="every byte of it"),
        pytest.param(
            "data:text/plain," + "%41\n%, a long way to the next one, and further on" * 60_000,
            id="stray signs and line ends",
        ),
        pytest.param("data:text/plain," + "he, llo" * (MANY // 7), id="text written out"),
    ],
)
def test_a_large_medium_takes_no_more_than_twice_its_size(url: str) -> None:
    sent = converted(image(url))["inlineData"]["data"]
    assert peak(image(url)) < 2.1 * max(len(url), len(sent)) + 1_000_000


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: image("data:image/png;base64," + "iVBORw0KGgo/" * (n // 12)), id="base64"),
        pytest.param(lambda n: image("data:image/png;base64," + "iVBO Rw0KGg_" * (n // 12)), id="base64 in words"),
        pytest.param(lambda n: image("data:image/png," + "%89PNG" * (n // 6)), id="percent-encoded"),
        pytest.param(lambda n: image("data:text/plain," + "%z" * (n // 2)), id="what only looks like it"),
        pytest.param(lambda n: image("data:image/png" + ";x" * (n // 2) + ";base64,AAAA"), id="unread options"),
        pytest.param(lambda n: file(file_data=f"https://generativelanguage.googleapis.com/v{'v' * n}"), id="a version"),
    ],
)
def test_a_medium_is_read_in_linear_time(make: Callable[[int], dict[str, Any]]) -> None:
    def work(size: int) -> Task:
        request = request_of(make(size))

        def convert() -> None:
            with contextlib.suppress(ClientFault):
                to_call(request, capabilities(NEW), {}, None, Options(), False)

        return convert

    check_linear(work, 3 * MANY)


def request_of(part: dict[str, Any]) -> ChatRequest:
    return decode(msgspec.json.encode({"model": NEW, "messages": [{"role": "user", "content": [part]}]}))
