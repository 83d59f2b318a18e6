"""What Google refuses in generationConfig, per model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulator.asking import FLASH, OLD_FLASH, PRO, declare, google, post, refused, user

GEN = "* GenerateContentRequest.generation_config."
PENALTY = "Penalty is not enabled for this model"
LOGPROBS = "Logprobs is not enabled for this model"
CANDIDATES = "Multiple candidates is not enabled for this model"
BOTH = "You can only set only one of thinking budget and thinking level."
NO_REST = "Budget 0 is invalid. This model only works in thinking mode."
LITE_IMAGE = "gemini-3.1-flash-lite-image"


def thinking(**fields: Any) -> dict[str, Any]:
    return {"thinkingConfig": fields}


BAD: list[tuple[str, dict[str, Any], str]] = [
    (FLASH, {"temperature": 2.5}, f"{GEN}temperature: temperature must be in the range [0.0, 2.0].\n"),
    (FLASH, {"temperature": -0.1}, f"{GEN}temperature: temperature must be in the range [0.0, 2.0].\n"),
    (FLASH, {"topP": 1.1}, f"{GEN}top_p: top_p must be in the range [0.0, 1.0].\n"),
    (
        FLASH,
        {"maxOutputTokens": 0},
        (
            "Unable to submit request because it has a maxOutputTokens value of 0 but the supported range is from 1 "
            "(inclusive) to 65537 (exclusive). Update the value and try again."
        ),
    ),
    (
        LITE_IMAGE,
        {"maxOutputTokens": 4097},
        (
            "Unable to submit request because it has a maxOutputTokens value of 4097 but the supported range is from 1 "
            "(inclusive) to 4097 (exclusive). Update the value and try again."
        ),
    ),
    (
        FLASH,
        {"stopSequences": list("abcdef")},
        f"{GEN}stop_sequences: the number of stop sequences must be at most 5.\n",
    ),
    (FLASH, {"presencePenalty": 0.0}, PENALTY),
    (OLD_FLASH, {"frequencyPenalty": 0.5}, PENALTY),
    (OLD_FLASH, {"responseLogprobs": True}, LOGPROBS),
    (FLASH, {"logprobs": 2}, LOGPROBS),
    (FLASH, {"candidateCount": 2}, CANDIDATES),
    ("gemini-3.5-flash-lite", {"candidateCount": 2}, CANDIDATES),
    ("gemini-2.5-flash-image", {"candidateCount": 2}, CANDIDATES),
    (PRO, {"candidateCount": 9}, f"{GEN}candidate_count: candidate_count must be in the range [1, 8].\n"),
    (FLASH, thinking(thinkingLevel="LOW", thinkingBudget=5), BOTH),
    (PRO, thinking(thinkingLevel="LOW"), "Thinking level is not supported for this model."),
    (FLASH, thinking(thinkingLevel="MINIMAL"), "Thinking level MINIMAL is not supported for this model."),
    (
        "gemini-3.1-pro-preview",
        thinking(thinkingLevel="minimal"),
        "Thinking level MINIMAL is not supported for this model.",
    ),
    (LITE_IMAGE, thinking(thinkingLevel="LOW"), "Thinking level LOW is not supported for this model."),
    (PRO, thinking(thinkingBudget=0), NO_REST),
    ("gemini-3.6-flash", thinking(thinkingBudget=0), NO_REST),
    ("gemini-3.1-pro-preview", thinking(thinkingBudget=0), NO_REST),
    (
        PRO,
        thinking(thinkingBudget=100),
        "The thinking budget 100 is invalid. Please choose a value between 128 and 32768.",
    ),
    (
        OLD_FLASH,
        thinking(thinkingBudget=24577),
        "The thinking budget 24577 is invalid. Please choose a value between 1 and 24576.",
    ),
    (
        "gemini-2.5-flash-lite",
        thinking(thinkingBudget=511),
        "The thinking budget 511 is invalid. Please choose a value between 512 and 24576.",
    ),
    (
        "gemini-2.5-flash-image",
        thinking(includeThoughts=True),
        "Thinking is not enabled for models/gemini-2.5-flash-image",
    ),
    (
        FLASH,
        {"responseMimeType": "text/html"},
        (
            f"{GEN}response_mime_type: allowed mimetypes are `text/plain`, `application/json`, `application/xml`, "
            "`application/yaml`, `text/x.enum`.\n"
        ),
    ),
    (
        FLASH,
        {"responseJsonSchema": {"type": "object"}},
        "Response_schema with a response mime type 'text/plain' is unsupported",
    ),
    (
        FLASH,
        {"responseSchema": {"type": "STRING"}, "responseJsonSchema": {}, "responseMimeType": "application/json"},
        f"{GEN}response_json_schema: only one of response_schema and response_json_schema may be set.\n",
    ),
]


@pytest.mark.parametrize(("name", "config", "message"), BAD, ids=lambda row: str(row)[:60])
def test_unlawful_setting_is_refused(name: str, config: dict[str, Any], message: str) -> None:
    body = {"contents": [user()], "generationConfig": config}
    assert refused(post(google(), body, name=name)) == (400, message)


LAWFUL: list[tuple[str, dict[str, Any]]] = [
    (FLASH, {"temperature": 2, "topP": 1, "topK": 40, "maxOutputTokens": 65536, "seed": -5}),
    (FLASH, {"stopSequences": list("abcde")}),
    (FLASH, {"candidateCount": 1}),
    (PRO, {"candidateCount": 8}),
    ("gemini-3.1-pro-preview", {"candidateCount": 2}),
    (FLASH, thinking(thinkingLevel="HIGH", includeThoughts=True)),
    ("gemini-3.6-flash", thinking(thinkingLevel="MINIMAL")),
    ("gemini-3.5-flash", thinking(thinkingBudget=0)),
    (FLASH, thinking(thinkingBudget=128)),
    (FLASH, thinking(thinkingBudget=-1)),
    (OLD_FLASH, thinking(thinkingBudget=0)),
    (PRO, thinking(thinkingBudget=-1)),
    ("gemini-2.5-flash-image", thinking(thinkingBudget=0)),
    (FLASH, {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}),
    (FLASH, {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}}),
]


@pytest.mark.parametrize(("name", "config"), LAWFUL, ids=lambda row: str(row)[:60])
def test_lawful_setting_is_taken(name: str, config: dict[str, Any]) -> None:
    assert post(google(), {"contents": [user()], "generationConfig": config}, name=name).status == 200


def test_vertex_has_penalties_and_logprobs_before_gemini_3() -> None:
    config = {"presencePenalty": 0.5, "responseLogprobs": True, "logprobs": 2}
    body = {"contents": [user()], "generationConfig": config}
    assert post(google(), body, name=OLD_FLASH, upstream="vertex").status == 200
    assert refused(post(google(), body, name=FLASH, upstream="vertex")) == (400, PENALTY)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"logprobs": 2}, f"{GEN}logprobs: logprobs needs response_logprobs to be true.\n"),
        ({"logprobs": 21, "responseLogprobs": True}, f"{GEN}logprobs: logprobs must be in the range [0, 20].\n"),
    ],
)
def test_logprobs_on_vertex_have_limits(config: dict[str, Any], message: str) -> None:
    body = {"contents": [user()], "generationConfig": config}
    assert refused(post(google(), body, name=OLD_FLASH, upstream="vertex")) == (400, message)


def test_functions_and_json_exclude_each_other_before_gemini_3() -> None:
    body = {
        "contents": [user()],
        "tools": declare("f"),
        "generationConfig": {"responseMimeType": "application/json"},
    }
    message = "Function calling with a response mime type: 'application/json' is unsupported"
    assert refused(post(google(), body, name=OLD_FLASH)) == (400, message)
    assert post(google(), body, name=FLASH).status == 200
