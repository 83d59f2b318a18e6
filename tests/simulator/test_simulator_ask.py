"""The views of a request: turns, the current turn, its words and results."""

from __future__ import annotations

from typing import Any

from gemproxy.simulator.ask import Ask
from gemproxy.simulator.catalogue import MODELS
from tests.simulator.asking import call, model, result, results, user


def ask(*contents: dict[str, Any], **body: Any) -> Ask:
    name = "gemini-3.8-flash"
    return Ask("ai_studio", "generateContent", name, MODELS[name], {"contents": list(contents), **body})


def test_neighbours_of_one_role_are_one_turn() -> None:
    turns = ask(user("a"), {"parts": [{"text": "b"}]}, model(call()), model({"text": ""}), results(result())).turns()
    assert [(turn.role, turn.first, len(turn.parts)) for turn in turns] == [
        ("user", 0, 2),
        ("model", 2, 2),
        ("user", 4, 1),
    ]


def test_current_turn_begins_with_the_last_words_of_the_user() -> None:
    asked = ask(
        user("a"),
        model(call()),
        results(result()),
        model({"text": "b"}),
        user("c"),
        model(call("g")),
        results(result("g")),
    )
    assert asked.last_text() == "c"
    assert [found["name"] for found in asked.results()] == ["g"]


def test_words_beside_results_begin_a_new_turn() -> None:
    asked = ask(user("a"), model(call()), results(result(), {"text": "stop"}))
    assert asked.last_text() == "stop"
    assert asked.results() == []


def test_empty_request_has_no_words() -> None:
    assert ask().last_text() == ""
    assert ask().results() == []
    assert ask().prompt_tokens() == 0


def test_prompt_counts_words_media_calls_and_declarations() -> None:
    picture = {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}, {"text": "one two"}]}
    asked = ask(
        picture,
        model(call()),
        systemInstruction={"parts": [{"text": "be brief"}]},
        tools=[{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}],
    )
    assert asked.prompt_tokens() == 258 + 2 + 8 + 2 + 8
    assert asked.built_ins == ["googleSearch"]


def test_mode_is_auto_unless_it_is_said() -> None:
    assert ask().mode == "AUTO"
    assert ask(toolConfig={"functionCallingConfig": {"mode": "MODE_UNSPECIFIED"}}).mode == "AUTO"
    assert ask(toolConfig={"functionCallingConfig": {"mode": "ANY"}}).mode == "ANY"
