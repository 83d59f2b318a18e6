"""Captured frames: redacted, bounded, in the form of the golden scenarios."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from gemproxy.operations import capture
from gemproxy.operations.capture import MAX_OPEN, Capture
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
    assert tape is not None
    key = b"AIzaSy" + b"FAKE" * 8 + b"0"
    tape.add(b'{\r\n  "error": "' + key + b'"\r\n}')
    tape.close()
    tape.close()
    [file] = await settled(tmp_path, 1)
    text = file.read_text()
    assert key.decode() not in text
    assert text.count("\n") == 1
    assert "error" in msgspec.json.decode(text)


async def test_an_id_that_was_there_before_overwrites_nothing(tmp_path: Path) -> None:
    for number in range(5):
        tape = Capture(tmp_path).open("same-1")
        assert tape is not None
        tape.add(b'{"number":%d}' % number)
        tape.close()
    files = await settled(tmp_path, 5)
    assert sorted(file.read_text() for file in files) == [f'{{"number":{number}}}\n' for number in range(5)]
    assert all(file.name.startswith("same-1") for file in files)


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (tmp_path / "victim").write_text("as it was")
    (folder / "a.frames.txt").symlink_to(tmp_path / "victim")
    tape = Capture(folder).open("a")
    assert tape is not None
    tape.add(b"{}")
    tape.close()
    await settled(folder, 2)
    assert (tmp_path / "victim").read_text() == "as it was"


@pytest.mark.parametrize("name", ["../../a", "/etc/a", ".a", "-a", "a\0b\n", "x" * 5_000])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "frames"
    tape = Capture(folder).open(name)
    tape.add(b"{}")
    tape.close()
    [file] = await settled(folder, 1)
    assert file.name[0] not in ".-"
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


async def test_a_long_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "MAX_BYTES", 20)
    tape = Capture(tmp_path).open("a")
    assert tape is not None
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


async def test_only_a_few_answers_are_kept_in_memory_at_once(tmp_path: Path) -> None:
    capture = Capture(tmp_path)
    tapes = [capture.open(str(number)) for number in range(MAX_OPEN + 2)]
    assert [tape is None for tape in tapes] == [False] * MAX_OPEN + [True] * 2
    for tape in tapes[:MAX_OPEN]:
        assert tape is not None
        tape.add(b"{}")
        tape.close()
    await soon(lambda: capture.open("again") is not None)
