"""A Gemini body -> the OpenAI request that a client would have sent for it: what the corpus test asks gemproxy with.

Written apart from gemproxy and as plainly as can be: names are read in either casing, nothing is judged, and what
OpenAI has no words for must have been taken out before (``tests.test_request_corpus`` lists it).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

OPAQUE = {  # the client's own JSON below these: no name in it is Google's
    *("args", "response", "parameters", "parametersJsonSchema"),
    *("responseSchema", "responseJsonSchema", "toolCall", "toolResponse"),
}
_BUILT_IN = {"codeExecution": "code_execution", "urlContext": "url_context"}


def camel(value: Any) -> Any:
    """Return a body with Google's names in camel case; both casings are taken (docs/protocol.md 0.0 item 6)."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub(r"_([a-z])", lambda found: found[1].upper(), key): held for key, held in value.items()}
    return {key: held if key in OPAQUE else camel(held) for key, held in named.items()}


def request(body: dict[str, Any], model: str, origin: str) -> dict[str, Any]:
    """Return the OpenAI request for a body in camel case; ``origin`` is where its signatures were made."""
    config = body.get("generationConfig", {})
    asked = {"model": model, "messages": _messages(body, origin)} | _settings(config) | _format(config)
    google = {
        "thinking_config": config.get("thinkingConfig"),
        "cached_content": body.get("cachedContent"),
        "safety_settings": body.get("safetySettings"),
    }
    said = {key: held for key, held in google.items() if held is not None}
    return asked | _tools(body) | ({"google": said} if said else {})


# ------------------------------------------------------------------------------------------------------- settings

_SAME = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "candidateCount": "n",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    found = {name: config[key] for key, name in _SAME.items() if key in config}
    if "responseModalities" in config:
        found["modalities"] = [kind.lower() for kind in config["responseModalities"]]
    return found


def _format(config: dict[str, Any]) -> dict[str, Any]:
    if config.get("responseMimeType") != "application/json":
        return {}
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema is None:
        return {"response_format": {"type": "json_object"}}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _tools(body: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    asked: dict[str, Any] = {}
    for tool in body.get("tools", ()):
        found += [{"type": "function", "function": _function(item)} for item in tool.get("functionDeclarations", ())]
        found += [{"type": name} for key, name in _BUILT_IN.items() if key in tool]
        if "googleSearch" in tool:
            asked["web_search_options"] = {}
    if found:
        asked["tools"] = found
    return asked | _choice(body, [tool["function"]["name"] for tool in found if "function" in tool])


def _function(item: dict[str, Any]) -> dict[str, Any]:
    spec = {"name": item["name"], "description": item.get("description")}
    return spec | {"parameters": item.get("parametersJsonSchema") or item.get("parameters")}


def _choice(body: dict[str, Any], declared: list[str]) -> dict[str, Any]:
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    mode, names = calling.get("mode"), calling.get("allowedFunctionNames")
    if mode is None:
        return {}
    if mode in ("AUTO", "NONE"):
        return {"tool_choice": mode.lower()}
    if mode == "ANY" and names is None:
        return {"tool_choice": "required"}
    allowed = [{"type": "function", "function": {"name": name}} for name in names or declared]
    if mode == "ANY" and len(allowed) == 1:
        return {"tool_choice": allowed[0]}
    how = "required" if mode == "ANY" else "auto"  # "auto" among named tools is VALIDATED (docs/protocol.md 4.5)
    return {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": how, "tools": allowed}}}


# ------------------------------------------------------------------------------------------------------- messages


def _messages(body: dict[str, Any], origin: str) -> list[dict[str, Any]]:
    system = [part["text"] for part in body.get("systemInstruction", {}).get("parts", ())]
    messages: list[dict[str, Any]] = [{"role": "system", "content": text} for text in system]
    open_calls: list[str] = []
    for content in body["contents"]:
        parts = content["parts"]
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        messages += [_result(result, open_calls) for result in results]
        spoken = [part for part in parts if "functionResponse" not in part]
        if not spoken:
            continue
        if content.get("role") == "model":
            messages.append(_assistant(spoken, len(messages), origin))
            open_calls += [call["id"] for call in messages[-1].get("tool_calls", ())]
        else:
            messages.append({"role": "user", "content": _content(spoken)})
    return messages


def _result(result: dict[str, Any], open_calls: list[str]) -> dict[str, Any]:
    """Return a tool message: for the call of that id where the client knows it, else for the next open one."""
    known = result.get("id") in open_calls
    call_id = result["id"] if known else open_calls[0]
    open_calls.remove(call_id)
    response = result["response"]
    text = response.get("output") if set(response) == {"output"} else None
    if not isinstance(text, str):
        text = msgspec.json.encode(response).decode()
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def _assistant(parts: list[dict[str, Any]], place: int, origin: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    texts = [part for part in parts if "text" in part and not part.get("thought")]
    message["content"] = _content(texts) if texts else None
    thoughts = "".join(part["text"] for part in parts if part.get("thought"))
    if thoughts:
        message["reasoning_content"] = thoughts
    signed = [part for part in texts if "thoughtSignature" in part]
    if signed:
        message["extra_content"] = _extra(signed[-1], origin)
    calls = [part for part in parts if "functionCall" in part]
    if calls:
        message["tool_calls"] = [_call(part, f"call_{place}_{number}", origin) for number, part in enumerate(calls)]
    return message


def _call(part: dict[str, Any], made_id: str, origin: str) -> dict[str, Any]:
    call = part["functionCall"]
    arguments = msgspec.json.encode(arguments_of(call)).decode()
    sent = {
        "id": call.get("id", made_id),
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }
    return sent | ({"extra_content": _extra(part, origin)} if "thoughtSignature" in part else {})


def arguments_of(call: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call; those streamed in pieces as the client got them, whole."""
    pieces = call.get("partialArgs", ())
    found = {piece["jsonPath"].removeprefix("$."): piece.get("numberValue") for piece in pieces}
    return found | (call.get("args") or {})


def _extra(part: dict[str, Any], origin: str) -> dict[str, Any]:
    return {"google": {"thought_signature": part["thoughtSignature"], "origin": origin}}


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and "text" in parts[0]:
        return str(parts[0]["text"])
    return [_part(part) for part in parts]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if "text" in part:
        return {"type": "text", "text": part["text"]}
    if "inlineData" in part:
        blob = part["inlineData"]
        url = f"data:{blob['mimeType']};base64,{blob['data']}"
        if blob["mimeType"].startswith("image/"):
            return {"type": "image_url", "image_url": {"url": url}}
        return {"type": "file", "file": {"file_data": url}}
    address = part["fileData"]["fileUri"]
    if part["fileData"].get("mimeType", "").startswith("image/"):
        return {"type": "image_url", "image_url": {"url": address}}
    return {"type": "file", "file": {"file_id": address}}
