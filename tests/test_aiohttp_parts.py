"""The private parts of aiohttp that are used: each stands in docs/aiohttp.md, and nothing else does."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from gemproxy.aiohttp_parts import PARTS, caution, missing, names_of

ROOT = Path(__file__).parents[1]
TABLE = set(re.findall(r"^\| `(\w+\._\w+)`", (ROOT / "docs" / "aiohttp.md").read_text(), re.MULTILINE))


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign(kind: type) -> set[str]:
    """Return the private names that a class has of aiohttp."""
    mro = [each for each in kind.__mro__ if each.__module__.partition(".")[0] in ("aiohttp", "aiohttp_sse")]
    return {name for each in mro for name in names_of(each) if private(name)}


def named(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a class defines, and those of its own that it uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def of_others(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that are asked of anything but ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and ast.unparse(node.value) not in ("self", "cls"):
            yield node.attr


def used_in(module: ModuleType) -> set[str]:
    tree = ast.parse(inspect.getsource(module))
    found = set()
    for node in tree.body:
        kind = getattr(module, node.name) if isinstance(node, ast.ClassDef) else None
        if kind is not None and (theirs := foreign(kind)):
            found |= {name for name in named(node) if name in theirs}
    known = set().union(*(foreign(kind) for kind in PARTS))
    return found | {name for name in of_others(tree) if name in known}


def used() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "gemproxy").rglob("*.py"):
        if "simulator" not in file.parts and "aiohttp" in file.read_text():
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found |= used_in(importlib.import_module(name))
    return found


@pytest.mark.skipif(bool(missing(environ={})), reason="this aiohttp lacks a part, and so cannot tell that it is used")
def test_each_private_part_that_is_used_stands_in_the_table_and_the_other_way_round() -> None:
    assert used() == {name.partition(".")[2] for name in TABLE}


def test_each_part_of_the_table_is_asked_for_at_the_start() -> None:
    assert {f"{kind.__name__}.{name}" for kind, names in PARTS.items() for name in names} == TABLE


def test_this_aiohttp_has_every_part() -> None:
    assert missing(environ={}) == "", "see docs/aiohttp.md: the documented way is taken"


@pytest.mark.parametrize("why", ["", "aiohttp has no part"])
def test_what_is_done_without_is_said(why) -> None:
    told = caution(why)
    assert told.startswith(why)
    assert "\n" not in told
    assert ("connections to upstreams are not kept" in told) is bool(why)


@pytest.mark.parametrize(
    ("environ", "name", "told"),
    [
        pytest.param({}, "_parser", "", id="it is there"),
        pytest.param({}, "_gone", "aiohttp has no ResponseHandler._gone", id="it is not"),
        pytest.param({"GEMPROXY_PLAIN_AIOHTTP": "1"}, "_parser", "GEMPROXY_PLAIN_AIOHTTP is set", id="asked for"),
        pytest.param({"GEMPROXY_PLAIN_AIOHTTP": "0"}, "_parser", "", id="not asked for"),
    ],
)
def test_why_the_documented_way_is_taken(environ, name, told) -> None:
    assert missing({aiohttp.ClientSession: ("_request_class",), ResponseHandler: (name,)}, environ) == told
