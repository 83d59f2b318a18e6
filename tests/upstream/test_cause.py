"""What of a request drew a refusal, by the quotas that Google names, and by each row of the tables."""

import pytest

from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.cause import Cause, cause_of, tokens_allowed
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.refusals.error_body import Quota
from tests.upstream.refusals.refusal_bodies import NOW, TYPE, error, info, retry, violations

REQUESTS = Quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "x/generate_content_free_tier_requests", "10")
TOKENS = Quota("GenerateContentInputTokensPerModelPerMinute-FreeTier", "x/free_tier_input_token_count", "125000")
SEARCH = Quota("GroundedGenerateRequestsPerDayPerProject", "x/search_grounding_requests", "0")


@pytest.mark.parametrize(
    ("quotas", "cause", "limit"),
    [
        pytest.param([REQUESTS], Cause.ANY, 0, id="requests"),
        pytest.param([TOKENS], Cause.SIZE, 125_000, id="tokens"),
        pytest.param([SEARCH], Cause.FEATURE, 0, id="a feature"),
        pytest.param([SEARCH, REQUESTS], Cause.ANY, 0, id="a feature and requests: all are concerned"),
        pytest.param([SEARCH, TOKENS], Cause.UNTOLD, 125_000, id="a feature and tokens: one or the other"),
        pytest.param([Quota(metric="input_token_count", limit="0")], Cause.ANY, 0, id="no tokens at all: not the size"),
        pytest.param([Quota("CachedContentStorageTokens", limit="9")], Cause.FEATURE, 0, id="tokens of a feature"),
        pytest.param([TOKENS, Quota("InputTokensPerDay", limit="99")], Cause.SIZE, 99, id="the lowest limit"),
    ],
)
def test_the_violated_quotas_tell_what_drew_the_refusal(quotas, cause, limit):
    assert (cause_of(quotas), tokens_allowed(quotas)) == (cause, limit)


STUDIO = AiStudio("http://upstream.test", "gemproxy/test")
ASSIST = CodeAssist("http://upstream.test", "gemproxy/test")
DAY, MINUTE = "GenerateRequestsPerDayPerProjectPerModel", "GenerateRequestsPerMinutePerProjectPerModel"
EXCEEDED = "You exceeded your current quota, please check your plan and billing details."


def violated(*quotas):
    found = [{"quotaId": each.id, "quotaMetric": each.metric, "quotaValue": each.limit} for each in quotas]
    return {"@type": TYPE + "QuotaFailure", "violations": found}


@pytest.mark.parametrize(
    ("dialect", "body", "reason", "cause"),
    [
        pytest.param(STUDIO, error(EXCEEDED, violations(MINUTE)), "quota_minute", Cause.ANY, id="a minute's requests"),
        pytest.param(STUDIO, error(EXCEEDED, violated(TOKENS)), "quota_minute", Cause.SIZE, id="a minute's tokens"),
        pytest.param(STUDIO, error(EXCEEDED, violated(TOKENS, REQUESTS)), "quota_minute", Cause.ANY, id="both of them"),
        pytest.param(
            STUDIO, error(EXCEEDED, violations("InputTokensPerDay")), "quota_day", Cause.SIZE, id="day, tokens"
        ),
        pytest.param(
            STUDIO,
            error(EXCEEDED, violated(TOKENS), violations(DAY)),
            "quota_day",
            Cause.ANY,
            id="the worse one decides",
        ),
        pytest.param(
            STUDIO, error(EXCEEDED, violated(SEARCH, REQUESTS)), "no_quota", Cause.FEATURE, id="none of a feature"
        ),
        pytest.param(
            STUDIO,
            error(f"{EXCEEDED} * Quota exceeded for metric: x/search_grounding_requests, limit: 0, model: x"),
            "no_quota",
            Cause.FEATURE,
            id="none of a feature, in prose",
        ),
        pytest.param(STUDIO, error(f"{EXCEEDED} limit: 0"), "no_quota", Cause.ANY, id="none of the model"),
        pytest.param(STUDIO, error(EXCEEDED), "rate_limit", Cause.UNTOLD, id="a bare one"),
        pytest.param(STUDIO, error(EXCEEDED, retry("7s")), "rate_limit", Cause.UNTOLD, id="nothing but a delay"),
        pytest.param(STUDIO, b"", "rate_limit", Cause.UNTOLD, id="nothing at all"),
        pytest.param(
            ASSIST,
            error("Resource exhausted.", errors=[{"reason": "rateLimitExceeded"}]),
            "rate_limit",
            Cause.UNTOLD,
            id="a word that every 429 carries",
        ),
        pytest.param(
            ASSIST, error("x", info("RATE_LIMIT_EXCEEDED")), "rate_limit", Cause.ANY, id="Code Assist's own limit"
        ),
        pytest.param(
            ASSIST, error("x", info("QUOTA_EXHAUSTED")), "quota_exhausted", Cause.ANY, id="Code Assist's quota"
        ),
        pytest.param(
            ASSIST, error("Quota exceeded for limit 'requests per day'."), "quota_day", Cause.ANY, id="a day in prose"
        ),
    ],
)
def test_a_row_tells_what_drew_the_refusal(dialect, body, reason, cause):
    verdict = dialect.judge(429, {}, body, NOW)
    assert (verdict.reason, verdict.cause) == (reason, cause)
