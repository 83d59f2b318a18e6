"""The sections of the configuration, one Struct each, with the default of every key.

In: nothing. Out: types only. ``config.example.toml`` and the README's table hold the same keys and defaults, and
tests/test_docs.py holds the three together. Must not read a file or the environment. Times are seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from gemproxy.config.secret import ABSENT, Secret

JSON_CLIENTS = ("ai/", "ai-sdk", "async-openai", "GuzzleHttp", "Faraday")  # they send neither `stream` nor Accept
YEAR = 31_536_000
URLS = ("ai_studio_url", "code_assist_url", "vertex_url", "token_url", "auth_url")  # of [upstream]

# Every description is what a message says after "expected".
Name = Annotated[
    str,  # goes into headers, logs and metrics as it is
    Meta(pattern=r"^[A-Za-z0-9._:@/+-]{1,64}$", description="1 to 64 letters, digits or any of . _ : @ / + -"),
]
Place = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}$", description='a Vertex AI location like "europe-west4"')]
Text = Annotated[str, Meta(min_length=1, description="a string that is not empty")]
Port = Annotated[int, Meta(ge=0, le=65_535, description="a whole number from 0 to 65535")]
Count = Annotated[int, Meta(ge=0, description="a whole number, 0 or more")]
Positive = Annotated[int, Meta(ge=1, description="a whole number, 1 or more")]
Seconds = Annotated[float, Meta(ge=0, le=YEAR, description=f"seconds from 0 to {YEAR}")]
Wait = Annotated[float, Meta(gt=0, le=YEAR, description=f"seconds above 0 (this wait has no off), up to {YEAR}")]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file; an unknown key is an error."""


class Server(Section, frozen=True, kw_only=True):
    """Where the server listens, and how much it takes."""

    host: Text = "127.0.0.1"
    port: Port = 8080  # 0: any free one
    max_body: Positive = 33_554_432  # bytes
    memory: Positive = 268_435_456  # bytes of bodies, images and answers under way together
    max_messages: Positive = 10_000  # of one request, as the next three
    max_parts: Positive = 100_000
    max_calls: Positive = 10_000
    max_values: Positive = 1_000_000
    max_connections: Count = 10_000  # 0: no limit
    max_requests: Count = 4_000  # open at once; 0: no limit
    max_schema_nodes: Positive = 100_000  # in all schemas of a request
    ping_interval: Wait = 15
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    reuse_port: bool = False
    metrics_listen: Text | None = None  # host:port; an instance adds its number
    expose_routing: bool = False
    cors_origins: list[Text] = []


class Client(Section, frozen=True, kw_only=True):
    """One caller with a key of its own. After ``load`` ``key`` is always there."""

    name: Name
    key: Secret = ABSENT
    key_env: Text | None = None
    key_file: Text | None = None
    models: list[Text] = []  # empty: all
    max_concurrent: Count = 0  # 0: no limit
    requests_per_minute: Count = 0  # 0: no limit


class Auth(Section, frozen=True, kw_only=True):
    """Who may call. After ``load`` ``clients`` holds every caller, those of ``keys`` and the environment included."""

    keys: list[Secret] = []
    keys_file: Text | None = None
    admin_keys: list[Secret] = []
    admin_keys_file: Text | None = None
    clients: list[Client] = []


class Compat(Section, frozen=True, kw_only=True):
    """What a request means that leaves ``stream`` out (docs/architecture.md 14.2)."""

    stream_default: bool = True
    json_clients: list[Text] = field(default_factory=lambda: [*JSON_CLIENTS])


class Served(Section, frozen=True, kw_only=True):
    """What every kind of credential has. ``project`` left out: the credential's own, found out."""

    name: Name
    project: str = ""
    pool: Literal["primary", "backup"] = "primary"
    models: list[Text] = []  # empty: all

    @property
    def kind(self) -> str:
        """Return the kind as the file writes it."""
        return str(self.__struct_config__.tag)


class ApiKey(Served, frozen=True, kw_only=True, tag_field="kind", tag="api_key"):
    """An AI Studio key; those of one ``project`` share its quota and rest together. After ``load`` ``key`` is there."""

    key: Secret = ABSENT
    key_env: Text | None = None
    key_file: Text | None = None


class OAuthFile(Served, frozen=True, kw_only=True, tag_field="kind", tag="oauth"):
    """A Code Assist login. After ``load`` ``file`` is an absolute path."""

    file: Text


class ServiceAccount(Served, frozen=True, kw_only=True, tag_field="kind", tag="service_account"):
    """Vertex AI. ``file`` left out: application-default credentials. After ``load`` it is an absolute path."""

    file: Text | None = None
    location: Place = "global"


Credential = ApiKey | OAuthFile | ServiceAccount


class OAuth(Section, frozen=True, kw_only=True):
    """The installed app that refreshes ``oauth`` credentials. After ``load`` both secrets are there, or neither."""

    client_id: Secret = ABSENT
    client_id_env: Text | None = None
    client_id_file: Text | None = None
    client_secret: Secret = ABSENT
    client_secret_env: Text | None = None
    client_secret_file: Text | None = None


class Rotation(Section, frozen=True, kw_only=True):
    """How many credentials a request may try, and how long one rests."""

    attempts: Positive = 6
    budget: Wait = 30
    max_in_flight: Count = 0  # per credential; 0: no limit
    base_rest: Wait = 5
    max_unhinted: Wait = 300
    max_rest: Wait = 86_400


class Upstream(Section, frozen=True, kw_only=True):
    """Where Google is. After ``load`` no URL ends in a slash."""

    ai_studio_url: Text = "https://generativelanguage.googleapis.com/v1beta"
    code_assist_url: Text = "https://cloudcode-pa.googleapis.com/v1internal"
    vertex_url: Text = "https://{location}-aiplatform.googleapis.com/v1"
    token_url: Text | None = None  # set: beats the token_uri of a credential file
    auth_url: Text | None = None  # the consent page that `login` opens
    user_agent: Text | None = None  # gemproxy/<version>


class Timeouts(Section, frozen=True, kw_only=True):
    """Every wait, in seconds."""

    connect: Wait = 10
    hold: Seconds = 10  # 0: commit the status at once
    first: Wait = 300
    idle: Wait = 120
    total: Seconds = 0  # 0: none
    send: Wait = 60
    headers: Wait = 30
    body: Wait = 60
    keepalive: Wait = 75
    queue: Seconds = 5  # 0: do not wait
    drain: Seconds = 30  # 0: end what runs at once
    drain_delay: Seconds = 0
    upgrade: Wait = 30


class Models(Section, frozen=True, kw_only=True):
    """The catalogue and what it is asked for."""

    include_thoughts: bool = True
    discover: bool = False
    aliases: dict[Text, Text] = {}
    extra: list[Text] = []
    logprobs: list[Text] = []  # models that give logprobs, which no entry of the catalogue promises
    fallbacks: dict[Text, list[Text]] = {}


class Images(Section, frozen=True, kw_only=True):
    """Remote images that a request names."""

    fetch: bool = True
    max_bytes: Positive = 20_971_520  # per image
    max_count: Positive = 16  # per request
    timeout: Wait = 15  # all images of a request together
    max_redirects: Count = 3
    allow_hosts: list[Text] = []


class Responses(Section, frozen=True, kw_only=True):
    """What is kept of responses for the clients that made them (`previous_response_id`)."""

    keep: Literal["memory", "state", "off"] = "memory"
    keep_for: Wait = 86_400
    keep_bytes: Positive = 67_108_864


class State(Section, frozen=True, kw_only=True):
    """What outlives the process. After ``load`` ``path`` is None for memory, else absolute."""

    path: str | None = None


class Log(Section, frozen=True, kw_only=True):
    """What is written, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    capture_dir: Text | None = None


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    server: Server = Server()
    auth: Auth = Auth()
    compat: Compat = Compat()
    credentials: list[Credential] = []
    oauth: OAuth = OAuth()
    rotation: Rotation = Rotation()
    upstream: Upstream = Upstream()
    timeouts: Timeouts = Timeouts()
    models: Models = Models()
    images: Images = Images()
    responses: Responses = Responses()
    state: State = State()
    log: Log = Log()


class Loaded(Config, frozen=True, kw_only=True):
    """A configuration after ``load``; ``variables`` of the environment gave something to it."""

    variables: frozenset[str] = frozenset()


def read_secret(kind: type, value: Any) -> Any:
    """Read a ``Secret`` for msgspec; the message must not show what was written."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("Expected `str`")
