"""The kinds of cooldowns that a request falls under, and whom its refusal concerns."""

import pytest
from msgspec import Raw

from gemproxy.upstream.cause import Cause
from gemproxy.upstream.demand import LEAST_CHARACTERS, PLAIN_DEMAND, Demand
from gemproxy.wire.gemini import (
    Blob,
    Content,
    Empty,
    FileData,
    FunctionCall,
    FunctionDeclaration,
    FunctionResponse,
    GenerateRequest,
    GenerationConfig,
    Part,
    ToolSpec,
)
from tests.growth import check_linear

SEARCH = [ToolSpec(google_search=Empty())]
PICTURE = Part(inline_data=Blob("image/png", "AAAA"))


def said(*parts, **more):
    return Demand(GenerateRequest([Content(list(parts), "user")], **more))


def text(size):
    return Part(text="x" * size)


@pytest.mark.parametrize(
    ("demand", "kinds"),
    [
        pytest.param(PLAIN_DEMAND, (), id="nothing special"),
        pytest.param(said(text(9), tools=[ToolSpec([FunctionDeclaration("f")])]), (), id="functions"),
        pytest.param(said(text(9), tools=SEARCH), ("with search",), id="search"),
        pytest.param(
            said(text(9), tools=[*SEARCH, ToolSpec(url_context=Empty()), ToolSpec(code_execution=Empty())]),
            ("with URL context and code execution and search",),
            id="several features are one kind",
        ),
        pytest.param(said(text(9), cached_content="c"), ("with cached content",), id="cached content"),
        pytest.param(said(text(9), service_tier="flex"), ("with flex tier",), id="a tier"),
        pytest.param(
            said(text(9), generation_config=GenerationConfig(response_modalities=["TEXT", "IMAGE"])),
            ("with image output",),
            id="pictures out",
        ),
        pytest.param(said(PICTURE, PICTURE), ("with images",), id="pictures in"),
        pytest.param(said(Part(inline_data=Blob("audio/ogg", "AAAA"))), ("with audio",), id="sound"),
        pytest.param(said(Part(inline_data=Blob("x-made/up", "AAAA"))), (), id="a client's own word"),
        pytest.param(said(Part(file_data=FileData("https://youtu.be/x"))), ("with files",), id="a film elsewhere"),
        pytest.param(
            said(Part(function_response=FunctionResponse("f", {}, parts=[PICTURE]))), ("with images",), id="in a result"
        ),
        pytest.param(said(text(LEAST_CHARACTERS - 1)), (), id="just not large"),
        pytest.param(said(text(LEAST_CHARACTERS)), ("from 32 KiB on",), id="just large"),
        pytest.param(said(text(50 << 10)), ("from 32 KiB on", "from 40 KiB on", "from 50 KiB on"), id="larger"),
        pytest.param(
            said(text(LEAST_CHARACTERS), tools=SEARCH),
            ("from 32 KiB on", "with search", "with search, from 32 KiB on"),
            id="large, with a feature",
        ),
    ],
)
def test_a_request_falls_under_the_rests_of_its_kinds(demand, kinds):
    assert demand.kinds == kinds


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("size", [9, LEAST_CHARACTERS, 1 << 20, 100 << 20])
@pytest.mark.parametrize("tools", [None, SEARCH])
def test_the_kind_of_its_own_refusal_holds_a_request(cause, size, tools):
    demand = said(text(size), tools=tools)
    assert demand.kind(cause) in ("", *demand.kinds)


@pytest.mark.parametrize(
    ("demand", "cause", "kind"),
    [
        (said(text(LEAST_CHARACTERS), tools=SEARCH), Cause.ANY, ""),
        (said(text(LEAST_CHARACTERS), tools=SEARCH), Cause.FEATURE, "with search"),
        (said(text(LEAST_CHARACTERS), tools=SEARCH), Cause.SIZE, "with search, from 32 KiB on"),
        (said(text(LEAST_CHARACTERS)), Cause.SIZE, "from 32 KiB on"),
        (said(text(9)), Cause.SIZE, ""),
        (said(text(9)), Cause.UNTOLD, ""),
        (said(text(9), tools=SEARCH), Cause.UNTOLD, "with search"),
    ],
)
def test_a_refusal_concerns_requests_that_are_like_it(demand, cause, kind):
    assert demand.kind(cause) == kind


def test_no_request_that_is_smaller_by_a_quarter_falls_under_the_kind_of_a_refused_one():
    for size in range(2 * LEAST_CHARACTERS, 30 << 20, 1_234_567):
        assert said(text(size)).kind(Cause.SIZE) not in said(text(size * 3 // 4)).kinds


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (text(6000), 1000),
        (Part(text=Raw(b'"' + b"x" * 5998 + b'"')), 1000),
        (Part(function_call=FunctionCall("f", Raw(b'{"a":"' + b"x" * 5992 + b'"}'))), 1000),
        (Part(function_response=FunctionResponse("f", {"output": "x" * 6000})), 1000),
        (Part(function_response=FunctionResponse("f", Raw(b'{"a":"' + b"x" * 5992 + b'"}'))), 1000),
        (Part(inline_data=Blob("image/png", "A" * 1_000_000)), 258),
    ],
    ids=["a text", "a text as it came", "arguments", "a result", "a result as it came", "a picture, whatever its size"],
)
def test_tokens_are_counted_rather_too_few(part, tokens):
    assert said(part).tokens == tokens


def test_instructions_and_tools_count():
    body = GenerateRequest(
        [Content([text(400)])],
        system_instruction=Content([text(400)]),
        tools=[ToolSpec([FunctionDeclaration("f", "x" * 200, Raw(b"[" + b" " * 198 + b"]"))])],
    )
    assert Demand(body).tokens == 200


def test_the_work_is_linear_in_the_parts():
    def work(count):
        body = GenerateRequest([Content([Part(text="x") for _ in range(count)])])

        def sum_up():  # a new one each time: it remembers what it found
            demand = Demand(body)
            assert (demand.kind(Cause.SIZE), demand.tokens) != ("", 0)

        return sum_up

    check_linear(work, 50_000)


def test_no_english_text_is_counted_with_more_tokens_than_it_has():
    assert said(text(4_600)).tokens < 1_000
