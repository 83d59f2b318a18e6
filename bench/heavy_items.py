"""As ``heavy``, for Responses: requests of items that cost a server far more than they cost who sends them."""

from __future__ import annotations

from collections.abc import Iterable

from bench.heavy import FAMILY, PLAIN, objects

PATH = "/v1/responses"


def asking(items: bytes, *more: bytes, answer: str = PLAIN, stream: bool = False) -> bytes:
    """Return a request with this ``input``, which is JSON; ``answer`` names what the upstream says."""
    head = b'"model":"%b-%b","stream":%b' % (FAMILY.encode(), answer.encode(), b"true" if stream else b"false")
    return b"{%b}" % b",".join((head, b'"input":%b' % items, *more))


def text(size: int, unit: bytes) -> bytes:
    """One text that repeats ``unit``, which is written as JSON writes it."""
    return asking(b'"%b"' % (unit * (size // len(unit))))


def messages(count: int) -> bytes:
    """Messages of a word each."""
    return _listed([b'{"role":"user","content":"x"}'] * count)


def left_out(size: int) -> bytes:
    """Items of a tool that runs elsewhere, as short as they can be."""
    item = b'{"type":"mcp_call"}'
    return _listed([item] * (size // len(item)))


def calls(count: int) -> bytes:
    """Calls with their outputs, one after the other."""
    return _listed(
        b'{"type":"function_call","call_id":"c%d","name":"f","arguments":"{}"},'
        b'{"type":"function_call_output","call_id":"c%d","output":"x"}' % (number, number)
        for number in range(count)
    )


def objects_beside(size: int) -> bytes:
    """One message with a field that nobody knows."""
    return _listed([b'{"role":"user","content":"x","known_by_nobody":%b}' % objects(size)])


def objects_as_arguments(size: int) -> bytes:
    """One call whose arguments hold nothing but objects."""
    return _listed([b'{"type":"function_call","call_id":"c","name":"f","arguments":{"held":%b}}' % objects(size)])


def deep(levels: int) -> bytes:
    """A field of an item that goes so many levels down."""
    return _listed([b'{"role":"user","content":"x","deep":%b%b}' % (b"[" * levels, b"]" * levels)])


def parts(size: int) -> bytes:
    """One message of many parts that say nothing."""
    part = b'{"type":"input_text","text":""}'
    return _listed([b'{"role":"user","content":[%b]}' % b",".join([part] * (size // len(part)))])


def sealed(count: int, size: int) -> bytes:
    """Thoughts that somebody else has sealed."""
    return _listed([b'{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"%b"}' % (b"A" * size)] * count)


def tools(count: int, size: int) -> bytes:
    """Tools in namespaces of eight, offered by an item."""
    schema = b'{"type":"object","properties":{%b}}' % b",".join(
        b'"p%05d":{"type":"string"}' % number for number in range(size // 27)
    )
    tool = b'{"type":"function","name":"f%d","parameters":%b}'
    spaces = (
        b'{"type":"namespace","name":"n%d","tools":[%b]}'
        % (place, b",".join(tool % (number, schema) for number in range(place, min(place + 8, count))))
        for place in range(0, count, 8)
    )
    return _listed([b'{"type":"additional_tools","role":"developer","tools":[%b]}' % b",".join(spaces)])


def references(count: int) -> bytes:
    """Names of items that nobody keeps, no two alike."""
    return _listed(b'{"type":"item_reference","id":"msg_%024x0000"}' % number for number in range(count))


def _listed(items: Iterable[bytes]) -> bytes:
    return asking(b"[%b]" % b",".join(items))
