"""A bare Debian with systemd as its first process, in name spaces of its own, to install gemproxy in.

debootstrap makes the tree once and keeps it in ``CACHE``; a machine boots in an overlay of it (systemd-nspawn) and
leaves it as it was. Its loopback is its own; out of it leads slirp4netns, for packages only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
EXTRA = "systemd-sysv,sudo,ca-certificates"  # beside what debootstrap itself deems least
CACHE = Path(tempfile.gettempdir()) / f"gemproxy-debian-{EXTRA.replace(',', '-')}"
USER = "ada"  # README is read by somebody who may use sudo
AS_USER = ["runuser", "-u", USER, "--", "env", "-C", f"/home/{USER}", f"HOME=/home/{USER}", "/bin/bash", "-ec"]
PATIENCE = 60.0  # seconds for a machine to boot or to halt


def tree(program: Callable[[str], str]) -> Path:
    """Return the root of this machine's release of Debian, as debootstrap makes it."""
    if not (CACHE / "made").exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        suite = _release()["VERSION_CODENAME"]
        command = [program("debootstrap"), "--variant=minbase", f"--include={EXTRA}", suite, str(CACHE / "root")]
        CACHE.mkdir(mode=0o755)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (CACHE / "made").touch()
    return CACHE / "root"


def _release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)


class Machine:
    """One that runs: ``layers`` are its disk, the topmost first; what it writes goes into ``folder``."""

    def __init__(self, folder: Path, layers: list[Path]) -> None:
        self.root, self.upper = folder / "root", folder / "upper"
        self.layers, self._log = layers, folder / "console.log"
        for name in ("root", "upper", "work"):
            (folder / name).mkdir(parents=True)
        over = f"lowerdir={':'.join(map(str, layers))},upperdir={self.upper},workdir={folder / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", over, self.root], check=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._guests: list[subprocess.Popen[bytes]] = []  # what was started within it

    def boot(self, program: Callable[[str], str]) -> None:
        """Start systemd in it, and wait until it is up."""
        nspawn = [program("systemd-nspawn"), "--quiet", "--register=no", "--keep-unit", "--private-network"]
        command = [*nspawn, "--resolv-conf=off", "--link-journal=no", "--console=pipe", "--boot", "-D", str(self.root)]
        self._start(command)
        self._leader = self._wait(self._first_process)
        self._wait(lambda: "running" in self.root_run("systemctl is-system-running", check=False).stdout)
        slirp = [program("slirp4netns"), "--configure", "--mtu=1400", "--disable-host-loopback"]
        self._start([*slirp, str(self._leader), "tap0"])
        self._wait(lambda: "tap0\t00000000" in Path(f"/proc/{self._leader}/net/route").read_text())

    def _start(self, command: list[str]) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)

    def _first_process(self) -> int | None:
        """Return systemd's number here: the child of nspawn that is the first in its own name space."""
        nspawn = self._processes[0].pid
        for child in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
            status = Path(f"/proc/{child}/status").read_text()
            if status.split("NSpid:")[1].split("\n")[0].split()[1:] == ["1"]:
                return int(child)
        return None

    def _wait(self, look: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > end or any(process.poll() is not None for process in self._processes):
                pytest.fail(self._log.read_text(errors="replace")[-2_000:])
            time.sleep(0.1)
        return found

    def root_run(self, script: str, *, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in it as root; with ``check`` the test fails where the script does."""
        return self._run(["/bin/bash", "-ec", script], variables, check=check)

    def run(self, script: str, *, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script as a user who may use sudo, in this user's home."""
        return self._run([*AS_USER, script], variables, check=check)

    def _run(self, command: list[str], variables: dict[str, str], *, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._inside(command), env=_environment(variables), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0 or not check, f"{command[-1]}\n{done.stdout[-6_000:]}\n{done.stderr[-6_000:]}"
        return done

    def _inside(self, command: list[str]) -> list[str]:
        return ["nsenter", f"--target={self._leader}", "--all", "--", "env", "-C", "/", *command]

    def start(self, script: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a script as the user and let it run."""
        command = self._inside([*AS_USER, script])
        guest = subprocess.Popen(
            command,
            env=_environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all that it starts can be ended with it
        )
        self._guests.append(guest)
        return guest

    def halt(self) -> None:
        """Switch it off; its disk stays."""
        if not self._processes:
            return
        nspawn, *others = self._processes
        for guest in self._guests:
            if guest.poll() is None:
                os.killpg(guest.pid, signal.SIGKILL)
        _end(*self._guests)
        if nspawn.poll() is None:
            self.root_run("systemctl poweroff", check=False)
        try:
            nspawn.wait(PATIENCE)
        finally:
            _end(nspawn, *others)
            self._processes.clear()

    def scrap(self) -> None:
        """Switch it off and take its disk away."""
        self.halt()
        subprocess.run(["umount", self.root], check=True)


def _end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _environment(variables: dict[str, str]) -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **variables}


def furnish(machine: Machine) -> None:
    """Add what a person has: a user with sudo, this machine's way to the packages, and the repository to clone."""
    root = machine.root
    for path, text in {
        "etc/resolv.conf": "nameserver 10.0.2.3\n",  # slirp4netns
        "etc/hostname": "debian\n",
        "etc/hosts": "127.0.0.1 localhost debian\n",
        "etc/sudoers.d/ada": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
        "etc/apt/apt.conf.d/90yes": 'APT::Get::Assume-Yes "true";\n',  # the person who answers
        "etc/pip.conf": "[global]\ncert = /srv/certificates\n",
    }.items():
        (root / path).unlink(missing_ok=True)
        (root / path).write_text(text)
    shutil.copy(os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"), root / "srv/certificates")
    subprocess.run(["chroot", root, "useradd", "--create-home", "--shell=/bin/bash", USER], check=True)
    commit_to(root / "srv/repository")
    subprocess.run(["chroot", root, "chown", "-R", f"{USER}:", "/srv/repository"], check=True)


def commit_to(folder: Path) -> None:
    """Make a repository with one commit: this tree, links as links."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file() or (REPOSITORY / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name, follow_symlinks=False)
    commit = "git init -q && git add -A && git -c user.name=x -c user.email=x@example.org commit -qm x"
    subprocess.run(commit, shell=True, cwd=folder, check=True)
