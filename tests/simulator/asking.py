"""Asks the simulated Google without a socket: a request in, status and JSON out."""

from __future__ import annotations

from typing import Any

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gemproxy.simulator import Answer, Recorded
from gemproxy.simulator.google import Google

FLASH = "gemini-3.8-flash"
OLD_FLASH = "gemini-2.5-flash"
PRO = "gemini-2.5-pro"


def google() -> Google:
    """Return a Google whose clock stands still."""
    return Google(lambda: 1_800_000_000.0)


def request(method: str, url: str, body: Any = b"", **headers: str) -> Recorded:
    """Return a request as the socket would have recorded it."""
    target = URL(url)
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    proxy = CIMultiDictProxy(CIMultiDict(headers))
    return Recorded(method, target.path, str(target), proxy, target.query, data, 0.0)


def user(text: str = "Hi") -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": text}]}


def call(name: str = "f", signature: str | None = None, **fields: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, "args": {}, **fields}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def result(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"output": 1}, **fields}}


def model(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def results(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def declare(*names: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"functionDeclarations": [{"name": name, **fields} for name in names]}]


def address(upstream: str, name: str, method: str) -> str:
    path = {
        "ai_studio": f"/v1beta/models/{name}:{method}",
        "code_assist": f"/v1internal:{method}",
        "vertex": f"/vertex/v1/projects/p/locations/global/publishers/google/models/{name}:{method}",
    }
    return path[upstream]


def post(
    target: Google,
    body: dict[str, Any] | bytes,
    *,
    upstream: str = "ai_studio",
    name: str = FLASH,
    method: str = "generateContent",
    alt: str = "sse",
    key: str = "test-key-1",
    project: str = "sim-project",
) -> Answer:
    """Return what a request for generation gets at this upstream."""
    url = address(upstream, name, method)
    if method == "streamGenerateContent" and alt:
        url += f"?alt={alt}"
    if upstream == "ai_studio":
        headers = {"x-goog-api-key": key}
    else:
        account = target.accounts.grant("fake-refresh-1")
        assert account is not None
        headers = {"Authorization": f"Bearer {target.accounts.issue(account)}"}
    if upstream == "code_assist" and isinstance(body, dict):
        body = {"model": name, "project": project, "user_prompt_id": "u", "request": body}
    return target.answer(request("POST", url, body, **headers))


def read(answer: Answer) -> Any:
    """Return the body of an answer in one piece, decoded."""
    return msgspec.json.decode(b"".join(piece for piece in answer.body if isinstance(piece, bytes)))


def frames(answer: Answer) -> list[Any]:
    """Return the frames of an SSE answer, decoded."""
    pieces = [piece for piece in answer.body if isinstance(piece, bytes)]
    return [msgspec.json.decode(piece.removeprefix(b"data: ")) for piece in pieces]


def parts(frame: dict[str, Any]) -> list[Any]:
    """Return the parts of the first candidate of a frame."""
    found: list[Any] = frame["candidates"][0].get("content", {}).get("parts", [])
    return found


def spoken(answer: Answer) -> str:
    """Return the visible text of a unary answer."""
    return "".join(part.get("text", "") for part in parts(read(answer)) if not part.get("thought"))


def refused(answer: Answer) -> tuple[int, str]:
    """Return status and message of a refusal."""
    return answer.status, read(answer)["error"]["message"]
