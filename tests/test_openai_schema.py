"""The checker of OpenAI's schemas tries fewer choices than the standard one, and holds the same to be wrong."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from tests.responses_schema import _validator, event_problems

DELTA = {
    "type": "response.output_text.delta",
    "sequence_number": 4,
    "item_id": "m",
    "delta": "Hi",
    "output_index": 0,
    "content_index": 0,
    "logprobs": [],
}
MESSAGE = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": []}
DONE = {"type": "response.output_item.done", "sequence_number": 5, "output_index": 0, "item": MESSAGE}


@pytest.mark.parametrize(
    ("event", "sound"),
    [
        pytest.param(DELTA, True, id="an event"),
        pytest.param(DELTA | {"delta": 3}, False, id="a field of another kind"),
        pytest.param({key: DELTA[key] for key in DELTA if key != "item_id"}, False, id="a field less"),
        pytest.param(DELTA | {"type": "response.output_text.done"}, False, id="the type of another event"),
        pytest.param(DELTA | {"type": "response.nothing"}, False, id="a type of none"),
        pytest.param(DELTA | {"type": ["response.output_text.delta"]}, False, id="a type that is no word"),
        pytest.param({key: DELTA[key] for key in DELTA if key != "type"}, False, id="no type"),
        pytest.param("response.output_text.delta", False, id="no object"),
        pytest.param(DONE, True, id="an item in an event"),
        pytest.param(DONE | {"item": MESSAGE | {"role": "nobody"}}, False, id="a wrong item in an event"),
        pytest.param(DONE | {"item": MESSAGE | {"content": [{"type": "odd"}]}}, False, id="an odd part of an item"),
    ],
)
def test_it_judges_as_the_standard_one(event: Any, sound: bool) -> None:
    assert (event_problems(event) == []) == sound
    assert jsonschema.Draft202012Validator(_validator("ResponseStreamEvent").schema).is_valid(event) == sound
