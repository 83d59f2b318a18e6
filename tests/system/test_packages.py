"""What an installation holds, from the registry: the pinned packages and no others, and all files of the project.

Every way in is tried in a copy of the tree as it is under version control, links and all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.system.debian import REPOSITORY, commit_to
from tests.test_packages import here

pytestmark = pytest.mark.timeout(600)

EXAMPLE = (REPOSITORY / "config.example.toml").read_bytes()
UNIT = "gemproxy@.socket"
SDIST = "import sys, setuptools.build_meta as backend; print(backend.build_sdist(sys.argv[1]))"


def said(*command: str | Path, **variables: str) -> bytes:
    """Run a command that must succeed, in an empty place; returns what it printed."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-4_000:]
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit: this tree."""
    folder = tmp_path_factory.mktemp("repository")
    commit_to(folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """An environment with gemproxy and the extra metrics, as ``make install`` makes it."""
    folder = tmp_path_factory.mktemp("environment")
    said(sys.executable, "-m", "venv", folder)
    before = packages(folder)
    said(repository / "requirements/install.sh", folder, "metrics")
    (folder / "before").write_text(repr(before), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> Path:
    """What builds the project, as it is pinned."""
    folder = tmp_path_factory.mktemp("backend")
    pinned = REPOSITORY / "requirements/build.txt"
    said(environment / "bin/python", *f"-m pip install -q --require-hashes --target {folder} -r {pinned}".split())
    return folder


def packages(environment: Path) -> dict[str, str]:
    listed = said(environment / "bin/python", "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    lines = listed.decode().lower().replace("_", "-").split()
    return dict(line.split("==") for line in lines)


def has_everything(environment: Path) -> None:
    program = environment / "bin/gemproxy"
    assert said(program, "config") == EXAMPLE
    assert said(program, "config", "--unit", UNIT) == (REPOSITORY / "systemd" / UNIT).read_bytes()


def test_an_installation_holds_what_is_pinned_and_nothing_else(environment: Path) -> None:
    pinned = {name: str(pin.specifier).removeprefix("==") for name, pin in here("metrics").items()}
    found = packages(environment)
    own = {name for name in (environment / "before").read_text(encoding="utf-8").split("'")[1::2] if name in found}
    assert found.pop("gemproxy")
    assert {name: text for name, text in found.items() if name not in own - set(pinned)} == pinned
    said(environment / "bin/python", "-m", "pip", "check")


def test_the_files_come_with_the_wheel_that_is_installed(environment: Path) -> None:
    has_everything(environment)
    [folder] = environment.glob("lib/python3*/site-packages/gemproxy/shipped")
    assert [file for file in folder.rglob("*") if file.is_symlink()] == []


@pytest.mark.parametrize("way", ["editable", "the repository's address", "the archive of sources"])
def test_the_files_come_by_every_other_way(
    way: str, environment: Path, backend: Path, repository: Path, tmp_path: Path
) -> None:
    sources = [str(repository)]
    if way == "editable":
        sources.insert(0, "--editable")
    elif way == "the repository's address":
        sources = [f"git+file://{repository}"]
    else:
        command = [environment / "bin/python", "-c", f"import os; os.chdir({str(repository)!r}); {SDIST}", tmp_path]
        sources = [str(tmp_path / said(*command, PYTHONPATH=str(backend)).decode().split()[-1])]
    options = ["--quiet", "--force-reinstall", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [environment / "bin/python", "-m", "pip", "install", *options, *sources]
    said(*command, PYTHONPATH=str(backend))
    has_everything(environment)


def test_the_wheel_holds_what_is_under_version_control(
    environment: Path, backend: Path, repository: Path, tmp_path: Path
) -> None:
    options = f"--quiet --no-index --no-deps --no-build-isolation --wheel-dir {tmp_path}".split()
    said(environment / "bin/python", "-m", "pip", "wheel", *options, repository, PYTHONPATH=str(backend))
    [wheel] = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("gemproxy/")}
    listed = said("git", "-C", repository, "ls-files", "gemproxy", "systemd").decode().split()
    wanted = {f"gemproxy/shipped/{name}" if name.startswith("systemd/") else name for name in listed}
    assert names == wanted - {"gemproxy/shipped/systemd"}
