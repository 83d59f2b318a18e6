"""What the machine says to a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemproxy.config import ConfigFault, load, surroundings

KEY = "[[credentials]]\nkind='api_key'\nname='a'\nkey='test-key-1'\n"


def cautions(folder: Path, text: str = "", **environ: str) -> list[str]:
    file = folder / "gemproxy.toml"
    file.write_text(text + KEY)
    return [*surroundings.cautions(load(file, {}), file, environ)]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without our extras."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_nothing_is_said_where_nothing_is_amiss(tmp_path: Path) -> None:
    text = f"[log]\ncapture_dir='{tmp_path}/new/captures'\n[server]\nmetrics_listen='127.0.0.1:9'\n"
    assert cautions(tmp_path, text) == []


def test_a_loop_that_is_not_installed_is_refused(tmp_path: Path, bare: None) -> None:
    with pytest.raises(ConfigFault, match=r'server\.loop = "uvloop": not installed'):
        cautions(tmp_path, "[server]\nloop='uvloop'\n")


def test_metrics_without_their_library_are_named(tmp_path: Path, bare: None) -> None:
    [told] = cautions(tmp_path, "[server]\nmetrics_listen='127.0.0.1:9'\n")
    assert told.startswith("server.metrics_listen: no metrics")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    [told] = cautions(tmp_path, f"[log]\ncapture_dir='{tmp_path}/gemproxy.toml'\n")
    assert told.startswith(f"log.capture_dir = {tmp_path}/gemproxy.toml: cannot be written")


def test_a_dotenv_file_beside_is_named_as_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("GEMINI_API_KEY=test-key-1")
    assert cautions(tmp_path)[0].startswith(f"{tmp_path}/.env is ignored")
    monkeypatch.chdir(tmp_path)
    [told] = surroundings.cautions(load(None, {"GEMINI_API_KEY": "test-key-1"}), None, {})
    assert told.startswith(f"{tmp_path}/.env is ignored")


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("no certificate", "holds no certificate")])
def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, content: str | None, why: str) -> None:
    file = tmp_path / "company.pem"
    if content is not None:
        file.write_text(content)
    [told] = cautions(tmp_path, SSL_CERT_FILE=str(file))
    assert told.startswith(f"SSL_CERT_FILE = {file}: {why}")
