"""The command line as a stranger meets it: what works, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from gemproxy import __version__
from gemproxy.checkup import Row
from gemproxy.cli import main, table
from gemproxy.simulator import AccountState, KeyState, Simulator
from gemproxy.simulator.accounts import Account
from tests.test_pool_scenarios import config_text

CONFIG = '[[credentials]]\nname = "studio-1"\nkind = "api_key"\nkey = "test-key-1"\n'


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder; the environment says nothing either (``conftest``)."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> str:
    file = folder / "gemproxy.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"gemproxy {__version__}\n"


def test_check_prints_what_would_run(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", write(bare, CONFIG)]) == 0
    told = capsys.readouterr().out
    assert "127.0.0.1:8080" in told
    assert "studio-1" in told
    assert "test-key" not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["GEMINI_API_KEY", "credentials"]),
        (CONFIG + "[server]\nprot = 1\n", ["server.prot", "port"]),
        (CONFIG + '[server]\nport = "x"\n', ["server.port"]),
        (CONFIG + '[server]\nhost = "0.0.0.0"\n', ["auth.keys"]),
        ("[server\n", ["gemproxy.toml"]),
    ],
)
@pytest.mark.parametrize("command", ["check", "serve"])
def test_bad_configuration_is_one_clear_message(
    bare: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str], command: str
) -> None:
    assert main([command, "--config", write(bare, text)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gemproxy: ")
    assert [word for word in words if word not in told] == []
    assert "Traceback" not in told


def test_missing_file_is_told(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(bare / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err


def test_without_anything_the_three_ways_are_named(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    told = capsys.readouterr().err
    assert "GEMINI_API_KEY" in told
    assert "--demo" in told


async def test_check_online_prints_a_row_per_credential(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator.accounts.add(Account("refresh-o1", state=AccountState.VALIDATION))
    simulator.keys["key-k2"] = KeyState.INVALID
    file = write(tmp_path, config_text(simulator, tmp_path, ["o1"], ["k1", "k2"]))
    status = await asyncio.to_thread(main, ["check", "--config", file, "--online"])
    told = capsys.readouterr().out
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith("  ") and " ms " in line}
    assert status == 1
    assert "ok" in rows["k1"].split()
    assert "FAILED" in rows["k2"].split()
    assert "FAILED" in rows["o1"].split()
    assert "refresh-" not in told
    assert "fake-secret" not in told


def test_link_stands_below_its_row_on_the_terminal() -> None:
    shown = table([Row("a", "oauth", "token", False, 12, "verification: open the page", "https://example.test/verify")])
    assert shown.splitlines()[1].strip() == "open this page as that user: https://example.test/verify"


def test_link_cannot_steer_the_terminal() -> None:
    shown = table([Row("a", "oauth", "token", False, 12, "", "https://x.test/\x1b]0;evil\x07\r" + "y" * 9_000)])
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(shown) < 3_000


def test_check_names_what_is_hardly_meant(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '[server]\ncors_origins = ["*"]\n' + CONFIG
    assert main(["check", "--config", write(bare, text)]) == 0
    assert "warning       server.cors_origins" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--name=nobody", None])
def test_login_needs_one_oauth_credential(bare: Path, capsys: pytest.CaptureFixture[str], option: str | None) -> None:
    file = write(bare, '[oauth]\nclient_id = "fake"\nclient_secret = "fake"\n' + CONFIG)
    assert main(["login", "--config", file, *([option] if option else [])]) == 2
    assert "--name" in capsys.readouterr().err


async def test_login_without_a_browser_writes_the_file_that_the_configuration_names(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.desk.clients = {"fake-client": "fake-secret"}
    text = (
        '[oauth]\nclient_id = "fake-client"\nclient_secret = "fake-secret"\n'
        f'[upstream]\nauth_url = "{simulator.auth_url}"\ntoken_url = "{simulator.token_url}"\n'
        '[[credentials]]\nname = "team"\nkind = "oauth"\nfile = "logins/team.json"\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gemproxy", "login", "--no-browser", "--config", write(tmp_path, text)),
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while not (line := (await process.stdout.readline()).decode().strip()).startswith(simulator.auth_url):
            pass
        address = simulator.desk.consent(dict(parse_qsl(urlsplit(line).query)))
        process.stdin.write(f"{address}\n".encode())
        told, _ = await process.communicate()
    assert process.returncode == 0
    assert str(tmp_path / "logins/team.json") in told.decode()
    assert "sim-refresh-login" in (tmp_path / "logins/team.json").read_text()


async def test_zero_config_with_a_key_in_the_environment(simulator: Simulator, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gemproxy", "serve", "--port", "0"),
        env={"GEMINI_API_KEY": "test-key-1", "PATH": "/usr/bin:/bin"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    lines = []
    async with asyncio.timeout(10):
        while "listens on" not in (line := (await process.stderr.readline()).decode()):
            assert line, lines
            lines.append(line)
    [warning] = [line for line in lines if "auth.keys" in line]
    assert "no reverse proxy may stand in front" in warning
    assert "http://127.0.0.1:" in line
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    assert "test-key" not in "".join(lines)
