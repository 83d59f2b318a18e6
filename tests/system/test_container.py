"""``deploy/compose.yaml`` and its Containerfile, by podman: built, run, asked, restarted, as they stand but for a port.

No image is pulled: a bare Debian, as debootstrap makes it, is imported under the name of the base image.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from msgspec import Struct

from gemproxy.simulator import Simulator
from tests.faults.client import ask, hello
from tests.server_process import configured, free_port
from tests.system.conftest import find
from tests.system.deployed import DEPLOY, shipped
from tests.system.test_behind_proxies import DELAY, HAPROXY, LARGE, before, load, until
from tests.waiting import soon

BASE = "docker.io/library/debian:bookworm-slim"
EXTRA = "systemd-sysv,sudo,ca-certificates"
CACHE = Path(tempfile.gettempdir()) / f"gemproxy-debian-{EXTRA.replace(',', '-')}"  # debootstrap takes half a minute
NEEDED = [
    "gemproxy",
    "deploy",
    "systemd",
    "requirements",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "config.example.toml",
]
CERTIFICATES = Path(os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"))
# Storage and networks of its own, and what podman must be told where it runs in a sandbox: there is no systemd, limits
# cannot be raised to podman's own, and a build has the network of the machine.
PODMAN = """#!/bin/sh
set -eu
command=$1
shift
case $command in
build) set -- --isolation chroot --layers=false --format docker --network host --pull=never \
  --volume {certificates}:/etc/certificates.pem:ro --volume {folder}/pip.conf:/etc/pip.conf:ro "$@" ;;
run) set -- --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 "$@" ;;
esac
exec {podman} --root {folder}/storage --runroot {folder}/run --network-config-dir {folder}/networks \
  --cgroup-manager cgroupfs --runtime runc "$command" "$@"
"""


def tree() -> Path:
    """Return the root of a bare Debian."""
    if not (CACHE / "made").exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(mode=0o755)
        command = [find("debootstrap"), "--variant=minbase", f"--include={EXTRA}", "bookworm", str(CACHE / "root")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (CACHE / "made").touch()
    return CACHE / "root"


class Podman(Struct, frozen=True):
    """podman, and podman-compose for a copy of ``deploy/`` whose two servers have other ports."""

    program: Path
    deploy: Path
    ports: list[int]

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run podman; returns what it says. With ``check`` the test fails if it fails."""
        return _said([str(self.program), *arguments], check=check)

    def compose(self, *arguments: str, **variables: str) -> str:
        """Run podman-compose."""
        command = [find("podman-compose"), "--podman-path", str(self.program), *arguments]
        return _said(command, cwd=self.deploy, env=os.environ | variables)

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"deploy_{service}_1"


def _said(command: Sequence[str], *, check: bool = True, **options: object) -> str:
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-4000:]}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """podman with the image built from this tree."""
    folder = Path(tempfile.mkdtemp(prefix="gemproxy-podman-"))  # pytest cannot take away what podman mounts there
    made = Podman(folder / "podman", folder / "tree" / "deploy", [free_port(), free_port()])
    find("runc")
    told = {"folder": folder, "podman": find("podman"), "certificates": CERTIFICATES}
    made.program.write_text(PODMAN.format(**told), encoding="utf-8")
    made.program.chmod(0o755)
    (folder / "pip.conf").write_text("[global]\ncert = /etc/certificates.pem\n", encoding="utf-8")
    for name in NEEDED:
        source, target = DEPLOY.parent / name, folder / "tree" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
    changes = {f"127.0.0.1:{at}:8080": f"127.0.0.1:{to}:8080" for at, to in zip((8080, 8081), made.ports, strict=True)}
    (made.deploy / "compose.yaml").write_text(shipped("compose.yaml", changes), encoding="utf-8")
    try:
        with subprocess.Popen(["tar", "-C", tree(), "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run([made.program, "import", "-", BASE], stdin=packed.stdout, check=True, capture_output=True)
        made.compose("build", "one")  # the other one is the same
        yield made
    finally:
        made("rm", "--all", "--force", check=False)
        subprocess.run(["umount", folder / "storage" / "overlay"], check=False, capture_output=True)
        shutil.rmtree(folder)


@asynccontextmanager
async def up(podman: Podman) -> AsyncIterator[Simulator]:
    """Run what compose.yaml says, in front of a simulated Gemini at the machine's end of the container's network."""
    podman("network", "create", "deploy_default")
    [network] = msgspec.json.decode(podman("network", "inspect", "deploy_default"))
    gateway, port = network["subnets"][0]["gateway"], free_port()
    (podman.deploy / "etc").mkdir(exist_ok=True)
    toml = configured(f"http://{gateway}:{port}/v1beta", DELAY).replace("port = 0", "")
    (podman.deploy / "etc" / "gemproxy.toml").write_text(toml, encoding="utf-8")
    google = Simulator()
    try:
        podman.compose("up", "--detach", "--no-build", GEMPROXY_API_KEYS="sk-test")
        await google.start(gateway, port)
        for server in podman.ports:
            await ready(server)
        yield google
    finally:
        await google.close()
        podman.compose("down", "--volumes")
        podman("network", "rm", "deploy_default")


async def ready(port: int) -> None:
    """Wait until the server at this port can serve."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_container_serves_as_shipped(podman: Podman, session: aiohttp.ClientSession) -> None:
    async with up(podman) as google:
        url = f"http://127.0.0.1:{podman.ports[0]}"
        assert (await ask(session, url, hello(stream=True))).whole
        assert (await ask(session, url, hello("x" * LARGE))).whole
        assert len(google.generations[-1].json()["contents"][0]["parts"][0]["text"]) == LARGE
        assert (await ask(session, url, hello(), {"Authorization": "Bearer sk-other"})).status == 401
        container = podman.container("one")
        podman("healthcheck", "run", container)
        assert podman("exec", container, "id", "--user").strip() == "10001"
        assert "state.db" in podman("exec", container, "ls", "/var/lib/gemproxy")
        podman("kill", "--signal", "HUP", container)
        await soon(lambda: "configuration reloaded" in podman("logs", container), seconds=20)
        await asyncio.to_thread(podman, "stop", "--time", "45", container)
        [state] = msgspec.json.decode(podman("inspect", container))
        assert state["State"]["ExitCode"] == 0, "SIGTERM ends it in order"


def test_container_does_not_start_without_client_keys(podman: Podman) -> None:
    said = podman("run", "--rm", "--env", "GEMINI_API_KEY=test-key-1", "--network", "none", "gemproxy", check=False)
    assert "auth.keys" in said


@pytest.mark.timeout(300)
async def test_rolling_restart_of_containers_loses_no_request(
    podman: Podman, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with up(podman) as google, before(HAPROXY, find, tmp_path, podman.ports) as proxy:
        async with load(session, google, proxy) as running:
            for service, port in zip(("one", "two"), podman.ports, strict=True):
                await until(running, 30)
                await asyncio.to_thread(podman.compose, "restart", service)
                await ready(port)
            await until(running, 30)
        assert set(running.outcomes) == {"whole"}
