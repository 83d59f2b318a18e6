"""The units: systemd itself finds nothing wrong with them, and they agree with the defaults of the program."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gemproxy import cli
from gemproxy.config import Config

UNITS = Path(__file__).parents[2] / "systemd"
PROGRAM = "/opt/gemproxy/current/bin/gemproxy"
NAMES = ["gemproxy.service", "gemproxy.socket", "gemproxy@.service", "gemproxy@.socket"]


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where there is no such program; in CI the test fails for want of it."""
    missing = shutil.which(program) is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


needs_systemd = needs("systemd-analyze")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def staged(tmp_path) -> Path:
    """The units in a folder of their own, with a program that exists and one instance of each template."""
    for name in NAMES:
        text = (UNITS / name).read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / name).write_text(text)
        (tmp_path / name.replace("@", "@1")).write_text(text)
    return tmp_path


def settings(name: str, section: str) -> dict[str, str]:
    """Return the settings of one section; of a repeated one the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name)
    return dict(parser[section])


@needs_systemd
@pytest.mark.parametrize("name", ["gemproxy.service", "gemproxy.socket", "gemproxy@1.service", "gemproxy@1.socket"])
def test_systemd_finds_no_fault_in_a_unit(staged, name: str) -> None:
    found = analyze("verify", str(staged / name))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@needs_systemd
def test_systemd_does_find_a_planted_fault(staged) -> None:
    unit = staged / "gemproxy.service"
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in analyze("verify", str(unit)).stderr


@needs_systemd
@pytest.mark.parametrize("name", ["gemproxy.service", "gemproxy@1.service"])
def test_a_service_is_exposed_to_little(staged, name: str) -> None:
    found = analyze("security", "--offline=true", str(staged / name)).stdout
    overall = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", found)
    assert overall is not None, found
    assert float(overall[1]) < 2.0


@needs("systemd-sysusers")
def test_the_user_can_be_made(tmp_path) -> None:
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", "--dry-run", str(UNITS / "gemproxy.sysusers.conf")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert "'gemproxy'" in found.stdout + found.stderr


@pytest.mark.parametrize(("section", "own"), [("Service", {"Environment": "GEMPROXY_INSTANCE=%i"}), ("Install", {})])
def test_the_template_is_as_hard_as_the_single_service(section: str, own: dict[str, str]) -> None:
    assert settings("gemproxy@.service", section) == settings("gemproxy.service", section) | own


def test_a_reload_checks_first_and_takes_no_program_that_a_small_debian_lacks() -> None:
    text = (UNITS / "gemproxy.service").read_text().replace("\\\n", "")
    check, tell = [line.split() for line in text.split("\n") if line.startswith("ExecReload=")]
    assert [word for word in check if "/" in word][:3] == ["ExecReload=+/usr/bin/nsenter", "/usr/bin/setpriv", PROGRAM]
    assert check[-3:] == ["check", *settings("gemproxy.service", "Service")["ExecStart"].split()[-2:]]
    assert tell[0] == "ExecReload=/bin/sh"


def test_the_template_belongs_to_its_socket() -> None:
    unit = settings("gemproxy@.service", "Unit")
    assert unit["Requires"] == unit["After"] == "gemproxy@%i.socket"
    assert settings("gemproxy@.socket", "Socket")["ReusePort"] == "yes"


@pytest.mark.parametrize("name", ["gemproxy.socket", "gemproxy@.socket"])
def test_a_socket_listens_where_the_program_would(name: str) -> None:
    server = Config().server
    assert settings(name, "Socket")["ListenStream"] == f"{server.host}:{server.port}"


def test_the_stop_leaves_time_to_drain() -> None:
    timeouts = Config().timeouts
    assert float(settings("gemproxy.service", "Service")["TimeoutStopSec"]) > timeouts.drain + timeouts.drain_delay


@pytest.mark.parametrize("name", ["gemproxy.service", "gemproxy@.service"])
def test_a_stop_lets_both_processes_of_an_upgrade_drain(name: str) -> None:
    """With KillMode=mixed systemd would kill the one that was relieved as soon as the main one has ended."""
    assert settings(name, "Service")["KillMode"] == "control-group"


def test_a_process_may_open_what_the_configuration_allows() -> None:
    assert int(settings("gemproxy.service", "Service")["LimitNOFILE"]) > 2 * Config().server.max_connections


def test_a_configuration_that_cannot_be_used_is_not_tried_again() -> None:
    assert int(settings("gemproxy.service", "Service")["RestartPreventExitStatus"]) == cli.USAGE


def test_every_unit_runs_as_the_shipped_user() -> None:
    user = settings("gemproxy.service", "Service")["User"]
    assert (UNITS / "gemproxy.sysusers.conf").read_text().split("\nu ")[1].split()[0] == user


@pytest.mark.parametrize("name", ["gemproxy.service", "gemproxy@.service"])
def test_the_memory_of_a_unit_has_room_for_two_processes(name: str) -> None:
    """An upgrade in place runs two for a while; each takes its start, its budget, and what is under way."""
    most = int(settings(name, "Service")["MemoryMax"].removesuffix("G"))
    assert most << 30 >= 2 * ((60 << 20) + Config().server.memory + (128 << 20))
