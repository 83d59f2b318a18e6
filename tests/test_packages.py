"""What is pinned covers what pyproject.toml asks for; what installs takes nothing else; what is shipped is whole."""

from __future__ import annotations

import configparser
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gemproxy import shipped
from requirements import lock, ranges

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = set(PROJECT["project"]["optional-dependencies"]) - {"pytest"}  # that one is a part of others
HASHED = re.compile(r"(\S+==\S+)( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+")


def pinned(name: str) -> list[Requirement]:
    """Return what a lock file holds, with the files that it adds to."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    found = [Requirement(first.rstrip(" \\\n")) for first in lock.pins(text)]
    for line in re.findall(r"^-r (\w+)\.txt$", text, re.MULTILINE):
        found += pinned(line)
    return found


def here(name: str) -> dict[str, Requirement]:
    """Return what a lock file installs on this machine, by name."""
    return {canonicalize_name(one.name): one for one in pinned(name) if one.marker is None or one.marker.evaluate()}


# ---------------------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("file", sorted(LOCKS.glob("*.txt")), ids=lambda file: file.stem)
def test_every_line_of_a_lock_file_is_a_version_and_its_hashes(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    own = "".join(line for line in lines if not re.fullmatch(r"#.*\n|-r \w+\.txt\n", line))
    assert HASHED.sub("", own) == ""
    assert own != ""


def test_every_extra_has_a_lock_file() -> None:
    assert {file.stem for file in LOCKS.glob("*.txt")} == EXTRAS | {"run", "build", "lock"}
    assert {*lock.ADDS_TO, lock.ALONE} == EXTRAS | {"run"}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_pins_are_within_the_ranges(extra: str) -> None:
    found = here(extra) | here("build")
    for asked in map(Requirement, ranges.asked(extra)):
        pin = found[canonicalize_name(asked.name)]
        assert asked.specifier.contains(str(pin.specifier).removeprefix("==")), f"{pin} is not {asked}: make lock"


def test_run_holds_what_serving_takes_and_no_extra() -> None:
    asked = {canonicalize_name(Requirement(one).name) for one in PROJECT["project"]["dependencies"]}
    assert asked <= set(here("run"))
    assert {"uvloop", "prometheus-client", "requests", "openai", "pytest", "setuptools"} & set(here("run")) == set()


@pytest.mark.parametrize("extra", ["run", "metrics", "speed", "gce", "demo", "test"])
def test_what_a_pinned_package_needs_is_pinned(extra: str) -> None:
    """As far as the packages of this environment say: those in another version than the pinned one may need others."""
    found, seen = here(extra), set[str]()
    for name, pin in found.items():
        if _version(name) == str(pin.specifier).removeprefix("=="):
            seen.add(name)
            assert {other for other in _needs(name, pin.extras) if other not in found} == set(), f"{name}: make lock"
    assert seen or _version("aiohttp") != str(found["aiohttp"].specifier).removeprefix("==")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _needs(name: str, extras: set[str]) -> Iterator[str]:
    for need in map(Requirement, requires(name) or []):
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ["", *extras]):
            yield canonicalize_name(need.name)


def test_a_floor_is_a_floor_and_nothing_more() -> None:
    assert ranges.lowest("google-auth[requests]>=2.40") == "google-auth[requests]==2.40"
    for extra in EXTRAS:
        assert [ranges.lowest(one) for one in ranges.asked(extra)]
    for other in ("aiohttp", "aiohttp>=3,<4", "aiohttp~=3.1", "aiohttp>=3; python_version < '3.12'"):
        with pytest.raises(ValueError, match="not of the form"):
            ranges.lowest(other)


# ------------------------------------------------------------------------------------------------------ who installs


INSTALLERS = ["Makefile", "deploy/install.sh", "deploy/Containerfile", "requirements/install.sh", ".ci/run"]
LOCAL = {"--no-index", "--no-deps", "--no-build-isolation"}


@pytest.mark.parametrize("name", INSTALLERS)
def test_nothing_is_installed_unpinned(name: str) -> None:
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text(encoding="utf-8"))
    for line in re.findall(r"^.*(?:\bpip\b|\$pip\b).*\b(?:install|wheel|download)\b.*$", text, re.MULTILINE):
        if re.match(r"\s*#", line) or "apt-get" in line or "apt install" in line:
            continue
        for call in re.split(r"&&|;", line):
            if re.search(r"\bpip\b.* (install|wheel|download) ", call):
                words = set(call.split())
                assert "--require-hashes" in words or words >= LOCAL or _of_a_wheel(call), call


def _of_a_wheel(call: str) -> bool:
    """Whether it installs a wheel that lies here, which takes no backend."""
    return call.rstrip().endswith(".whl") and {"--no-index", "--no-deps"} <= set(call.split())


PIP = """#!/bin/sh
echo "$PIP_ONLY_BINARY $PYTHONPATH $*" >> "$(dirname "$0")/calls"
[ -e "$(dirname "$0")/fails" ] || exit 0
cat "$(dirname "$0")/fails" >&2
exit 1
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment whose Python notes what pip is asked for, and fails with the words of a file ``fails``."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(PIP, encoding="utf-8")
    (tmp_path / "bin/python").chmod(0o755)
    (tmp_path / "bin/sleep").symlink_to("/bin/true")
    return tmp_path


def installed(environment: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Run ``requirements/install.sh``; returns its status, what it said, and what pip was asked for."""
    command = [str(LOCKS / "install.sh"), str(environment), *arguments]
    path = {"PATH": f"{environment}/bin:/usr/bin:/bin", "TMPDIR": str(environment)}
    done = subprocess.run(command, env=path, capture_output=True, text=True, check=False, timeout=20)
    calls = environment / "bin/calls"
    left = {file.name for file in environment.iterdir()}
    assert left == {"bin"}, "it leaves nothing behind"
    return done.returncode, done.stderr, calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        pytest.param([""], ["run"], id="no extra"),
        pytest.param(["metrics,speed"], ["metrics", "speed"], id="two extras"),
        pytest.param(["test", "--editable"], ["test"], id="from the sources"),
    ],
)
def test_the_installer_takes_the_lock_files_and_then_the_project_alone(
    environment: Path, arguments: list[str], files: list[str]
) -> None:
    code, said, (packages, backend, project) = installed(environment, *arguments)
    assert (code, said) == (0, "")
    for call in (packages, backend):
        assert call.startswith(":all: ")
        assert "--require-hashes" in call.split()
    assert re.findall(r"--requirement \S+/requirements/([\w-]+)\.txt", packages) == files
    assert re.findall(r"--requirement \S+/requirements/([\w-]+)\.txt", backend) == ["build"]
    assert set(project.split()) >= LOCAL
    assert project.split()[1] == re.findall(r"--target (\S+)", backend)[0], "the backend is on PYTHONPATH"
    assert ("--editable" in project) == ("--editable" in arguments)


@pytest.mark.parametrize(
    ("words", "ours", "tries"),
    [
        pytest.param(
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "other files",
            1,
            id="another file",
        ),
        pytest.param("ERROR: Hashes are required in --require-hashes mode", "names no hashes", 1, id="no hashes"),
        pytest.param("ERROR: No matching distribution found for x==1", "lacks a version", 3, id="no version"),
        pytest.param("ERROR: Connection broken", "could not be installed", 3, id="the network"),
    ],
)
def test_the_installer_says_what_an_index_lacks(environment: Path, words: str, ours: str, tries: int) -> None:
    (environment / "bin/fails").write_text(f"{words}\n", encoding="utf-8")
    code, said, calls = installed(environment, "")
    assert (code, len(calls)) == (1, tries)
    assert said.startswith(words), "pip's own words come first"
    assert ours in said.removeprefix(words)


def test_the_installer_knows_the_extras(environment: Path) -> None:
    assert installed(environment, "metrics,sped") == (
        1,
        'gemproxy: there is no extra "sped"; there are metrics, speed and gce\n',
        [],
    )


# -------------------------------------------------------------------------------------------------- what is shipped


def test_the_package_has_the_files_of_the_top_level() -> None:
    assert shipped.example() == (ROOT / "config.example.toml").read_bytes()
    assert shipped.units() == {file.name: file.read_bytes() for file in (ROOT / "systemd").iterdir()}
    assert len(shipped.units()) > 4


def test_the_build_is_told_of_every_file_beside_the_code() -> None:
    told = PROJECT["tool"]["setuptools"]["package-data"]
    known = {file for package, globs in told.items() for each in globs for file in _folder(package).glob(each)}
    beside = {file for file in (ROOT / "gemproxy").rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    beside |= set((ROOT / "gemproxy/shipped/systemd").iterdir())  # a link, into which rglob does not go
    assert beside - known == set()


def _folder(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))


# --------------------------------------------------------------------------------------------------------- settings


def test_each_tool_has_its_settings_in_one_place() -> None:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    there = {re.split(r"[:-]", section.removeprefix("tool:"))[0] for section in parsed.sections()}
    assert there == {"pytest", "mypy", "coverage"}
    assert set(PROJECT["tool"]) == {"setuptools", "ruff"}
    others = ("pytest.ini", "tox.ini", "mypy.ini", ".mypy.ini", ".coveragerc", "ruff.toml", ".ruff.toml", "setup.py")
    assert [name for name in others if (ROOT / name).exists()] == []
