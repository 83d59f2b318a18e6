"""Questions that cost a server far more than they cost who asks them. Pure: counts and sizes in, bodies out.

Every body is one that ``server.max_body`` lets in. Sizes are in bytes of JSON.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

FAMILY = "gemini-3.5-flash"
PLAIN = "plain"
MOST = (
    30_000_000  # bytes, where nothing else is said: below the 32 MiB of ``server.max_body`` with all that is around it
)
SEARCH = b'"web_search_options":{}'  # only then are sources looked for in the answer
_PNG = b"iVBORw0KGgoAAAANSUhEUg"


def question(content: bytes = b'"Hello"', *more: bytes, answer: str = PLAIN, stream: bool = False) -> bytes:
    """Return a question of the user; ``content`` and ``more`` are JSON, ``answer`` names what the upstream says."""
    return _body([b'{"role":"user","content":%b}' % content], *more, answer=answer, stream=stream)


def _body(messages: Iterable[bytes], *more: bytes, answer: str = PLAIN, stream: bool = False) -> bytes:
    head = b'"model":"%b-%b","stream":%b' % (FAMILY.encode(), answer.encode(), b"true" if stream else b"false")
    return b"{%b}" % b",".join((head, b'"messages":[%b]' % b",".join(messages), *more))


def _filled(size: int, unit: bytes) -> bytes:
    """Return ``size`` bytes, to within a unit."""
    return unit * (size // len(unit))


def _listed(size: int, item: bytes) -> bytes:
    """Return a JSON list that repeats one item."""
    return b"[%b%b]" % (_filled(size, item + b","), item)


# ------------------------------------------------------------------------------------------------- calls and results


def results_of_one_id(calls: int) -> bytes:
    """Calls that all have one id, and twice as many results for it, no two alike."""
    asked = b",".join([_call(b'"one"', b'"{}"')] * calls)
    results = (b'{"role":"tool","tool_call_id":"one","content":"%d"}' % number for number in range(2 * calls))
    return _body([_calling(asked), *results])


def media_in_a_result(count: int) -> bytes:
    """One result that holds many tiny images, no two alike."""
    parts = b",".join(_image(b"iVBORw0KGgo%04x" % number) for number in range(count))
    result = b'{"role":"tool","tool_call_id":"one","content":[%b]}' % parts
    return _body([_calling(_call(b'"one"', b'"{}"')), result])


def calls(count: int) -> bytes:
    """One message with many calls, each as short as a call can be."""
    return _body([_calling(b",".join([b'{"function":{"name":"f"}}'] * count))])


def arguments(held: bytes) -> bytes:
    """One call whose arguments hold this JSON."""
    return _body([_calling(_call(b'"one"', b'{"held":%b}' % held))])


def long_name(size: int) -> bytes:
    """One call of a function whose name has no character that Gemini allows."""
    return _body([_calling(b'{"id":"one","function":{"name":"%b"}}' % _filled(size, b" "))])


def _call(call_id: bytes, given: bytes) -> bytes:
    return b'{"id":%b,"type":"function","function":{"name":"f","arguments":%b}}' % (call_id, given)


def _calling(asked: bytes) -> bytes:
    return b'{"role":"assistant","tool_calls":[%b]}' % asked


# ------------------------------------------------------------------------------------------------- texts and media


def text(size: int, unit: bytes) -> bytes:
    """One text that repeats ``unit``, which is written as JSON writes it."""
    return question(b'"%b"' % _filled(size, unit))


def tiny_parts(size: int) -> bytes:
    """Parts that say nothing."""
    return question(_listed(size, b'{"type":"text"}'))


def tiny_images(count: int) -> bytes:
    """Parts that hold three bytes of an image each."""
    return question(b"[%b]" % b",".join([_image(b"AAAA")] * count))


def picture(size: int) -> bytes:
    """One image in base64."""
    return question(b"[%b]" % _image(_PNG + _filled(size, b"AAAABBBB") + b"AA"))


def options(size: int) -> bytes:
    """A ``data:`` URL with many options that nobody reads."""
    return _at(b"data:image/png;%bbase64,AAAA" % _filled(size, b"a;"))


def percent(size: int) -> bytes:
    """A ``data:`` URL with every byte percent-encoded."""
    return _at(b"data:text/plain,%b" % _filled(size, b"%41"))


def pictures(base: str, count: int) -> bytes:
    """A few hundred bytes that name remote images, no two alike."""
    parts = (b'{"type":"image_url","image_url":"%b/%d"}' % (base.encode(), number) for number in range(count))
    return question(b"[%b]" % b",".join(parts))


def _image(data: bytes) -> bytes:
    return b'{"type":"image_url","image_url":"data:image/png;base64,%b"}' % data


def _at(url: bytes) -> bytes:
    return question(b'[{"type":"image_url","image_url":"%b"}]' % url)


# ------------------------------------------------------------------------------------------------- objects and numbers


def objects(size: int) -> bytes:
    """A list of empty objects, to stand somewhere in a body."""
    return _listed(size, b"{}")


def deep(levels: int) -> bytes:
    """Lists in lists, to stand somewhere in a body."""
    return b"[" * levels + b"]" * levels


def metadata(held: bytes) -> bytes:
    """A field that nobody reads, with this JSON in it."""
    return question(b'"Hello"', b'"metadata":{"held":%b}' % held)


def biases(count: int) -> bytes:
    """A table of wishes that Gemini cannot be told."""
    return question(b'"Hello"', b'"logit_bias":{%b}' % b",".join(b'"%d":1' % number for number in range(count)))


# ------------------------------------------------------------------------------------------------- tools


def tools(count: int, size: int) -> bytes:
    """Tools with many parameters each, no two alike; ``size`` is that of one schema."""
    return _tools(_flat(size, number) for number in range(count))


def web_of_refs(count: int, definitions: int) -> bytes:
    """Tools whose definitions all lead to all others, each time with something to say beside the ``$ref``."""
    return _tools(_web(definitions, number) for number in range(count))


def objects_as_parameters(size: int) -> bytes:
    """One tool whose schema is a list of empty objects."""
    return _tools([b'{"type":"object","enum":%b}' % objects(size)])


def _tools(schemas: Iterable[bytes]) -> bytes:
    declared = (
        b'{"type":"function","function":{"name":"f%d","parameters":%b}}' % pair
        for pair in zip(itertools.count(), schemas, strict=False)
    )
    return question(b'"Hello"', b'"tools":[%b]' % b",".join(declared))


def _flat(size: int, number: int) -> bytes:
    each = b'"p00000":{"type":"string"},'
    held = b",".join(b'"p%05d":{"type":"string"}' % place for place in range(size // len(each) - 2))
    return b'{"type":"object","title":"%d","properties":{%b}}' % (number, held)


def _web(definitions: int, number: int) -> bytes:
    names = range(definitions)
    held = {
        f"d{one}": {
            "type": "object",
            "properties": {f"p{other}": {"$ref": f"#/$defs/d{other}", "description": "x"} for other in names},
        }
        for one in names
    }
    root = {"type": "object", "title": str(number), "properties": {"p": {"$ref": "#/$defs/d0"}}, "$defs": held}
    return msgspec.json.encode(root)
