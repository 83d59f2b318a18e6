"""Numbers of a request, judged. In: a JSON number and the field it stands in. Out: the number, or a ``ClientFault``.

``100.0`` is a whole number, ``100.5`` is not (docs/architecture.md 14.7); that ``true`` and ``"100"`` are none, the
Structs say.
"""

from __future__ import annotations

from gemproxy.errors import ClientFault
from gemproxy.wire.openai_chat import Number


def integer(value: Number, param: str) -> int:
    """Return a number as an int; raises ``ClientFault`` (400) if it has a fraction."""
    if isinstance(value, int):
        return value
    if not value.is_integer():
        raise ClientFault(f"{param} must be a whole number.", param=param)
    return int(value)


def within(value: Number, param: str, least: Number, most: Number) -> Number:
    """Return a number that lies in a range, ends included; raises ``ClientFault`` (400) for others."""
    if not least <= value <= most:
        raise ClientFault(f"{param} must be between {least} and {most}.", param=param, code="unsupported_value")
    return value
