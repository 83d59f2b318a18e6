"""An OpenAI client in a page: reads a stream's bytes as SDKs do, and folds its chunks into one message.

Written apart from gemproxy's own writers, so that it can bear witness against them.
"""

from __future__ import annotations

from typing import Any

import msgspec


def events(body: bytes) -> list[Any]:
    """Return the JSON of every event; the last is "[DONE]" where the stream ended well."""
    found: list[Any] = []
    for block in body.split(b"\n\n"):
        if not block or block.startswith(b":"):
            continue
        assert block.startswith(b"data: "), block[:80]
        assert b"\n" not in block
        data = block[6:]
        found.append("[DONE]" if data == b"[DONE]" else msgspec.json.decode(data))
    return found


def chunks(body: bytes) -> list[dict[str, Any]]:
    """Return the chunks of a stream that ended well."""
    found = events(body)
    assert found[-1] == "[DONE]", found[-1]
    assert "[DONE]" not in found[:-1]
    return found[:-1]


def fold(stream: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the ``chat.completion`` that these chunks amount to."""
    first = stream[0]
    folded: dict[str, Any] = {"id": first["id"], "created": first["created"], "model": first["model"]}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in stream:
        assert chunk["object"] == "chat.completion.chunk"
        assert {key: chunk[key] for key in ("id", "created", "model")} == {
            key: folded[key] for key in ("id", "created", "model")
        }
        if "system_fingerprint" in chunk:
            folded["system_fingerprint"] = chunk["system_fingerprint"]
        if not chunk["choices"]:
            folded["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            _add(choices, choice)
    folded["choices"] = [_message(index, parts) for index, parts in sorted(choices.items())]
    folded["object"] = "chat.completion"
    return folded


def _add(choices: dict[int, dict[str, Any]], choice: dict[str, Any]) -> None:
    parts = choices.setdefault(choice["index"], {"calls": {}, "finish": None, "logprobs": None})
    assert parts["finish"] is None, "a choice went on after its finish"
    delta = choice["delta"]
    assert ("role" in delta) == ("role" not in parts), "role exactly once, first"
    for key in ("role", "function_call", "extra_content"):
        if key in delta:
            parts[key] = delta[key]
    for key in ("content", "reasoning_content", "refusal"):
        if key in delta:
            parts[key] = parts.get(key, "") + delta[key]
    for key in ("annotations", "images"):
        parts.setdefault(key, []).extend(delta.get(key, ()))
    for call in delta.get("tool_calls", ()):
        assert call["index"] not in parts["calls"], "calls arrive whole: an index may not repeat"
        parts["calls"][call["index"]] = {key: value for key, value in call.items() if key != "index"}
    if choice["logprobs"] is not None:
        known = parts["logprobs"] or []
        parts["logprobs"] = known + choice["logprobs"]["content"]
    if choice["finish_reason"] is not None:
        parts["finish"] = choice["finish_reason"]


def _message(index: int, parts: dict[str, Any]) -> dict[str, Any]:
    calls = [call for _, call in sorted(parts["calls"].items())]
    text = parts.get("content", "")
    nothing_said = not text and (calls or "function_call" in parts)
    message: dict[str, Any] = {"role": parts["role"], "content": None if nothing_said else text}
    message["refusal"] = parts.get("refusal")
    for key in ("reasoning_content", "function_call", "extra_content"):
        if key in parts:
            message[key] = parts[key]
    for key in ("annotations", "images"):
        if parts.get(key):
            message[key] = parts[key]
    if calls:
        message["tool_calls"] = calls
    logprobs = parts["logprobs"] and {"content": parts["logprobs"], "refusal": None}
    return {"index": index, "message": message, "finish_reason": parts["finish"], "logprobs": logprobs}
