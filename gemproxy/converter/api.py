"""What a client protocol is: a value. One handler serves them all (``server/handlers/operation``). Pure.

An ``Api`` says how a client shows its key, and how failures and models are told to it. An ``Operation`` is one thing
that may be asked for: at which paths, and how a request is read. What was read is ``Asked``: it says what it wants to
know, and becomes a ``Plan`` once that and the model are known: the calls to Gemini, what listens to their answers, and
how several answers become one. A converter waits for nothing: what it has to know comes in as ``Known``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from gemproxy.converter.bounds import BOUNDS, Bounds
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.gemini.signatures import Signatures
from gemproxy.converter.transcript import Transcript
from gemproxy.errors import Failure
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import Call, Dialect, Method
from gemproxy.wire.gemini import Blob

JSON = "application/json"
EVENTS = "text/event-stream"
SIDE_BY_SIDE = 4  # calls of one request that are under way together, unless its plan says otherwise


class Reply(Struct, frozen=True):
    """A whole HTTP answer, without what every answer carries."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    content_type: str = JSON


class Api(Struct, frozen=True):
    """What all requests of one protocol have in common.

    ``key(headers, query)`` returns the client's key; it raises ``ClientFault`` 401 where there is none. ``query`` is
    the URL's, as it came. ``failure_event`` ends a stream whose status is told; ``ping`` keeps one open (b"": none).
    ``model_list`` and ``model`` take the names that clients use with the models they mean.
    """

    name: str
    key: Callable[[Mapping[str, str], str], str]
    failure: Callable[[Failure], Reply]
    failure_event: Callable[[Failure], bytes]
    model_list: Callable[[Sequence[tuple[str, Model]]], bytes]
    model: Callable[[str, Model], bytes]
    ping: bytes = b""


class Options(Struct, frozen=True):
    """What the operator sets for every request: ``include_thoughts`` is ``models.include_thoughts``, ``max_images`` is
    ``images.max_count``, the other limits are those of ``[server]``.
    """

    include_thoughts: bool = True
    max_schema_nodes: int = 100_000
    max_images: int = 16
    bounds: Bounds = BOUNDS


class Upload(Struct, frozen=True):
    """A file of a form; its name and type are the client's words."""

    field: str
    filename: str
    content_type: str
    data: bytes

    def __repr__(self) -> str:
        return f"Upload({self.field!r}, {len(self.data)} bytes)"


class Form(Struct, frozen=True):
    """A multipart body, in the order in which it came."""

    fields: Sequence[tuple[str, str]]
    files: Sequence[Upload]

    def __repr__(self) -> str:
        return f"Form({len(self.fields)} fields, {len(self.files)} files)"


class Received(Struct, frozen=True):
    """A request as it came. ``path`` is its path and query, percent-encoded; ``form`` stands instead of ``body`` where
    that was multipart.
    """

    body: bytes
    headers: Mapping[str, str]
    path: str
    form: Form | None = None

    def __repr__(self) -> str:
        return f"Received({len(self.body)} bytes)"


class Tape(Protocol):
    """Keeps frames for a bug report."""

    def add(self, frame: bytes) -> None: ...


class Known(Struct):
    """What the edge knows and a conversion may rest on. Ids and time are the same in every attempt.

    ``id`` is a new one for the answer, ``created`` in Unix seconds. ``images`` are those asked for by ``Wants``, by
    address; ``stored`` what the state keeps, by kind and key (None: nothing). ``tape`` returns what keeps the frames of
    one more attempt, if anything does.
    """

    id: str
    created: int
    new_id: Callable[[], str]
    signatures: Signatures | None = None
    options: Options = Options()
    tape: Callable[[], Tape | None] = lambda: None
    images: Mapping[str, Blob] | None = None
    stored: dict[tuple[str, str], bytes | None] = field(default_factory=dict)


class Wants(Struct, frozen=True):
    """What is still to be found out: remote images, and what the state keeps by kind and key."""

    images: Sequence[RemoteImage] = ()
    stored: Sequence[tuple[str, str]] = ()


class Terms(Struct, frozen=True):
    """What was settled for one conversion.

    ``shown`` is the model's name in the answer; ``effort`` bounds the work, which may have to be done elsewhere.
    """

    model: Model
    shown: str
    stream: bool
    effort: Effort

    @property
    def method(self) -> Method:
        """Return the method of a call that generates."""
        return "streamGenerateContent" if self.stream else "generateContent"


class Plan(Struct, frozen=True):
    """What is asked of Gemini for one request.

    ``listen(number, dialect)`` returns what turns the answer to one of the ``calls`` into the client's bytes: a new one
    for each attempt. With ``gather`` the calls go side by side, ``at_once`` of them at a time, and it puts their whole
    answers together in their order; without it there is one call. ``failure_event`` tells a failure where the API's own
    cannot, since it depends on what was told before. ``ignored`` names fields that were left out, for a debug log.
    """

    calls: Sequence[Call]
    listen: Callable[[int, Dialect], Transcript]
    gather: Callable[[Sequence[bytes]], bytes] | None = None
    at_once: int = SIDE_BY_SIDE
    failure_event: Callable[[Failure], bytes] | None = None
    ignored: Sequence[str] = ()


class Asked(Protocol):
    """A request that was read. ``stream`` None: the client does not say."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool | None: ...
    def content_type(self, stream: bool) -> str:
        """Return the type of the answer."""
        ...

    def wants(self, known: Known) -> Wants | None:
        """Return what else has to be known; None: nothing. It is asked again once that is in ``known``."""
        ...

    def plan(self, known: Known, terms: Terms) -> Plan:
        """Return the plan; raises ``ClientFault`` for what cannot be asked, and what ``Effort`` raises."""
        ...


class Operation(Struct, frozen=True):
    """One thing that clients ask for by POST.

    ``paths`` are those of aiohttp's router. ``read`` raises ``ClientFault``; it may run in a thread. ``param`` returns
    what a field of Gemini's, which a refusal names, is to this client. ``forms``: a body may be multipart.
    """

    api: Api
    paths: Sequence[str]
    read: Callable[[Received, Options], Asked]
    param: Callable[[str | None], str | None] = lambda field: field
    forms: bool = False
