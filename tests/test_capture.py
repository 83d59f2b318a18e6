"""Captured frames: redacted, bounded, in the form of the golden scenarios."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from gemproxy import capture
from gemproxy.capture import Capture
from gemproxy.simulator import Simulator, text_answer
from tests.golden import run, sse
from tests.running import configuration, running
from tests.waiting import soon


async def settled(folder: Path, count: int) -> list[Path]:
    def whole() -> list[Path]:
        return sorted(file for file in folder.glob("*.frames.txt") if file.stat().st_size)

    await soon(lambda: len(whole()) >= count, what="nothing was captured")
    return whole()


async def test_captured_answer_is_a_test_scenario(simulator: Simulator, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    simulator.script(text_answer("Captured words."))
    async with running(simulator, configuration(simulator, tmp_path, f'[log]\ncapture_dir = "{folder}"\n')) as server:
        body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "x"}], "stream": True}
        status, _ = await server.post("/v1/chat/completions", body, {"x-request-id": "bug-1"})
        assert status == 200
        [file] = await settled(folder, 1)
    assert file.name == "bug-1-1.frames.txt"
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    frames = [line for line in file.read_bytes().split(b"\n") if line]
    answer = msgspec.json.decode(run(sse(frames), stream=False))
    assert answer["choices"][0]["message"]["content"] == "Captured words."


async def test_secrets_are_redacted_and_pretty_frames_become_one_line(tmp_path: Path) -> None:
    tape = Capture(tmp_path).open("a")
    key = b"AIzaSy" + b"FAKE" * 8 + b"0"
    tape.add(b'{\r\n  "error": "' + key + b'"\r\n}')
    tape.close()
    tape.close()
    [file] = await settled(tmp_path, 1)
    text = file.read_text()
    assert key.decode() not in text
    assert text.count("\n") == 1
    assert "error" in msgspec.json.decode(text)


async def test_a_long_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "MOST", 20)
    tape = Capture(tmp_path).open("a")
    for _ in range(10):
        tape.add(b'{"a":1234}')
    tape.close()
    [file] = await settled(tmp_path, 1)
    assert file.read_text().splitlines() == ['{"a":1234}', '{"cut": "beyond 16 MiB"}']


async def test_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "file").write_text("")
    taking = Capture(tmp_path / "file")
    for name in "ab":
        tape = taking.open(name)
        tape.add(b"{}")
        tape.close()
    await soon(lambda: caplog.records)
    await asyncio.sleep(0.05)
    assert len([record for record in caplog.records if "log.capture_dir" in record.getMessage()]) == 1
