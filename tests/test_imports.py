"""The floors: who may import whom, and which rooms touch neither clock nor network.

The table is the architecture. To let a room import another one is a decision: change the row, and say why in the
commit. A new room fails here until it has a row.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# what an API is, and what those that came share; the packages of APIs are known to the wiring alone
SEAM = {"converter.api", "converter.bounds", "converter.openai", "converter.transcript"}
ANSWERS = {"converter.events", "converter.transcoder", "converter.transcript", "converter.gemini.reader"}
SHARED_BY_APIS = {
    *(
        *SEAM,
        *ANSWERS,
        "converter.document",
        "converter.forms",
        "converter.generation",
        "converter.gemini",
        "converter.numbers",
        "converter.sealed",
        "converter.signed_calls",
        "converter.steps",
    ),
    *("converter.schema", "converter.sse", "upstream", "redaction", "models", "wire", "errors", "load"),
}
LEAVES = {"models", "wire", "errors", "redaction", "tasks", "networks", "proxies", "descriptors", "load"}
CONVERTER = {"converter"}
BELOW_CREDENTIALS = {"pool", "transport", "converter", "upstream", *LEAVES}
BELOW_DISPATCH = {"credentials", "state", *BELOW_CREDENTIALS}
BELOW_SERVER = {"operations", "dispatch", "fetch", *BELOW_DISPATCH}

# A room is the first name below gemproxy. A row with a dot is about one module, and wins over the row of its room.
FLOORS: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {
        *("process", "wiring", "operations.checkup", "credentials.login", "state.sqlite_file", "config"),
        *("load.rounds", "errors", "proxies", "aiohttp_parts", "shipped"),
    },
    "process": {
        *("process", "wiring", "server.service", "server.middleware", "server.replies", "server.handlers.admin"),
        *("converter.openai", "config"),
        *("load", "errors", "redaction", "tasks", "descriptors", "aiohttp_parts"),
    },
    "process.demo": {"process", "server.handlers", "config", "simulator", "errors"},
    "wiring": {"wiring", "config", "server", *(BELOW_SERVER - CONVERTER), *SEAM, "converter.gemini.signatures"},
    "wiring.build": {
        *("wiring", "config", "server", *(BELOW_SERVER - CONVERTER), *SEAM),
        *(
            "converter.chat.operation",
            "converter.responses.operation",
            "converter.responses.counting",
            "converter.responses.compacting",
            "converter.anthropic.operation",
            "converter.anthropic.counting",
            "converter.gemini.signatures",
        ),
    },
    "wiring.settings": {
        *("config", "server.auth", "server.service", "dispatch", "fetch", "credentials", "pool", "transport.reaching"),
        *("converter.api", "converter.bounds", "upstream", "models", "proxies"),
    },
    "wiring.reload": {"wiring.settings", "config", "server.service", "fetch", "pool", "redaction", "tasks"},
    "wiring.reports": {"server", "pool", "upstream"},
    "server": {
        "server",
        "aiohttp_parts",
        *(BELOW_SERVER - CONVERTER),
        *SEAM,
        "converter.gemini.signatures",
    },  # and no API
    "operations": {"operations", "dispatch", *(BELOW_DISPATCH - CONVERTER), *ANSWERS},
    "dispatch": {"dispatch", "converter.transcript", *(BELOW_DISPATCH - CONVERTER)},
    "dispatch.retry": {"upstream", "errors"},
    "credentials": {"credentials", *BELOW_CREDENTIALS, "state"},
    "state": {"state", "pool", "tasks"},
    "fetch": {
        *("fetch", "converter.gemini", "transport", "wire.gemini", "load.budget"),
        *("errors", "networks", "proxies", "descriptors"),
    },
    "fetch.media_type": {"converter.gemini.mime", "networks"},
    "pool": {"pool", "upstream", "errors"},
    "transport": {"transport", "upstream", "errors", "proxies", "descriptors", "aiohttp_parts", "load"},
    "transport.idle": set(),
    "transport.tap": set(),
    "converter": SHARED_BY_APIS,
    "converter.chat": {*SHARED_BY_APIS, "converter.chat"},  # and no other API's folder
    "converter.responses": {*SHARED_BY_APIS, "converter.responses"},
    "converter.anthropic": {*SHARED_BY_APIS, "converter.anthropic"},
    "upstream": {  # and nothing of OpenAI
        *("upstream", "redaction", "models", "errors", "load.turns"),
        *("wire.gemini", "wire.gemini_methods", "wire.long_answer", "wire.incoming", "wire.text", "wire.UNREADABLE"),
    },
    "config": {"config", "errors", "models", "networks", "proxies"},
    "simulator": {"simulator"},  # an oracle must not share the code it judges
    "errors": set(),
    "redaction": {"held"},
    "held": set(),
    "tasks": set(),
    "networks": {"errors"},
    "proxies": {"errors"},
    "descriptors": {"errors"},
    "aiohttp_parts": set(),
    "shipped": set(),
    "load": {"load", "errors"},
    "load.turns": {"load.effort"},
    "models": {"errors"},
    "wire": {"wire", "load.turns"},
}
PURE = [
    *("wire", "errors", "models", "upstream", "converter", "redaction", "held", "proxies"),
    *("dispatch.retry", "pool.rotator", "pool.slot", "pool.cooldown", "credentials.oauth", "credentials.onboarding"),
    *("load.budget", "load.effort", "load.weigh", "fetch.media_type"),
]
# Large requests are converted beside the loop, so what all conversions share needs a lock: no clock, no network.
SHARED = "threading.Lock"
EDGE = {  # what only the rooms at the edge may import: network, clock, chance, the process
    *("aiohttp", "aiohttp_sse", "asyncio", "google", "http", "logging", "multiprocessing", "os", "random", "secrets"),
    *("signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "uuid"),
}


def rooms_of(name: str) -> list[str]:
    """Return the names that a row of the table may have for a module, the most exact one first."""
    parts = name.split(".")[1:]
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def imported(name: str, source: str, is_package: bool = False) -> Iterator[str]:
    """Return the full names of all modules that a source imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if is_package else name.split(".")[:-1]
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def faults(name: str, source: str, is_package: bool = False) -> list[str]:
    """Return a sentence for each import of a module that its floor forbids."""
    own = rooms_of(name)
    row = next((room for room in own if room in FLOORS), None)
    if row is None:
        return [f"{name}: a new room; give it a row in FLOORS"]
    found = set()
    for target in imported(name, source, is_package):
        top = target.partition(".")[0]
        if top in EDGE and target != SHARED and any(room in PURE for room in own):
            found.add(f"{name} is pure and may not import {top}")
        if top == "gemproxy" and not _may(row, target):
            found.add(f"{name} may not import {target}")
    return sorted(found)


def _may(row: str, target: str) -> bool:
    rooms = rooms_of(target)
    return rooms == ["__version__"] or any(room in FLOORS[row] for room in rooms)


def modules() -> list[Path]:
    return sorted((ROOT / "gemproxy").rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_a_module_imports_only_what_lies_below_it() -> None:
    named = [(name_of(path), path) for path in modules()]
    found = [faults(name, path.read_text(), path.name == "__init__.py") for name, path in named if name != "gemproxy"]
    assert len(found) > 200
    assert [fault for of_one in found for fault in of_one] == []


def test_a_module_begins_with_a_docstring() -> None:
    assert [name_of(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_the_package_itself_imports_nothing() -> None:
    assert list(imported("gemproxy", (ROOT / "gemproxy/__init__.py").read_text(), True)) == []


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        pytest.param(
            "gemproxy.converter.chat.tools", "import asyncio", "may not import asyncio", id="a pure room and a loop"
        ),
        pytest.param(
            "gemproxy.models", "def f():\n    from time import time", "import time", id="a clock in a function"
        ),
        pytest.param(
            "gemproxy.pool.rotator", "import logging", "may not import logging", id="a pure module of an edge room"
        ),
        pytest.param(
            "gemproxy.upstream.vertex",
            "from gemproxy.wire.openai_chat import X",
            "wire.openai",
            id="a dialect and OpenAI",
        ),
        pytest.param(
            "gemproxy.upstream.vertex", "from gemproxy.wire import openai", "wire.openai", id="the same, by package"
        ),
        pytest.param(
            "gemproxy.converter.chat.tools", "from gemproxy.pool.slot import Slot", "pool", id="credentials upstairs"
        ),
        pytest.param(
            "gemproxy.converter.chat.tools", "from ...pool import slot", "pool", id="a relative arrow upwards"
        ),
        pytest.param(
            "gemproxy.credentials.tokens",
            "import gemproxy.dispatch.dispatcher",
            "dispatch",
            id="the pool and the attempts",
        ),
        pytest.param(
            "gemproxy.server.handlers.operation",
            "from gemproxy.config import Config",
            "config",
            id="configuration beside the app",
        ),
        pytest.param(
            "gemproxy.wire.gemini", "from gemproxy.errors import Failure", "errors", id="a leaf that looks up"
        ),
        pytest.param("gemproxy.simulator.law", "import gemproxy.models", "models", id="an oracle that shares code"),
        pytest.param("gemproxy.helpers", "", "a new room", id="a room without a row"),
    ],
)
def test_a_forbidden_import_is_named(name: str, source: str, fault: str) -> None:
    found = faults(name, source)
    assert len(found) >= 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param(
            "gemproxy.wiring.build", "from gemproxy.config import Config", id="the app reads the configuration"
        ),
        pytest.param("gemproxy.credentials.tokens", "import asyncio, google.auth", id="an edge of the pool"),
        pytest.param("gemproxy.upstream.vertex", "from gemproxy.wire import gemini", id="a dialect and its wire"),
        pytest.param("gemproxy.upstream.vertex", "from gemproxy import __version__", id="the version"),
        pytest.param("gemproxy.converter.chat.tools", "from . import schema", id="a neighbour"),
    ],
)
def test_an_import_that_points_down_is_allowed(name: str, source: str) -> None:
    assert faults(name, source) == []
