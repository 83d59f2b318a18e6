"""(edge) The command line: serve, check, login, config. Parses, prints and hands on; decides nothing else.

Promised: docs/architecture.md 14.5.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import pwd
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemproxy import __version__, aiohttp_parts, shipped
from gemproxy.config import KEYLESS, Config, OAuthFile, Purpose, cautions, load, surroundings
from gemproxy.errors import ConfigFault, StartFault
from gemproxy.load.rounds import new_loop
from gemproxy.process import logs
from gemproxy.proxies import proxies

if TYPE_CHECKING:
    from gemproxy.operations.checkup import Row
    from gemproxy.process.demo import Outage

log = logging.getLogger("gemproxy")
OK, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. A configuration that cannot be used is 2, and one line on stderr."""
    asked = _parser().parse_args(arguments)
    try:
        status: int = asked.run(asked)
    except ConfigFault as fault:
        print(f"gemproxy: {fault}", file=sys.stderr)
        return USAGE
    except StartFault as fault:
        print(f"gemproxy: {fault}", file=sys.stderr)
        return FAILED  # systemd tries again, unlike after a configuration that cannot be used
    except KeyboardInterrupt:
        return OK
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gemproxy", description="The OpenAI API in front of Google's Gemini.")
    parser.add_argument("--version", action="version", version=f"gemproxy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the server")
    _config_option(serve)
    serve.add_argument("--host", help="instead of server.host")
    serve.add_argument("--port", type=int, help="instead of server.port; 0 takes a free one")
    serve.add_argument("--demo", action="store_true", help="answer from an embedded simulated Gemini; needs no key")
    serve.add_argument("--fault", metavar="NAME", help="with --demo: what goes wrong; an unknown name lists them all")
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check", help="validate the configuration and print what would run")
    _config_option(check)
    check.add_argument("--online", action="store_true", help="authenticate every credential too")
    check.add_argument("--as", dest="user", metavar="USER", help="see what this user may read (for root alone)")
    check.set_defaults(run=_check)

    login = commands.add_parser("login", help="get an OAuth credential with Google's installed-app flow")
    _config_option(login)
    login.add_argument("--no-browser", action="store_true", help="print the link, paste the code (for a VPS)")
    login.add_argument("--name", help="which credential, if there are several of kind oauth")
    login.set_defaults(run=_login)

    shown = commands.add_parser("config", help="print an example of a configuration, with every key and its default")
    shown.add_argument("--unit", metavar="NAME", help="a file for systemd instead; an unknown name lists them all")
    shown.set_defaults(run=_config)
    return parser


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; without it the environment counts")


# ------------------------------------------------------------------------------------------------------------ serve


def _serve(asked: argparse.Namespace) -> int:
    from gemproxy.process import serve as serving  # here: `check` and `--version` need no server

    if asked.fault is not None and not asked.demo:
        raise ConfigFault("--fault goes with --demo only: no fault is made in front of the real Gemini")
    outage = _outage(asked.fault) if asked.demo else None
    purpose: Purpose = "demo" if asked.demo else "serve"

    def read() -> Config:
        return load(asked.config, os.environ, asked.host, asked.port, purpose=purpose)

    config = read()
    logs.configure(config.log.level, config.log.format)
    if (between := proxies(os.environ).shown) and not asked.demo:
        log.info("requests to Google go through the proxy %s (HTTPS_PROXY)", between)
    for warning in _warnings(config, asked.config, demo=asked.demo):
        log.warning(warning)
    work = serving.serve(config, read, _announce) if outage is None else _demo(read, config, outage)
    _run(work, config.server.loop)
    return OK


def _outage(name: str | None) -> Outage:
    from gemproxy.process import demo  # here: the simulator is a seventh of the time to start

    return demo.WELL if name is None else demo.outage_of(name)


def _demo(read: Callable[[], Config], config: Config, outage: Outage) -> Coroutine[Any, Any, None]:
    from gemproxy.process import demo

    return demo.serve(read, _announce_demo(config, outage), outage)


def _run(work: Coroutine[Any, Any, None], loop: str) -> None:
    if loop == "asyncio":
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(work)
        return
    import uvloop  # it is there: ``load`` looks

    uvloop.run(work)


def _warnings(config: Config, path: Path | None, *, demo: bool) -> list[str]:
    found = [*cautions(config), *surroundings.cautions(config, path, os.environ)]
    if not (config.auth.clients or demo):
        found.append(KEYLESS)
    if lacking := aiohttp_parts.caution():
        found.append(lacking)
    return found


def _announce(url: str) -> None:
    log.info("gemproxy %s listens on %s", __version__, url)


def _announce_demo(config: Config, outage: Outage) -> Callable[[str], None]:
    from gemproxy.process.demo import welcome

    key = config.auth.clients[0].key.reveal() if config.auth.clients else "placeholder"

    def announce(url: str) -> None:
        print(welcome(url, key, outage), flush=True)

    return announce


# ------------------------------------------------------------------------------------------------------------ check


def _check(asked: argparse.Namespace) -> int:
    if asked.user is not None:
        _become(asked.user)
    config = load(asked.config, os.environ)
    print(summary(config, [*_warnings(config, asked.config, demo=False), *_state_trouble(config)]))
    if not asked.online:
        return OK
    rows = asyncio.run(_authenticate_all(config))
    print("\n" + table(rows))
    return OK if all(row.ok for row in rows) else FAILED


def _become(name: str) -> None:
    """Go on as another user, so that the system itself says what that one may read."""
    try:
        user = pwd.getpwnam(name)
        if user.pw_uid != os.geteuid():
            os.initgroups(name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.environ["HOME"] = user.pw_dir
    except KeyError:
        raise ConfigFault(f"--as {name}: there is no such user") from None
    except PermissionError:
        raise ConfigFault(f"--as {name}: only root may go on as another user") from None


def _state_trouble(config: Config) -> list[str]:
    """Return what ``serve`` would warn of when it opens the state."""
    if config.state.path is None:
        return []
    from gemproxy.state.sqlite_file import UnusableState, look

    try:
        look(Path(config.state.path))
    except UnusableState as fault:
        return [str(fault)]
    return []


async def _authenticate_all(config: Config) -> list[Row]:
    from gemproxy.wiring.build import build_service

    async with AsyncExitStack() as stack:
        service = await build_service(config, stack)
        return await service.operations.checkup.tokens()


def summary(config: Config, warnings: Sequence[str]) -> str:
    """Return what would run, without anything secret."""
    server, clients = config.server, config.auth.clients
    callers = ", ".join(client.name for client in clients) or "anybody on this machine (no auth.keys)"
    lines = [
        f"listens on    {server.host}:{server.port}",
        f"clients       {callers}",
        *([f"proxy         {between} (HTTPS_PROXY)"] if (between := proxies(os.environ).shown) else []),
        f"state         {config.state.path or 'in memory: rests and tokens end with the process (state.path)'}",
        "credentials",
    ]
    lines += [f"  {one.name:<20} {one.kind:<16} {one.pool}" for one in config.credentials]
    lines += [f"warning       {warning}" for warning in warnings]
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """Return a checkup as a table; a page that Google asks a person to open stands below its row."""
    lines = []
    for row in rows:
        lines.append(
            f"  {row.credential:<20} {row.kind:<16} {'ok' if row.ok else 'FAILED':<7} {row.ms:>6} ms  {row.detail}"
        )
        if row.link:
            lines.append(f"      open this page as that user: {logs.harmless(row.link[:2_000])}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------ login


def _login(asked: argparse.Namespace) -> int:
    from gemproxy.credentials.login import login

    config = load(asked.config, os.environ, purpose="login")
    target = _login_target(config, asked.name)
    asyncio.run(
        login(
            config.oauth.client_id.reveal(),
            config.oauth.client_secret.reveal(),
            Path(target.file),
            browser=not asked.no_browser,
            auth_url=config.upstream.auth_url,
            token_url=config.upstream.token_url,
            between=proxies(os.environ),
        )
    )
    return OK


def _login_target(config: Config, name: str | None) -> OAuthFile:
    """Return the credential to log in: the named one, or the only one, or the first whose file is not there yet."""
    known = [one for one in config.credentials if isinstance(one, OAuthFile)]
    if name is not None:
        known = [one for one in known if one.name == name]
    missing = [one for one in known if not Path(one.file).exists()]
    if len(known) != 1 and len(missing) != 1:
        raise ConfigFault(
            'login: name one credential of kind "oauth" with --name; there are: '
            + (", ".join(one.name for one in config.credentials) or "none (see [[credentials]] and [oauth])")
        )
    return (missing or known)[0]


# ----------------------------------------------------------------------------------------------------------- config


def _config(asked: argparse.Namespace) -> int:
    content = shipped.example() if asked.unit is None else _unit(asked.unit)
    try:
        sys.stdout.buffer.write(content)  # as it is, whatever the terminal's encoding
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; what is buffered must not be tried again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _unit(name: str) -> bytes:
    units = shipped.units()
    if name not in units:
        raise ConfigFault(f"--unit {name}: there is no such file; there are {', '.join(units)}")
    return units[name]
