"""What must be true of a stream of Responses, whatever it says, and what it adds up to; read apart from gemproxy."""

from __future__ import annotations

from typing import Any

import msgspec

ONLY_DONE = ("status", "encrypted_content", "result")  # what no event between tells of an item
LAST = ("response.completed", "response.incomplete", "response.failed")


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, whose two names for each must be one."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def folded(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that the events add up to, item by item from the deltas; checks their grammar on the way."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["type"] in LAST for event in events] == [False] * (len(events) - 1) + [True]
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    items: dict[int, dict[str, Any]] = {}
    done: set[int] = set()
    for event in events[2:-1]:
        place = event["output_index"]
        assert place not in done
        if event["type"] == "response.output_item.added":
            assert place == len(items)
            assert len(done) == len(items), "one item at a time"
            items[place] = event["item"]
            continue
        assert event.get("item_id", items[place]["id"]) == items[place]["id"]
        if event["type"] == "response.output_item.done":
            late = {key: value for key, value in event["item"].items() if key in ONLY_DONE}
            items[place] |= late
            assert items[place] == event["item"]
            done.add(place)
        else:
            _grow(items[place], event)
    last = events[-1]["response"]
    output = [items[place] for place in sorted(done)]
    assert last["output"] == output
    assert last["status"] == "failed" or done == items.keys()
    return last


def _grow(item: dict[str, Any], event: dict[str, Any]) -> None:
    kind = event["type"].removeprefix("response.")
    if kind == "content_part.added":
        assert event["content_index"] == len(item["content"])
        item["content"].append(event["part"])
    elif kind == "content_part.done":
        assert item["content"][event["content_index"]] == event["part"]
    elif kind == "output_text.delta":
        item["content"][event["content_index"]]["text"] += event["delta"]
    elif kind == "output_text.annotation.added":
        found = item["content"][event["content_index"]]["annotations"]
        assert event["annotation_index"] == len(found)
        found.append(event["annotation"])
    elif kind == "output_text.done":
        part = item["content"][event["content_index"]]
        assert event["text"] == part["text"]
        part["logprobs"] = event["logprobs"]
    elif kind == "refusal.delta":
        item["content"][event["content_index"]]["refusal"] += event["delta"]
    elif kind == "refusal.done":
        assert event["refusal"] == item["content"][event["content_index"]]["refusal"]
    elif kind == "reasoning_summary_part.added":
        assert event["summary_index"] == len(item["summary"])
        item["summary"].append(event["part"])
    elif kind == "reasoning_summary_text.delta":
        item["summary"][event["summary_index"]]["text"] += event["delta"]
    elif kind == "reasoning_summary_text.done":
        assert event["text"] == item["summary"][event["summary_index"]]["text"]
    elif kind == "reasoning_summary_part.done":
        assert event["part"] == item["summary"][event["summary_index"]]
    elif kind in ("function_call_arguments.delta", "custom_tool_call_input.delta"):
        item[_growing(kind)] += event["delta"]
    elif kind in ("function_call_arguments.done", "custom_tool_call_input.done"):
        assert event[_growing(kind)] == item[_growing(kind)]
    else:
        assert kind.startswith("image_generation_call.")


def _growing(kind: str) -> str:
    return "arguments" if kind.startswith("function") else "input"
