"""Random chat requests: everything that OpenAI's schema allows, and whole conversations that hang together.

``by_schema`` follows the published schema wherever it leads, with values in a few places that are more than noise
(media, JSON schemas, names that recur). ``conversations`` are what a careful client sends, with gemproxy's extensions;
they need no file beside the checkout.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st

from gemproxy.simulator.model import PIXEL
from tests.corpus import path_of

Strategy = st.SearchStrategy[Any]
MODELS = (
    "gemini-2.0-flash-exp",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.5-flash-image",
    "gemini-3-flash-preview",
    "gemini-3.1-pro-preview",
    "gemini-3.5-flash",
    "gemini-3.8-flash",
    "gemini-3.1-flash-lite-image",
    "gemini-4-argon",
    "gemma-4-31b-it",
)
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
PDF = "data:application/pdf;base64,JVBERi0xLjQ="
PNG = f"data:image/png;base64,{PIXEL}"
NOT_SURROGATES = st.characters(codec="utf-8")
WORDS = st.text(NOT_SURROGATES, max_size=12)
SAYING = st.text(NOT_SURROGATES, min_size=1, max_size=12).filter(lambda text: not text.isspace())
NAMES = st.sampled_from(("f", "get_weather", "mcp__server.tool", "read file", "9lives", "ü", "x" * 70, "y" * 70 + "z"))
IDS = st.sampled_from(("call_1", "call_2", "call_3__thought__c2ln", "", "x" * 300))

# ------------------------------------------------------------------------------------------------- JSON, and schemas

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), WORDS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=5,
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3)
PROPERTIES = st.sampled_from(("city", "type", "$ref", "properties", "enum", "title", "ö", "a b", "required", "items"))
TYPES = ("string", "number", "integer", "boolean", "array", "object", "null", "STRING", "any")
REFS = st.sampled_from(("#/$defs/A", "#/definitions/B", "#", "#/$defs/missing", "https://example.com/x.json"))


def _objects(inner: Strategy) -> Strategy:
    return st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(PROPERTIES, inner, max_size=3)},
        optional={
            "required": st.lists(PROPERTIES, max_size=3),
            "additionalProperties": st.one_of(st.booleans(), inner),
            "description": WORDS,
            "$defs": st.fixed_dictionaries({"A": inner}),
            "definitions": st.fixed_dictionaries({"B": inner}),
        },
    )


def _compound(inner: Strategy) -> Strategy:
    arrays = st.fixed_dictionaries({"type": st.just("array")}, optional={"items": inner, "minItems": st.integers(0, 3)})
    joined = st.builds(
        lambda key, held, beside: {key: held} | beside,
        st.sampled_from(("anyOf", "oneOf", "allOf")),
        st.lists(inner, min_size=1, max_size=3),
        st.fixed_dictionaries({}, optional={"description": WORDS, "nullable": st.booleans()}),
    )
    return st.one_of(_objects(inner), arrays, joined)


_LEAVES = st.one_of(
    st.just({}),
    st.booleans(),
    st.builds(lambda kind: {"type": kind}, st.one_of(st.sampled_from(TYPES), st.lists(st.sampled_from(TYPES)))),
    st.builds(lambda ref: {"$ref": ref}, REFS),
    st.builds(lambda ref, text: {"$ref": ref, "description": text}, REFS, WORDS),
    st.builds(lambda value: {"const": value}, SCALARS),
    st.builds(lambda values: {"enum": values}, st.lists(SCALARS, max_size=3)),
    st.fixed_dictionaries(
        {"type": st.sampled_from(("integer", "number"))},
        optional={key: st.integers(-9, 9) for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
    ),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"format": WORDS, "pattern": WORDS, "default": JSON}),
)
SCHEMAS = st.recursive(_LEAVES, _compound, max_leaves=6)
OBJECT_SCHEMAS = _objects(SCHEMAS)

# ------------------------------------------------------------------------------------------------- OpenAI's schema

_BY_NAME: dict[str, Strategy] = {
    "model": st.sampled_from(MODELS),
    "url": st.one_of(st.sampled_from((PNG, "gs://bucket/a.png", "data:,x", "ftp://x", "")), WORDS),
    "data": st.sampled_from((WAV, "", "%", PDF)),
    "file_data": st.sampled_from((PDF, "JVBERi0xLjQ=", "x", "data:;base64,")),
    "file_id": st.sampled_from(("file-1", "https://generativelanguage.googleapis.com/v1beta/files/a", "gs://b/c.pdf")),
    "filename": st.sampled_from(("a.pdf", "a", ".", "ü.wav")),
    "name": NAMES,
    "id": IDS,
    "tool_call_id": IDS,
    "arguments": st.one_of(WORDS, OBJECTS.map(lambda held: msgspec.json.encode(held).decode())),
    "parameters": st.one_of(OBJECT_SCHEMAS, _compound(SCHEMAS), OBJECTS),
    "schema": st.one_of(OBJECT_SCHEMAS, _compound(SCHEMAS), OBJECTS),
    "max_tokens": st.integers(-1, 100_000),
    "max_completion_tokens": st.integers(-1, 100_000),
}


@cache
def _components() -> dict[str, Any]:
    described: dict[str, Any] = msgspec.json.decode(path_of("openapi.chat-models.json").read_bytes())
    return described["components"]["schemas"]


@cache
def by_schema(name: str = "CreateChatCompletionRequest") -> Strategy:
    """Return values that the schema of that name allows."""
    return _values(_components()[name])


def _values(node: dict[str, Any], name: str = "") -> Strategy:
    found = _BY_NAME[name] if name in _BY_NAME else _described(node)
    return st.one_of(found, st.none()) if node.get("nullable") and name != "model" else found


def _described(node: dict[str, Any]) -> Strategy:
    if "$ref" in node:
        target = node["$ref"].rpartition("/")[2]
        return st.deferred(lambda: by_schema(target))
    if "enum" in node:
        return st.sampled_from(node["enum"])
    for key in ("anyOf", "oneOf"):
        if key in node:
            return st.one_of([_values(branch) for branch in node[key]])
    if "allOf" in node or node.get("type") == "object" or "properties" in node:
        return _object(node)
    if node["type"] == "array":
        return st.lists(
            _values(node["items"]), min_size=node.get("minItems", 0), max_size=min(node.get("maxItems", 4), 4)
        )
    return _scalar(node)


def _object(node: dict[str, Any]) -> Strategy:
    properties, required = _members(node)
    known = {key: _values(held, key) for key, held in properties.items()}
    extra = node.get("additionalProperties")
    if not known:
        return st.dictionaries(WORDS, _values(extra) if isinstance(extra, dict) else JSON, max_size=3)
    must = {key: known.pop(key) for key in sorted(required)}
    return st.fixed_dictionaries(must, optional=known)


def _members(node: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return the properties and the required ones, those of every ``allOf`` branch together."""
    if "$ref" in node:
        node = _components()[node["$ref"].rpartition("/")[2]]
    properties, required = dict(node.get("properties", {})), set(node.get("required", ()))
    for branch in node.get("allOf", ()):
        more, needed = _members(branch)
        properties, required = more | properties, required | needed
    return properties, required


def _scalar(node: dict[str, Any]) -> Strategy:
    low, high = node.get("minimum"), node.get("maximum")
    if node["type"] == "integer":
        return st.integers(-(2**63) if low is None else int(low), 2**63 if high is None else int(high))
    if node["type"] == "number":
        return st.one_of(st.floats(low, high), st.integers(int(low or 0), int(high or 9)))
    return {"string": WORDS, "boolean": st.booleans(), "null": st.none()}[node["type"]]


# ------------------------------------------------------------------------------------- conversations that make sense

TOOLS = ("get_weather", "read file", "mcp__server.tool", "9lives")
_USER_PARTS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, SAYING),
    st.builds(
        lambda how: {"type": "image_url", "image_url": {"url": PNG} | how}, st.sampled_from(({}, {"detail": "low"}))
    ),
    st.just({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
    st.just({"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}),
)
_SAID_BY_USER = st.one_of(SAYING, st.lists(_USER_PARTS, min_size=1, max_size=3))
_RESULTS = st.one_of(
    WORDS,
    JSON.map(lambda held: msgspec.json.encode(held).decode()),
    st.just([{"type": "text", "text": "Here it is."}, {"type": "image_url", "image_url": {"url": PNG}}]),
)
_SIGNED = st.sampled_from(({}, {"extra_content": {"google": {"thought_signature": "c2ln"}}}))


@st.composite
def steps(draw: st.DrawFn, start: int) -> list[dict[str, Any]]:
    """Return one step of tool use: calls, and their results in any order, perhaps not all of them."""
    names = draw(st.lists(st.sampled_from(TOOLS), min_size=1, max_size=3))
    calls = [
        {
            "id": f"call_{start}_{place}",
            "type": "function",
            "function": {"name": name, "arguments": msgspec.json.encode(draw(OBJECTS)).decode()},
        }
        | draw(_SIGNED)
        for place, name in enumerate(names)
    ]
    message = {"role": "assistant", "content": draw(st.one_of(st.none(), WORDS)), "tool_calls": calls}
    answered = draw(st.lists(st.sampled_from(calls), unique_by=lambda call: call["id"], max_size=3))
    results = [{"role": "tool", "tool_call_id": call["id"], "content": draw(_RESULTS)} for call in answered]
    return [message, *results]


# a step in the words of 2023, and one of a custom tool
LEGACY = st.sampled_from(
    (
        [
            {"role": "assistant", "content": None, "function_call": {"name": "get_weather", "arguments": "{}"}},
            {"role": "function", "name": "get_weather", "content": "rain"},
        ],
        [
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "patch", "input": "+ a line"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ],
    )
)


@st.composite
def messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return a conversation: instructions, and turns of words and tools; the user speaks first."""
    found = [
        {"role": role, "content": draw(SAYING)}
        for role in draw(st.lists(st.sampled_from(("system", "developer")), max_size=2))
    ]
    for turn in range(draw(st.integers(1, 3))):
        found.append({"role": "user", "content": draw(_SAID_BY_USER)})
        for step in range(draw(st.integers(0, 2))):
            found += draw(st.one_of(steps(10 * turn + step), LEGACY))
        if draw(st.booleans()):
            found.append({"role": "assistant", "content": draw(WORDS)} | draw(_SIGNED))
    return found


_SETTINGS: dict[str, Strategy] = {
    "stream": st.booleans(),
    "stream_options": st.just({"include_usage": True}),
    "max_completion_tokens": st.integers(1, 100_000),
    "max_tokens": st.one_of(st.integers(1, 100_000), st.just(100.0)),
    "temperature": st.one_of(st.floats(0, 2), st.integers(0, 2)),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(-1, 100),
    "stop": st.one_of(SAYING, st.lists(SAYING, max_size=5)),
    "seed": st.integers(-(2**63), 2**63),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "logit_bias": st.dictionaries(st.sampled_from(("1", "50256")), st.integers(-100, 100)),
    "n": st.just(1),
    "parallel_tool_calls": st.booleans(),
    "reasoning_effort": st.sampled_from(("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    "thinking_budget": st.integers(-1, 40_000),
    "thinking": st.sampled_from(
        ({"type": "enabled", "budget_tokens": 2000}, {"type": "disabled"}, {"type": "adaptive"})
    ),
    "google": st.fixed_dictionaries(
        {}, optional={"thinking_config": st.sampled_from(({"thinking_level": "low"}, {"includeThoughts": False}))}
    ),
    "response_format": st.one_of(
        st.sampled_from(({"type": "text"}, {"type": "json_object"})),
        st.builds(
            lambda schema: {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}, OBJECT_SCHEMAS
        ),
    ),
    "service_tier": st.sampled_from(("auto", "default", "flex", "scale")),
    "user": WORDS,
    "store": st.booleans(),
    "metadata": st.dictionaries(WORDS, WORDS, max_size=2),
    "verbosity": st.sampled_from(("low", "high")),
    "whatever": JSON,
}
_CHOICES = st.sampled_from(
    (
        "auto",
        "none",
        "required",
        {"type": "function", "function": {"name": TOOLS[0]}},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": TOOLS[1]}}]},
        },
    )
)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """Return a whole request in which everything is as it should be."""
    request = {"model": draw(st.sampled_from(MODELS)), "messages": draw(messages())}
    request |= draw(st.fixed_dictionaries({}, optional=_SETTINGS))
    if draw(st.booleans()):
        request["tools"] = [
            {
                "type": "function",
                "function": {"name": name, "description": draw(WORDS), "parameters": draw(OBJECT_SCHEMAS)},
            }
            for name in TOOLS
        ]
        request |= draw(st.fixed_dictionaries({}, optional={"tool_choice": _CHOICES}))
    return request
