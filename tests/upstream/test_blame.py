import pytest

from gemproxy.upstream.blame import blamed, parts_of, suspected
from gemproxy.upstream.dialect import Call, NamedPart
from gemproxy.upstream.refusals.error_body import read
from gemproxy.wire.gemini import Blob, Content, FileData, FunctionResponse, GenerateRequest, Part
from tests.upstream.refusals.refusal_bodies import TYPE, bad_field, error


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("request.tools[0].function_declarations[10]", "tools"),
        ("tools[0].function_declarations[0].parameters.properties[temperature]", "tools"),
        ("tool_config.function_calling_config.allowed_function_names", "tool_config"),
        ("contents[1].parts[0].inline_data", "contents"),
        ("system_instruction", "system_instruction"),
        ("generation_config.temperature", "temperature"),
        ("generationConfig.topP", "top_p"),
        ("generation_config.top_k", "top_k"),
        ("generation_config.max_output_tokens", "max_output_tokens"),
        ("generation_config.stop_sequences", "stop_sequences"),
        ("generation_config.candidate_count", "candidate_count"),
        ("generation_config.seed", "seed"),
        ("generation_config.presence_penalty", "presence_penalty"),
        ("generation_config.frequency_penalty", "frequency_penalty"),
        ("generation_config.response_logprobs", "logprobs"),
        ("generation_config.response_mime_type", "response_mime_type"),
        ("generation_config.response_schema.properties", "response_schema"),
        ("generation_config.response_json_schema", "response_json_schema"),
        ("generation_config.response_modalities", "response_modalities"),
        ("generation_config.thinking_config.thinking_budget", "thinking_config"),
        ("safety_settings[0]", "safety_settings"),
        ("cached_content", "cached_content"),
        ("service_tier", "service_tier"),
        ("labels", None),
    ],
)
def test_a_refused_field_is_named_as_gemini_does(path, expected):
    assert blamed(read(400, {}, error("Invalid.", bad_field(path)))) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("Invalid value at 'contents[0].role' (TYPE_STRING), 3", "contents", id="a path in quotes"),
        pytest.param(
            "* GenerateContentRequest.tools[0].function_declarations[0].name: bad", "tools", id="a named field"
        ),
        pytest.param("GenerateContentRequest.contents: contents is not specified", "contents", id="empty contents"),
        pytest.param(
            "Please ensure that function response turn comes immediately after a function call turn.",
            "contents",
            id="the order of turns",
        ),
        pytest.param("Please use a valid role: user, model.", "contents", id="a role"),
        pytest.param("Unable to process input image. Please retry.", "contents", id="an image"),
        pytest.param("You can only set only one of thinking budget and thinking level.", "thinking_config", id="both"),
        pytest.param(
            "Response_schema with a response mime type 'text/plain' is unsupported", "response_schema", id="a schema"
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


# --------------------------------------------------------------------------------------- one part of the messages

GIF, PNG, SVG = (Part(inline_data=Blob(f"image/{kind}", "AAAA")) for kind in ("gif", "png", "svg+xml"))
OGG, PDF = Part(inline_data=Blob("audio/ogg", "AAAA")), Part(inline_data=Blob("application/pdf", "AAAA"))
FILM = Part(file_data=FileData("https://youtu.be/x", "video/mp4"))
RESULT = Part(function_response=FunctionResponse("f", {}, parts=[SVG]))
CALL = Call(
    "generateContent",
    "gemini-3.8-flash",
    GenerateRequest([Content([Part(text="See"), GIF, PNG], "user"), Content([RESULT, OGG, PDF, FILM], "user")]),
    [
        *(NamedPart(GIF, "gif"), NamedPart(PNG, "png"), NamedPart(SVG, "svg")),
        *(NamedPart(OGG, "ogg"), NamedPart(PDF, "pdf"), NamedPart(FILM, "film")),
    ],
)
BROKEN = "[ORIGINAL ERROR] generic::invalid_argument: photos.thumbnailer.Status.Code::5: Source image 1 too short"


@pytest.mark.parametrize(
    ("message", "details", "expected"),
    [
        pytest.param("Unsupported MIME type: image/gif", (), ["gif"], id="a type"),
        pytest.param("Unsupported MIME type: image/svg+xml.", (), ["svg"], id="a type in a tool's result"),
        pytest.param(
            "Unable to submit request: it has a mimeType parameter with value audio/ogg, which is not supported.",
            (),
            ["ogg"],
            id="Vertex' words",
        ),
        pytest.param("Unsupported MIME type: image/tiff", (), ["gif", "png", "svg", "ogg", "pdf"], id="a type of none"),
        pytest.param("Unable to process input image. Please retry.", (), ["gif", "png", "svg"], id="a picture"),
        pytest.param("The document has no pages.", (), ["pdf"], id="an empty document"),
        pytest.param("Request contains an invalid audio file.", (), ["ogg"], id="a sound"),
        pytest.param("Cannot fetch content from the provided URL.", (), ["film"], id="an address"),
        pytest.param(
            "Invalid value at 'contents[0].parts[2].inline_data.data' (TYPE_BYTES), Base64 decoding failed",
            (),
            ["png"],
            id="a path in the message",
        ),
        pytest.param("Invalid.", (bad_field("contents[1].parts[1].inline_data"),), ["ogg"], id="a path in details"),
        pytest.param("Invalid.", (bad_field("request.contents[1].parts[0]"),), ["svg"], id="a whole result"),
        pytest.param(
            "Invalid.", (bad_field("contents[1].parts[0].function_response.parts[0]"),), ["svg"], id="within a result"
        ),
        pytest.param("Invalid.", (bad_field("contents[0].parts[0].text"),), [], id="a text: none of the media"),
        pytest.param("Invalid.", (bad_field("contents[9].parts[9]"),), [], id="a path that leads nowhere"),
        pytest.param(
            "Request contains an invalid argument.",
            ({"@type": TYPE + "DebugInfo", "detail": BROKEN},),
            ["png"],
            id="the number of a picture, for Google's own people",
        ),
    ],
)
def test_a_refused_medium_is_found_among_the_clients_parts(message, details, expected):
    suspect = suspected(read(400, {}, error(message, *details)))
    assert suspect is not None
    assert parts_of(suspect, CALL) == expected


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("Request contains an invalid argument.", id="nothing told"),
        pytest.param("Response_schema with a response mime type 'image/gif' is unsupported", id="the answer's type"),
        pytest.param("* GenerateContentRequest.tools[0]: invalid image", id="another field"),
        pytest.param("The requested combination of response modalities (TEXT, IMAGE) is not supported.", id="output"),
        pytest.param("Please use a valid role: user, model.", id="a role"),
    ],
)
def test_a_refusal_of_something_else_suspects_no_part(message):
    assert suspected(read(400, {}, error(message))) is None
