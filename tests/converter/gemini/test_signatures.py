"""Thought signatures: the bounded cache, and every route by which one comes back (docs/protocol.md 6.4)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.converter.gemini import signatures
from gemproxy.converter.gemini.signatures import SignatureCache, SignatureLookup, Signed, image_key, parted
from gemproxy.wire.gemini import Part
from tests.chat_bodies import PNG, USER, asks, call, gives, plan
from tests.clock import Clock

HERE = "ai_studio/gemini-3.8-flash"


# ------------------------------------------------------------------------------------------------------- the cache


def test_cache_gives_back_what_was_put(clock: Clock) -> None:
    cache = SignatureCache(clock)
    cache.of("ci").put("call_1", Signed("c2ln", HERE))
    assert cache.of("ci").get("call_1") == Signed("c2ln", HERE)
    assert cache.of("ci").get("call_2") is None


def test_cache_knows_a_call_by_its_client_and_its_id(clock: Clock) -> None:
    cache = SignatureCache(clock)
    cache.of("one").put("call_1", Signed("c2lnMQ", HERE))
    cache.of("two").put("call_1", Signed("c2lnMg", HERE))
    assert cache.of("one").get("call_1") == Signed("c2lnMQ", HERE)
    assert cache.of("two").get("call_1") == Signed("c2lnMg", HERE)
    assert cache.of("three").get("call_1") is None


def test_cache_forgets_after_its_time(clock: Clock) -> None:
    cache = SignatureCache(clock, ttl=60)
    cache.of("ci").put("call_1", Signed("c2ln", HERE))
    clock.now += 59
    assert cache.of("ci").get("call_1") is not None
    clock.now += 1
    assert cache.of("ci").get("call_1") is None
    assert len(cache) == 0


def test_cache_drops_the_least_recently_used_entry(clock: Clock) -> None:
    cache = SignatureCache(clock, max_entries=2)
    cache.of("ci").put("a", Signed("1", HERE))
    cache.of("ci").put("b", Signed("2", HERE))
    cache.of("ci").get("a")
    cache.of("ci").put("c", Signed("3", HERE))
    assert [cache.of("ci").get(name) is not None for name in "abc"] == [True, False, True]


def test_cache_is_bounded_in_bytes(clock: Clock) -> None:
    cache = SignatureCache(clock, max_bytes=100)
    for name in "abc":
        cache.of("ci").put(name, Signed("x" * 40, "o"))
    assert [cache.of("ci").get(name) is not None for name in "abc"] == [False, True, True]


def test_cache_does_not_give_up_everything_for_one_that_cannot_fit(clock: Clock) -> None:
    cache = SignatureCache(clock, max_bytes=100)
    cache.of("ci").put("a", Signed("x", "o"))
    cache.of("ci").put("b", Signed("x" * 200, "o"))
    assert cache.of("ci").get("a") is not None
    assert cache.of("ci").get("b") is None


def test_cache_counts_a_replaced_entry_once(clock: Clock) -> None:
    cache = SignatureCache(clock, max_bytes=100)
    for _ in range(50):
        cache.of("ci").put("a", Signed("x" * 60, "o"))
    assert cache.of("ci").get("a") == Signed("x" * 60, "o")
    assert len(cache) == 1
    cache.of("ci").put("b", Signed("y" * 30, "o"))
    assert cache.of("ci").get("a") is not None


def test_cache_shows_no_signature(clock: Clock) -> None:
    cache = SignatureCache(clock)
    cache.of("ci").put("call_1", Signed("c2VjcmV0", HERE))
    assert repr(cache) == f"SignatureCache(1 entries, {len('cicall_1c2VjcmV0') + len(HERE)} bytes)"


@pytest.mark.parametrize(
    ("sent", "bare", "appended"),
    [
        ("call_1", "call_1", ""),
        ("call_1__thought__c2ln", "call_1", "c2ln"),
        ("call_1__sig__c2ln", "call_1", "c2ln"),
        ("call_1__sig__", "call_1", ""),
        ("", "", ""),
    ],
)
def test_an_id_is_parted_from_what_was_appended(sent: str, bare: str, appended: str) -> None:
    assert parted(sent) == (bare, appended)


def test_image_keys_differ_and_are_short() -> None:
    assert image_key("AAAA") != image_key("AAAB")
    assert len(image_key("A" * 1_000_000)) < 50


# -------------------------------------------------------------------------------------------------- the ways back


def google(signature: str | None, origin: str | None = None) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": signature, "origin": origin}}}


def signed(part: Part) -> tuple[str | None, str]:
    return part.thought_signature, part.origin


def sent_back(message: dict[str, Any], cache: SignatureLookup | None = None) -> list[Part]:
    """Return the parts of the model's content for an assistant message that the client sends back."""
    found = plan(messages=[*USER, message], signatures=cache).call.body.contents[1]
    return found.parts or []


@pytest.mark.parametrize(
    ("sent", "cached", "expected"),
    [
        pytest.param(call("c"), None, (None, ""), id="nothing anywhere"),
        pytest.param(call("c", **google("S1", HERE)), None, ("S1", HERE), id="Google's field with our origin"),
        pytest.param(call("c", **google("S1")), None, ("S1", ""), id="Google's field, origin unknown"),
        pytest.param(call("c", **google("S1", "x" * 201)), None, ("S1", ""), id="an origin that is none of ours"),
        pytest.param(call("c", **google("S1")), ("S1", HERE), ("S1", HERE), id="the cache knows where it was made"),
        pytest.param(call("c", **google("S1")), ("S2", HERE), ("S1", ""), id="but not of another signature"),
        pytest.param(call("c", **google(None)), ("S2", HERE), ("S2", HERE), id="an empty field"),
        pytest.param(call("c", extra_content={}), ("S2", HERE), ("S2", HERE), id="an empty carrier"),
        pytest.param(
            call("c", provider_specific_fields={"thought_signature": "S3"}), None, ("S3", ""), id="litellm's field"
        ),
        pytest.param(
            call("c", provider_specific_fields={"thought_signature": "S3"}, **google("S1")),
            None,
            ("S1", ""),
            id="Google's field beats litellm's",
        ),
        pytest.param(
            call("c", provider_specific_fields={}), ("S2", HERE), ("S2", HERE), id="litellm's field without one"
        ),
        pytest.param(call("c__thought__S4"), None, ("S4", ""), id="appended to the id"),
        pytest.param(call("c__sig__S5"), ("S5", HERE), ("S5", HERE), id="appended in another way, and cached"),
        pytest.param(call("c"), ("S6", HERE), ("S6", HERE), id="only the cache"),
        pytest.param(call("other"), ("S6", HERE), (None, ""), id="the cache knows another call"),
    ],
)
def test_signature_of_a_call(
    clock: Clock, sent: dict[str, Any], cached: tuple[str, str] | None, expected: tuple[str | None, str]
) -> None:
    cache = SignatureCache(clock)
    if cached is not None:
        cache.of("ci").put("c", Signed(*cached))
    assert signed(sent_back(asks(sent), cache.of("ci"))[0]) == expected


def test_an_appended_signature_is_cut_from_call_and_result() -> None:
    found = plan(messages=[*USER, asks(call("c__thought__S4")), gives("c__thought__S4", "yes")]).call.body
    written = msgspec.json.decode(msgspec.json.encode(found.contents))
    assert written[1]["parts"][0]["functionCall"]["id"] == "c"
    assert written[2]["parts"][0]["functionResponse"] == {"name": "f", "id": "c", "response": {"output": "yes"}}


def test_each_call_keeps_its_own_signature() -> None:
    parts = sent_back(asks(call("a", **google("S1")), call("b"), call("c", **google("S3"))))
    assert [part.thought_signature for part in parts] == ["S1", None, "S3"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param({"content": "Hello"}, ["S"], id="on the text"),
        pytest.param(
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, [None, "S"], id="on the last"
        ),
        pytest.param({"content": "Hello", "tool_calls": [call("c")]}, ["S", None], id="on the text, not on the call"),
        pytest.param({"content": None, "tool_calls": [call("c"), call("d")]}, ["S", None], id="on the first call"),
        pytest.param(
            {"content": None, "tool_calls": [call("c", **google("T")), call("d")]}, ["T", None], id="unless it has one"
        ),
    ],
)
def test_signature_of_a_message(message: dict[str, Any], expected: list[str | None]) -> None:
    parts = sent_back({"role": "assistant", **message, **google("S", HERE)})
    assert [part.thought_signature for part in parts] == expected
    assert all(part.origin == HERE for part in parts if part.thought_signature == "S")


def test_signature_of_a_message_that_says_nothing_is_dropped() -> None:
    assert len(plan(messages=[*USER, {"role": "assistant", "content": "", **google("S")}]).call.body.contents) == 1


@pytest.mark.parametrize(
    ("extra", "cached", "expected"),
    [
        pytest.param({}, None, None, id="none"),
        pytest.param(google("S", HERE), None, ("S", HERE), id="carried with its origin"),
        pytest.param(google("S"), None, ("S", ""), id="carried without"),
        pytest.param(google("S"), ("S", HERE), ("S", HERE), id="and completed from the cache"),
        pytest.param({}, ("S", HERE), ("S", HERE), id="only cached"),
    ],
)
def test_signature_of_an_image(
    clock: Clock, extra: dict[str, Any], cached: tuple[str, str] | None, expected: tuple[str, str] | None
) -> None:
    cache = SignatureCache(clock)
    if cached is not None:
        cache.of("ci").put(image_key(PNG), Signed(*cached))
    image = {"image_url": {"url": f"data:image/png;base64,{PNG}"}, **extra}
    part = sent_back({"role": "assistant", "content": "See", "images": [image]}, cache.of("ci"))[1]
    assert part.inline_data is not None
    assert signed(part) == (expected or (None, ""))


def test_without_a_cache_there_is_nothing_to_look_up() -> None:
    assert signatures.known(None, None, lambda: image_key(PNG)) is None


def test_a_call_that_is_remembered_for_its_arguments_alone_has_no_signature(clock: Clock) -> None:
    cache = SignatureCache(clock).of("ci")
    cache.put("c1", Signed("", HERE, '{"a":1}'))
    assert signatures.known(None, cache, lambda: "c1") is None
    assert signatures.known(Signed("c2ln", ""), cache, lambda: "c1") == Signed("c2ln", "")
