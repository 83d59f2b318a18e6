"""Responses that are kept for a client, so that it need not send them again. Pure.

In: a request with its items and its answer; or what the state has. Out: the bytes of a record, and back. A record holds
what its request added and what was answered, and names the one before it: a chain takes room linear in its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.bounds import Bounds
from gemproxy.converter.responses.heading import response_of
from gemproxy.converter.responses.items import Item, Referred, Thought, path_of
from gemproxy.converter.responses.reading import items_of, raws_of
from gemproxy.errors import ClientFault

KIND: Final = "response"
PREFIX: Final = "resp_"
Stored = Mapping[tuple[str, str], bytes | None]


class Record(Struct, frozen=True):
    """``input`` is the request's as it came, ``carried`` are the sealed signatures of the answer."""

    input: Raw
    carried: list[str]
    response: Raw

    @property
    def sent(self) -> list[Raw]:
        """Return the items of the request."""
        return raws_of(self.input)

    @property
    def output(self) -> list[Raw]:
        """Return the items of the answer."""
        return _output(self.response).output


class _Output(Struct):
    output: list[Raw]


class _Id(Struct):
    id: str | None = None


_record = msgspec.json.Decoder(Record).decode
_output = msgspec.json.Decoder(_Output).decode
_id = msgspec.json.Decoder(_Id).decode
_json = msgspec.json.Encoder().encode


def written(previous: str | None, record: Record) -> bytes:
    """Return the bytes of a record; the id of the one before it comes first, and is found without reading the rest."""
    head = b'%b\n{"carried":%b,"input":' % ((previous or "").encode(), _json(record.carried))
    return b"".join((head, record.input, b',"response":', record.response, b"}"))  # 20 ms for 30 MB; encoded, 60


def read(value: bytes) -> Record:
    """Return the record that bytes hold."""
    return _record(memoryview(value)[value.index(b"\n") + 1 :])


def before(value: bytes) -> str:
    """Return the id of the response that a kept one goes on from, or ""."""
    return value[: value.index(b"\n")].decode()


def refers(items: Sequence[Item]) -> bool:
    """Return whether any item is known by its id alone."""
    for item in items:  # noqa: SIM110 - a small request looks here twice, and a generator takes twice as long
        if type(item) is Referred:
            return True
    return False


def referred(items: Sequence[Item]) -> list[tuple[str, str]]:
    """Return the responses that items refer to, by kind and id."""
    owners = (response_of(item.id) for item in items if isinstance(item, Referred))
    return list(dict.fromkeys((KIND, PREFIX + owner) for owner in owners if owner is not None))


def sent_before(previous: str | None, stored: Stored) -> list[Raw]:
    """Return all items that the client sent in a chain, from the first."""
    return [raw for record in _chain(previous, stored) for raw in record.sent]


def said_before(previous: str | None, stored: Stored, bounds: Bounds) -> list[Item]:
    """Return all items of a chain, from the first. Raises ``ClientFault`` where a link is not there."""
    return [item for record in _chain(previous, stored) for item in _all_of(record, bounds)]


def _chain(previous: str | None, stored: Stored) -> list[Record]:
    records: list[Record] = []
    link = previous
    while link:
        value = stored.get((KIND, link))
        if value is None:
            _missing()
        records.append(read(value))
        link = before(value)
    return records[::-1]


def resolved(items: Sequence[Item], stored: Stored, bounds: Bounds) -> Iterator[Item]:
    """Yield items, in the place of each reference what it means. Raises ``ClientFault``."""
    records: dict[str, dict[str | None, Raw]] = {}
    for item in items:
        if not isinstance(item, Referred):
            yield item
            continue
        owner = PREFIX + (response_of(item.id) or "")
        if owner not in records:
            value = stored.get((KIND, owner))
            record = read(value) if value is not None else None
            records[owner] = {_id(raw).id: raw for raw in record.output} if record is not None else {}
            yield from (Thought(None, sealed) for sealed in (record.carried if record is not None else ()))
        raw = records[owner].get(item.id)
        if raw is None:
            path = f"{path_of(item.place)}.id"
            raise ClientFault("The item is not kept here.", param=path, code="item_not_found")
        yield from items_of([raw], bounds, kept=True)


def _all_of(record: Record, bounds: Bounds) -> Iterator[Item]:
    yield from items_of(record.sent, bounds, kept=True)
    yield from (Thought(None, sealed) for sealed in record.carried)
    yield from items_of(record.output, bounds, kept=True)


def _missing() -> NoReturn:
    raise ClientFault(
        "The previous response is not kept here, or no longer (responses.keep_for, responses.keep_bytes).",
        param="previous_response_id",
        code="previous_response_not_found",
    )


# ------------------------------------------------------------------------------------------- what clients ask for it


class _Deleted(Struct):
    id: str
    deleted: bool = True
    object: str = "response"


class _List(Struct):
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


def whole(key: str, value: bytes, query: Mapping[str, str]) -> bytes:
    """Return a kept response. Raises ``ClientFault`` for a stream of it."""
    if query.get("stream", "false").lower() not in ("false", "0", ""):
        raise ClientFault("A kept response is given as a whole.", param="stream", code="unsupported_parameter")
    return bytes(read(value).response)


def deleted(key: str, value: bytes, query: Mapping[str, str]) -> bytes:
    """Return word that it is gone."""
    return msgspec.json.encode(_Deleted(key))


def cancelled(key: str, value: bytes, query: Mapping[str, str]) -> bytes:
    """Raise ``ClientFault``: only what runs in the background can be cancelled, and nothing does here."""
    raise ClientFault("Only a response that was made in the background can be cancelled.")


def input_items(key: str, value: bytes, query: Mapping[str, str]) -> bytes:
    """Return a page of the items of its request, the newest first unless ``order`` says ``asc``."""
    items = [listed(key, place, raw) for place, raw in enumerate(read(value).sent)]
    if query.get("order", "desc") != "asc":
        items.reverse()
    ids = [item["id"] for item in items]
    first = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    page = items[first : first + _limit(query)]
    first_id, last_id = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return msgspec.json.encode(_List(page, first_id, last_id, first + len(page) < len(items)))


def _limit(query: Mapping[str, str]) -> int:
    asked = query.get("limit", "20")
    if not asked.isdecimal() or not 1 <= int(asked[:4]) <= 100:
        raise ClientFault("limit must be a number from 1 to 100.", param="limit", code="unsupported_value")
    return int(asked)


def listed(key: str, place: int, raw: Raw) -> dict[str, Any]:
    """Return an item that a client sent, as OpenAI lists it: with an id, and a message in its long form."""
    item: dict[str, Any] = msgspec.json.decode(raw)
    item.setdefault("type", "message")
    if not item.get("id"):
        item["id"] = f"{'msg' if item['type'] == 'message' else 'item'}_in_{key.removeprefix(PREFIX)}{place:04x}"
    if item["type"] == "message":
        item.setdefault("status", "completed")
    if item["type"] == "message" and isinstance(item.get("content"), str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        item["content"] = [{"type": kind, "text": item["content"]}]
    return item
