"""A Gemini that speaks slowly, on 127.0.0.1:9999: a prompt that is a number gets so many words, ten a second.

Run inside the machine under test, by a Python that has aiohttp.
"""

import asyncio

from aiohttp import web

FRAME = 'data: {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "word "}]}%s}]}\r\n\r\n'


async def answer(request: web.Request) -> web.StreamResponse:
    prompt = (await request.json())["contents"][-1]["parts"][0]["text"]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(int(prompt) if prompt.isdigit() else 1):
        await response.write((FRAME % "").encode())
        await asyncio.sleep(0.1)
    await response.write((FRAME % ', "finishReason": "STOP"').encode())
    return response


app = web.Application()
app.router.add_post("/{path:.*}", answer)
web.run_app(app, host="127.0.0.1", port=9999, print=None)
