"""(edge) ``serve --demo``: the server in front of the embedded simulated Gemini, over a socket, by the same code."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable

from msgspec.structs import replace

from gemproxy.config import ApiKey, Config, Secret, State
from gemproxy.server.debug import DEFAULT_MODEL as MODEL
from gemproxy.serving import serve as serve_config
from gemproxy.simulator import Simulator


async def serve(load: Callable[[], Config], announce: Callable[[str], None]) -> None:
    """Serve until told to stop. ``load`` reads the configuration; its credentials are not needed and not used."""
    async with Simulator(keep=0) as simulator:

        def configured() -> Config:
            return against(simulator, load())

        await serve_config(configured(), configured, announce)


def against(simulator: Simulator, config: Config) -> Config:
    """Return the configuration with the simulator in Google's place, two keys for it, and no state on disk."""
    keys = [ApiKey(name=f"demo-{number}", key=Secret(f"demo-key-{number}")) for number in (1, 2)]
    upstream = replace(
        config.upstream,
        ai_studio_url=simulator.ai_studio_url,
        code_assist_url=simulator.code_assist_url,
        vertex_url=simulator.vertex_url,
        token_url=simulator.token_url,
    )
    return replace(config, credentials=list(keys), upstream=upstream, state=State())


def welcome(url: str, key: str) -> str:
    """Return what to try first: lines that work as they are, with the interpreter that runs this."""
    python = f"{sys.executable} -m pip install openai && {sys.executable}" if _no_openai() else sys.executable
    return f"""
gemproxy serves a simulated Gemini on {url} (any key will do, nothing leaves this machine). Try:

  curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

  {python} - <<'EOF'
  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  answer = client.chat.completions.create(model="{MODEL}", messages=[{{"role": "user", "content": "Hello!"}}])
  print(answer.choices[0].message.content)
  EOF

The key is a placeholder: without auth.keys any bearer token is taken, on loopback addresses only. Ctrl-C stops it.
"""


def _no_openai() -> bool:
    return importlib.util.find_spec("openai") is None
