"""What clients ask: the OpenAI bodies, and the HTTP request that carries one. Pure.

The floor gets the same body as gemproxy; only the path differs, since the floor forwards it as it is.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench import script as scripts
from bench.script import Script

KEY = "sk-bench"
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
PATHS = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES}
TOOLS = 30
TOOLS_BYTES = 80_000

Json = dict[str, object]
Api = Literal["chat", "responses", "messages"]
Ask = Literal["plain", "long", "tools"]


def plain(script: Script) -> bytes:
    """Return a short question: a system text and a line of the user."""
    return msgspec.json.encode(_question(script))


def long(script: Script) -> bytes:
    """Return a question with 64 KiB of text."""
    asked = _question(script)
    messages: list[Json] = asked["messages"]  # type: ignore[assignment]
    messages[1]["content"] = scripts.said(scripts.SCRIPTS["large"])
    return msgspec.json.encode(asked)


def with_tools(script: Script) -> bytes:
    """Return a question of ``TOOLS_BYTES`` as agents ask it: 30 tools and some turns of conversation."""
    asked = _question(script) | {"tools": [_tool(number) for number in range(TOOLS)], "tool_choice": "auto"}
    messages: list[Json] = asked["messages"]  # type: ignore[assignment]
    for number in range(4):
        messages[1:1] = _turn(number)
    missing = TOOLS_BYTES - len(msgspec.json.encode(asked))
    messages[0]["content"] = f"{messages[0]['content']} {'Be brief and exact. ' * 10_000}"[: missing + 60]
    return msgspec.json.encode(asked)


BODIES = {"plain": plain, "long": long, "tools": with_tools}


def body(script: Script, ask: Ask, api: Api) -> bytes:
    """Return a question in the words of an API."""
    asked = BODIES[ask](script)
    return asked if api == "chat" else to_responses(asked) if api == "responses" else to_messages(asked)


def to_responses(asked: bytes) -> bytes:
    """Return a chat question as one of Responses."""
    chat = msgspec.json.decode(asked)
    system, *messages = chat.pop("messages")
    chat |= {
        "max_output_tokens": chat.pop("max_tokens"),
        "instructions": system["content"],
        "input": [item for message in messages for item in _items(message)],
    }
    if "tools" in chat:
        chat["tools"] = [{"type": "function", **tool["function"]} for tool in chat["tools"]]
    return msgspec.json.encode(chat)


def to_messages(asked: bytes) -> bytes:
    """Return a chat question as one of Anthropic's Messages."""
    chat = msgspec.json.decode(asked)
    system, *messages = chat.pop("messages")
    chat |= {"system": system["content"], "messages": [_message(message) for message in messages]}
    if "tools" in chat:
        functions = [tool["function"] for tool in chat["tools"]]
        chat["tools"] = [
            {"name": each["name"], "description": each["description"], "input_schema": each["parameters"]}
            for each in functions
        ]
        chat["tool_choice"] = {"type": "auto"}
    return msgspec.json.encode(chat)


def http(path: str, body: bytes) -> bytes:
    """Return the request as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def gemini_path(script: Script) -> str:
    """Return the upstream's path that gives this answer."""
    return f"/v1beta/models/{script.model}:{script.method}"


def _question(script: Script) -> Json:
    return {
        "model": script.model,
        "stream": bool(script.frames),
        "temperature": 0.7,
        "max_tokens": 4096,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant who answers in few words."},
            {"role": "user", "content": "Why does the Red Queen run, and what does it help her?"},
        ],
    }


def _items(message: Json) -> list[Json]:
    if message["role"] == "tool":
        return [
            {"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]},
        ]
    calls: list[Json] = message.get("tool_calls", [])  # type: ignore[assignment]
    if calls:
        return [{"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls]  # type: ignore[dict-item]
    return [{"role": message["role"], "content": message["content"]}]


def _message(message: Json) -> Json:
    if message["role"] == "tool":
        result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
        return {"role": "user", "content": [result]}
    calls: list[Json] = message.get("tool_calls", [])  # type: ignore[assignment]
    uses = [
        {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": _object(call)}  # type: ignore[index]
        for call in calls
    ]
    return {"role": message["role"], "content": uses or message["content"]}


def _object(call: Json) -> Json:
    found: Json = msgspec.json.decode(call["function"]["arguments"])  # type: ignore[index]
    return found


def _turn(number: int) -> list[Json]:
    call = {"name": f"find_{number}_in_records", "arguments": f'{{"query":"part {number}","limit":10}}'}
    return [
        {"role": "user", "content": f"Look up part {number} of the records, please."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": f"call_{number:024d}", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": f"call_{number:024d}", "content": f"Part {number}: " + "found. " * 40},
        {"role": "assistant", "content": f"Part {number} is there, and says what you would expect of it."},
    ]


def _tool(number: int) -> Json:
    text = "What to look for; words in quotes are taken as they are, all others may be inflected."
    properties: Json = {
        "query": {"type": "string", "description": text, "minLength": 1},
        "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": 100, "default": 10},
        "order": {"type": "string", "enum": ["newest", "oldest", "best"], "description": "What comes first."},
        "filter": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"anyOf": [{"type": "string", "description": text}, {"type": "null"}]}
                for name in ("author", "title", "place", "language", "publisher", "series")
            },
            "required": ["author"],
        },
        "within": {"type": "array", "items": {"$ref": "#/$defs/span"}, "maxItems": 8},
    }
    return {
        "type": "function",
        "function": {
            "name": f"find_{number}_in_records",
            "description": f"Finds entries of collection {number}. " + "Give as much as you know. " * 12,
            "parameters": {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "properties": properties,
                "required": ["query"],
                "additionalProperties": False,
                "$defs": {
                    "span": {
                        "type": "object",
                        "properties": {
                            "from": {"type": "string", "format": "date-time"},
                            "until": {"type": "string", "format": "date-time", "description": "Not included."},
                        },
                        "required": ["from"],
                    }
                },
            },
        },
    }
