"""What must be true of a stream of Anthropic's, whatever it says, and what it adds up to; read apart from gemproxy.

The same machine reads recorded streams of Anthropic's own (``test_message_stream``): it is no stricter than they are.
"""

from __future__ import annotations

from typing import Any

import msgspec

DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "mcp_tool_use": {"input_json_delta"},
}


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream but its pings; the two names of each must be one."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    assert [event["type"] for event in found[:1]] in ([], ["message_start"], ["error"])
    return [event for event in found if event["type"] != "ping"]


def folded(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that the events add up to; checks their grammar on the way."""
    machine = _Machine()
    for event in events:
        getattr(machine, event["type"])(event)
    assert machine.state == "over"
    return machine.message


class _Machine:
    def __init__(self) -> None:
        self.state = "start"
        self.message: dict[str, Any] = {}
        self.written = ""
        self.signed = False

    def message_start(self, event: dict[str, Any]) -> None:
        assert self.state == "start"
        self.message = event["message"]
        assert (self.message["content"], self.message["stop_reason"]) == ([], None)
        assert self.message["usage"]["input_tokens"] >= 0
        self.state = "between"

    def content_block_start(self, event: dict[str, Any]) -> None:
        assert self.state == "between"
        assert event["index"] == len(self.message["content"])
        self.message["content"].append(event["content_block"])
        self.written, self.signed, self.state = "", False, "within"

    def content_block_delta(self, event: dict[str, Any]) -> None:
        block, delta = self._open(event), event["delta"]
        kind = delta["type"]
        assert kind in DELTAS[block["type"]]
        assert not self.signed, "the signature ends a thought"
        if kind == "text_delta":
            block["text"] += delta["text"]
        elif kind == "citations_delta":
            block.setdefault("citations", []).append(delta["citation"])
        elif kind == "thinking_delta":
            block["thinking"] += delta["thinking"]
        elif kind == "signature_delta":
            block["signature"], self.signed = delta["signature"], True
        else:
            self.written += delta["partial_json"]

    def content_block_stop(self, event: dict[str, Any]) -> None:
        block = self._open(event)
        if "input_json_delta" in DELTAS.get(block["type"], ()):
            block["input"] = msgspec.json.decode(self.written or "{}")
        self.state = "between"

    def message_delta(self, event: dict[str, Any]) -> None:
        assert self.state == "between"
        self.message |= event["delta"]
        self.message["usage"] |= event["usage"]
        assert self.message["stop_reason"] is not None
        self.state = "ended"

    def message_stop(self, event: dict[str, Any]) -> None:
        assert self.state == "ended"
        self.state = "over"

    def _open(self, event: dict[str, Any]) -> dict[str, Any]:
        assert self.state == "within"
        assert event["index"] == len(self.message["content"]) - 1
        block: dict[str, Any] = self.message["content"][-1]
        return block
