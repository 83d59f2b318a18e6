"""This machine's own addresses, and that no image is fetched from them: in a network of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from gemproxy.fetch import interfaces
from gemproxy.fetch.interfaces import MAX_AGE, Interfaces
from tests.clock import Clock

ROOT = Path(__file__).parents[2]
# A network without any way out, whose one interface has public addresses, and where a whole network is local by route.
SCRIPT = """
import asyncio, subprocess
from ipaddress import ip_address
from aiohttp import web
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.errors import ClientFault
from gemproxy.fetch.interfaces import addresses
from gemproxy.fetch.fetcher import ImageFetcher, ImagePolicy
from tests.burdens import hold

def ip(*words):
    subprocess.run(["ip", *words], check=True)

ip("link", "set", "lo", "up")
for address in ("8.8.4.1/24", "8.8.4.2/24"):
    ip("address", "add", address, "dev", "lo")
ip("-6", "address", "add", "2606:4700::7/128", "dev", "lo", "nodad")
ip("route", "add", "local", "9.9.9.0/24", "dev", "lo")

async def fetched(place, **options):
    fetcher = ImageFetcher(ImagePolicy(allow_hosts=options.pop("allow", [])), **options)
    try:
        await fetcher.fetch([RemoteImage(place, "x")], hold())
        return True
    except ClientFault as fault:
        assert "cannot be reached, or is not public" in fault.message
        return False
    finally:
        await fetcher.close()

async def main():
    asked = []
    async def inner(request):
        asked.append(request.host)
        return web.Response(body=b"\\x89PNG\\r\\n\\x1a\\n" + bytes(64))
    app = web.Application()
    app.router.add_get("/", inner)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "::", 8080).start()
    await web.TCPSite(runner, "0.0.0.0", 8081).start()
    known = set(addresses())
    assert {ip_address(one) for one in ("127.0.0.1", "8.8.4.1", "8.8.4.2", "2606:4700::7")} <= known, known
    places = ["http://8.8.4.1:8081/", "http://8.8.4.2:8081/", "http://[2606:4700::7]:8080/", "http://9.9.9.9:8081/"]
    for place in places:
        assert not await fetched(place), place
    for place in (places[0], places[2], places[3]):
        assert not await fetched(place, own=()), ("by both ends", place)
    assert asked == []
    assert await fetched(places[0], allow=["8.8.4.1"])
    assert await fetched(places[2], allow=["2606:4700::/32"])
    assert await fetched(places[3], allow=["9.9.9.0/24"])
    await runner.cleanup()

asyncio.run(main())
"""


def _alone(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a network of its own."""
    outside = os.environ | {"PYTHONPATH": str(ROOT)}  # without the tests' guard: there is no way out
    return subprocess.run(["unshare", "-rn", *command], env=outside, capture_output=True, text=True, check=False)


def test_no_image_comes_from_this_machine_by_a_public_address() -> None:
    if not (shutil.which("unshare") and shutil.which("ip")) or _alone("ip", "link", "set", "lo", "up").returncode:
        (pytest.fail if "CI" in os.environ else pytest.skip)("needs a network namespace")
    done = _alone(sys.executable, "-c", SCRIPT)
    assert done.returncode == 0, done.stderr


def test_loopback_is_one_of_the_addresses() -> None:
    assert ip_address("127.0.0.1") in set(interfaces.addresses())


def test_addresses_come_and_go(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [ip_address("8.8.4.1")]
    looked: list[int] = []
    monkeypatch.setattr(interfaces, "addresses", lambda: looked.append(1) or list(now))
    own = Interfaces(clock)
    assert ip_address("8.8.4.1") in own
    now[:] = [ip_address("8.8.4.2")]
    assert ip_address("8.8.4.2") not in own, "as known a moment ago"
    clock.advance(MAX_AGE)
    assert ip_address("8.8.4.2") in own
    assert ip_address("8.8.4.1") not in own
    assert len(looked) == 2


def test_a_system_that_tells_of_none_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "elsewhere")
    assert list(interfaces.addresses()) == []
