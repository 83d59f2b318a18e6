import pytest

from gemproxy.upstream.blame import blamed
from gemproxy.upstream.refusal import read
from tests.upstream.refusal_bodies import bad_field, error


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("request.tools[0].function_declarations[10]", "tools"),
        ("tools[0].function_declarations[0].parameters.properties[temperature]", "tools"),
        ("tool_config.function_calling_config.allowed_function_names", "tool_choice"),
        ("contents[1].parts[0].inline_data", "messages"),
        ("system_instruction", "messages"),
        ("generation_config.temperature", "temperature"),
        ("generationConfig.topP", "top_p"),
        ("generation_config.top_k", "top_k"),
        ("generation_config.max_output_tokens", "max_tokens"),
        ("generation_config.stop_sequences", "stop"),
        ("generation_config.candidate_count", "n"),
        ("generation_config.seed", "seed"),
        ("generation_config.presence_penalty", "presence_penalty"),
        ("generation_config.frequency_penalty", "frequency_penalty"),
        ("generation_config.response_logprobs", "logprobs"),
        ("generation_config.response_mime_type", "response_format"),
        ("generation_config.response_schema.properties", "response_format"),
        ("generation_config.response_json_schema", "response_format"),
        ("generation_config.response_modalities", "modalities"),
        ("generation_config.thinking_config.thinking_budget", "reasoning_effort"),
        ("safety_settings[0]", "safety_settings"),
        ("cached_content", "cached_content"),
        ("service_tier", "service_tier"),
        ("labels", None),
    ],
)
def test_a_refused_field_is_told_as_the_clients_parameter(path, expected):
    assert blamed(read(400, {}, error("Invalid.", bad_field(path)))) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("Invalid value at 'contents[0].role' (TYPE_STRING), 3", "messages", id="a path in quotes"),
        pytest.param(
            "* GenerateContentRequest.tools[0].function_declarations[0].name: bad", "tools", id="a named field"
        ),
        pytest.param("GenerateContentRequest.contents: contents is not specified", "messages", id="empty contents"),
        pytest.param(
            "Please ensure that function response turn comes immediately after a function call turn.",
            "messages",
            id="the order of turns",
        ),
        pytest.param("Please use a valid role: user, model.", "messages", id="a role"),
        pytest.param("Unable to process input image. Please retry.", "messages", id="an image"),
        pytest.param("You can only set only one of thinking budget and thinking level.", "reasoning_effort", id="both"),
        pytest.param(
            "Response_schema with a response mime type 'text/plain' is unsupported", "response_format", id="a schema"
        ),
        pytest.param("Request contains an invalid argument.", None, id="nothing told"),
    ],
)
def test_a_sentence_tells_the_parameter_where_it_can(message, expected):
    assert blamed(read(400, {}, error(message))) == expected


def test_details_are_more_telling_than_the_message():
    refused = read(400, {}, error("Invalid value at 'contents[0]'", bad_field("unknown"), bad_field("tools[0]")))
    assert blamed(refused) == "tools"


def test_an_answer_without_structure_blames_nothing():
    assert blamed(read(400, {}, b"<html>contents</html>")) is None
