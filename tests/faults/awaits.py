"""Every ``await`` on the way of a request, found in the source, and those at which this process waits now.

In: modules by name. Out: texts such as ``pool/queue Queue._queue: waiting.turn``, by function and by what is awaited,
so that a line more or less above changes none.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import gemproxy

ROOT = Path(gemproxy.__file__).parent
WAY = (
    *("server/routes", "server/middleware", "server/auth", "server/limits", "server/body", "server/asking"),
    *("server/handlers/operation", "server/handlers/whole", "server/handlers/lookup", "server/weight", "server/outlet"),
    "server/turns",
    *("fetch/fetcher", "fetch/shares", "fetch/resolver"),
    *("load/burden", "load/worker"),
    *("dispatch/dispatcher", "dispatch/answer", "dispatch/fan_out"),
    "pool/queue",
    *("credentials/tokens", "credentials/token_cache", "credentials/token_fetch"),
    *("credentials/google_auth", "credentials/projects"),
    *("transport/client", "transport/tap"),
)
"""The modules that a request goes through, from its key to the last byte of its answer."""

_LIMITS = ("asyncio.timeout", "asyncio.timeout_at", "within")  # what is entered and left without waiting
_Waits = ast.Await | ast.AsyncFor | ast.AsyncWith


@cache
def places(module: str) -> dict[_Waits, str]:
    """Return every place of a module at which it may wait, with its text."""
    found: dict[_Waits, str] = {}
    for function, node in _nodes(ast.parse((ROOT / f"{module}.py").read_text("utf-8")), ()):
        if text := _text(node):
            name = f"{module} {function}: {text}"
            while name in found.values():
                name += " (again)"
            found[node] = name
    return found


def _nodes(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, _Waits]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _nodes(child, (*names, child.name))
            continue
        if isinstance(child, _Waits):
            yield ".".join(names), child
        yield from _nodes(child, names)


def _text(node: _Waits) -> str:
    match node:
        case ast.Await():
            return ast.unparse(node.value)
        case ast.AsyncFor():
            return ast.unparse(node.iter)
        case ast.AsyncWith():
            entered = [ast.unparse(item.context_expr) for item in node.items]
            return ", ".join(one for one in entered if not one.startswith(_LIMITS))


_begun: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakSet[asyncio.Task[Any]]] = WeakKeyDictionary()


def note_tasks() -> None:
    """Let ``tasks`` know of all that begins in this loop from now on, and look at nothing else.

    ``asyncio.all_tasks`` looks at those of every loop that ever was, as long as no garbage was collected: at hundreds.
    """
    loop = asyncio.get_running_loop()
    begun = _begun[loop] = WeakSet()

    def begin(loop: asyncio.AbstractEventLoop, doing: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(doing, loop=loop, **more)
        begun.add(task)
        return task

    loop.set_task_factory(begin)


def tasks() -> set[asyncio.Task[Any]]:
    """Return what began in this loop since ``note_tasks`` and is not done."""
    return {task for task in _begun[asyncio.get_running_loop()] if not task.done()}


def waits() -> set[str]:
    """Return the places at which the tasks of this loop wait now."""
    return {place for task in tasks() for frame in frames(task.get_coro()) if (place := _place(frame))}


def frames(waiting: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine, from the outermost to the one that waits."""
    while waiting is not None:
        match waiting:
            case (
                CoroutineType(cr_frame=frame, cr_await=inner)
                | GeneratorType(gi_frame=frame, gi_yieldfrom=inner)
                | AsyncGeneratorType(ag_frame=frame, ag_await=inner)
            ):
                if frame is not None:
                    yield frame
                waiting = _entering(frame) if type(inner).__name__ == "async_generator_asend" else inner
            case _:
                return


def _entering(frame: FrameType | None) -> Any:
    """Return the generator that a context manager is entered by: what waits for its next step does not tell it."""
    manager = None if frame is None else frame.f_locals.get("self")
    return getattr(manager, "gen", None)


def _place(frame: FrameType) -> str:
    found = _narrowest(frame.f_code, frame.f_lasti)
    return found or ""


@cache
def _narrowest(code: CodeType, at: int) -> str | None:
    """Return the text of the innermost place around an instruction."""
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT) or (module := str(path.relative_to(ROOT).with_suffix(""))) not in WAY:
        return None
    first, last, left, right = [*code.co_positions()][at // 2]
    within = []
    for node, text in places(module).items():
        begin, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
        if begin <= (first, left) and (last, right) <= end:
            within.append((begin, text))
    return max(within)[1] if within else None
