"""(edge) Keeps upstream frames on disk, redacted, one JSON frame a line: a bug report that becomes a test.

Only with ``log.capture_dir``. The files hold what the model said, so the folder is the operator's to guard (mode 0700).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import uuid
from pathlib import Path

from gemproxy.redaction import redact

log = logging.getLogger(__name__)
MAX_BYTES = 16 << 20  # bytes an answer; what comes after is left out, and the last line says so
MAX_OPEN = 8  # answers kept in memory, which no budget counts
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^[.-]")  # in a file's name, which begins with what a client chose
_MAX_NAME = 160  # characters of it


class Capture:
    """Writes ``<id>.frames.txt`` for each answer, off the loop; with more to the name if there is such a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = 0
        self._warned = False

    def open(self, name: str) -> Tape | None:
        """Return what takes the frames of one answer; None while ``MAX_OPEN`` others are kept in memory."""
        if self._open >= MAX_OPEN:
            return None
        self._open += 1
        return Tape(self, name)

    def keep(self, name: str, frames: list[bytes]) -> None:
        """Write the frames of an answer, soon; its tape is over."""
        if frames:
            asyncio.get_running_loop().run_in_executor(None, self._write, name, frames).add_done_callback(self._end)
        else:
            self._open -= 1

    def _end(self, written: asyncio.Future[None]) -> None:
        self._open -= 1
        if not written.cancelled() and (fault := written.exception()) is not None:
            log.warning("log.capture_dir: frames could not be kept (%s)", type(fault).__name__)

    def _write(self, name: str, frames: list[bytes]) -> None:
        text = "".join(redact(_line(frame)) + "\n" for frame in frames)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(self._create(_UNSAFE.sub("_", name)[:_MAX_NAME]), "w", encoding="utf-8") as sink:
                sink.write(text)
        except OSError as fault:
            if not self._warned:
                self._warned = True
                log.warning("log.capture_dir = %s: cannot be written (%s)", self._folder, fault.strerror)

    def _create(self, name: str) -> int:
        """Return a new file: an id is a client's word, and may be that of another's request or lead to a link."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(self._folder / f"{name}.frames.txt", flags, 0o600)
        except FileExistsError:
            return os.open(self._folder / f"{name}-{uuid.uuid4().hex[:12]}.frames.txt", flags, 0o600)


class Tape:
    """The frames of one answer, as they come."""

    def __init__(self, capture: Capture, name: str) -> None:
        self._capture = capture
        self._name = name
        self._frames: list[bytes] = []
        self._left = MAX_BYTES

    def add(self, frame: bytes) -> None:
        """Keep a frame, as long as there is room."""
        if self._left > 0:
            self._left -= len(frame)
            self._frames.append(frame if self._left > 0 else b'{"cut": "beyond 16 MiB"}')

    def close(self) -> None:
        """The answer is over; say so once."""
        frames, self._frames = self._frames, []
        self._capture.keep(self._name, frames)


def _line(frame: bytes) -> str:
    # JSON takes white space anywhere between its tokens and raw line ends nowhere else: one frame, one line
    return frame.decode(errors="replace").replace("\r", "").replace("\n", " ").strip()
