"""What a model refused is left out or put differently the next time (docs/protocol.md 9)."""

import msgspec
import pytest
from msgspec import Raw

from gemproxy.upstream.dialect import Repair
from gemproxy.upstream.repairs import REMEMBERED_MODELS, REPAIR_TTL, Learnt, repaired
from gemproxy.wire.gemini import (
    Content,
    Empty,
    FunctionDeclaration,
    GenerateRequest,
    GenerationConfig,
    Part,
    ThinkingConfig,
    ToolSpec,
)

MODEL = "gemini-3.8-flash"
WISH = "Unless you call a function, answer with one JSON document and nothing else."
FUNCTIONS = [ToolSpec([FunctionDeclaration("f")])]


def config(**fields):
    return GenerateRequest([Content([Part(text="Hi")], "user")], generation_config=GenerationConfig(**fields))


def thinking(**fields):
    return config(seed=7, thinking_config=ThinkingConfig(**fields))


def sent(body):
    """Return the body as it goes over the wire, without the contents."""
    return {name: value for name, value in msgspec.json.decode(msgspec.json.encode(body)).items() if name != "contents"}


@pytest.mark.parametrize(
    ("repair", "body", "expected"),
    [
        pytest.param(
            Repair.DROP_PENALTIES,
            config(presence_penalty=0.5, frequency_penalty=1, seed=7),
            {"seed": 7},
            id="penalties",
        ),
        pytest.param(
            Repair.DROP_LOGPROBS, config(response_logprobs=True, logprobs=3, seed=7), {"seed": 7}, id="logprobs"
        ),
        pytest.param(
            Repair.DROP_SAMPLING, config(temperature=0, top_p=0.5, top_k=3, seed=7), {"seed": 7}, id="sampling"
        ),
        pytest.param(Repair.DROP_THINKING, thinking(thinking_budget=5), {"seed": 7}, id="thinking"),
        pytest.param(
            Repair.DROP_BUDGET,
            thinking(thinking_budget=0, include_thoughts=True),
            {"seed": 7, "thinkingConfig": {"includeThoughts": True}},
            id="the budget alone",
        ),
        pytest.param(
            Repair.DROP_LEVEL,
            thinking(thinking_level="LOW", thinking_budget=9),
            {"seed": 7, "thinkingConfig": {"thinkingBudget": 9}},
            id="the level alone",
        ),
        pytest.param(
            Repair.RAISE_LEVEL,
            thinking(thinking_level="MINIMAL", include_thoughts=True),
            {"seed": 7, "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"}},
            id="the lowest level",
        ),
        pytest.param(
            Repair.RAISE_LEVEL,
            thinking(thinking_level="minimal"),
            {"seed": 7, "thinkingConfig": {"thinkingLevel": "LOW"}},
            id="a level in lower case",
        ),
    ],
)
def test_a_repair_changes_its_own_fields_and_no_others(repair, body, expected):
    before = msgspec.json.encode(body)
    assert sent(repaired(body, {repair})) == {"generationConfig": expected}
    assert msgspec.json.encode(body) == before


@pytest.mark.parametrize("repair", list(Repair))
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(GenerateRequest([Content([Part(text="Hi")], "user")]), id="a bare body"),
        pytest.param(config(seed=7), id="a config without the fields"),
        pytest.param(thinking(include_thoughts=True), id="thoughts without a depth"),
    ],
)
def test_a_repair_with_nothing_to_mend_copies_nothing(repair, body):
    if repair is Repair.DROP_THINKING and body.generation_config and body.generation_config.thinking_config:
        assert sent(repaired(body, {repair})) == {"generationConfig": {"seed": 7}}
    else:
        assert repaired(body, {repair}) is body
    assert repaired(body, frozenset()) is body


@pytest.mark.parametrize("level", ["LOW", "MEDIUM", "HIGH"])
def test_a_level_above_the_lowest_is_not_raised(level):
    body = thinking(thinking_level=level)
    assert repaired(body, {Repair.RAISE_LEVEL}) is body


def with_schema(system=None, tools=FUNCTIONS, **schema):
    return GenerateRequest(
        [Content([Part(text="Hi")], "user")],
        system_instruction=system,
        tools=tools,
        generation_config=GenerationConfig(response_mime_type="application/json", **schema),
    )


SCHEMA = {"response_json_schema": Raw(b'{"type":"object"}')}


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        pytest.param(
            with_schema(Content([Part(text="Be brief.")]), **SCHEMA),
            ["Be brief.", f'{WISH} It must fit this JSON Schema:\n{{"type":"object"}}'],
            id="after the system text",
        ),
        pytest.param(
            with_schema(**SCHEMA),
            [f'{WISH} It must fit this JSON Schema:\n{{"type":"object"}}'],
            id="without a system text",
        ),
        pytest.param(with_schema(Content(None)), [WISH], id="without a schema"),
    ],
)
def test_a_schema_beside_functions_becomes_text(body, texts):
    before = msgspec.json.encode(body)
    told = repaired(body, {Repair.SCHEMA_AS_TEXT})
    assert [part.text for part in told.system_instruction.parts] == texts
    assert sent(told)["generationConfig"] == {}
    assert sent(told)["tools"] == [{"functionDeclarations": [{"name": "f"}]}]
    assert msgspec.json.encode(body) == before


@pytest.mark.parametrize("tools", [None, [ToolSpec(google_search=Empty())]], ids=["no tools", "built-in tools only"])
def test_a_schema_without_functions_stays_a_schema(tools):
    body = with_schema(tools=tools, **SCHEMA)
    assert repaired(body, {Repair.SCHEMA_AS_TEXT}) is body


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        pytest.param(
            [("user", "Hi"), ("model", "Yes?")], [("user", ["Rule.", "Hi"]), ("model", ["Yes?"])], id="a user first"
        ),
        pytest.param([("model", "Yes?")], [("user", ["Rule."]), ("model", ["Yes?"])], id="a model first"),
        pytest.param([], [("user", ["Rule."])], id="nothing but the rule"),
    ],
)
def test_system_text_becomes_the_beginning_of_the_users(contents, expected):
    body = GenerateRequest(
        [Content([Part(text=text)], role) for role, text in contents], system_instruction=Content([Part(text="Rule.")])
    )
    before = msgspec.json.encode(body)
    told = repaired(body, {Repair.SYSTEM_AS_USER})
    assert told.system_instruction is None
    assert [(content.role, [part.text for part in content.parts]) for content in told.contents] == expected
    assert msgspec.json.encode(body) == before


def test_a_schema_as_text_goes_along_with_the_system_text():
    told = repaired(with_schema(**SCHEMA), {Repair.SYSTEM_AS_USER, Repair.SCHEMA_AS_TEXT})
    assert told.system_instruction is None
    assert told.contents[0].parts[0].text.startswith(WISH)


@pytest.mark.parametrize(
    ("roles", "ended"),
    [
        pytest.param(["user", "model"], ["Continue."], id="a model at the end"),
        pytest.param(["user", "model", "user"], [], id="a user at the end"),
        pytest.param([], [], id="no contents"),
    ],
)
def test_a_conversation_that_ends_with_the_model_is_ended_by_the_user(roles, ended):
    body = GenerateRequest([Content([Part(text="Hi")], role) for role in roles])
    before = msgspec.json.encode(body)
    told = repaired(body, {Repair.END_WITH_USER})
    assert [(content.role, content.parts[0].text) for content in told.contents[len(roles) :]] == [
        ("user", text) for text in ended
    ]
    assert (told is body) is not bool(ended)
    assert msgspec.json.encode(body) == before


# ------------------------------------------------------------------------------------------------- the memory


def test_a_repair_is_remembered_for_an_hour_and_for_its_model_only():
    learnt = Learnt()
    learnt.learn(MODEL, Repair.DROP_PENALTIES, 100.0)
    learnt.learn(MODEL, Repair.DROP_LOGPROBS, 200.0)
    assert learnt.of(MODEL, 99.9 + REPAIR_TTL) == {Repair.DROP_PENALTIES, Repair.DROP_LOGPROBS}
    assert learnt.of(MODEL, 100.0 + REPAIR_TTL) == {Repair.DROP_LOGPROBS}
    assert learnt.of(MODEL, 200.0 + REPAIR_TTL) == set()
    assert learnt.of("gemini-3.7-flash", 100.0) == set()


def test_a_repair_that_helps_again_is_remembered_anew():
    learnt = Learnt()
    learnt.learn(MODEL, Repair.DROP_LEVEL, 0.0)
    learnt.learn(MODEL, Repair.DROP_LEVEL, 60.0)
    assert learnt.of(MODEL, REPAIR_TTL) == {Repair.DROP_LEVEL}


def test_a_broken_history_is_not_remembered():
    learnt = Learnt()
    learnt.learn(MODEL, Repair.DUMMY_SIGNATURES, 0.0)
    assert learnt.of(MODEL, 0.0) == set()


def test_models_made_up_by_clients_do_not_grow_what_is_learnt():
    learnt = Learnt()
    for number in range(3 * REMEMBERED_MODELS):
        learnt.learn(f"gemini-made-up-{number}", Repair.DROP_LOGPROBS, 1.0)
        learnt.learn(MODEL, Repair.DROP_PENALTIES, 1.0)
    assert len(learnt._known) == REMEMBERED_MODELS
    assert learnt.of(MODEL, 2.0) == {Repair.DROP_PENALTIES}
