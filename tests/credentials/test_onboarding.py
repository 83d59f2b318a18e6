"""Finding an account's project: every rule of docs/protocol.md 2.4."""

import msgspec
import pytest

from gemproxy.credentials.onboarding import (
    Ineligible,
    Onboard,
    Onboarding,
    Pending,
    Project,
    account_link,
    read_load,
    read_operation,
)
from gemproxy.upstream.dialect import Token
from tests.corpus import listed
from tests.upstream.refusals.refusal_bodies import error, info

ASSIST = Onboarding("https://assist.test/v1internal/", "gemproxy/test")
TOKEN = Token("fake-access-token", "fake-project-1")
METADATA = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}
RECORDED = listed("corpus/codeassist/unary/loadCodeAssist-ineligible-unsupported-client__*.json")
LINK = "https://accounts.google.com/signin/continue?plt=FakeOnce"


def encoded(**fields):
    return msgspec.json.encode(fields)


# --------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("request_", "path", "expected"),
    [
        pytest.param(
            ASSIST.load_request(TOKEN), ":loadCodeAssist", {"metadata": METADATA}, id="load, nothing configured"
        ),
        pytest.param(
            ASSIST.load_request(TOKEN, "my-project"),
            ":loadCodeAssist",
            {"cloudaicompanionProject": "my-project", "metadata": {**METADATA, "duetProject": "my-project"}},
            id="load with a configured project",
        ),
        pytest.param(
            ASSIST.load_request(TOKEN, "123456"),
            ":loadCodeAssist",
            {"metadata": METADATA},
            id="load, a number is no id",
        ),
        pytest.param(
            ASSIST.onboard_request(TOKEN, Onboard("free-tier")),
            ":onboardUser",
            {"tierId": "free-tier", "metadata": METADATA},
            id="onboarding to the free tier names no project",
        ),
        pytest.param(
            ASSIST.onboard_request(TOKEN, Onboard("standard-tier", "p-1")),
            ":onboardUser",
            {
                "tierId": "standard-tier",
                "cloudaicompanionProject": "p-1",
                "metadata": {**METADATA, "duetProject": "p-1"},
            },
            id="onboarding to another tier does",
        ),
        pytest.param(
            ASSIST.quota_request(TOKEN), ":retrieveUserQuota", {"project": "fake-project-1"}, id="what is left"
        ),
    ],
)
def test_requests_are_posts_with_the_token(request_, path, expected):
    assert (request_.method, request_.url) == ("POST", "https://assist.test/v1internal" + path)
    assert request_.headers["authorization"] == "Bearer fake-access-token"
    assert request_.headers["user-agent"] == "gemproxy/test"
    assert msgspec.json.decode(request_.body) == expected
    assert b"default-project" not in request_.body


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("operations/abc-1", "/operations/abc-1", id="its name"),
        pytest.param("/operations/abc?x=1#y", "/operations/abc%3Fx%3D1%23y", id="nothing but a path"),
    ],
)
def test_an_operation_is_asked_for_by_get(name, expected):
    request = ASSIST.operation_request(TOKEN, name)
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://assist.test/v1internal" + expected
    assert request.headers["authorization"] == "Bearer fake-access-token"


# ---------------------------------------------------------------------------------------------- loadCodeAssist

STANDARD = {"id": "standard-tier", "isDefault": True, "userDefinedCloudaicompanionProject": True}
FREE = {"id": "free-tier", "isDefault": True, "name": "Gemini Code Assist for individuals"}
UNSUPPORTED = {
    "reasonCode": "UNSUPPORTED_CLIENT",
    "reasonMessage": "This client is no longer supported for Gemini Code Assist for individuals.",
    "tierId": "free-tier",
}


@pytest.mark.parametrize(
    ("body", "configured", "expected"),
    [
        pytest.param(
            encoded(currentTier={"id": "standard-tier"}, cloudaicompanionProject="p-1"),
            "",
            Project("p-1"),
            id="settled",
        ),
        pytest.param(
            encoded(currentTier={"id": "x"}, cloudaicompanionProject={"id": "p-1", "name": "n"}),
            "",
            Project("p-1"),
            id="the project as an object",
        ),
        pytest.param(
            encoded(currentTier={"id": "x"}, cloudaicompanionProject="p-1"),
            "mine",
            Project("p-1"),
            id="Google's comes first",
        ),
        pytest.param(encoded(currentTier={"id": "x"}), "mine", Project("mine"), id="else the configured one"),
        pytest.param(encoded(allowedTiers=[{"id": "a"}, FREE]), "", Onboard("free-tier"), id="a new free account"),
        pytest.param(encoded(allowedTiers=[FREE]), "mine", Onboard("free-tier"), id="free takes no project"),
        pytest.param(
            encoded(allowedTiers=[STANDARD]),
            "mine",
            Onboard("standard-tier", "mine"),
            id="a new account with a project",
        ),
        pytest.param(encoded(allowedTiers=[{"id": "a"}]), "mine", Onboard("legacy-tier", "mine"), id="no default tier"),
        pytest.param(b"{}", "mine", Onboard("legacy-tier", "mine"), id="an empty answer"),
        pytest.param(
            encoded(allowedTiers=[STANDARD], ineligibleTiers=[UNSUPPORTED]),
            "mine",
            Onboard("standard-tier", "mine"),
            id="closed for individuals, open for a project",
        ),
        pytest.param(
            error("x", info("SECURITY_POLICY_VIOLATED"), code=403), "mine", Project("mine"), id="VPC service controls"
        ),
    ],
)
def test_an_account_that_works_gets_its_project_or_is_onboarded(body, configured, expected):
    assert read_load(body, configured) == expected


@pytest.mark.parametrize(
    ("body", "configured", "reason", "parks"),
    [
        pytest.param(
            encoded(ineligibleTiers=[UNSUPPORTED]), "", "UNSUPPORTED_CLIENT", True, id="closed to this client"
        ),
        pytest.param(
            encoded(allowedTiers=[STANDARD], ineligibleTiers=[UNSUPPORTED]),
            "",
            "UNSUPPORTED_CLIENT",
            True,
            id="no project",
        ),
        pytest.param(
            encoded(allowedTiers=[FREE], ineligibleTiers=[UNSUPPORTED]),
            "",
            "UNSUPPORTED_CLIENT",
            True,
            id="the tier itself",
        ),
        pytest.param(
            encoded(currentTier={"id": "x"}, ineligibleTiers=[UNSUPPORTED]),
            "",
            "UNSUPPORTED_CLIENT",
            True,
            id="no project yet",
        ),
        pytest.param(encoded(currentTier={"id": "x"}), "", "PROJECT_REQUIRED", True, id="nobody names a project"),
        pytest.param(encoded(allowedTiers=[STANDARD]), "", "PROJECT_REQUIRED", True, id="a tier that needs one"),
        pytest.param(
            encoded(ineligibleTiers=[{"reasonCode": "SOMETHING_NEW"}]),
            "",
            "SOMETHING_NEW",
            True,
            id="a code of tomorrow",
        ),
        pytest.param(
            encoded(ineligibleTiers=[{"reasonCode": "ya29.fake token"}]), "", "unknown_error", True, id="no code at all"
        ),
        pytest.param(encoded(ineligibleTiers=[{"reasonCode": "X" * 99}]), "", "unknown_error", True, id="a long code"),
        pytest.param(
            encoded(currentTier={"id": "x"}, cloudaicompanionProject="p" * 200),
            "",
            "PROJECT_REQUIRED",
            True,
            id="a project that is none",
        ),
        pytest.param(encoded(ineligibleTiers=[{}]), "", "UNKNOWN", False, id="no code at all may pass"),
        pytest.param(encoded(currentTier={"id": "x"}), "123456", "NUMERIC_PROJECT", True, id="a configured number"),
        pytest.param(
            error("x", info("SECURITY_POLICY_VIOLATED"), code=403), "", "PROJECT_REQUIRED", True, id="VPC, no project"
        ),
        pytest.param(error("x", info("OTHER"), code=403), "mine", "OTHER", False, id="another refusal: judge's affair"),
        pytest.param(b"<html>", "mine", "UNREADABLE", False, id="no JSON"),
        pytest.param(b'{"currentTier":3}', "mine", "UNREADABLE", False, id="a wrong type"),
    ],
)
def test_an_account_that_does_not_work_says_why(body, configured, reason, parks):
    found = read_load(body, configured)
    assert isinstance(found, Ineligible)
    assert (found.reason, found.parks, found.link) == (reason, parks, "")


def test_settings_that_help_are_named():
    assert "credentials.project" in read_load(encoded(currentTier={"id": "x"})).message
    assert "credentials.project" in read_load(b"{}", "123456").message


def test_an_account_check_keeps_its_link_for_the_terminal():
    body = encoded(
        allowedTiers=[FREE],
        ineligibleTiers=[
            UNSUPPORTED,
            {
                "reasonCode": "VALIDATION_REQUIRED",
                "reasonMessage": f"Verify ann@mail.example.org at {LINK}",
                "tierId": "free-tier",
                "validationUrl": LINK,
            },
        ],
    )
    found = read_load(body)
    assert (found.reason, found.parks, found.link) == ("VALIDATION_REQUIRED", True, LINK)
    assert found.message == "Verify [e-mail] at [link]"
    assert "plt=" not in repr(found)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_recorded_refusal_parks_the_account(path):
    found = read_load(path.read_bytes())
    assert (found.reason, found.parks) == ("UNSUPPORTED_CLIENT", True)
    assert found.message.startswith("This client is no longer supported")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(error("x", info("VALIDATION_REQUIRED", validation_url=LINK)), LINK, id="as the API calls it"),
        pytest.param(error("x", info("VALIDATION_REQUIRED", validation_link=LINK)), LINK, id="its older name"),
        pytest.param(error("x", info("VALIDATION_REQUIRED")), "", id="no link"),
        pytest.param(error("x", info("OTHER", validation_url=LINK)), "", id="another refusal"),
        pytest.param(b"<html>", "", id="no JSON"),
    ],
)
def test_a_refusals_link_is_found_for_the_terminal(body, expected):
    assert account_link(body) == expected


# ------------------------------------------------------------------------------------------------- onboardUser


@pytest.mark.parametrize(
    ("body", "configured", "expected"),
    [
        pytest.param(
            encoded(done=True, response={"cloudaicompanionProject": {"id": "p-1", "name": "n"}}),
            "",
            Project("p-1"),
            id="done",
        ),
        pytest.param(
            encoded(done=True, response={"cloudaicompanionProject": "p-1"}), "", Project("p-1"), id="as a string"
        ),
        pytest.param(encoded(done=True, response={}), "mine", Project("mine"), id="done, the configured project"),
        pytest.param(encoded(done=True), "mine", Project("mine"), id="done without a response"),
        pytest.param(encoded(name="operations/1"), "mine", Pending("operations/1"), id="still running"),
        pytest.param(
            encoded(name="operations/1", done=False), "", Pending("operations/1"), id="still running, said so"
        ),
        pytest.param(b"{}", "", Pending(""), id="nameless: asked again by the same post"),
    ],
)
def test_an_onboarding_runs_or_is_done(body, configured, expected):
    assert read_operation(body, configured) == expected


@pytest.mark.parametrize(
    ("body", "reason", "parks"),
    [
        pytest.param(encoded(done=True), "PROJECT_REQUIRED", True, id="done without any project"),
        pytest.param(
            encoded(done=True, error={"code": 9, "message": "Precondition in projects/123456"}),
            "ONBOARDING_FAILED",
            False,
            id="x",
        ),
        pytest.param(b"<html>", "UNREADABLE", False, id="no JSON"),
    ],
)
def test_an_onboarding_that_fails_says_why(body, reason, parks):
    found = read_operation(body)
    assert isinstance(found, Ineligible)
    assert (found.reason, found.parks) == (reason, parks)
    assert "123456" not in found.message
