"""The command line as a stranger meets it: what works, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import os
import pwd
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from gemproxy import __version__
from gemproxy.cli import main, table
from gemproxy.operations.checkup import Row
from gemproxy.simulator import AccountState, KeyState, Simulator
from gemproxy.simulator.accounts import Account
from tests.test_pool_scenarios import config_text

REPOSITORY = Path(__file__).parents[1]
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


# ----------------------------------------------------------------------------------------------------------- config


def test_config_prints_the_example_and_it_serves(bare: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["config"]) == 0
    printed = capfdbinary.readouterr().out
    assert printed == (REPOSITORY / "config.example.toml").read_bytes()
    written = write(bare, printed.decode())
    assert main(["check", "--config", written]) == 2, "no credential yet"
    assert b"GEMINI_API_KEY" in capfdbinary.readouterr().err
    with (bare / "gemproxy.toml").open("a") as file:
        file.write(CONFIG)
    assert main(["check", "--config", written]) == 0


@pytest.mark.parametrize("unit", sorted(file.name for file in (REPOSITORY / "systemd").iterdir()))
def test_config_prints_the_files_of_systemd(unit: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["config", "--unit", unit]) == 0
    assert capfdbinary.readouterr().out == (REPOSITORY / "systemd" / unit).read_bytes()


def test_an_unknown_unit_lists_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--unit", "../gemproxy.service"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert [file.name for file in (REPOSITORY / "systemd").iterdir() if file.name not in told.err] == []


def test_config_is_the_same_bytes_in_any_locale_and_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gemproxy", "config"]
    environment = {"PYTHONPATH": str(REPOSITORY), "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PATH": os.defpath}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=20)
    assert (done.stdout, done.stderr) == ((REPOSITORY / "config.example.toml").read_bytes(), b"")


# ------------------------------------------------------------------------------------- one verdict, whoever is asked


ANOTHER = "PRAGMA user_version = 9; CREATE TABLE t (x)"
WARNED = [
    pytest.param('[state]\npath = "{folder}"', "state.path = {folder}: ", id="a folder for the state"),
    pytest.param('[state]\npath = "{folder}/gemproxy.toml"', "file is not a database", id="another file"),
    pytest.param('[state]\npath = "{folder}/link"', "link is a symbolic link", id="a link"),
    pytest.param('[state]\npath = "{folder}/other.db"', "schema 9, not 1", id="the state of another version"),
    pytest.param('[state]\npath = "{folder}/gemproxy.toml/x/state.db"', "Not a directory", id="a file for a folder"),
    pytest.param(
        '[models]\nfallbacks = {{ gemini-2 = ["gemini-0"] }}', 'no model "gemini-0"', id="an unlisted fallback"
    ),
    pytest.param(
        '[log]\ncapture_dir = "{folder}/link"', "log.capture_dir = {folder}/link", id="frames without a place"
    ),
    pytest.param("", "{folder}/.env is ignored", id="a .env file"),
]


class StartedError(Exception):
    """The server is there; nobody waits for more."""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``serve`` end as soon as it listens, and leave this process as it is: a process for each would cost much."""

    def started(url: str) -> None:
        raise StartedError(url)

    monkeypatch.setattr("gemproxy.cli._announce", started)
    monkeypatch.setattr("gemproxy.process.logs.configure", lambda *_: None)
    monkeypatch.setattr("gemproxy.descriptors.raise_limit", lambda: None)


@pytest.mark.parametrize(("text", "words"), WARNED)
def test_check_warns_of_what_serve_warns_of(
    bare: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    short: None,
    text: str,
    words: str,
) -> None:
    (bare / "link").symlink_to(bare / "gemproxy.toml")
    (bare / ".env").write_text("")
    with closing(sqlite3.connect(bare / "other.db")) as db:
        db.executescript(ANOTHER)
    toml = f"{text.format(folder=bare)}\n{CONFIG}"
    expected = words.format(folder=bare)
    assert main(["check", "--config", write(bare, toml)]) == 0
    [warning] = [line for line in capsys.readouterr().out.splitlines() if expected in line]
    assert warning.startswith("warning  ")
    assert (bare / "gemproxy.toml").read_text() == toml
    write(bare, toml + "\n[server]\nport = 0\n")
    with pytest.raises(StartedError):
        main(["serve", "--config", str(bare / "gemproxy.toml")])
    assert expected in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("[models]\nfallbacks = { gemini-2 = ['gpt-9'] }", 'no model "gpt-9" is known', id="a fallback"),
        pytest.param("[server]\nloop = 'uvloop'", "not installed", id="a loop that is not installed"),
        pytest.param("[[auth.clients]]\nname = 'a'\nkey = \"'x'\"", "auth.clients[0].key: the key stands", id="quotes"),
        pytest.param("[[auth.clients]]\nname = 'a'\nkey_file = 'ci'", "{folder}/ci", id="a file that is not there"),
        pytest.param("[[auth.clients]]\nname = 'a'\nkey_env = 'CI_KEY'", "variable CI_KEY is", id="a variable"),
    ],
)
@pytest.mark.parametrize("command", ["check", "serve"])
def test_check_refuses_what_serve_refuses(
    bare: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, text: str, words: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([command, "--config", write(bare, f"{text}\n{CONFIG}")]) == 2
    assert words.replace("{folder}", str(bare)) in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may go on as another user")
def test_check_sees_what_another_user_may_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        (place / "key").write_text("test-key-1")
        file = write(place, CONFIG.replace('key = "test-key-1"', 'key_file = "key"'))
        for mode, status, words in ((0o600, 2, f"cannot read {folder}/key"), (0o644, 0, "studio-1")):
            (place / "key").chmod(mode)
            asked = [sys.executable, "-m", "gemproxy", "check", "--as", "nobody", "--config", file]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            assert (done.returncode, words in done.stdout + done.stderr) == (status, True), done.stderr


def test_check_as_nobody_known_is_refused(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--as", "no-such-user", "--config", write(bare, CONFIG)]) == 2
    assert "--as no-such-user: there is no such user" in capsys.readouterr().err


def test_check_as_oneself_is_as_without(bare: Path) -> None:
    myself = pwd.getpwuid(os.geteuid()).pw_name
    assert main(["check", "--as", myself, "--config", write(bare, CONFIG)]) == 0


def test_the_example_goes_into_a_pipe_that_is_closed_early() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        told = subprocess.run([sys.executable, "-m", "gemproxy", "config"], stdout=closed, stderr=subprocess.PIPE)
    assert (told.returncode, told.stderr) == (0, b"")
