"""What comes beside the code for whoever installs it: the example of a configuration, and the files of systemd.

Out: their bytes. In the sources these are links to the top level, where people look for them; a wheel holds the files.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def example() -> bytes:
    """Return ``config.example.toml``."""
    return (_HERE / "config.example.toml").read_bytes()


def units() -> dict[str, bytes]:
    """Return the files of ``systemd/`` by their names."""
    return {file.name: file.read_bytes() for file in sorted((_HERE / "systemd").iterdir())}
