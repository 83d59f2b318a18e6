"""What a verdict means for the request that drew it."""

import pytest

from gemproxy.upstream.aim import aimed
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Action, Call, NamedPart, Scope, Suspect, Verdict
from gemproxy.wire.gemini import Blob, Content, Empty, FileData, GenerateRequest, Part, ToolSpec
from tests.upstream.refusals.refusal_bodies import NOW, error


def call(size=9, tools=None, media=0):
    parts = [Part(inline_data=Blob("image/gif", "AAAA")) for _ in range(media)]
    named = [NamedPart(part, f"messages[0].content[{place}]") for place, part in enumerate(parts)]
    body = GenerateRequest([Content([*parts, Part(text="x" * size)], "user")], tools=tools)
    return Call("generateContent", "gemini-3.8-flash", body, named)


def spent(cause, limit=0):
    return Verdict(Action.NEXT, Scope.PROJECT, 60.0, "quota", "used up", 429, cause=cause, limit=limit)


def test_a_verdict_on_whoever_asks_stays_as_it_is():
    verdict = spent(Cause.ANY)
    assert aimed(verdict, call(tools=[ToolSpec(google_search=Empty())])) is verdict


@pytest.mark.parametrize(
    ("verdict", "asked", "action", "kind"),
    [
        pytest.param(
            spent(Cause.FEATURE),
            call(tools=[ToolSpec(google_search=Empty())]),
            Action.NEXT,
            "with search",
            id="a feature",
        ),
        pytest.param(spent(Cause.UNTOLD), call(), Action.NEXT, "", id="nothing special about it: all rest"),
        pytest.param(spent(Cause.SIZE, 10_000), call(59_000), Action.NEXT, "from 50 KiB on", id="it may pass later"),
        pytest.param(spent(Cause.SIZE, 10_000), call(61_000), Action.ELSEWHERE, "from 50 KiB on", id="it never passes"),
        pytest.param(spent(Cause.SIZE, 100), call(4_000), Action.ELSEWHERE, "", id="a tiny quota"),
    ],
)
def test_a_quota_is_aimed_at_requests_like_this_one(verdict, asked, action, kind):
    told = aimed(verdict, asked)
    assert (told.action, told.kind, told.cause) == (action, kind, Cause.ANY)
    assert (told.scope, told.until) == (Scope.PROJECT, 60.0)


@pytest.mark.parametrize(
    ("body", "scope", "code"),
    [
        pytest.param(GenerateRequest(), Scope.MODEL, "model_not_found", id="it can only be the model"),
        pytest.param(GenerateRequest(cached_content="c"), Scope.NONE, "not_found", id="it may be the cache"),
        pytest.param(
            GenerateRequest([Content([Part(file_data=FileData("https://youtu.be/x"))])]),
            Scope.NONE,
            "not_found",
            id="it may be the file",
        ),
    ],
)
def test_what_a_client_brings_along_and_is_missing_rests_no_model(body, scope, code):
    unnamed = CodeAssist("http://upstream.test", "x").judge(404, {}, error("Requested entity was not found."), NOW)
    told = aimed(unnamed, Call("generateContent", "gemini-3.8-flash", body))
    assert (told.action, told.scope, told.code, told.cause) == (Action.NEXT, scope, code, Cause.ANY)
    named = CodeAssist("http://upstream.test", "x").judge(404, {}, error("models/m is not found"), NOW)
    assert aimed(named, Call("generateContent", "gemini-3.8-flash", body)).scope is Scope.MODEL


def test_a_request_above_the_quota_is_told_so():
    told = aimed(spent(Cause.SIZE, 10_000), call(90_000))
    assert (told.status, told.code, told.field) == (429, "rate_limit_exceeded", "contents")
    assert "about 15000 tokens" in told.message
    assert "10000" in told.message


@pytest.mark.parametrize(
    ("media", "param", "message"),
    [
        pytest.param(0, "contents", "bad", id="without media nothing is named"),
        pytest.param(1, "messages[0].content[0]", "bad", id="one is named"),
        pytest.param(
            2,
            "messages[0].content[0]",
            "bad (one of messages[0].content[0], messages[0].content[1])",
            id="of two the first, and both in the message",
        ),
        pytest.param(
            99,
            "messages[0].content[0]",
            f"bad (one of {', '.join(f'messages[0].content[{place}]' for place in range(8))} and others)",
            id="of many the first few",
        ),
    ],
)
def test_a_refused_medium_is_named_as_the_client_knows_it(media, param, message):
    verdict = Verdict(
        Action.STOP, message="bad", status=400, code="", field="contents", suspect=Suspect(mime="image/gif")
    )
    told = aimed(verdict, call(media=media))
    assert (told.field, told.message) == (param, message)
