"""Stages outages and shows what each of them looks like: ``python bench/outages.py [NAME …]``.

Each is made against the real process, in front of a simulated Google, over loopback. Of each is shown: the first
warning in the log, what ``/ready``, ``/v1/debug/cache`` and the metrics tell, what the client gets, and how long after
its cause is gone a request is answered and ``/ready`` is 200. Nothing is judged here: tests/ holds what must be.
Those of the state's disk need root (they mount a small file system).
"""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file: modules are found from the root of the repository

import aiohttp
import msgspec
from msgspec import Struct, field

from bench.processes import ROOT, free_port
from gemproxy.simulator import AccountState, Answer, KeyState, Reset, Simulator, error_answer, text_answer
from gemproxy.simulator.accounts import Account
from gemproxy.simulator.google_errors import overloaded
from gemproxy.simulator.keys import certificate, server_context, service_account
from gemproxy.simulator.script import Wait

DAY = 86400.0
NAME = "gemini.test"
SERVER = "from bench.outages import as_server; as_server()"
ASKED = 4  # requests of each outage
PATIENCE = 30.0  # seconds until a server must be itself again
MODEL = "gemini-2.5-flash"
ADMIN = {"Authorization": "Bearer sk-bench"}
SERIES = re.compile(
    r"^(gemproxy_(?:upstream_unreachable|credential_state|state_up|upstream_attempts_total)\S*) (\S+)$", re.M
)
wall_clock = time.time  # noqa: TID251 - the simulated Google's


class Case(Struct):
    """One outage, ready. ``heal`` takes its cause away; "" of ``credentials`` is two keys of AI Studio."""

    google: Simulator
    heal: Callable[[], Awaitable[object]] | None = None
    credentials: str = ""
    url: str = ""  # of AI Studio, where it is not the simulated one's own
    more: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    together: int = 0  # streams asked for at once, instead of one request after the other


class Seen(Struct):
    """What an outage looked like."""

    line: str
    ready: str
    cache: str
    metrics: str
    client: str
    recovery: str


def key(name: str, secret: str, pool: str = "primary") -> str:
    """Return a credential of AI Studio in TOML."""
    return f'[[credentials]]\nname = "{name}"\nkind = "api_key"\nkey = "{secret}"\npool = "{pool}"\n'


def robot(name: str, file: Path) -> str:
    """Return a service account in TOML."""
    return f'[[credentials]]\nname = "{name}"\nkind = "service_account"\nfile = "{file}"\n'


KEYS = key("one", "test-key-1") + key("two", "test-key-2")
BACKED = key("one", "test-key-1") + key("spare", "test-key-2", "backup")


# ------------------------------------------------------------------------------------------------- connections


async def dns(google: Simulator, folder: Path) -> Case:
    """The name does not resolve; healed when a file is there (``as_server``)."""
    known = folder / "known"
    url = google.ai_studio_url.replace("127.0.0.1", NAME)
    return Case(google, _do(known.touch), url=url, environ={"BENCH_NAMES": str(known)})


async def refused(google: Simulator, folder: Path) -> Case:
    """Nobody listens."""
    port = int(google.url.rpartition(":")[2])
    await google.close()
    return Case(google, partial(google.start, port=port))


async def dropped(google: Simulator, folder: Path) -> Case:
    """Packets vanish: the queue of who listens is full, and Linux answers no further connection."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listening.getsockname()[1]
    queued = [socket.socket() for _ in range(3)]
    for each in queued:
        each.setblocking(False)
        each.connect_ex(("127.0.0.1", port))

    async def heal() -> None:
        for each in (*queued, listening):
            each.close()
        await google.start(port=port)

    await google.close()
    return Case(google, heal, url=f"http://127.0.0.1:{port}/v1beta", more="[timeouts]\nconnect = 1\n")


async def silent(google: Simulator, folder: Path) -> Case:
    """The other side takes the connection, and never a TLS handshake."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    key_pem, pem = certificate()
    (folder / "ca.pem").write_bytes(pem)

    async def heal() -> None:
        server.close()
        google._tls = server_context(key_pem, pem)
        await google.start(port=port)

    url = f"https://127.0.0.1:{port}/v1beta"
    environ = {"SSL_CERT_FILE": str(folder / "ca.pem")}
    return Case(google, heal, url=url, environ=environ, more="[timeouts]\nconnect = 1\n")


async def tls(google: Simulator, folder: Path, *, early: bool = False) -> Case:
    """A certificate that nobody vouches for, or one that is not valid yet."""
    day = datetime.timedelta(days=1)
    bad, good = certificate(day, 2 * day) if early else certificate(), certificate()
    (folder / "ca.pem").write_bytes(good[1] + (bad[1] if early else b""))
    google._tls = server_context(*bad)
    await google.close()
    await google.start()
    port = int(google.url.rpartition(":")[2])

    async def heal() -> None:
        await google.close()
        google._tls = server_context(*good)
        await google.start(port=port)

    return Case(google, heal, environ={"SSL_CERT_FILE": str(folder / "ca.pem")})


# ------------------------------------------------------------------------------------------------- tokens and quotas


async def slow_clock(google: Simulator, folder: Path) -> Case:
    """This machine's clock is two days slow: what it signs is out of time."""
    google.clock = google.accounts.clock = lambda: wall_clock() + 2 * DAY
    file = folder / "robot.json"
    file.write_bytes(service_account(google.token_url))

    def heal() -> None:
        google.clock = google.accounts.clock = wall_clock

    return Case(google, _do(heal), robot("robot", file))


async def slow_token(google: Simulator, folder: Path) -> Case:
    """The token endpoint takes 8 s; another credential is there."""
    google.token_delay = 8.0
    file = folder / "robot.json"
    file.write_bytes(service_account(google.token_url))

    async def heal() -> None:
        await asyncio.sleep(5)  # the log tells of it after 4 s
        google.token_delay = 0.0

    return Case(google, heal, robot("robot", file) + KEYS)


async def revoked(google: Simulator, folder: Path) -> Case:
    """A login is revoked."""
    account = google.accounts.add(Account("test-refresh", state=AccountState.REVOKED))
    file = folder / "login.json"
    client = {"client_id": "test-client", "client_secret": "test-secret"}
    file.write_bytes(msgspec.json.encode(client | {"type": "authorized_user", "refresh_token": account.name}))
    login = f'[[credentials]]\nname = "login"\nkind = "oauth"\nfile = "{file}"\n'
    return Case(google, _do(lambda: setattr(account, "state", AccountState.OK)), login)


async def keys_are(google: Simulator, folder: Path, *, state: KeyState) -> Case:
    """Every key is refused for the same reason."""
    google.keys.update(dict.fromkeys(("test-key-1", "test-key-2"), state))
    return Case(google, _do(google.keys.clear))


async def fails(google: Simulator, folder: Path, *, answer: Answer, backed: bool = True) -> Case:
    """One credential's answers fail; another pool has a healthy one, or nobody has."""
    google.script(answer, times=None, credential="test-key-1" if backed else None)
    return Case(google, _do(google.clear), BACKED if backed else KEYS)


# ------------------------------------------------------------------------------------------------- this machine


async def state_is(google: Simulator, folder: Path, *, what: str) -> Case:
    """``state.path`` cannot be used, or could not."""
    place = folder / "state"
    place.mkdir()
    file, heal = place / "state.db", None
    if what == "corrupt":
        file.write_bytes(b"not what it should be" * 500)
    elif what == "later":
        with closing(sqlite3.connect(file)) as db:
            db.execute("PRAGMA user_version = 99")
    elif what == "folder":
        file.mkdir()
        heal = file.rmdir
    elif what == "forbidden":
        place.chmod(0o555)
        heal = partial(place.chmod, 0o755)
    else:
        mount("-t", "tmpfs", "-o", "size=256k", "none", str(place))
        if what == "full":
            filler = place / "filler"
            with suppress(OSError), filler.open("wb") as sink:
                while True:
                    sink.write(bytes(4096))
                    sink.flush()
            heal = filler.unlink
        else:
            mount("-o", "remount,ro", str(place))
            heal = partial(mount, "-o", "remount,rw", str(place))
    environ = {"BENCH_BOUND": "1"} if what == "forbidden" else {}
    return Case(google, _do(heal) if heal else None, more=f'[state]\npath = "{file}"\n', environ=environ)


async def descriptors(google: Simulator, folder: Path) -> Case:
    """64 file descriptors, and 60 streams."""
    return Case(google, _do(google.clear), environ={"BENCH_DESCRIPTORS": "64"}, together=60)


def mount(*arguments: str) -> None:
    """Run mount(8)."""
    subprocess.run(("mount", *arguments), check=True)


def _do(work: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    async def done() -> None:
        work()

    return done


HTML = error_answer(502, b"<html><body>Bad Gateway</body></html>", content_type="text/html")
OUTAGES: dict[str, Callable[[Simulator, Path], Awaitable[Case]]] = {
    "the name does not resolve": dns,
    "the connection is refused": refused,
    "a firewall drops": dropped,
    "silence after the connection": silent,
    "a certificate that does not verify": tls,
    "a certificate not yet valid": partial(tls, early=True),
    "a clock two days slow": slow_clock,
    "a token after 8 s, another credential": slow_token,
    "500 from one, a healthy backup": partial(fails, answer=error_answer(500, "boom")),
    "HTML 502 from one, a healthy backup": partial(fails, answer=HTML),
    "a reset from one, a healthy backup": partial(fails, answer=Answer().after(Reset())),
    "no room at Google (503)": partial(
        fails, answer=error_answer(overloaded().status, overloaded().body()), backed=False
    ),
    "the quota of the day": partial(keys_are, state=KeyState.PER_DAY),
    "revoked keys": partial(keys_are, state=KeyState.INVALID),
    "a revoked login": revoked,
    "state: a folder in its place": partial(state_is, what="folder"),
    "state: no permission": partial(state_is, what="forbidden"),
    "state: corrupt": partial(state_is, what="corrupt"),
    "state: of a later version": partial(state_is, what="later"),
    "state: the disk is full": partial(state_is, what="full"),
    "state: read-only": partial(state_is, what="read-only"),
    "64 descriptors, 60 streams": descriptors,
}


# ------------------------------------------------------------------------------------------------- the server


def as_server() -> None:
    """Be ``gemproxy serve`` on a machine that knows a name only once a file is there, or has few descriptors."""
    if os.environ.pop("BENCH_BOUND", ""):  # permissions bind root, too
        bound = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")
        os.execvp(bound[0], (*bound, sys.executable, "-c", SERVER, *sys.argv[1:]))
    if few := int(os.environ.get("BENCH_DESCRIPTORS", "0")):
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
    if known := os.environ.get("BENCH_NAMES"):
        real = socket.getaddrinfo

        def look_up(host: Any, *rest: Any, **more: Any) -> Any:
            if host != NAME:
                return real(host, *rest, **more)
            if not Path(known).exists():
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real("127.0.0.1", *rest, **more)

        socket.getaddrinfo = look_up
    from gemproxy.cli import main

    sys.exit(main(sys.argv[1:]))


@asynccontextmanager
async def serving(case: Case, folder: Path) -> AsyncIterator[str]:
    """Run the server; gives its URL."""
    google, port = case.google, free_port()
    (folder / "gemproxy.toml").write_text(
        f"[server]\nport = {port}\nmax_connections = {1000 if not case.together else 10_000}\n"
        f'[auth]\nkeys = ["sk-bench"]\n[upstream]\n'
        f'ai_studio_url = "{case.url or google.ai_studio_url}"\ncode_assist_url = "{google.code_assist_url}"\n'
        f'vertex_url = "{google.vertex_url}"\ntoken_url = "{google.token_url}"\n{case.more}{case.credentials or KEYS}'
    )
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVER),
            *("serve", "--config", str(folder / "gemproxy.toml")),
            cwd=ROOT,
            env=os.environ | case.environ,
            stderr=log,
        )
    try:
        async with asyncio.timeout(10):
            while b"listens on" not in (folder / "log").read_bytes():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


# ------------------------------------------------------------------------------------------------- what it looks like


async def ask(session: aiohttp.ClientSession, url: str, *, stream: bool = False) -> str:
    """Ask for an answer; returns its status, and of an error code and message."""
    body = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    began = asyncio.get_running_loop().time()
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        text = await response.read()
    took = asyncio.get_running_loop().time() - began
    if response.status == 200:
        return f"200 after {took:.2f} s"
    error = msgspec.json.decode(text)["error"]
    return f"{response.status} {error['code']} after {took:.2f} s: {error['message']}"


async def ready(session: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, Any]]:
    """Return what /ready says."""
    async with session.get(f"{url}/ready") as response:
        return response.status, msgspec.json.decode(await response.read())


async def look(case: Case, folder: Path) -> Seen:
    """Stage an outage, and return what it looks like."""
    async with serving(case, folder) as url, aiohttp.ClientSession(headers=ADMIN) as session:
        told = await (crowd(case, url) if case.together else one_by_one(session, url))
        status, body = await ready(session, url)
        async with session.get(f"{url}/v1/debug/cache") as response:
            cache = msgspec.json.decode(await response.read())
        async with session.get(f"{url}/metrics") as response:
            series = SERIES.findall(await response.text())
        recovery = "-" if case.heal is None else await recover(case.heal, session, url)
        log = (folder / "log").read_text().splitlines()
    lines = [line for line in log if " WARNING " in line or " ERROR " in line]
    line = re.sub(r"^\S+ ", "", lines[0]).replace(str(folder), "…") if lines else "-"
    shown = {name: value for name, value in body.items() if name not in ("returns_in", "status")}
    return Seen(line, f"{status} {_plain(shown)}", _cache(cache), _series(series), told, recovery)


async def one_by_one(session: aiohttp.ClientSession, url: str) -> str:
    """Ask one request after the other; returns what the last one got."""
    return [await ask(session, url) for _ in range(ASKED)][-1]


async def crowd(case: Case, url: str) -> str:
    """Ask for many streams at once over connections of their own; returns how many got what."""
    gate = asyncio.Event()
    case.google.script(text_answer("at last").after(Wait(gate)), times=case.together)

    async def one() -> str:
        async with aiohttp.ClientSession(headers=ADMIN) as session:
            return await ask(session, url, stream=True)

    asking = [asyncio.get_running_loop().create_task(one()) for _ in range(case.together)]
    await asyncio.sleep(3)
    gate.set()
    told = [re.sub(r" after [\d.]+ s", "", answer) for answer in await asyncio.gather(*asking)]
    return "; ".join(f"{told.count(answer)} x {answer}" for answer in sorted(set(told)))


async def recover(heal: Callable[[], Awaitable[object]], session: aiohttp.ClientSession, url: str) -> str:
    """Take the cause away and return how long it takes until all is well."""
    await heal()
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < PATIENCE:
        status, body = await ready(session, url)
        if status == 200 and body["state"] == "ok" and (await ask(session, url)).startswith("200"):
            return f"{loop.time() - began:.1f} s"
        await asyncio.sleep(0.1)
    async with session.post(f"{url}/v1/token-test") as response:
        await response.read()
    well = (await ask(session, url)).startswith("200")
    return "at once by a token-test" if well else "when the log says"


def _plain(value: object) -> str:
    return msgspec.json.encode(value).decode().replace("|", "\\|")


def _cache(cache: dict[str, Any]) -> str:
    rows = {row["name"]: [row["state"], row.get("last_error") or ""] for row in cache["credentials"]}
    told = {"credentials": rows, "unreachable": cache["unreachable"], "clock": cache["clock"]["message"]}
    state = cache["state"]
    return _plain({name: value for name, value in told.items() if value} | ({} if state["ok"] else {"state": state}))


def _series(series: list[tuple[str, str]]) -> str:
    kept = [(name, value) for name, value in series if not (name.startswith("gemproxy_credential") and value == "0.0")]
    usual = {("gemproxy_state_up", "1.0")}
    return "<br>".join(
        f"{name.removeprefix('gemproxy_')} {value}" for name, value in kept if (name, value) not in usual
    )


async def main(names: list[str]) -> None:
    """Print a table."""
    print("| outage | log, first warning | /ready | /v1/debug/cache | metrics | client | recovers after |")
    print("|---|---|---|---|---|---|---|")
    for name, make in OUTAGES.items():
        if names and not any(word in name for word in names):
            continue
        with tempfile.TemporaryDirectory(prefix="gemproxy-outage-") as made:
            folder = Path(made)
            async with AsyncExitStack() as stack:
                google = await stack.enter_async_context(Simulator(wall_clock))
                try:
                    seen = await look(await make(google, folder), folder)
                finally:
                    if (folder / "state").is_mount():
                        await asyncio.to_thread(subprocess.run, ("umount", folder / "state"), check=True)
            print(f"| {name} | {' | '.join(msgspec.structs.astuple(seen))} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
