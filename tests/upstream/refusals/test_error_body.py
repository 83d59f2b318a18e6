import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.upstream.refusals import error_body
from gemproxy.upstream.refusals.error_body import Quota, inside, mend, read
from tests.upstream.refusals.refusal_bodies import NOW, TYPE, bad_field, error, info, retry, violations

PLAIN = error("API key not valid.", info("API_KEY_INVALID", service="x"), code=400, state="INVALID_ARGUMENT")
INNER = msgspec.json.decode(PLAIN)["error"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN, id="an object"),
        pytest.param(b"[" + PLAIN + b"]", id="a one-element array, as gaxios and AI Studio without alt=sse give it"),
        pytest.param(b'{"response":' + PLAIN + b"}", id="inside a Code Assist envelope"),
        pytest.param(msgspec.json.encode(INNER), id="the inner object alone, as a frame's error field holds it"),
        pytest.param(b"data: " + PLAIN + b"\r\n\r\n", id="a data line"),
        pytest.param(b"\r\n \t" + PLAIN, id="space before it"),
        pytest.param(error(PLAIN.decode(), code=400), id="JSON as a string within the message"),
        pytest.param(error(error(PLAIN.decode(), code=400).decode()), id="JSON within JSON within the message"),
        pytest.param(
            PLAIN.replace(b'"domain":"googleapis.com",', b'"domain":"googleapis.com",\n,\n'),
            id="a stray comma, as Code Assist's streams were seen to put in",
        ),
        pytest.param(PLAIN.replace(b'"service":"x"', b'"service":"x",'), id="a comma before the closing brace"),
        pytest.param(
            PLAIN.replace(b'"@type"', b'" @type "').replace(b"ErrorInfo", b"ErrorInfo "), id="spaces in keys and types"
        ),
        pytest.param(PLAIN.replace(b"API_KEY_INVALID", b"API_KEY_INVALID,"), id="a comma inside the reason"),
    ],
)
def test_every_wrapping_gives_the_same_refusal(body):
    refused = read(400, {}, body)
    assert (refused.status, refused.message, refused.reasons) == (400, "API key not valid.", {"API_KEY_INVALID"})
    assert refused.text == "api key not valid."
    assert refused.metadata == {"service": "x"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>", id="HTML"),
        pytest.param(b"upstream connect error", id="text"),
        pytest.param(b'{"error"', id="cut JSON"),
        pytest.param(b"[]", id="an empty array"),
        pytest.param(b"[1, null]", id="an array of other things"),
        pytest.param(b'"error"', id="a JSON string"),
        pytest.param(b'{"error": null}', id="an error of null"),
        pytest.param(b"\xff\xfe\x00", id="no UTF-8"),
        pytest.param(b'{"error": "\xff"}', id="JSON that is not UTF-8"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"error":' + b'{"a":' * 20_000, id="deep nesting inside an error"),
    ],
)
def test_bodies_without_structure_leave_the_status(body):
    refused = read(503, {"retry-after": "7"}, body)
    assert (refused.status, refused.message) == (503, "")
    assert refused.delay(NOW) == 7.0


def test_nesting_without_end_is_followed_for_some_levels_only():
    body = PLAIN
    for _ in range(9):
        body = error(body.decode())
    refused = read(400, {}, body)
    assert refused.message.startswith('{"error":')


def test_an_oauth_error_is_a_string_and_becomes_the_reason():
    refused = read(400, {}, b'{"error":"invalid_grant","error_description":"Token has been expired or revoked."}')
    assert refused.reasons == {"invalid_grant"}
    assert refused.message == "Token has been expired or revoked."


def test_a_legacy_reason_is_read():
    refused = read(429, {}, error("x", code=429, errors=[{"reason": "rateLimitExceeded", "domain": "global"}, 7]))
    assert refused.reasons == {"rateLimitExceeded"}


def test_quotas_limits_and_fields_are_collected_from_every_detail():
    refused = read(
        429,
        {},
        error(
            "x",
            violations("PerMinute-A", "PerDay-B", value="20"),
            info("RATE_LIMIT_EXCEEDED", quota_limit="PerDay-C", quota_limit_value="0"),
            bad_field("tools[0]"),
            bad_field(""),
            {"@type": TYPE + "Help", "links": []},
            code=429,
        ),
    )
    assert refused.quotas == (
        Quota("PerMinute-A", limit="20"),
        Quota("PerDay-B", limit="20"),
        Quota("PerDay-C", limit="0"),
    )
    assert refused.fields == ("tools[0]",)


@pytest.mark.parametrize(
    ("details", "message", "headers", "expected"),
    [
        pytest.param((retry("46s"),), "Please retry in 9s.", {"retry-after": "5"}, 46.0, id="RetryInfo comes first"),
        pytest.param((info("R", quotaResetDelay="900ms"),), "", {}, 1.0, id="then quotaResetDelay, a second at least"),
        pytest.param((retry("0s"), info("R", quotaResetDelay="7s")), "", {}, 7.0, id="0s counts as none"),
        pytest.param((info("R", quotaResetTimeStamp="2026-11-22T20:00:40Z"),), "", {}, 40.0, id="then the reset time"),
        pytest.param(
            (info("R", quotaResetTimeStamp="2025-12-18T20:18:34Z"),),
            "reset after 3s",
            {},
            3.0,
            id="not one that passed",
        ),
        pytest.param((), "Please retry in 38.8s.", {"retry-after": "5"}, 38.8, id="then the sentence"),
        pytest.param((), "", {"retry-after": "5"}, 5.0, id="then the header"),
        pytest.param((), "Resource has been exhausted.", {}, None, id="or nothing"),
    ],
)
def test_the_delay_comes_from_the_first_place_that_says_one(details, message, headers, expected):
    refused = read(429, headers, error(message, *details, code=429))
    assert refused.delay(NOW) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("http", "body", "expected"),
    [
        pytest.param(200, error("x", code=429), 429, id="an error inside a 200 has its own number"),
        pytest.param(200, b'{"error":{"code":"503","message":"x"}}', 503, id="a number as a string"),
        pytest.param(200, error("x", code=0, state="RESOURCE_EXHAUSTED"), 429, id="a name and no number"),
        pytest.param(200, error("x", code=8, state="PERMISSION_DENIED"), 403, id="a gRPC number: the name counts"),
        pytest.param(200, b'{"error":{"message":"x"}}', 500, id="neither"),
        pytest.param(200, b'{"error":{"code":1e300,"message":"x"}}', 500, id="a number that is none"),
        pytest.param(502, error(error("x", code=429).decode(), code=502), 429, id="a gateway's 502 around a 429"),
        pytest.param(503, b"<html>", 503, id="no body to ask"),
        pytest.param(403, error("x", code=429), 403, id="of HTTP's 4xx and the body's number HTTP's holds"),
    ],
)
def test_the_status_is_the_most_telling_one(http, body, expected):
    refused = read(http, {}, body)
    assert refused.status == expected


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"candidates":[{"message":1}]}', b'{"response":{"candidates":[]}}', b"data"]
)
def test_a_success_is_no_refusal(body):
    assert inside(body) is None


def test_a_refusal_inside_a_success_is_found():
    assert inside(PLAIN) == read(500, {}, PLAIN)


def test_the_repr_shows_no_message():
    refused = read(403, {}, error("Consumer 'api_key:AIzaFakeKey' has been suspended.", code=403))
    assert "AIza" not in repr(refused)


def test_mending_leaves_sound_json_alone():
    assert mend(PLAIN) == PLAIN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
DETAIL = st.fixed_dictionaries(
    {},
    optional={
        "@type": st.sampled_from([TYPE + name for name in ("ErrorInfo", "QuotaFailure", "RetryInfo", "BadRequest")]),
        "reason": JSON,
        "metadata": JSON,
        "violations": JSON,
        "retryDelay": JSON,
        "fieldViolations": JSON,
    },
)


@given(st.integers(100, 599), JSON, JSON, JSON, st.lists(DETAIL | JSON, max_size=3), JSON)
def test_details_of_any_type_are_read_without_an_exception(status, code, message, state, details, legacy):
    body = {"error": {"code": code, "message": message, "status": state, "details": details, "errors": legacy}}
    refused = read(status, {}, msgspec.json.encode(body))
    delay = refused.delay(NOW)
    assert delay is None or delay >= 1.0


FREE = "generativelanguage.googleapis.com/generate_content_free_tier_"


@pytest.mark.parametrize(
    ("violated", "message", "expected"),
    [
        pytest.param(
            [{"quotaId": "A", "quotaMetric": f"{FREE}requests"}],
            f"Quota exceeded for metric: {FREE}requests, limit: 20, model: x\nPlease retry in 38.9s.",
            (Quota("A", f"{FREE}requests", "20"),),
            id="the limit of a named quota",
        ),
        pytest.param(
            [{"quotaId": "A", "quotaMetric": f"{FREE}requests", "quotaValue": "5"}],
            f"* Quota exceeded for metric: {FREE}requests, limit: 20",
            (Quota("A", f"{FREE}requests", "5"),),
            id="details know better",
        ),
        pytest.param(
            [],
            "".join(f"* Quota exceeded for metric: {FREE}requests, limit: {limit}\n" for limit in (9, 0, 8)),
            (Quota("", f"{FREE}requests", "0"),),
            id="named in prose alone, and of two limits none",
        ),
        pytest.param([], "Quota exceeded for metric: x, limit: 1.5", (), id="no whole number"),
    ],
)
def test_limits_that_only_the_message_tells_are_read(violated, message, expected):
    detail = {"@type": TYPE + "QuotaFailure", "violations": violated}
    assert read(429, {}, error(message, detail)).quotas == expected


def many(kind, name, *items):
    return error("x", {"@type": TYPE + kind, name: list(items)}, code=400)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(error("," * 250_000, code=400), id="a message of commas"),
        pytest.param(error("contents[1].parts[1]. " * 11_000, code=400), id="a message of paths"),
        pytest.param(error("at 'contents[1].parts[1]. " * 9_000, code=400), id="a message of named paths"),
        pytest.param(error("quota exceeded for metric: a, limit: 5 " * 6_000), id="a message of quotas"),
        pytest.param(error("%25" * 80_000), id="a message of escapes"),
        pytest.param(error("x", info("R" * 100_000, service="x" * 100_000)), id="long words"),
        pytest.param(error("x", {"@type": TYPE + "DebugInfo", "detail": "mime type " * 24_000}), id="a long detail"),
        pytest.param(many("BadRequest", "fieldViolations", *[{"field": "a" * 80}] * 2_000), id="many fields"),
        pytest.param(many("QuotaFailure", "violations", *[{"quotaId": "a" * 80}] * 2_000), id="many violations"),
        pytest.param(error("x", *[info("R")] * 2_000), id="many details"),
        pytest.param(error("x", info("R", **{f"k{number}": "v" for number in range(9_000)})), id="much metadata"),
    ],
)
def test_of_a_large_refusal_no_more_is_kept_than_a_real_one_has(body):
    refused = read(400, {}, body)
    texts = (refused.state, refused.message, refused.text, refused.debug, *refused.reasons, *refused.metadata.values())
    assert max(map(len, texts)) <= 8_000
    assert max(len(refused.quotas), len(refused.fields)) <= 64
    assert len(refused.metadata) <= 200


def test_the_details_of_a_refusal_are_read_up_to_a_bound(monkeypatch):
    looked = []
    monkeypatch.setattr(error_body._Facts, "_detail", lambda _, detail: looked.append(detail))
    read(400, {}, error("x", *[{}] * 5_000))
    assert len(looked) <= 200


def test_a_refusal_that_can_be_read_is_healed_of_nothing(monkeypatch):
    """A message of a quarter of a megabyte was searched for stray commas all the same."""
    monkeypatch.setattr(error_body, "mend", lambda _: pytest.fail("mended"))
    assert read(400, {}, PLAIN).message == "API key not valid."
