"""One form for all Gemini bodies that say the same, so that two of them can be compared without loss.

What is taken for the same, and why (each has a function or a line here):

    casing            names in either casing, types and levels in either case (docs/protocol.md 0.0 item 6)
    null, {}, []      a field without a value says nothing (proto3)
    the system        ``systemInstruction.role`` is ignored (docs/protocol.md 1.3); alone, the user says it (4.4)
    neighbours        contents of one role merge; a result belongs to the user (docs/protocol.md 4.4 rules 1, 2)
    empty texts       are dropped unless signed; " " opens a conversation that begins with none (rules 9, 11)
    no answer         a call without result gets ``{"error": "no result"}`` (rule 5)
    thoughts          are not sent back (docs/protocol.md 4.3.4)
    pieces            arguments streamed in pieces are the whole arguments
    tools             all declarations stand in one list, whatever Tool objects hold them (docs/protocol.md 1.4)
    schemas           words that Gemini passes over go; lists of types are branches (docs/protocol.md 5.2, 5.4)
    defaults          TEXT alone, one candidate, mode AUTO, "all functions allowed" and an empty object of parameters
    server's calls    ``includeServerSideToolInvocations`` counts only beside functions (docs/protocol.md 1.4)
    base64            either alphabet, padded or not

Written apart from gemproxy. Changes in place nothing that it was given.
"""

from __future__ import annotations

from typing import Any

from tests.reversing import arguments_of

Part = dict[str, Any]
Content = tuple[str, list[Part]]
KEYWORDS = {  # what Gemini reads in a JSON Schema (docs/protocol.md 5.2); "$schema" and "$id" name, no more
    *("$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems", "minItems"),
    *("maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties", "required"),
    "propertyOrdering",
}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return the normal form of a body in camel case (``reversing.camel``)."""
    declared = [item for tool in body.get("tools") or () for item in tool.get("functionDeclarations") or ()]
    built_in = sorted({key for tool in body.get("tools") or () for key in tool if key != "functionDeclarations"})
    found = {
        "system": [part["text"] for part in (body.get("systemInstruction") or {}).get("parts", ())],
        "contents": conversation(body.get("contents", ())),
        "functions": [_function(item) for item in declared],
        "built_in": built_in,
        "choice": _choice(body, [item["name"] for item in declared], bool(declared and built_in)),
        "config": _config(body.get("generationConfig") or {}),
    }
    if not found["contents"]:
        found |= {"contents": [("user", [{"text": text} for text in found["system"]])], "system": []}
    return found | {key: body.get(key) for key in ("safetySettings", "cachedContent", "serviceTier")}


# ----------------------------------------------------------------------------------------------- the conversation


def conversation(contents: Any) -> list[Content]:
    """Return the contents with neighbours merged, every call answered, and the user first."""
    merged: list[Content] = []
    for content in contents:
        for part in map(_part, content["parts"]):
            if part is None:
                continue
            role = "model" if content.get("role") == "model" and "result" not in part else "user"
            if not merged or merged[-1][0] != role:
                merged.append((role, []))
            merged[-1][1].append(part)
    if merged and merged[0][0] == "model":
        merged.insert(0, ("user", [{"text": " "}]))
    for place in range(len(merged) - 1, -1, -1):
        _answer(merged, place)
    return merged


def _answer(contents: list[Content], place: int) -> None:
    role, parts = contents[place]
    calls = [part["call"] for part in parts if "call" in part] if role == "model" else []
    if not calls:
        return
    if place + 1 == len(contents):
        contents.append(("user", []))
    after = contents[place + 1][1]
    given = sum("result" in part for part in after)
    missing = [{"result": {"name": call["name"], "response": {"error": "no result"}}} for call in calls[given:]]
    after[given:given] = missing


def _part(part: Part) -> Part | None:
    if part.get("thought") or (part.get("text") == "" and "thoughtSignature" not in part):
        return None
    found: Part = {}
    if "functionCall" in part:
        call = part["functionCall"]
        found["call"] = {"name": call["name"], "args": arguments_of(call)} | _id(call)
    elif "functionResponse" in part:
        result = part["functionResponse"]
        found["result"] = {"name": result["name"], "response": result["response"]} | _id(result)
    elif "inlineData" in part:
        data = part["inlineData"]["data"].translate(str.maketrans("-_", "+/")).rstrip("=")
        found["media"] = (part["inlineData"]["mimeType"], data)
    else:
        found |= {key: part[key] for key in ("text", "fileData") if key in part}
    return found | ({"signature": part["thoughtSignature"]} if "thoughtSignature" in part else {})


def _id(named: dict[str, Any]) -> dict[str, Any]:
    return {"id": named["id"]} if named.get("id") else {}


# ------------------------------------------------------------------------------------------------ tools and settings


def _choice(body: dict[str, Any], declared: list[str], mixed: bool) -> dict[str, Any]:
    config = body.get("toolConfig") or {}
    calling = config.get("functionCallingConfig") or {}
    mode = calling.get("mode", "AUTO")
    allowed = calling.get("allowedFunctionNames") or declared
    asked = bool(config.get("includeServerSideToolInvocations")) if mixed else False
    return {"mode": mode, "allowed": sorted(allowed) if mode != "AUTO" else None, "server": asked}


def _function(item: dict[str, Any]) -> dict[str, Any]:
    parameters = schema(item.get("parametersJsonSchema") or item.get("parameters") or {})
    speaks = parameters.get("properties") or "anyOf" in parameters
    found = {"name": item["name"], "description": item.get("description") or ""}
    return found | {"parameters": parameters if speaks else None, "order": order(parameters)}


def _config(config: dict[str, Any]) -> dict[str, Any]:
    found = dict(config)
    if found.get("responseModalities") == ["TEXT"]:
        del found["responseModalities"]
    if found.get("candidateCount") == 1:
        del found["candidateCount"]
    wanted = found.pop("responseSchema", None) or found.pop("responseJsonSchema", None)
    if wanted is not None:
        found["schema"], found["order"] = schema(wanted), order(wanted)
    thinking = dict(found.pop("thinkingConfig", None) or {})
    if "thinkingLevel" in thinking:
        thinking["thinkingLevel"] = thinking["thinkingLevel"].upper()
    return found | ({"thinking": thinking} if thinking else {})


# -------------------------------------------------------------------------------------------------------- schemas


def schema(node: Any) -> Any:
    """Return a schema as Gemini reads it."""
    if not isinstance(node, dict):
        return node
    found = {key: held for key, held in node.items() if key in KEYWORDS and held != []}
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = schema(found[key])
    for key in ("anyOf", "prefixItems"):
        if key in found:
            found[key] = [schema(branch) for branch in found[key]]
    for key in ("properties", "$defs"):
        if key in found:
            found[key] = {name: schema(held) for name, held in found[key].items()}
    return _typed(found)


def _typed(found: dict[str, Any]) -> dict[str, Any]:
    kinds = found.get("type")
    if isinstance(kinds, str):
        return found | {"type": kinds.lower()}
    if isinstance(kinds, list) and len(plain := [kind for kind in kinds if kind != "null"]) > 1:
        branches = [{"type": kind} for kind in plain] + ([{"type": "null"}] if "null" in kinds else [])
        return {key: held for key, held in found.items() if key != "type"} | {"anyOf": branches}
    return found


def order(node: Any) -> list[str]:
    """Return the names of all properties in the order in which they are written: the model answers in it (5.2)."""
    if not isinstance(node, dict):
        return []
    found: list[str] = []
    for name, held in (node.get("properties") or {}).items():
        found += [name, *order(held)]
    for branch in [node.get("items"), *(node.get("anyOf") or ())]:
        found += order(branch)
    return found
