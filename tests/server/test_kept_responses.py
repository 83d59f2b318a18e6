"""What is kept of responses, and what that costs: bytes linear in a chain, counted, and never the loop's time."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from yarl import URL

from gemproxy.converter.responses import kept
from gemproxy.converter.responses.reading import Asking
from gemproxy.converter.sealed import SUMMARY, seal
from gemproxy.load.burden import OVERHEAD
from gemproxy.load.weigh import SMALL_SIZE
from gemproxy.server.asking import MAX_FOUND, own_key
from gemproxy.server.outlet import Outlet
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Simulator, Wait, frames_answer
from gemproxy.state.memory import MemoryState
from tests.burdens import noted_work
from tests.running import KEY, Running, configuration, running
from tests.waiting import soon

MODEL = "gemini-3.5-flash"
PATH = "/v1/responses"
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
LAST = {"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]}
ANSWER = Raw(b'{"output":[]}')
LARGE = "x" * 2 * SMALL_SIZE


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


def budget(server: Running) -> Any:
    return server.app[SERVICE].load.budget


async def respond(server: Running, text: str, previous: str | None = None, **more: Any) -> dict[str, Any]:
    asked = {"model": MODEL, "input": text, "previous_response_id": previous, **more}
    status, body = await server.post(PATH, asked)
    assert status == 200, body
    return msgspec.json.decode(body)


def put(server: Running, name: str, text: str, before: str | None = None) -> None:
    """Have the state keep a response to such a text."""
    answer = msgspec.Raw(b'{"output":[]}')
    value = kept.written(before, kept.Record(msgspec.Raw(msgspec.json.encode(text)), [], answer))
    server.app[SERVICE].kept.put(kept.KIND, own_key("anyone", name), value, 60.0)


async def test_a_chain_takes_room_linear_in_its_length(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    put = MemoryState.put

    def noted(self: MemoryState, kind: str, key: str, value: bytes, lasts: float, limit: int = 0) -> None:
        sizes.append(len(value))
        put(self, kind, key, value, lasts, limit)

    monkeypatch.setattr(MemoryState, "put", noted)
    previous = None
    for _ in range(100):
        previous = (await respond(server, "And then?", previous))["id"]
    assert len(sizes) == 100
    assert max(sizes) < sizes[0] + 100, "the last turn of a hundred keeps no more than the first, and an id"


async def test_a_chain_has_a_longest_length(server: Running) -> None:
    for number in range(MAX_FOUND + 1):
        put(server, f"resp_{number}", "Hello", f"resp_{number - 1}" if number else None)
    asked = {"model": MODEL, "input": "And?", "previous_response_id": f"resp_{MAX_FOUND}"}
    status, body = await server.post(PATH, asked)
    assert (status, f"more than {MAX_FOUND} earlier" in body.decode()) == (400, True)
    await respond(server, "And?", f"resp_{MAX_FOUND - 1}")


async def test_no_more_is_looked_for_than_a_chain_may_hold(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[str, bool]] = []
    get = MemoryState.get

    async def noted(self: MemoryState, kind: str, key: str, *, patient: bool) -> bytes | None:
        looks.append((key, patient))
        return await get(self, kind, key)

    monkeypatch.setattr(MemoryState, "get", noted)
    items = [{"type": "item_reference", "id": f"msg_{number:024x}0000"} for number in range(MAX_FOUND + 5)]
    status, body = await server.post(PATH, {"model": MODEL, "input": items})
    assert (status, f"more than {MAX_FOUND} earlier" in body.decode()) == (400, True)
    assert len(looks) == MAX_FOUND
    assert [patient for _, patient in looks] == [True, *[False] * (MAX_FOUND - 1)], "one of them is waited for"


async def test_a_link_that_is_gone_is_as_if_the_chain_were_not_there(server: Running) -> None:
    put(server, "resp_2", "Hello", "resp_1")
    status, body = await server.post(PATH, {"model": MODEL, "input": "And?", "previous_response_id": "resp_2"})
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (400, "previous_response_not_found")


async def test_a_large_response_is_gone_on_from_beside_the_loop(
    server: Running, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, "resp_large", LARGE)
    put(server, "resp_small", "Hello")
    done = noted_work(monkeypatch)
    await respond(server, "And?", "resp_small")
    assert done == []
    await respond(server, "And?", "resp_large")
    assert done[:3] == ["weighed", "wants", "_plan"]
    assert simulator.generations[-1].json()["contents"][0]["parts"][0]["text"] == LARGE
    assert budget(server).peak > 2 * SMALL_SIZE
    await soon(lambda: budget(server).held == 0)


async def test_a_large_response_is_looked_up_beside_the_loop(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    put(server, "resp_large", LARGE)
    put(server, "resp_small", "Hello")
    done = noted_work(monkeypatch)
    assert (await server.get(f"{PATH}/resp_small/input_items"))[0] == 200
    assert done == []
    status, found = await server.get(f"{PATH}/resp_large/input_items")
    assert (status, found["data"][0]["content"][0]["text"]) == (200, LARGE)
    assert done == ["input_items"]
    assert budget(server).peak > 2 * len(LARGE), "as it is kept, and as it goes out"
    await soon(lambda: budget(server).held == 0)


@pytest.mark.parametrize("text", ["Hello", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("way", ["", "/input_items"])
async def test_the_head_of_what_is_kept_comes_without_it(server: Running, text: str, way: str) -> None:
    put(server, "resp_1", text)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    lines = (f"HEAD {PATH}/resp_1{way} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {KEY}")
    writer.write("\r\n".join((*lines, "Connection: close", "", "")).encode())
    told, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert told.startswith(b"HTTP/1.1 200 ")
    assert body == b""


async def test_a_page_of_a_browser_may_look_up_and_forget_what_is_kept(simulator: Simulator, tmp_path: Path) -> None:
    config = configuration(simulator, tmp_path, '[server]\ncors_origins = ["https://page.example"]\n')
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "DELETE"}
    async with running(simulator, config) as server:
        for path in (f"{PATH}/resp_1", f"{PATH}/resp_1/input_items", f"{PATH}/resp_1/cancel"):
            async with server.session.options(server.url + path, headers=asks) as answer:
                assert answer.status == 204, path
                assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
        async with server.session.put(f"{server.url}{PATH}/resp_1", headers=asks) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "DELETE,GET,HEAD,OPTIONS")


@pytest.mark.parametrize("store", [True, False])
async def test_what_an_answer_will_keep_is_counted_and_all_else_let_go(
    server: Running, simulator: Simulator, store: bool
) -> None:
    gate = asyncio.Event()
    simulator.script(frames_answer([FRAME]).then(Wait(gate), *frames_answer([LAST]).body))
    asked = {"model": MODEL, "input": "x" * 1_000_000, "store": store, "stream": True}
    async with server.session.post(server.url + PATH, json=asked, headers={"Authorization": f"Bearer {KEY}"}) as answer:
        assert answer.status == 200, await answer.read()
        async for line in answer.content:
            if b"tick" in line:
                break
        kept_bytes = 1_000_000 if store else 0
        await soon(lambda: budget(server).held - OVERHEAD < kept_bytes + 50_000)
        assert budget(server).held >= kept_bytes
        assert [one for one in gc.get_objects() if isinstance(one, Asking)] == [], "what was read of the request"
        gate.set()
        assert b"response.completed" in await answer.read()
    await soon(lambda: budget(server).held == 0)


async def test_any_item_that_was_taken_is_listed(server: Running) -> None:
    """What nobody reads of an item may be a number that no decoder takes, or objects by the hundred thousand."""
    odd = b'"junk":1e999,"more":[{},{}]'
    items = [
        b'{"type":null,"role":"assistant","content":"Hello","id":{},"status":null,%b}' % odd,
        b'{"role":"user","content":[{"type":"input_text","text":"And?",%b}],"id":"msg_mine"}' % odd,
        b'{"type":"function_call_output","call_id":"c","output":"x","id":null,%b}' % odd,
        b'{"type":"item_reference","id":"of_mine",%b}' % odd,
    ]
    value = kept.written(None, kept.Record(Raw(b"[%b]" % b",".join(items)), [], ANSWER))
    listed = kept.input_items("resp_a", value, {})
    loose = msgspec.json.decode(listed.replace(b"1e999", b"1"))
    reference, output, asked, said = loose["data"]
    assert (loose["first_id"], loose["last_id"]) == ("of_mine", said["id"])
    assert reference == {"type": "item_reference", "id": "of_mine", "junk": 1, "more": [{}, {}]}
    assert (output["id"], output["call_id"]) == ("item_in_a0002", "c")
    assert (asked["type"], asked["id"], asked["status"]) == ("message", "msg_mine", "completed")
    assert asked["content"][0]["text"] == "And?"
    assert said == {
        "type": "message",
        "id": "msg_in_a0000",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello"}],
    }
    body = b'{"model":"%b","input":[{"role":"user","content":"x",%b}]}' % (MODEL.encode(), odd)
    assert (await server.post(f"{PATH}/compact", body))[0] == 200


@pytest.mark.parametrize("limit", ["0", "101", "-1", "", "x", "1.5", "\u0663", "0001" + "0" * 5_000, "00019"])
async def test_a_page_has_from_one_to_a_hundred_items(server: Running, limit: str) -> None:
    put(server, "resp_1", "Hello")
    status, found = await server.get(f"{PATH}/resp_1/input_items?limit={limit}")
    assert (status, found["error"]["param"]) == (400, "limit")


@pytest.mark.parametrize("length", [10, 200_000])
async def test_who_asks_for_the_head_alone_gets_no_more(server: Running, length: int) -> None:
    put(server, "resp_1", "x" * length)
    url = URL(server.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        f"HEAD {PATH}/resp_1/input_items HTTP/1.1\r\nHost: {url.authority}\r\n"
        f"Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n".encode()
    )
    head, end, rest = (await reader.read()).partition(b"\r\n\r\n")
    assert (head.startswith(b"HTTP/1.1 200"), end, rest) == (True, b"\r\n\r\n", b"")
    assert int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]) > length
    writer.close()


async def test_pages_of_other_origins_may_look_up_and_delete(simulator: Simulator, tmp_path: Path) -> None:
    origin = {"Origin": "https://pages.test", "Access-Control-Request-Method": "DELETE"}
    more = '[server]\ncors_origins = ["https://pages.test"]\n'
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        for path in "", "/input_items", "/cancel":
            async with server.session.options(f"{server.url}{PATH}/resp_1{path}", headers=origin) as answer:
                assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, origin["Origin"])
                assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
        async with server.session.options(f"{server.url}{PATH}/resp_1") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "DELETE,GET,HEAD")


async def test_one_process_goes_on_from_what_another_kept(simulator: Simulator, tmp_path: Path) -> None:
    config = configuration(simulator, tmp_path, f'[state]\npath = "{tmp_path}/state.db"\n[responses]\nkeep = "state"\n')
    async with running(simulator, config) as one, running(simulator, config) as other:
        answer = await respond(one, "Hello")
        status, found = await _found_soon(other, answer["id"])
        assert (status, found) == (200, answer)
        await respond(other, "And?", answer["id"])
        for _ in range(20):
            await respond(other, "And?", (await respond(one, "Hello"))["id"])  # at once, as a client does
        await respond(other, "And?", answer["id"])
        texts = [content["parts"][0]["text"] for content in simulator.generations[-1].json()["contents"]]
        assert texts == ["Hello", answer["output"][0]["content"][0]["text"], "And?"]


async def test_what_is_kept_is_the_keys_whatever_its_place_in_the_list(simulator: Simulator, tmp_path: Path) -> None:
    """Bare keys are named by their places: without the first the second is called as that was."""
    kept_on_disk = f'[state]\npath = "{tmp_path}/state.db"\n[responses]\nkeep = "state"\n'
    found: dict[str, list[int]] = {}
    names: dict[str, str] = {}
    for keys in ('["sk-one", "sk-two"]', '["sk-two"]'):
        config = configuration(simulator, tmp_path, f"[auth]\nkeys = {keys}\n{kept_on_disk}")
        async with running(simulator, config) as server:
            for key in ("sk-one", "sk-two") if not names else ():
                headers = {"Authorization": f"Bearer {key}"}
                status, body = await server.post(PATH, {"model": MODEL, "input": "Hello"}, headers)
                names[key] = msgspec.json.decode(body)["id"]
            shows = {"Authorization": "Bearer sk-two"}
            for key, name in names.items():
                status, _ = await server.get(f"{PATH}/{name}", shows)
                found.setdefault(key, []).append(status)
    assert found == {"sk-one": [404, 404], "sk-two": [200, 200]}


async def _found_soon(server: Running, name: str) -> tuple[int, Any]:
    """Return what a process has; another writes what it keeps a moment later."""
    for _ in range(200):
        status, found = await server.get(f"{PATH}/{name}")
        if status != 404:
            break
    return status, found


async def test_all_that_is_kept_has_its_limit(simulator: Simulator, tmp_path: Path) -> None:
    config = configuration(simulator, tmp_path, "[responses]\nkeep_bytes = 20_000\n")
    async with running(simulator, config) as server:
        names = [(await respond(server, "x" * 3_000))["id"] for _ in range(6)]
        there = [name for name in names if (await server.get(f"{PATH}/{name}"))[0] == 200]
    assert there == names[-len(there) :]
    assert 1 <= len(there) < 6


async def test_who_leaves_with_the_last_event_can_go_on_from_it(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients do not wait for the end of a stream behind ``response.completed``."""
    kept_when: list[bool] = []
    drain, state = Outlet.drain, server.app[SERVICE].kept
    assert isinstance(state, MemoryState)

    async def noted(self: Outlet) -> None:
        kept_when.append(bool(state._items))
        await drain(self)

    monkeypatch.setattr(Outlet, "drain", noted)
    status, body = await server.post(PATH, {"model": MODEL, "input": "Hello", "stream": True})
    assert status == 200
    assert b"response.completed" in body
    assert kept_when[-1]


@pytest.mark.parametrize("sealed", ["foreign", "AAAA" * 40, "changed"])
async def test_a_summary_of_somebody_else_is_left_out_with_a_word(
    server: Running, simulator: Simulator, caplog: pytest.LogCaptureFixture, sealed: str
) -> None:
    caplog.set_level(logging.DEBUG, "gemproxy")
    if sealed == "changed":
        whole = seal(SUMMARY, "the word is Hello")
        sealed = whole[:-5] + ("AAAAA" if not whole.endswith("AAAAA") else "BBBBB")
    items = [{"type": "compaction", "encrypted_content": sealed}, {"role": "user", "content": "And?"}]
    status, _ = await server.post(PATH, {"model": MODEL, "input": items})
    [content] = simulator.generations[-1].json()["contents"]
    assert (status, content["parts"]) == (200, [{"text": "And?"}])
    assert "ignored input[0].encrypted_content" in caplog.text
