import msgspec
import pytest

from gemproxy.upstream.dialect import Call, Token
from gemproxy.upstream.vertex import Vertex, base_url
from gemproxy.wire.gemini import Content, FunctionCallingConfig, GenerateRequest, Part, ToolConfig

GOOGLE = "https://{location}-aiplatform.googleapis.com/v1"
NOW = 0.0


def asked(token, base=GOOGLE, **fields):
    body = GenerateRequest([Content([Part(text="Hi")], "user")], **fields)
    return Vertex(base, "gemproxy/test").ask(Call("generateContent", "gemini-3.8-flash", body), token, NOW)


def sent(**fields):
    return msgspec.json.decode(asked(Token("fake-token", "fake-project", "europe-west1"), **fields).body)


@pytest.mark.parametrize(
    ("pattern", "location", "expected"),
    [
        pytest.param(GOOGLE, "us-central1", "https://us-central1-aiplatform.googleapis.com/v1", id="a region"),
        pytest.param(GOOGLE, "global", "https://aiplatform.googleapis.com/v1", id="global has no prefix"),
        pytest.param(GOOGLE, "eu", "https://aiplatform.eu.rep.googleapis.com/v1", id="a multi-region"),
        pytest.param(
            "https://gw.test/{location}/v1", "global", "https://gw.test/global/v1", id="a gateway by location"
        ),
        pytest.param("https://gw.test/v1", "us-central1", "https://gw.test/v1", id="a gateway for all"),
        pytest.param(GOOGLE, "evil.test/x", "https://evil.test%2Fx-aiplatform.googleapis.com/v1", id="no other host"),
    ],
)
def test_the_address_follows_the_location(pattern, location, expected):
    assert base_url(pattern, location) == expected


def test_a_call_goes_to_the_projects_own_address_with_a_bearer_token():
    request = asked(Token("fake-token", "fake-project", "europe-west1"))
    assert request.url == (
        "https://europe-west1-aiplatform.googleapis.com/v1/projects/fake-project/locations/europe-west1"
        "/publishers/google/models/gemini-3.8-flash:generateContent"
    )
    assert request.headers["authorization"] == "Bearer fake-token"


def test_without_a_location_the_call_goes_to_the_global_one():
    assert asked(Token("fake-token", "p"), "https://{location}-aiplatform.googleapis.com/v1/").url.startswith(
        "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/"
    )


def test_a_project_stays_a_name():
    assert "/projects/a%2F..%2Fb/locations/" in asked(Token("fake-token", "a/../b", "us-central1")).url


def test_what_only_ai_studio_has_is_left_out():
    tools = ToolConfig(FunctionCallingConfig("ANY"), include_server_side_tool_invocations=True)
    body = sent(service_tier="flex", tool_config=tools)
    assert "serviceTier" not in body
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert tools.include_server_side_tool_invocations is True


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        pytest.param(
            "cachedContents/c1", "projects/fake-project/locations/europe-west1/cachedContents/c1", id="a short name"
        ),
        pytest.param(
            "projects/p/locations/l/cachedContents/c1", "projects/p/locations/l/cachedContents/c1", id="a full one"
        ),
    ],
)
def test_a_cache_is_called_by_its_full_name(cache, expected):
    assert sent(cached_content=cache)["cachedContent"] == expected


def test_a_tool_config_of_vertexs_own_stays():
    assert sent(tool_config=ToolConfig(FunctionCallingConfig("AUTO")))["toolConfig"] == {
        "functionCallingConfig": {"mode": "AUTO"}
    }
