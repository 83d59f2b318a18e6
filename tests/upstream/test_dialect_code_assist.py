import msgspec
import pytest

from gemproxy.upstream.code_assist import CodeAssist, prompt_id
from gemproxy.upstream.dialect import Call, Token
from gemproxy.wire.gemini import Content, GenerateRequest, GenerationConfig, Part, ThinkingConfig

ASSIST = CodeAssist("https://assist.test/v1internal/", "gemproxy/test")
TOKEN = Token("fake-access-token", "fake-project-1")
NOW = 1_795_377_600.0

# docs/protocol.md 2.3: what gemini-cli sends within the envelope.
REQUEST_FIELDS = {
    "contents",
    "systemInstruction",
    "cachedContent",
    "tools",
    "toolConfig",
    "labels",
    "safetySettings",
    "generationConfig",
    "session_id",
}
CONFIG_FIELDS = {
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "responseLogprobs",
    "logprobs",
    "presencePenalty",
    "frequencyPenalty",
    "seed",
    "responseMimeType",
    "responseJsonSchema",
    "responseSchema",
    "routingConfig",
    "modelSelectionConfig",
    "responseModalities",
    "mediaResolution",
    "speechConfig",
    "audioTimestamp",
    "thinkingConfig",
}


def chat(model="gemini-3.8-flash", **fields):
    return Call("streamGenerateContent", model, GenerateRequest([Content([Part(text="Hi")], "user")], **fields))


def test_a_call_goes_out_in_the_envelope():
    request = ASSIST.ask(chat(generation_config=GenerationConfig(seed=7)), TOKEN, NOW)
    assert request.url == "https://assist.test/v1internal:streamGenerateContent?alt=sse"
    assert request.headers["authorization"] == "Bearer fake-access-token"
    sent = msgspec.json.decode(request.body)
    assert len(sent.pop("user_prompt_id")) == 32
    assert sent == {
        "model": "gemini-3.8-flash",
        "project": "fake-project-1",
        "request": {
            "contents": [{"parts": [{"text": "Hi"}], "role": "user"}],
            "generationConfig": {"seed": 7},
        },
    }


def test_a_model_is_called_by_its_name_on_this_wire():
    assert msgspec.json.decode(ASSIST.ask(chat("gemini-3.5-flash"), TOKEN, NOW).body)["model"] == "gemini-3-flash"
    assert msgspec.json.decode(ASSIST.ask(chat("gemini-9-new"), TOKEN, NOW).body)["model"] == "gemini-9-new"


def test_a_model_name_from_a_client_stays_a_json_string():
    hostile = 'x","project":"other'
    sent = msgspec.json.decode(ASSIST.ask(chat(hostile), TOKEN, NOW).body)
    assert (sent["model"], sent["project"]) == (hostile, "fake-project-1")


def test_only_fields_that_code_assist_knows_are_sent():
    assert {field.encode_name for field in msgspec.structs.fields(GenerationConfig)} <= CONFIG_FIELDS
    every = {field.encode_name for field in msgspec.structs.fields(GenerateRequest)}
    assert every - REQUEST_FIELDS == {"serviceTier"}
    sent = msgspec.json.decode(ASSIST.ask(chat(service_tier="flex", cached_content="c/1"), TOKEN, NOW).body)
    assert set(sent) == {"model", "project", "user_prompt_id", "request"}
    assert set(sent["request"]) == {"contents", "cachedContent"}


def test_a_prompt_id_differs_by_time_and_by_body():
    assert prompt_id(b"a", 1.0) == prompt_id(b"a", 1.0)
    assert len({prompt_id(body, now) for body in (b"a", b"b", b"a" * 9_000, b"a" * 9_001) for now in (1.0, 1.5)}) == 8


def test_thinking_is_sent_as_asked():
    config = GenerationConfig(thinking_config=ThinkingConfig(True, None, "LOW"))
    sent = msgspec.json.decode(ASSIST.ask(chat(generation_config=config), TOKEN, NOW).body)
    assert sent["request"]["generationConfig"] == {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"}}


# ----------------------------------------------------------------------------------------------------- frames


def test_an_answer_is_taken_out_of_its_envelope():
    answer = ASSIST.decode(b'{"response":{"candidates":[{"finishReason":"STOP"}],"modelVersion":"m"},"traceId":"abc"}')
    assert answer.candidates[0].finish_reason == "STOP"
    assert answer.model_version == "m"
    assert not answer.error


def test_an_envelope_without_a_response_has_no_candidates_and_is_no_error():
    answer = ASSIST.decode(b'{"traceId":"abc","consumedCredits":[],"remainingCredits":[]}')
    assert answer.candidates is None
    assert not answer.error


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b'{"error":{"code":429,"message":"x"},"traceId":"t"}', id="outside"),
        pytest.param(b'{"response":{"error":{"code":429,"message":"x"}}}', id="inside"),
        pytest.param(b'{"response":{"candidates":[]},"error":{"code":429,"message":"x"}}', id="beside a response"),
    ],
)
def test_an_error_counts_at_either_level(frame):
    assert ASSIST.decode(frame).error == {"code": 429, "message": "x"}
    assert ASSIST.judge(500, {}, frame, NOW).reason == "rate_limit"


def test_the_inner_error_is_the_nearer_one():
    frame = b'{"response":{"error":{"code":429,"message":"in"}},"error":{"code":503,"message":"out"}}'
    assert ASSIST.decode(frame).error["message"] == "in"


def test_an_answer_without_its_envelope_is_taken_as_it_is():
    answer = ASSIST.decode(b'{"candidates":[{"finishReason":"STOP"}],"responseId":"r"}')
    assert answer.candidates[0].finish_reason == "STOP"
