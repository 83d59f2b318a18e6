from functools import partial

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gemproxy.redaction import LONGEST_MESSAGE, for_client, held, opening, redact
from tests.growth import TRIES, seconds

FAKE_KEY = "AIza" + "FakeKeyForTests_0123456789-abcdefgh"
FAKE_TOKEN = "ya29." + "a0FakeAccessTokenForTests_0123456789"
FAKE_REFRESH = "1//" + "0fakeRefreshTokenForTests-abcdefghijkl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            f"Permission denied: Consumer 'api_key:{FAKE_KEY}' has been suspended.",
            "Permission denied: Consumer 'api_key:[key]' has been suspended.",
            id="a suspended key is quoted in its refusal",
        ),
        pytest.param("Invalid API key: key1234", "Invalid API key: [key]", id="a key of unknown shape, named as one"),
        pytest.param(f"x{FAKE_KEY}y", "x[key]", id="a key glued to other text"),
        pytest.param(
            "POST /v1beta/models/m:x?key=abc123&alt=sse", "POST /v1beta/models/m:x?key=[key]&alt=sse", id="?key="
        ),
        pytest.param("AQ.FakeNewStyleKey_0123456789", "[key]", id="the newer keys"),
        pytest.param(
            "see https://x.test/faq.something_quite_long", "see https://x.test/faq.something_quite_long", id="faq"
        ),
        pytest.param("client sk-fakefakefakefake1234", "client [key]", id="an OpenAI-style client key"),
        pytest.param("task-force-of-many-hyphens", "task-force-of-many-hyphens", id="not every sk- is a key"),
        pytest.param(f"Authorization: Bearer {FAKE_TOKEN}", "Authorization: Bearer [token]", id="a bearer token"),
        pytest.param(f"token {FAKE_TOKEN}, scope", "token [token], scope", id="a bare access token"),
        pytest.param(f"refresh {FAKE_REFRESH}", "refresh [token]", id="a refresh token"),
        pytest.param("code 4/0AfakeAuthCode_1234", "code [token]", id="an authorization code"),
        pytest.param("secret GOCSPX-fake_secret", "secret [secret]", id="a client secret"),
        pytest.param('{"client_secret": "fake"}', '{"client_secret": "[token]"}', id="a client secret, named as one"),
        pytest.param("jwt eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln end", "jwt [token] end", id="a signed assertion"),
        pytest.param(
            "-----BEGIN PRIVATE KEY-----\nZmFrZQ==\n-----END PRIVATE KEY-----\n", "[key]\n", id="a private key"
        ),
        pytest.param("-----BEGIN RSA PRIVATE KEY-----\nZmFrZQ==", "[key]", id="a private key that was cut off"),
        pytest.param("for ann.b+c@mail.example.org now", "for [e-mail] now", id="an e-mail address"),
        pytest.param(
            "sa@my-project-1.iam.gserviceaccount.com lacks it",
            "[e-mail] lacks it",
            id="a service account names its project",
        ),
        pytest.param(
            "denied on resource '//aiplatform.googleapis.com/projects/my-proj-1/locations/us'",
            "denied on resource '//aiplatform.googleapis.com/projects/[project]/locations/us'",
            id="a project in a resource name",
        ),
        pytest.param("projects/123456789012", "projects/[project]", id="a project number in a resource name"),
        pytest.param("projects/example.com:old-one", "projects/[project]", id="a domain-scoped project"),
        pytest.param(
            "for consumer 'project_number:123456789012'.", "for consumer 'project_number:[project]'.", id="a consumer"
        ),
        pytest.param("Project Number 123456789012 is off", "Project Number [project] is off", id="a number in prose"),
        pytest.param(
            "API has not been used in project acme before or",
            "API has not been used in project [project] before or",
            id="an id of plain letters where one must stand",
        ),
        pytest.param(
            "Your project my-project-1 is", "Your project [project] is", id="an id elsewhere, told by its hyphen"
        ),
        pytest.param(
            "Your project has been denied access.", "Your project has been denied access.", id="plain English stays"
        ),
        pytest.param('"containerInfo": "123456"', '"containerInfo": "[project]"', id="containerInfo"),
        pytest.param(
            "billingAccounts/01AB-23CD is closed", "billingAccounts/[project] is closed", id="a billing account"
        ),
        pytest.param(
            "verify at\n\nhttps://accounts.google.com/signin/continue?plt=Fake&flow=x\n\nLearn",
            "verify at\n\n[link]\n\nLearn",
            id="a one-time account link",
        ),
        pytest.param(
            "Enable it at https://console.developers.google.com/apis/x/overview?project=acme then retry",
            "Enable it at https://console.developers.google.com/apis/x/overview then retry",
            id="the query of a link",
        ),
        pytest.param("proxy http://user:pass@10.0.0.1/x", "proxy http://10.0.0.1/x", id="a password in an address"),
        pytest.param("bad signature " + "QUJD" * 60, "bad signature [data]", id="a signature or an image"),
        pytest.param(
            "Thinking level MINIMAL is not supported for this model.",
            "Thinking level MINIMAL is not supported for this model.",
            id="an ordinary message stays as it is",
        ),
        pytest.param(
            "See https://ai.google.dev/gemini-api/docs/rate-limits.",
            "See https://ai.google.dev/gemini-api/docs/rate-limits.",
            id="an ordinary link stays",
        ),
    ],
)
def test_redact_takes_out_secrets_and_leaves_the_rest(text, expected):
    assert redact(text) == expected


WORDS = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
TAIL = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", min_size=20, max_size=60)
NUMBER = st.integers(100_000, 10**13).map(str)


@given(
    WORDS, TAIL, WORDS, st.sampled_from(["AIza", "ya29.", "1//0", "GOCSPX-", "Bearer ", "api_key=", "refresh_token: "])
)
def test_planted_secrets_never_come_through(before, tail, after, sign):
    assume(tail not in before + after)
    text = f"{before} {sign}{tail} {after}"
    assert tail not in redact(text)
    assert tail not in for_client(text)


@given(WORDS, NUMBER, WORDS, st.sampled_from(["projects/{}", "project_number:{}", "project number {}", "Project: {}"]))
def test_planted_project_numbers_never_come_through(before, number, after, shape):
    assume(number not in before + after)
    assert number not in redact(f"{before} {shape.format(number)} {after}")


@given(WORDS, st.from_regex(r"[a-z]{1,20}\.[a-z0-9]{1,20}@[a-z]{2,20}\.(com|org|co\.uk)", fullmatch=True), WORDS)
def test_planted_addresses_never_come_through(before, address, after):
    assume(address not in before + after)
    assert address not in redact(f"{before} {address} {after}")


@given(st.text(max_size=300))
@example("Bearer Bearer x")
@example("project: project: acme-1")
def test_redacting_twice_changes_nothing_more(text):
    assert redact(redact(text)) == redact(text)


@given(st.text())
def test_client_messages_are_one_bounded_line_without_control_characters(text):
    shown = for_client(text)
    assert len(shown) <= LONGEST_MESSAGE
    assert shown.isprintable() or not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)
    assert "\n" not in shown


def test_a_long_message_is_cut_and_says_so():
    shown = for_client("word " * 1_000)
    assert len(shown) == LONGEST_MESSAGE
    assert shown.endswith("…")


def test_a_key_at_the_end_of_what_is_looked_at_is_not_cut_in_half():
    text = "A" * 1_990 + " " + FAKE_KEY
    assert FAKE_KEY[:8] not in for_client(text)
    assert for_client("x" * 20_000) == ""


def test_a_held_secret_across_the_end_of_what_is_looked_at_is_cut_out_whole():
    held.hold("test of redaction", ["fake held/secret 0001"])
    for before in (*range(1_980, 2_002), *range(3_980, 4_002)):
        told = for_client("." * before + " fake\nheld/secret\n0001")
        assert "fake" not in told
        assert "0001" not in told


def test_no_half_of_a_secret_moves_up_when_those_before_it_are_cut_out():
    secret = "".join(f"fakeHeld{number:04}" for number in range(40))
    held.hold("test of redaction", [secret])
    for before in range(0, 480, 7):
        text = "." * before + f" {secret[:240]}\n{secret[240:]}" * 40
        assert "fakeHeld" not in for_client(text)
        assert "fakeHeld" not in opening(text, 512)
    assert opening(f"/{secret}/x", 512) == "/[secret]/x"


@pytest.mark.parametrize("read", [for_client, partial(opening, most=512)], ids=["for a client", "the opening"])
def test_of_a_long_text_no_more_is_redacted_than_can_be_shown(read, monkeypatch):
    held.hold("test of redaction", ["fake held/secret 0001"])
    cut, seen = held.cut, []
    monkeypatch.setattr(type(held), "cut", lambda _, text: seen.append(len(text)) or cut(text))
    read("%25" * 20_000)
    assert sum(seen) <= 4 * LONGEST_MESSAGE


@pytest.mark.parametrize("most", [5, 64])
def test_a_word_may_have_a_smaller_bound(most):
    assert len(for_client("SOME REASON " * 100, most)) == most


def test_a_long_text_is_redacted_as_a_short_one_is():
    text = " ".join([f"key={FAKE_KEY} for ann@mail.example.org"] * 5_000)
    assert redact(text) == " ".join(["key=[key] for [e-mail]"] * 5_000)
    assert redact("A" * 200_000) == "[data]" * 4


@pytest.mark.parametrize(
    "text",
    [
        *("-----BEGIN PRIVATE KEY-----", "http://", "http://a", "://a", "a@b.", "a.", "project ", "in project ", "a-"),
        *("Bearer ", "eyJaaaaaaaa.", "projects/a", "api_key=", "project" + " " * 50, "A", " ", "\n", "key=\\u0041"),
    ],
)
def test_no_text_is_much_dearer_to_redact_than_a_sentence(text):
    def took(words):
        long = (words * (30_000 // len(words) + 1))[:30_000]
        return seconds(lambda: redact(long))

    sentence = "The quick brown fox jumps over https://example.test/lazy-dogs, 7 of them. "
    found = [took(text) / took(sentence)]
    while found[-1] >= 5 and len(found) < TRIES:
        found.append(took(text) / took(sentence))
    assert found[-1] < 5, found
