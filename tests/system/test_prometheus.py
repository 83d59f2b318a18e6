"""``deploy/prometheus.yml``: it is valid, and Prometheus finds what gemproxy counts."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from gemproxy.simulator import Simulator
from tests.faults.client import ask, hello
from tests.server_process import configured, free_port, serving
from tests.system.conftest import Program
from tests.system.deployed import shipped

KEYS = '[auth]\nkeys = ["sk-test"]\nadmin_keys = ["sk-prometheus"]\n'


async def test_prometheus_reads_what_is_counted(
    program: Program, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    (tmp_path / "key").write_text("sk-prometheus\n", encoding="utf-8")
    async with serving(tmp_path, configured(simulator.ai_studio_url, KEYS)) as server:
        changes = {
            "127.0.0.1:8080": f"127.0.0.1:{server.port}",
            "/etc/prometheus/gemproxy-key": str(tmp_path / "key"),
            "scrape_interval: 15s": "scrape_interval: 1s",
        }
        file = tmp_path / "prometheus.yml"
        file.write_text(shipped("prometheus.yml", changes), encoding="utf-8")
        subprocess.run([program("promtool"), "check", "config", str(file)], check=True, capture_output=True)
        assert (await ask(session, server.url, hello())).whole
        place = f"127.0.0.1:{free_port()}"
        process = await asyncio.create_subprocess_exec(
            program("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={place}",
            stderr=subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(30):
                while not (found := await asked(session, place, 'gemproxy_requests_total{status="200"}')):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        finally:
            process.terminate()
            await process.wait()
        assert found[0]["metric"]["model"] == "gemini-2.5-flash"
        assert found[0]["value"][1] == "1"


async def asked(session: aiohttp.ClientSession, place: str, query: str) -> list[dict[str, Any]]:
    """Return what Prometheus answers, nothing while it does not."""
    try:
        async with session.get(f"http://{place}/api/v1/query", params={"query": query}) as response:
            found: list[dict[str, Any]] = (await response.json())["data"]["result"] if response.status == 200 else []
            return found
    except aiohttp.ClientConnectionError:
        return []
