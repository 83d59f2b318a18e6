"""The verdict tables, row by row: what each upstream's refusals mean (docs/protocol.md 3.2-3.5, 9, S.G)."""

import math

import pytest

from gemproxy.upstream import ai_studio, code_assist, vertex
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Action, Repair, Scope
from gemproxy.upstream.refusals import error_body
from gemproxy.upstream.vertex import Vertex
from tests.upstream.refusals.refusal_bodies import NOW, TO_MIDNIGHT, error, info, retry, violations

STUDIO = AiStudio("http://upstream.test", "gemproxy/test")
ASSIST = CodeAssist("http://upstream.test", "gemproxy/test")
VERTEX = Vertex("http://upstream.test", "gemproxy/test")
TABLES = {"ai_studio": ai_studio.TABLE, "code_assist": code_assist.TABLE, "vertex": vertex.TABLE}
CLOUD_CODE = "cloudcode-pa.googleapis.com"


def rest_of(verdict):
    return None if verdict.until is None else verdict.until - NOW


# ------------------------------------------------------------------------------------------- credentials

DEAD = [
    (STUDIO, 400, error("x", info("API_KEY_INVALID")), "key_invalid", "an invalid key by its reason"),
    (
        STUDIO,
        400,
        error("API key not valid. Please pass a valid API key."),
        "key_invalid",
        "an invalid key by its words",
    ),
    (STUDIO, 400, error("API key expired. Please renew the API key."), "key_invalid", "an expired key"),
    (STUDIO, 400, error("API Key not found. Please pass a valid API key."), "key_invalid", "a deleted key"),
    (STUDIO, 401, error("Request had invalid authentication credentials."), "key_refused", "a 401 for a key"),
    (STUDIO, 401, b"", "key_refused", "a 401 without a body"),
    (
        STUDIO,
        403,
        error("Your API key was reported as leaked. Please use another API key."),
        "key_leaked",
        "a leaked key",
    ),
    (STUDIO, 403, error("Your project has been denied access. Please contact support."), "project_denied", "denied"),
    (STUDIO, 403, error("x", info("CONSUMER_SUSPENDED")), "suspended", "a suspended consumer by its reason"),
    (
        STUDIO,
        403,
        error("Permission denied: Consumer 'api_key:AIzaFakeKeyForTests' has been suspended."),
        "suspended",
        "a suspended consumer by its words",
    ),
    (STUDIO, 403, error("x", info("API_KEY_SERVICE_BLOCKED")), "key_restricted", "a key for other services"),
    (STUDIO, 403, error("x", info("API_KEY_IP_ADDRESS_BLOCKED")), "key_restricted", "a key for other addresses"),
    (
        STUDIO,
        403,
        error("Requests to this API generativelanguage.googleapis.com method x are blocked."),
        "key_restricted",
        "a restricted key by its words",
    ),
    (STUDIO, 403, error("x", info("SERVICE_DISABLED")), "api_disabled", "an API that is off"),
    (
        STUDIO,
        403,
        error("Generative Language API has not been used in project 123456 before or it is disabled."),
        "api_disabled",
        "an API that is off, by its words",
    ),
    (STUDIO, 403, error("x", info("BILLING_DISABLED")), "billing", "billing that is off"),
    (
        STUDIO,
        400,
        error(
            "Gemini API free tier is not available in your country. Please enable billing.", state="FAILED_PRECONDITION"
        ),
        "billing",
        "a project without billing where the free tier is not offered",
    ),
    (
        STUDIO,
        403,
        error("Method doesn't allow unregistered callers (callers without established identity)."),
        "no_key",
        "no key",
    ),
    (STUDIO, 403, error("x", info("CONSUMER_INVALID")), "project_invalid", "a key of a project that is gone"),
    (ASSIST, 403, error("x", info("ACCESS_TOKEN_SCOPE_INSUFFICIENT")), "token_scope", "a token for something else"),
    (
        ASSIST,
        403,
        error("x", info("SUBSCRIPTION_REQUIRED", "cloudaicompanion.googleapis.com")),
        "no_licence",
        "no licence",
    ),
    (ASSIST, 403, error("x", info("UNSUPPORTED_CLIENT")), "no_licence", "an account closed to this client"),
    (
        ASSIST,
        403,
        error("You must be a named user on your organization's\nGemini Code Assist Standard edition"),
        "no_licence",
        "a licence that was not assigned",
    ),
    (
        ASSIST,
        403,
        error("You do not have a valid license of this product. (#3501)"),
        "no_licence",
        "no licence, in words",
    ),
    (ASSIST, 403, error("x", info("VALIDATION_REQUIRED", CLOUD_CODE)), "verification", "an account to be verified"),
    (ASSIST, 403, error("x", info("SERVICE_DISABLED")), "api_disabled", "Gemini for Google Cloud is off"),
    (ASSIST, 403, error("x", info("SECURITY_POLICY_VIOLATED")), "network_policy", "VPC service controls"),
    (
        VERTEX,
        403,
        error("x", info("IAM_PERMISSION_DENIED", permission="aiplatform.endpoints.predict")),
        "no_permission",
        "a service account without the role",
    ),
    (VERTEX, 403, error("x", info("USER_PROJECT_DENIED")), "project_invalid", "a project of somebody else"),
]


@pytest.mark.parametrize(("dialect", "status", "body", "reason"), [pytest.param(*row[:4], id=row[4]) for row in DEAD])
def test_a_dead_credential_is_parked_and_the_next_one_serves(dialect, status, body, reason):
    verdict = dialect.judge(status, {}, body, NOW)
    assert (verdict.action, verdict.scope, verdict.until) == (Action.NEXT, Scope.CREDENTIAL, math.inf)
    assert (verdict.reason, verdict.status, verdict.code) == (reason, 503, "no_upstream_credentials")
    assert verdict.message.startswith("An upstream credential")


REMEDIES = [
    (
        ASSIST,
        401,
        error("Request had invalid authentication credentials."),
        Action.REFRESH,
        "token_refused",
        "Code Assist, 401",
    ),
    (VERTEX, 401, b"", Action.REFRESH, "token_refused", "Vertex, 401"),
    (ASSIST, 403, error("x", info("CONSUMER_INVALID")), Action.REDISCOVER, "wrong_project", "a consumer that is none"),
    (
        ASSIST,
        403,
        error("Permission denied on resource project default-project."),
        Action.REDISCOVER,
        "wrong_project",
        "a wrong project by its words",
    ),
    (
        ASSIST,
        403,
        error("x", info("IAM_PERMISSION_DENIED", permission="cloudaicompanion.companions.generateChat")),
        Action.REDISCOVER,
        "wrong_project",
        "no right to the project",
    ),
]


@pytest.mark.parametrize(
    ("dialect", "status", "body", "action", "reason"), [pytest.param(*row[:5], id=row[5]) for row in REMEDIES]
)
def test_a_remedy_is_tried_once_and_then_the_credential_is_dead(dialect, status, body, action, reason):
    verdict = dialect.judge(status, {}, body, NOW)
    assert (verdict.action, verdict.reason) == (action, reason)
    assert (verdict.scope, verdict.until, verdict.status) == (Scope.CREDENTIAL, math.inf, 503)


NOT_THE_CREDENTIAL = [
    (
        STUDIO,
        403,
        error("You do not have permission to access the File abc or it may not exist."),
        "forbidden",
        "a file",
    ),
    (STUDIO, 403, error("The caller does not have permission"), "forbidden", "a 403 without details"),
    (STUDIO, 403, b"<html>", "forbidden", "a 403 of a front end"),
    (
        VERTEX,
        403,
        error("x", info("IAM_PERMISSION_DENIED", permission="aiplatform.cachedContents.get")),
        "forbidden",
        "a cache of somebody else",
    ),
    (
        ASSIST,
        403,
        error("x", info("IAM_PERMISSION_DENIED", permission="storage.objects.get")),
        "forbidden",
        "an object of somebody else",
    ),
]


@pytest.mark.parametrize(
    ("dialect", "status", "body", "reason"), [pytest.param(*row[:4], id=row[4]) for row in NOT_THE_CREDENTIAL]
)
def test_what_is_not_the_credentials_fault_rests_nothing_and_is_tried_elsewhere(dialect, status, body, reason):
    verdict = dialect.judge(status, {}, body, NOW)
    assert (verdict.action, verdict.scope, verdict.until) == (Action.NEXT, Scope.NONE, None)
    assert verdict.reason == reason
    assert verdict.status == 403


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param(400, "* GenerateContentRequest.tools: API key not valid", id="400 that quotes an invalid key"),
        pytest.param(400, "Invalid value 'api key expired' at 'contents[0].role'", id="400 that quotes an expired key"),
        pytest.param(403, "No access to 'your API key was reported as leaked'", id="403 that quotes a leaked key"),
        pytest.param(403, "No model named your project has been denied access", id="403 that quotes a denied project"),
    ],
)
def test_a_client_that_gets_itself_quoted_parks_no_credential(status, message):
    for dialect in (STUDIO, ASSIST, VERTEX):
        assert dialect.judge(status, {}, error(message, code=status), NOW).scope is Scope.NONE


def test_the_servers_location_stops_the_request_and_rests_nobody():
    for dialect in (STUDIO, VERTEX):
        verdict = dialect.judge(
            400, {}, error("User location is not supported for the API use.", state="FAILED_PRECONDITION"), NOW
        )
        assert (verdict.action, verdict.scope, verdict.until) == (Action.STOP, Scope.UPSTREAM, None)
        assert (verdict.status, verdict.code) == (503, "upstream_unavailable")


# ------------------------------------------------------------------------------------------------ quotas

MINUTE = violations("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
DAY = violations("GenerateRequestsPerDayPerProjectPerModel-FreeTier", value="20")
EXCEEDED = "You exceeded your current quota, please check your plan and billing details."

QUOTAS = [
    (429, error(EXCEEDED, MINUTE, retry("41s")), {}, "quota_minute", 41.0, "per minute with a delay"),
    (429, error(EXCEEDED, MINUTE), {}, "quota_minute", 60.0, "per minute without one"),
    (429, error(EXCEEDED, MINUTE, retry("0.2s")), {}, "quota_minute", 1.0, "per minute, below a second"),
    (429, error("x", info("R", quota_limit="RequestsPerMinutePerRegion")), {}, "quota_minute", 60.0, "in the metadata"),
    (429, error(EXCEEDED, DAY, retry("38s")), {}, "quota_day", TO_MIDNIGHT, "per day, whatever RetryInfo says"),
    (429, error(EXCEEDED, MINUTE, DAY, retry("22s")), {}, "quota_day", TO_MIDNIGHT, "both: the worse one decides"),
    (429, error("x", violations("DailyTokens")), {}, "quota_day", TO_MIDNIGHT, "another word for it"),
    (
        429,
        error("x", info("RATE_LIMIT_EXCEEDED", quota_limit="Gemini25ProRequestsPerDay")),
        {},
        "quota_day",
        TO_MIDNIGHT,
        "2025",
    ),
    (429, error("Quota exceeded for limit 'requests per day per user'."), {}, "quota_day", TO_MIDNIGHT, "in prose"),
    (
        429,
        error("x", info("R", quota_limit="PerDay", quotaResetTimeStamp="2026-11-23T01:00:00Z")),
        {},
        "quota_day",
        5 * 3600.0,
        "a named reset time beats midnight",
    ),
    (
        429,
        error("x", info("R", quota_limit="PerDay", quotaResetTimeStamp="2025-11-23T01:00:00Z")),
        {},
        "quota_day",
        TO_MIDNIGHT,
        "but not one that has passed",
    ),
    (
        429,
        error("x", info("QUOTA_EXHAUSTED", CLOUD_CODE, quotaResetDelay="172514s")),
        {},
        "quota_exhausted",
        172_514.0,
        "days",
    ),
    (
        429,
        error("x", info("QUOTA_EXHAUSTED", CLOUD_CODE)),
        {},
        "quota_exhausted",
        TO_MIDNIGHT,
        "exhausted, no time named",
    ),
    (
        429,
        error(
            "You have exhausted your capacity on this model. Your quota will reset after 0s.",
            info("RATE_LIMIT_EXCEEDED", CLOUD_CODE, quotaResetDelay="539.477544ms"),
            retry("0.539477544s"),
        ),
        {},
        "rate_limit",
        1.0,
        "short, and a second at least",
    ),
    (
        429,
        error("Your quota will reset after 0s.", info("RATE_LIMIT_EXCEEDED", CLOUD_CODE), retry("0s")),
        {},
        "rate_limit",
        None,
        "0s counts as no hint",
    ),
    (429, error("Resource has been exhausted (e.g. check quota)."), {}, "rate_limit", None, "no details"),
    (429, error("Please retry in 900ms."), {}, "rate_limit", 1.0, "a delay in the sentence only"),
    (429, b"", {"retry-after": "17"}, "rate_limit", 17.0, "a Retry-After header only"),
    (429, b"<html>unusual traffic</html>", {}, "rate_limit", None, "HTML"),
    (403, error("x", errors=[{"reason": "rateLimitExceeded"}]), {}, "rate_limit", None, "an older front end's 403"),
]


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason", "rest"), [pytest.param(*row[:5], id=row[5]) for row in QUOTAS]
)
@pytest.mark.parametrize(
    ("dialect", "scope"),
    [
        pytest.param(STUDIO, Scope.PROJECT, id="ai_studio"),
        pytest.param(ASSIST, Scope.MODEL, id="code_assist"),
        pytest.param(VERTEX, Scope.MODEL, id="vertex"),
    ],
)
def test_a_quota_rests_those_who_share_it_until_it_returns(dialect, scope, status, body, headers, reason, rest):
    verdict = dialect.judge(status, headers, body, NOW)
    assert (verdict.action, verdict.scope, verdict.reason) == (Action.NEXT, scope, reason)
    assert rest_of(verdict) == (None if rest is None else pytest.approx(rest, abs=1e-3))
    assert verdict.daily == (reason in ("quota_day", "quota_exhausted"))
    assert (verdict.status, verdict.code) == (429, "insufficient_quota" if verdict.daily else "rate_limit_exceeded")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            error("* Quota exceeded for metric: x, limit: 0, model: m\nPlease retry in 5s.", DAY), id="in the words"
        ),
        pytest.param(error("x, limit: 0"), id="at the end of the words"),
        pytest.param(error("x", violations("PerDay", value="0")), id="as the violation's value"),
        pytest.param(error("x", info("RATE_LIMIT_EXCEEDED", quota_limit_value="0")), id="as the limit's value"),
    ],
)
def test_a_limit_of_zero_never_recovers_for_this_model(body):
    verdict = STUDIO.judge(429, {}, body, NOW)
    assert (verdict.action, verdict.scope, verdict.until) == (Action.NEXT, Scope.MODEL, math.inf)
    assert (verdict.reason, verdict.daily) == ("no_quota", True)


def test_a_limit_that_begins_with_zero_is_not_zero():
    assert STUDIO.judge(429, {}, error("limit: 0.5"), NOW).reason == "rate_limit"
    assert STUDIO.judge(429, {}, error("limit: 05"), NOW).reason == "rate_limit"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(402, error("Payment required", state="RESOURCE_EXHAUSTED"), id="402"),
        pytest.param(429, error("Your prepayment credits are depleted."), id="429 in words"),
        pytest.param(429, error("x", info("INSUFFICIENT_G1_CREDITS_BALANCE")), id="Code Assist's credits"),
    ],
)
def test_used_up_credits_rest_the_whole_credential_for_a_day(status, body):
    verdict = ASSIST.judge(status, {}, body, NOW)
    assert (verdict.action, verdict.scope, rest_of(verdict)) == (Action.NEXT, Scope.CREDENTIAL, 86_400.0)
    assert (verdict.reason, verdict.code, verdict.daily) == ("credits", "insufficient_quota", True)


# ------------------------------------------------------------------------------------------ Google's trouble

TROUBLE = [
    (429, error("x", info("MODEL_CAPACITY_EXHAUSTED", CLOUD_CODE)), "capacity", None, 503, "capacity as 429"),
    (
        503,
        error("x", info("MODEL_CAPACITY_EXHAUSTED"), retry("25s")),
        "capacity",
        25.0,
        503,
        "capacity as 503, with a hint",
    ),
    (503, error("x", info("MODEL_CAPACITY_EXCEEDED")), "capacity", None, 503, "the other capacity word"),
    (429, error("No capacity available for model gemini-x on the server"), "capacity", None, 503, "capacity in words"),
    (503, error("The model is overloaded. Please try again later."), "overloaded", None, 503, "overloaded"),
    (503, b"<html><title>503</title>", "overloaded", None, 503, "a front end's 503"),
    (503, b"", "overloaded", 9.0, 503, "a 503 with a Retry-After"),
    (
        499,
        error("The operation was cancelled.", code=499, state="CANCELLED"),
        "overloaded",
        None,
        503,
        "499 counts as overload",
    ),
    (409, error("aborted", code=409, state="ABORTED"), "overloaded", None, 503, "aborted"),
    (500, error("An internal error has occurred."), "upstream_error", None, 502, "internal"),
    (502, b"<html>", "upstream_error", None, 502, "a front end's 502"),
    (504, error("Deadline expired before operation could complete."), "upstream_timeout", None, 504, "deadline"),
    (408, b"", "upstream_timeout", None, 504, "request timeout"),
    (302, b"", "unexpected", None, 502, "a redirect"),
    (405, b"<html>", "unexpected", None, 502, "a wrong address"),
    (599, b"", "unexpected", None, 502, "a status nobody knows"),
]


@pytest.mark.parametrize(
    ("status", "body", "reason", "rest", "told"), [pytest.param(*row[:5], id=row[5]) for row in TROUBLE]
)
def test_trouble_at_google_rests_no_credential(status, body, reason, rest, told):
    headers = {"retry-after": "9"} if rest == 9.0 else {}
    for dialect in (STUDIO, ASSIST, VERTEX):
        verdict = dialect.judge(status, headers, body, NOW)
        assert (verdict.action, verdict.scope) == (Action.RETRY, Scope.UPSTREAM)
        assert (verdict.reason, rest_of(verdict), verdict.status) == (reason, rest, told)


# --------------------------------------------------------------------------------------------- the request

REPAIRS = [
    ("Penalty is not enabled for this model", Repair.DROP_PENALTIES, "presence_penalty"),
    ("Logprobs is not enabled for this model", Repair.DROP_LOGPROBS, "logprobs"),
    ("`temperature` is not supported by this model", Repair.DROP_SAMPLING, None),
    ("Thinking level MINIMAL is not supported for this model.", Repair.RAISE_LEVEL, "thinking_config"),
    ("Thinking level is not supported for this model.", Repair.DROP_LEVEL, "thinking_config"),
    ("Budget 0 is invalid. This model only works in thinking mode.", Repair.DROP_BUDGET, "thinking_config"),
    ("The thinking budget 99999 is invalid.", Repair.DROP_BUDGET, "thinking_config"),
    ("Thinking is not enabled for models/gemini-2.0-flash", Repair.DROP_THINKING, "thinking_config"),
    ("Function call is missing a thought_signature in functionCall parts.", Repair.DUMMY_SIGNATURES, None),
    (
        "Unable to submit request because function call `f` is missing a `thought_signature`.",
        Repair.DUMMY_SIGNATURES,
        None,
    ),
    ("Corrupted thought signature.", Repair.DUMMY_SIGNATURES, None),
    ("Invalid thought signature.", Repair.DUMMY_SIGNATURES, None),
    (
        "Invalid JSON payload received. Unknown name \"id\" at 'contents[1].parts[0]': Cannot find field.",
        Repair.STRIP_CALL_IDS,
        "contents",
    ),
    ("functionResponse.id does not match functionCall.id", Repair.STRIP_CALL_IDS, None),
    (
        "Function calling with a response mime type: 'application/json' is unsupported",
        Repair.SCHEMA_AS_TEXT,
        "response_schema",
    ),
    ("Developer instruction is not enabled for models/gemma-3-1b-it", Repair.SYSTEM_AS_USER, None),
    ("Requests ending with a model turn are not supported.", Repair.END_WITH_USER, "contents"),
]


@pytest.mark.parametrize(("message", "repair", "param"), [pytest.param(*row, id=row[0][:60]) for row in REPAIRS])
def test_a_body_that_can_be_mended_is_mended_with_the_same_credential(message, repair, param):
    for dialect in (STUDIO, ASSIST, VERTEX):
        verdict = dialect.judge(400, {}, b"[" + error(message, state="INVALID_ARGUMENT") + b"]", NOW)
        assert (verdict.action, verdict.scope, verdict.repair) == (Action.REPAIR, Scope.NONE, repair)
        assert (verdict.status, verdict.code, verdict.field) == (400, "", param)


@pytest.mark.parametrize("quoted", ["Developer instruction is not enabled", "Requests ending with a model turn"])
def test_only_a_message_that_begins_with_it_changes_everybodys_conversation(quoted):
    verdict = STUDIO.judge(400, {}, error(f"* tools.properties[{quoted}]: no items"), NOW)
    assert verdict.action is Action.STOP


STOPS = [
    (400, error("Request contains an invalid argument."), "bad_request", 400, "", None, "an argument"),
    (400, b"<html>", "bad_request", 400, "", None, "HTML"),
    (422, b"", "bad_request", 400, "", None, "422"),
    (
        400,
        error("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        "too_long",
        400,
        "context_length_exceeded",
        "contents",
        "too many tokens",
    ),
    (413, b"<html>413", "too_large", 413, "request_too_large", None, "413 of a front end"),
    (
        400,
        error("Request payload size exceeds the limit: 20971520 bytes."),
        "too_large",
        413,
        "request_too_large",
        None,
        "too many bytes",
    ),
    (
        400,
        error("Multiple candidates is not enabled for this model"),
        "candidates",
        400,
        "unsupported_value",
        "candidate_count",
        "more than one candidate",
    ),
    (
        400,
        error("Cannot fetch content from the provided URL."),
        "media_url",
        400,
        "invalid_image_url",
        "contents",
        "a link Google cannot read",
    ),
    (
        400,
        error("The specified schema produces a constraint that has too many states for serving."),
        "bad_request",
        400,
        "",
        None,
        "a schema too complex",
    ),
]


@pytest.mark.parametrize(
    ("status", "body", "reason", "told", "code", "param"), [pytest.param(*row[:6], id=row[6]) for row in STOPS]
)
def test_the_callers_fault_is_told_at_once(status, body, reason, told, code, param):
    for dialect in (STUDIO, ASSIST, VERTEX):
        verdict = dialect.judge(status, {}, body, NOW)
        assert (verdict.action, verdict.scope, verdict.until) == (Action.STOP, Scope.NONE, None)
        assert (verdict.reason, verdict.status, verdict.code, verdict.field) == (reason, told, code, param)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("models/x is not found for API version v1beta, or is not supported", id="AI Studio"),
        pytest.param("This model models/gemini-2.5-flash is no longer available to new users.", id="for new users"),
        pytest.param("Requested entity was not found.", id="Code Assist"),
        pytest.param("Publisher Model `projects/p-1/x` was not found or your project has no access", id="Vertex"),
    ],
)
def test_an_unknown_model_rests_an_hour_on_this_credential_alone(message):
    verdict = ASSIST.judge(404, {}, error(message, code=404, state="NOT_FOUND"), NOW)
    assert (verdict.action, verdict.scope, rest_of(verdict)) == (Action.NEXT, Scope.MODEL, 3600.0)
    assert (verdict.status, verdict.code, verdict.field) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    "message",
    ["Not found: cache content metadata 875.", "CachedContent not found (or permission denied)", "files/abc not found"],
)
def test_a_clients_own_missing_resource_rests_no_model(message):
    verdict = STUDIO.judge(404, {}, error(message, code=404), NOW)
    assert (verdict.action, verdict.scope, verdict.status, verdict.reason) == (
        Action.NEXT,
        Scope.NONE,
        404,
        "resource_not_found",
    )


# ----------------------------------------------------------------------------------------- the tables as such


def test_an_error_inside_a_success_is_judged_by_its_own_number():
    frame = error("No capacity", info("MODEL_CAPACITY_EXHAUSTED"), code=503)
    assert STUDIO.judge(500, {}, frame, NOW).reason == "capacity"
    assert ASSIST.judge(500, {}, b'{"response":' + frame + b"}", NOW).reason == "capacity"


@pytest.mark.parametrize(
    "frame",
    [b'{"error":[]}', b'{"error":{}}', b'{"error":{"message":"' + b"x" * (1 << 18) + b'"}}'],
    ids=["a list", "nothing in it", "too long to be read"],
)
def test_an_error_that_tells_nothing_is_googles_trouble(frame):
    assert STUDIO.judge(500, {}, frame, NOW).reason == "upstream_error"


def every_example():
    yield from ((dialect, status, {}, body) for dialect, status, body, *_ in (*DEAD, *REMEDIES, *NOT_THE_CREDENTIAL))
    yield from ((STUDIO, status, headers, body) for status, body, headers, *_ in QUOTAS)
    yield from ((STUDIO, status, {}, body) for status, body, *_ in (*TROUBLE, *STOPS))
    yield from ((STUDIO, 400, {}, error(message)) for message, *_ in REPAIRS)
    yield STUDIO, 400, {}, error("User location is not supported for the API use.")
    yield STUDIO, 404, {}, b""
    yield STUDIO, 404, {}, error("cached content not found")
    yield STUDIO, 404, {}, error("models/x is not found for API version v1beta")
    yield STUDIO, 429, {}, error("limit: 0")
    yield STUDIO, 402, {}, b""
    yield STUDIO, 429, {}, error("credits are depleted")


def test_every_row_has_an_example():
    hit = set()
    for dialect, status, headers, body in every_example():
        refused = error_body.read(status, headers, body)
        row = next(row for row in TABLES[dialect.name] if row.when.holds(refused))
        hit.add((row.reason, str(row.when)))
    assert {(row.reason, str(row.when)) for table in TABLES.values() for row in table} - hit == set()


@pytest.mark.parametrize("name", TABLES)
def test_every_table_ends_in_a_row_that_always_fits(name):
    assert TABLES[name][-1].when.holds(error_body.Refusal(0))


@pytest.mark.parametrize("name", TABLES)
def test_every_row_says_what_it_means(name):
    for row in TABLES[name]:
        assert row.reason.replace("_", "").isalpha()
        assert str(row.when)
        assert row.status in (400, 403, 404, 413, 429, 502, 503, 504)
        assert (row.repair is not None) == (row.action is Action.REPAIR)
        assert (row.scope is Scope.NONE) <= (row.cooldown.name == "NOT")
