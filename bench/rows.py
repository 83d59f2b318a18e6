"""The rows of the neighbours' table: what one client does, or the upstream answers it, that could hurt all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from bench import heavy, heavy_items, hostile
from bench.heavy import MOST
from bench.question import CHAT

Manner = Literal["asks", "in tiny chunks", "stops short", "never reads", "never ends its head"]


class Row(Struct, frozen=True):
    """``body`` makes what each of ``clients`` sends to ``path``, in a ``manner``.

    ``large``: about as large as a body may be, so the loop may be held longer. ``hold``: seconds that a client stays
    which does nothing more.
    """

    sentence: str
    body: Callable[[], bytes]
    clients: int = 1
    manner: Manner = "asks"
    large: bool = False
    hold: float = 4.0
    path: str = CHAT


def rows(upstream: int = 0) -> dict[str, Row]:
    """Return all rows by name; ``upstream`` is the port of the upstream, which has the pictures."""
    return _questions(upstream) | _responses() | _answers()


def _questions(upstream: int) -> dict[str, Row]:
    pictures = f"http://127.0.0.1:{upstream}"
    return {
        "results-of-one-id": Row(
            "20,000 calls of one id and 40,000 results for it", lambda: heavy.results_of_one_id(20_000)
        ),
        "results-in-limits": Row("3,000 calls of one id and 6,000 results", lambda: heavy.results_of_one_id(3_000)),
        "media-in-a-result": Row("20,000 images in one result", lambda: heavy.media_in_a_result(20_000)),
        "long-name": Row("a function's name of 25 MB to be made fit", lambda: heavy.long_name(25_000_000), large=True),
        "calls": Row("600,000 calls", lambda: heavy.calls(600_000)),
        "tiny-images": Row("500,000 tiny images", lambda: heavy.tiny_images(500_000), large=True),
        "calls-in-limits": Row("9,000 calls", lambda: heavy.calls(9_000)),
        "images-in-limits": Row("90,000 tiny images", lambda: heavy.tiny_images(90_000)),
        "tiny-parts": Row("30 MB of empty parts", lambda: heavy.tiny_parts(MOST), large=True),
        "options": Row("28 MB of options in a data: URL", lambda: heavy.options(28_000_000), large=True),
        "percent": Row("a percent-encoded data: URL of 30 MB", lambda: heavy.percent(MOST), large=True),
        "picture": Row("an image of 31 MB in base64", lambda: heavy.picture(31_000_000), large=True),
        "text": Row("a text of 30 MB", lambda: heavy.text(MOST, b"a"), large=True),
        "text-accents": Row(
            "a text of 30 MB of two-byte characters", lambda: heavy.text(MOST, "ä".encode()), large=True
        ),
        "text-lines": Row("a text of 30 MB of \\n", lambda: heavy.text(MOST, b"\\n"), large=True),
        "text-escapes": Row("a text of 30 MB of \\u00e9", lambda: heavy.text(MOST, b"\\u00e9"), large=True),
        "objects-in-arguments": Row(
            "30 MB of {} in a call's arguments", lambda: heavy.arguments(heavy.objects(MOST)), large=True
        ),
        "objects-in-metadata": Row("30 MB of {} in metadata", lambda: heavy.metadata(heavy.objects(MOST)), large=True),
        "objects-in-a-tool": Row(
            "30 MB of {} in a tool's parameters", lambda: heavy.objects_as_parameters(MOST), large=True
        ),
        "biases": Row("2,000,000 entries of logit_bias", lambda: heavy.biases(2_000_000), large=True),
        "deep": Row("metadata 10,000,000 levels deep", lambda: heavy.metadata(heavy.deep(10_000_000)), large=True),
        "tools-128": Row("128 tools of 240 KB", lambda: heavy.tools(128, 240_000), large=True),
        "tools-512": Row("512 tools of 60 KB", lambda: heavy.tools(512, 60_000), large=True),
        "tools-in-limits": Row("512 tools of 3 KB", lambda: heavy.tools(512, 3_000)),
        "refs": Row(
            "120 tools whose 60 definitions lead to each other", lambda: heavy.web_of_refs(120, 60), large=True
        ),
        "tiny-chunks": Row(
            "5 MB of question in chunks of one byte",
            lambda: heavy.text(5_000_000, b"a"),
            manner="in tiny chunks",
            large=True,
        ),
        "pictures": Row(
            "10 small requests that name 3 pictures of 20 MB", lambda: heavy.pictures(pictures, 3), clients=10
        ),
        "uploads": Row(
            "30 uploads of 32 MB that stop short",
            lambda: heavy.text(32_000_000, b"a"),
            clients=30,
            manner="stops short",
            large=True,
        ),
        "heads": Row(
            "300 connections without a key whose headers do not end",
            lambda: b"",
            clients=300,
            manner="never ends its head",
        ),
    }


def _responses() -> dict[str, Row]:
    return {
        "items-" + name: Row("Responses: " + sentence, body, large=large, path=heavy_items.PATH)
        for name, sentence, large, body in (
            ("messages", "100,000 messages", True, lambda: heavy_items.messages(100_000)),
            ("in-limits", "4,900 calls with their outputs", True, lambda: heavy_items.calls(4_900)),
            ("left-out", "30 MB of items that are left out", True, lambda: heavy_items.left_out(MOST)),
            ("left-out-some", "9,000 items that are left out", True, lambda: heavy_items.left_out(9_000 * 19)),
            ("text", "a text of 30 MB", True, lambda: heavy_items.text(MOST, b"a")),
            ("escapes", "a text of 30 MB of \\u00e9", True, lambda: heavy_items.text(MOST, b"\\u00e9")),
            ("objects", "30 MB of {} beside a message", True, lambda: heavy_items.objects_beside(MOST)),
            ("arguments", "30 MB of {} in a call's arguments", True, lambda: heavy_items.objects_as_arguments(MOST)),
            ("deep", "an item 10,000 levels deep", False, lambda: heavy_items.deep(10_000)),
            ("deeper", "an item 10,000,000 levels deep", True, lambda: heavy_items.deep(10_000_000)),
            ("parts", "30 MB of parts that say nothing", True, lambda: heavy_items.parts(MOST)),
            ("sealed", "9,000 thoughts that somebody else has sealed", True, lambda: heavy_items.sealed(9_000, 3_000)),
            ("sealed-large", "one such thought of 30 MB", True, lambda: heavy_items.sealed(1, MOST)),
            ("tools", "512 tools of 50 KB in namespaces", True, lambda: heavy_items.tools(512, 50_000)),
            ("references", "9,000 items that nobody keeps", False, lambda: heavy_items.references(9_000)),
        )
    }


def _answers() -> dict[str, Row]:
    return {
        name: Row(
            "answer: " + answer.sentence,
            _asking(name),
            clients=100 if name == "frame-8mb" else 1,
            manner="never reads" if name == "frame-8mb" else "asks",
            large=name.startswith(("unary-", "unread-", "refusal")),
            hold=8.0,
        )
        for name, answer in hostile.ANSWERS.items()
        if name != heavy.PLAIN
    }


def _asking(name: str) -> Callable[[], bytes]:
    more = [heavy.SEARCH] if name.startswith("places-") else []
    stream = not name.startswith(("unary-", "unread-", "deep-answer", "places-in"))
    return lambda: heavy.question(b'"Hello"', *more, answer=name, stream=stream)
