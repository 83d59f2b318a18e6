"""What a fetched image is sent as, and what Gemini does not take."""

from __future__ import annotations

import pytest

from gemproxy.fetch.media_type import media_type
from gemproxy.networks import Unfetchable


@pytest.mark.parametrize(
    ("body", "declared", "reason"),
    [
        pytest.param(b"GIF89a" + bytes(20), "image/png", "it is image/gif", id="gif called png"),
        pytest.param(b"BM\x00\x00\x00\x00\x00\x00\x00\x00", "image/bmp", "it is image/bmp", id="bmp"),
        pytest.param(b"<svg xmlns=''/>", "image/svg+xml", "its bytes are of no known type", id="svg"),
        pytest.param(b"\x00\x01\x02", "image/png", "its bytes are of no known type", id="noise called png"),
        pytest.param(b"\x00\x01\x02", "", "its bytes are of no known type", id="noise without a type"),
        pytest.param(b"\x00\x01\x02", 'text/"><x', "its bytes are of no known type", id="a type that is none"),
        pytest.param(b"hello", "text/html; charset=utf-8", "it is an HTML page", id="html by its type"),
        pytest.param(b"\xef\xbb\xbf \n<!DOCTYPE HTML><p>", "text/plain", "it is an HTML page", id="html by its bytes"),
    ],
)
def test_what_gemini_does_not_take_is_refused(body: bytes, declared: str, reason: str) -> None:
    with pytest.raises(Unfetchable) as caught:
        media_type(body, declared)
    assert str(caught.value).startswith(reason)


def test_a_refused_type_says_what_is_taken() -> None:
    with pytest.raises(Unfetchable, match="Gemini takes image/png, image/jpeg, image/webp, image/heic, image/heif"):
        media_type(b"GIF89a", "image/gif")
