"""What a client protocol is: a value. One handler serves them all (``server/handlers/operation``). Pure.

An ``Api`` says how a client shows its key, and how failures and models are told to it. An ``Operation`` is one thing
that may be asked for: at which paths, and how a request is read. What was read is ``Asked``: it says what it wants to
know, and becomes a ``Plan`` once that and the model are known: the calls to Gemini, what listens to their answers, and
how several answers become one. A converter waits for nothing: what it has to know comes in as ``Known``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Protocol

from msgspec import Struct, field

from gemproxy.converter.bounds import BOUNDS, Bounds
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.gemini.signatures import Signatures
from gemproxy.converter.transcoder import Tape
from gemproxy.converter.transcript import Part, Transcript
from gemproxy.errors import Failure
from gemproxy.load.effort import Effort
from gemproxy.models import Model
from gemproxy.upstream.dialect import GENERATES, Call, Dialect, Method
from gemproxy.wire.gemini import Blob

JSON = "application/json"
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
    the URL's, as it came. ``failure`` takes the request's id, too. ``model_list`` and ``model`` take the names that
    clients use with the models they mean, ``model_list`` the query as well. ``id_header`` is a further header with the
    request's id. ``claims(path, headers)`` tells of a request to a path that is no operation's, as ``/v1/models``, that
    it is one of this protocol; ``path`` is as it came, with its query.
    """

    name: str
    key: Callable[[Mapping[str, str], str], str]
    failure: Callable[[Failure, str], Reply]
    model_list: Callable[[Sequence[tuple[str, Model]], str], bytes]
    model: Callable[[str, Model], bytes]
    id_header: str = ""
    claims: Callable[[str, Mapping[str, str]], bool] = lambda path, headers: False


class Format(Struct, frozen=True):
    """What an answer looks like from outside.

    In a stream ``ping`` keeps the connection open while nothing is said (b"": nothing does), and ``failure_event`` is
    its end once the status is told; b"" from it: the connection is cut, so that nobody takes the rest for a whole.
    ``opening`` begins a stream whose status is told before there is anything to say; it is asked once, and those who
    write the answer must know that it was.
    """

    content_type: str = JSON
    ping: bytes = b""
    failure_event: Callable[[Failure], bytes] = lambda failure: b""
    opening: Callable[[], bytes] = bytes


class Keeping(Struct, frozen=True):
    """``responses.keep_for`` (seconds) and ``responses.keep_bytes``."""

    lasts: float = 86_400.0
    limit: int = 64 << 20


class Options(Struct, frozen=True):
    """What the operator sets for every request: ``include_thoughts`` is ``models.include_thoughts``, ``max_images`` is
    ``images.max_count``, ``keeping`` how responses are kept (None: not), the other limits are those of ``[server]``.
    """

    include_thoughts: bool = True
    max_schema_nodes: int = 100_000
    max_images: int = 16
    bounds: Bounds = BOUNDS
    keeping: Keeping | None = Keeping()


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
    """A request as it came. ``path`` is its path and query, percent-encoded. ``is_form``: the body is multipart, as
    ``forms.read_form`` reads it.
    """

    body: bytes
    headers: Mapping[str, str]
    path: str
    is_form: bool = False

    def __repr__(self) -> str:
        return f"Received({len(self.body)} bytes)"


class Known(Struct):
    """What the edge knows and a conversion may rest on. Ids and time are the same in every attempt.

    ``id`` is a new one for the answer, ``created`` in Unix seconds, as are those that ``now`` gives later.
    ``request_id`` is that of the log and of the answer's header.
    ``methods(model)`` are those that any credential of the model can serve. ``images`` are those asked for by
    ``Wants``, by address; ``stored`` what the state keeps of this client, by kind and key (None: nothing). ``tape``
    returns what keeps the frames of one more attempt, if anything does.
    """

    id: str
    created: int
    new_id: Callable[[], str]
    now: Callable[[], float] = lambda: 0.0
    signatures: Signatures | None = None
    options: Options = Options()
    methods: Callable[[str], Set[Method]] = lambda model: GENERATES
    tape: Callable[[], Tape | None] = lambda: None
    images: Mapping[str, Blob] | None = None
    stored: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    request_id: str = ""


class Wants(Struct, frozen=True):
    """What is still to be found out: remote images, and what the state keeps of this client by kind and key.

    ``before(value)`` returns the key of what a kept value goes on from, if any: that is found, too. With ``alone`` only
    one request at a time goes on from here that looks for the same: the next then finds what this one has kept.
    """

    images: Sequence[RemoteImage] = ()
    stored: Sequence[tuple[str, str]] = ()
    alone: bool = False
    before: Callable[[bytes], str] = lambda value: ""


class Kept(Struct, frozen=True):
    """What the state is to keep of this client for so many seconds, within so many bytes for all of its kind."""

    kind: str
    key: str
    value: bytes
    lasts: float
    limit: int

    def __repr__(self) -> str:
        return f"Kept({self.kind!r}, {len(self.value)} bytes)"


class Settled(Struct, frozen=True):
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
    for each attempt. Without ``gather`` there is one call. With it there may be any number, of which ``side_by_side``
    are under way at a time, and it puts what came of them together, in their order; its bytes, or the ``Failure`` that
    it raises, are the answer. A call that fails ends the others, unless ``spares`` says that its failure is for
    ``gather`` to see; ``in_its_place`` is then among the reasons in the log. ``keep`` says, after a good end, what the
    state is to keep; until then it holds ``held`` bytes. ``ignored`` names fields that were left out, for a debug log.
    """

    calls: Sequence[Call]
    listen: Callable[[int, Dialect], Transcript]
    gather: Callable[[Sequence[Part | Failure]], bytes] | None = None
    side_by_side: int = SIDE_BY_SIDE
    spares: Callable[[Failure], bool] = lambda failure: False
    in_its_place: str = "spared"
    keep: Callable[[], Sequence[Kept]] = tuple
    held: int = 0
    ignored: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for several calls, or none, that nobody puts together: a bug of the API."""
        if self.gather is None and len(self.calls) != 1:
            raise ValueError("a plan without gather has one call")


class Asked(Protocol):
    """A request that was read. ``stream`` None: the client does not say."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool | None: ...
    def format(self, stream: bool, known: Known) -> Format:
        """Return what the answer looks like."""
        ...

    def wants(self, known: Known) -> Wants | None:
        """Return what else has to be known; None: nothing. It is asked again once that is in ``known``."""
        ...

    def plan(self, known: Known, settled: Settled) -> Plan:
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


class Lookup(Struct, frozen=True):
    """One thing that clients ask for of what is kept for them: of ``kind``, by the ``{id}`` in the path.

    ``answer(id, value, query)`` returns JSON, or raises ``ClientFault``. ``drops``: it is forgotten with that.
    """

    api: Api
    method: str
    paths: Sequence[str]
    kind: str
    answer: Callable[[str, bytes, Mapping[str, str]], bytes]
    drops: bool = False
