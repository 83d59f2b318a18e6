"""A client's JSON read in steps, each of which is short: a decoder keeps every other thread waiting until it is done.

In: JSON, and the path at which it stands. Out: what a decoder makes of it, or ``ClientFault`` (400) naming the field in
``param``. Must not repeat what the client wrote in a message: only the path of a field, never its content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import force_setattr

from gemproxy.errors import ClientFault
from gemproxy.load import weigh
from gemproxy.load.turns import go_on, pass_turn
from gemproxy.wire import UNREADABLE
from gemproxy.wire.openai_chat import Unread
from gemproxy.wire.text import check_encoding, is_long

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

LARGEST_STEP = 1 << 19  # bytes; a body up to here is decoded in one go, in 15 ms at the worst
MAX_FIELD = 1 << 19  # bytes of any field that is read and no list; twice the largest schema (``schema``)

_PLACE = " - at `"  # in msgspec's sentences
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<field>[^`]*)`")

_items = msgspec.json.Decoder(list[Raw] | None).decode
_objects = msgspec.json.Decoder(list[Unread] | None).decode  # to count them, at a third of the cost
_text = msgspec.json.Decoder(str | None).decode


class Kind:
    """One kind of thing that a request may hold many of: how to read one, many, and one that is large itself."""

    def __init__(self, kind: Any, large: Any = None) -> None:
        self.one = msgspec.json.Decoder(kind).decode
        self.many = msgspec.json.Decoder(list[kind]).decode
        self.large = msgspec.json.Decoder(large or kind).decode


def as_read(path: str, item: Any) -> Any:
    """Return a large thing as it was read: nothing of it is left to settle."""
    return item


class Reader:
    """Reads the bodies of one API: ``choices`` says, by the name of a field, what it may be."""

    def __init__(self, choices: Mapping[str, str]) -> None:
        self._choices = choices

    def at(self, path: str, read: Callable[[Any], T], raw: bytes | Raw) -> T:
        """Return what ``read`` makes of JSON that stands at ``path``; raises the fault that tells the client."""
        if len(raw) > weigh.SMALL_SIZE:
            pass_turn(len(raw))
        try:
            return read(raw)
        except msgspec.ValidationError as fault:
            raise self._misfit(path, str(fault)) from None
        except UnicodeDecodeError:
            raise ClientFault("The body is not valid UTF-8.", code="invalid_json") from None
        except RecursionError:
            raise ClientFault("The JSON of the body is nested too deep.", code="invalid_json") from None
        except msgspec.DecodeError as fault:
            # msgspec's words hold a reason and a position, nothing of the text
            raise ClientFault(f"The body is not valid JSON: {fault}.", code="invalid_json") from None

    def request(
        self, body: bytes, read: Callable[[bytes], S], outline: Callable[[bytes], Any], lists: Collection[str]
    ) -> tuple[S, Any]:
        """Return a request, and what holds its ``lists`` as they came.

        Of a large body the outline is read first, and the request without what may be long; its tools stay raw.
        """
        if not body.isascii():
            self.at("", check_encoding, body)
        if len(body) <= LARGEST_STEP:
            request = self.at("", read, body)
            return request, request
        outlined = self.at("", outline, body)
        request = self.at("", read, without_lists(outlined, lists))
        return msgspec.structs.replace(request, tools=outlined.tools), outlined

    def each(self, path: str, raws: list[Raw], kind: Kind, finish: Callable[[str, Any], Any]) -> list[Any]:
        """Return what stands in a list.

        Small things are read many at a time, a large one by itself, and then finished.
        """
        found: list[Any] = []
        batch: list[Raw] = []
        size = 0
        for place, raw in enumerate(raws):
            size += len(raw)
            if size > weigh.SMALL_SIZE:
                found += self._batch(path, len(found), batch, kind)
                batch, size = [], len(raw)
            if size > weigh.SMALL_SIZE:
                found.append(finish(f"{path}[{place}]", self.at(f"{path}[{place}]", kind.large, raw)))
                size = 0
            else:
                batch.append(raw)
        return found + self._batch(path, len(found), batch, kind)

    def _batch(self, path: str, first: int, raws: list[Raw], kind: Kind) -> list[Any]:
        go_on()
        with suppress(*UNREADABLE):
            return list(kind.many(b"[%b]" % b",".join(raws)))
        return [self.at(f"{path}[{place}]", kind.one, raw) for place, raw in enumerate(raws, first)]  # names the fault

    def settle_text(self, path: str, holder: Any, name: str) -> None:
        """Read a text that is short; a long one stays as it is."""
        raw = getattr(holder, name)
        if not is_long(raw):
            force_setattr(holder, name, self.at(f"{path}.{name}", _text, raw))

    def bounded(self, path: str, raw: Raw, what: str, most: int) -> list[Raw]:
        """Return the objects of a list; raises ``ClientFault`` if they are too many, before each is looked at."""
        bound(path, what, len(self.at(path, _objects, raw) or ()), most)
        return self.items(path, raw)

    def items(self, path: str, raw: Raw) -> list[Raw]:
        """Return what a list holds; nothing, if the field is left out."""
        return (self.at(path, _items, raw) or []) if len(raw) else []

    def _misfit(self, above: str, text: str) -> ClientFault:
        """Return the fault for a value of the wrong type, from msgspec's sentence and path."""
        reason, found, place = text.rpartition(_PLACE)  # no pattern: a sentence may quote a value of megabytes
        reason, place = (reason, place.removesuffix("`")) if found else (text, "$")
        path = _joined(above, place.removeprefix("$"))
        missing = _MISSING_FIELD.match(reason)
        if missing is not None:
            param = f"{path}.{missing['field']}" if path else missing["field"]
            return ClientFault(f"{param} is missing.", param=param)
        if reason.startswith("Invalid value"):  # it would quote the value
            allowed = self._choices.get(path.rpartition(".")[2])
            return ClientFault(
                f"{path} must be {allowed}." if allowed else f"{path} has a value that is not known.",
                param=path,
                code="unsupported_value",
            )
        return ClientFault(f"{path or 'The body'}: {reason[:1].lower()}{reason[1:]}.", param=path or None)


def bound(path: str, what: str, found: int, most: int) -> None:
    """Raise ``ClientFault`` for more than an honest client sends: each costs the conversion, of however few bytes."""
    if found > most:
        raise ClientFault(
            f"The conversation holds {found} {what}; at most {most} are taken (server.max_{what}).",
            param=path.partition("[")[0].partition(".")[0],
            code="unsupported_value",
        )


def without_lists(outline: Any, lists: Collection[str], unread: Collection[str] = ()) -> bytes:
    """Return a request without what may be long, so that only the presence of that is left to judge.

    ``outline`` is a Struct that holds each field as it came; ``unread`` names those that cost nothing, however long.
    """
    kept: list[bytes] = []
    for name in outline.__struct_fields__:
        raw: Raw = getattr(outline, name)
        if not len(raw):
            continue
        if name in lists:
            kept.append(b'"%b":[]' % name.encode())
        elif len(raw) > MAX_FIELD and name not in unread:
            raise ClientFault(f"{name} is larger than {MAX_FIELD // 1024} KiB.", param=name)
        else:
            kept.append(b'"%b":%b' % (name.encode(), bytes(raw)))
    return b"{%b}" % b",".join(kept)


def _joined(above: str, path: str) -> str:
    return above + path if above else path.removeprefix(".")
