"""The end of a drain meets an answer that aiohttp writes in its own way: it is written once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from gemproxy.server import middleware


async def test_an_answer_is_written_once(monkeypatch: Any) -> None:
    waits = asyncio.Event()
    monkeypatch.setattr(middleware, "ends", lambda request, service: True)

    async def answer(request: web.Request) -> web.Response:
        async def held() -> None:
            waits.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(request.writer, "drain", held)
        asyncio.current_task().set_name("answering")  # type: ignore[union-attr]
        response = web.Response(body=b"said")
        await middleware._hand_over(response, request, SimpleNamespace(refusing=True))  # type: ignore[arg-type]
        monkeypatch.undo()
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await asyncio.wait_for(waits.wait(), 30)
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "answering"]
        task.cancel()
        assert (await asyncio.wait_for(reader.read(), 30)).count(b"said") == 1
        writer.close()
    finally:
        await runner.cleanup()
