import msgspec
import pytest

from gemproxy.upstream.ai_studio import AiStudio, ListedModel, ModelsPage, read_models
from gemproxy.upstream.dialect import Call, Token
from gemproxy.wire.gemini import Content, GenerateRequest, Part, ToolConfig

STUDIO = AiStudio("https://studio.test/v1beta/", "gemproxy/test")
KEY = Token("test-key-1")


def test_a_call_goes_to_the_models_own_address_with_the_key_in_a_header():
    body = GenerateRequest([Content([Part(text="Hi")], "user")])
    request = STUDIO.ask(Call("streamGenerateContent", "gemini-3.8-flash", body), KEY, 0.0)
    assert request.url == "https://studio.test/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    assert request.headers == {
        "content-type": "application/json",
        "user-agent": "gemproxy/test",
        "x-goog-api-key": "test-key-1",
    }
    assert msgspec.json.decode(request.body) == {"contents": [{"parts": [{"text": "Hi"}], "role": "user"}]}


def test_what_only_ai_studio_has_is_sent():
    body = GenerateRequest(
        service_tier="flex",
        cached_content="cachedContents/x",
        tool_config=ToolConfig(include_server_side_tool_invocations=True),
    )
    sent = msgspec.json.decode(STUDIO.ask(Call("generateContent", "gemini-3.8-flash", body), KEY, 0.0).body)
    assert sent["serviceTier"] == "flex"
    assert sent["cachedContent"] == "cachedContents/x"
    assert sent["toolConfig"] == {"includeServerSideToolInvocations": True}


def test_the_models_are_listed_by_a_get_that_spends_nothing():
    request = STUDIO.models_request(KEY)
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://studio.test/v1beta/models?pageSize=1000"
    assert request.headers["x-goog-api-key"] == "test-key-1"
    assert STUDIO.models_request(KEY, "a&b=c").url.endswith("?pageSize=1000&pageToken=a%26b%3Dc")


def test_a_page_of_models_is_read():
    page = read_models(
        b'{"models":[{"name":"models/gemini-x","inputTokenLimit":9,"version":"1",'
        b'"supportedGenerationMethods":["generateContent","countTokens"]},'
        b'{"name":"models/embedding-x","supportedGenerationMethods":["embedContent"]},{"displayName":"nameless"}],'
        b'"nextPageToken":"t2"}'
    )
    assert page == ModelsPage(
        (
            ListedModel("gemini-x", ("generateContent", "countTokens")),
            ListedModel("embedding-x", ("embedContent",)),
        ),
        "t2",
    )
    assert [model.chats for model in page.models] == [True, False]


@pytest.mark.parametrize("body", [b"{}", b'{"models":null,"nextPageToken":null}', b'{"models":[]}'])
def test_an_empty_page_is_the_last_one(body):
    assert read_models(body) == ModelsPage()


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"models":3}'])
def test_a_list_that_cannot_be_read_is_a_decode_error(body):
    with pytest.raises(msgspec.DecodeError):
        read_models(body)
