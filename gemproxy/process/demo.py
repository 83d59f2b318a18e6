"""(edge) ``serve --demo``: the server in front of the embedded simulated Gemini, over a socket, by the same code.

With ``--fault`` something is wrong with that Gemini: clients, alerts and operators see what they would of the real one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from gemproxy.config import ApiKey, Config, Credential, Secret, ServiceAccount, State
from gemproxy.errors import ConfigFault
from gemproxy.process.serve import serve as serve_config
from gemproxy.server.handlers.admin import DEFAULT_MODEL as MODEL
from gemproxy.simulator import Simulator
from gemproxy.simulator.keys import service_account
from gemproxy.simulator.outages import KEYS, OUTAGES, UNKNOWN, WELL, Outage

__all__ = ["OUTAGES", "WELL", "Outage", "outage_of", "serve", "stage", "welcome"]
Against = Callable[[Config], Config]


async def serve(load: Callable[[], Config], announce: Callable[[str], None], outage: Outage = WELL) -> None:
    """Serve until told to stop. ``load`` reads the configuration; its credentials are not needed and not used."""
    async with stage(outage) as against:

        def configured() -> Config:
            return against(load())

        await serve_config(configured(), configured, announce)


def outage_of(name: str) -> Outage:
    """Return the outage of that name; raises ``ConfigFault`` with all names."""
    if name not in OUTAGES:
        raise ConfigFault(f"--fault {name}: no such fault; there are: {', '.join(OUTAGES)}")
    return OUTAGES[name]


@asynccontextmanager
async def stage(outage: Outage = WELL) -> AsyncIterator[Against]:
    """Start the simulator; yields what puts it in Google's place in a configuration, which keeps no state on disk."""
    with TemporaryDirectory(prefix="gemproxy-demo-") as folder:
        async with outage.google() as simulator:
            credentials = _credentials(outage, simulator, Path(folder))
            yield lambda config: _against(simulator, config, credentials, nowhere=outage.nowhere)


def _credentials(outage: Outage, simulator: Simulator, folder: Path) -> list[Credential]:
    """Return two credentials; what a wrong clock spoils is what service accounts sign."""
    if not outage.ahead:
        return [ApiKey(name=f"demo-{number}", key=Secret(key)) for number, key in enumerate(KEYS, 1)]
    file = folder / "demo.json"
    file.write_bytes(service_account(simulator.token_url))
    return [ServiceAccount(name=f"demo-{number}", file=str(file)) for number in (1, 2)]


def _against(simulator: Simulator, config: Config, credentials: list[Credential], *, nowhere: bool) -> Config:
    upstream = replace(
        config.upstream,
        ai_studio_url=f"{UNKNOWN}/v1beta" if nowhere else simulator.ai_studio_url,
        code_assist_url=simulator.code_assist_url,
        vertex_url=simulator.vertex_url,
        token_url=simulator.token_url,
    )
    return replace(config, credentials=credentials, upstream=upstream, state=State())


def welcome(url: str, key: str, outage: Outage = WELL) -> str:
    """Return what to try first: lines that work as they are, with the interpreter that runs this.

    They are not indented: whoever marks and copies them would copy that, too.
    """
    wrong = "" if outage is WELL else f"\nFAULT: {outage.about}. What to make of it: README, At three in the morning.\n"
    python = f"{sys.executable} -m pip install openai && {sys.executable}" if _no_openai() else sys.executable
    return f"""
gemproxy serves a simulated Gemini on {url} (any key will do, nothing leaves this machine). Try:

curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\
  -H 'Content-Type: application/json' \\
  -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

curl -N {url}/v1/responses -H 'Authorization: Bearer {key}' \\
  -H 'Content-Type: application/json' -d '{{"model": "{MODEL}", "stream": true, "input": "Hello!"}}'

{python} - <<'EOF'
from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="{key}")
answer = client.chat.completions.create(model="{MODEL}", messages=[{{"role": "user", "content": "Hello!"}}])
print(answer.choices[0].message.content)
print(client.responses.create(model="{MODEL}", input="Hello!").output_text)
EOF

The key is a placeholder: without auth.keys any bearer token is taken, on loopback addresses only. Ctrl-C stops it.
{wrong}"""


def _no_openai() -> bool:
    return importlib.util.find_spec("openai") is None
