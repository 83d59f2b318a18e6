"""Write the lock files beside this one from pyproject.toml: ``make lock``, which runs it where uv is installed.

``run.txt`` is what serving takes, each other file an extra and begins with the file that it adds to. All hold for every
Python that pyproject.toml allows and for every system. What is pinned stays so while the ranges allow it; with
``--upgrade`` everything is renewed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent / "pyproject.toml"
UV = "uv>=0.9"  # what makes the files; lock.txt pins it too
# Each extra, and the file that its own adds to. They agree on every version, so that they go into one environment.
ADDS_TO = {
    "run": None,
    "metrics": "run",
    "speed": "run",
    "gce": "run",
    "demo": "run",
    "test": "run",
    "dev": "test",
    "clients": "test",
}
ALONE = "clients-pinned"  # holds the openai package back, so it agrees with none of them
HEADER = "# Made by `make lock` from pyproject.toml. What is changed here by hand, the next one takes away.\n"


def compiled(sources: Iterable[str], target: Path, options: Iterable[str] = ()) -> str:
    """Have uv write what the sources need into ``target``, whose pins it keeps where it can; returns the text."""
    fixed = ["--universal", "--fork-strategy=fewest", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *fixed, *options, "--output-file", str(target), *sources]
    subprocess.run(command, check=True)
    return target.read_text(encoding="utf-8")


def pins(text: str) -> dict[str, str]:
    """Return each package's lines by its first one, which has the version and the marker."""
    found: dict[str, str] = {}
    first = ""
    for line in text.splitlines(keepends=True):
        if line.startswith(("#", "-")) or not line.strip():
            continue
        if not line.startswith(" "):
            first = line
        found[first] = found.get(first, "") + line
    return found


def write(name: str, text: str, beyond: str | None) -> None:
    """Write a lock file: of the text what ``beyond`` and the files that it adds to do not hold already."""
    known: set[str] = set()
    over = beyond
    while over is not None:
        known.update(pins((HERE / f"{over}.txt").read_text(encoding="utf-8")))
        over = ADDS_TO[over]
    own = [lines for first, lines in pins(text).items() if first not in known]
    begins = f"-r {beyond}.txt\n" if beyond else ""
    (HERE / f"{name}.txt").write_text(HEADER + begins + "".join(own), encoding="utf-8")


def before(*names: str) -> str:
    """Return the pins that the lock files hold now."""
    files = [HERE / f"{name}.txt" for name in names]
    found: dict[str, str] = {}
    for file in files:
        if file.exists():
            found |= pins(file.read_text(encoding="utf-8"))
    return "".join(found.values())


def main(options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        everything, part = Path(folder, "everything.txt"), Path(folder, "part.txt")
        everything.write_text(before(*ADDS_TO), encoding="utf-8")
        extras = [f"--extra={name}" for name in ADDS_TO if name != "run"]
        compiled([str(PROJECT)], everything, [*extras, *options])
        for name, beyond in ADDS_TO.items():
            part.unlink(missing_ok=True)
            extra = [] if name == "run" else [f"--extra={name}"]
            write(name, compiled([str(PROJECT)], part, [*extra, "--constraints", str(everything)]), beyond)
        part.write_text(before(ALONE), encoding="utf-8")
        write(ALONE, compiled([str(PROJECT)], part, [f"--extra={ALONE}", *options]), None)
        backend = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["build-system"]["requires"]
        for name, wanted in {"build": backend, "lock": [UV]}.items():
            ranges = Path(folder, f"{name}.in")
            ranges.write_text("\n".join(wanted), encoding="utf-8")
            part.write_text(before(name), encoding="utf-8")
            write(name, compiled([str(ranges)], part, ["--python-version=3.11", *options]), None)


if __name__ == "__main__":
    main(sys.argv[1:])
