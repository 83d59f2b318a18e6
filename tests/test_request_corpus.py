"""Recorded Gemini requests, there and back: a body becomes the OpenAI request behind it (``tests.reversing``), gemproxy
makes a Gemini body of that, and the two must say the same (``tests.normal_form``).

``LOST`` lists what chat completions have no words for, with every file it stands in: where a file has such a field,
the rest of it must still come through. ``pytest tests/test_request_corpus.py -k table -rP`` prints the account.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gemproxy.converter.api import Options
from gemproxy.converter.chat.media import remote_images
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import to_call
from gemproxy.errors import ClientFault
from gemproxy.models import Catalogue
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Dialect, Token
from gemproxy.upstream.vertex import Vertex
from gemproxy.wire.gemini import Blob
from tests.corpus import listed, path_of
from tests.gemini_schema import check_body
from tests.normal_form import normal
from tests.reversing import camel, request
from tests.simulator.asking import google, post

FILES = listed("corpus/requests/*.json")
PNG = "iVBORw0KGgoAAAANSUhEUg=="  # what fetching an image gives here


class Lost(Struct, frozen=True):
    """A field that no chat request can carry, why, and the files it stands in (the ends of their names)."""

    field: str
    why: str
    files: tuple[str, ...]


LOST = (
    Lost(
        "generateContentRequest",
        "the body of countTokens, a method that OpenAI's API does not have",
        ("text__aistudio__gemini-3.5-flash__rubyllm-02",),
    ),
    Lost(
        "tools[].fileSearch",
        "stores that Google holds; OpenAI's file search belongs to the Responses API",
        (
            "signature__aistudio__gemini-3-flash-preview__pydantic-01",
            "system__aistudio__gemini-2.5-pro__pydantic-01",
            "system__aistudio__gemini-2.5-pro__pydantic-02",
            "text__aistudio__gemini-3-flash-preview__pydantic-01",
        ),
    ),
    Lost(
        "tools[].mcpServers",
        "servers that Google calls; OpenAI's MCP tool belongs to the Responses API",
        ("tool-result_tool-history__aistudio__gemini-2.5-flash__jsgenai-02",),
    ),
    Lost(
        "tools[].functionDeclarations[].responseJsonSchema",
        "a function of OpenAI's describes what it takes, never what it gives",
        ("tools__vertex__gemini-3-pro-preview__jsgenai-03",),
    ),
    Lost(
        "contents[].parts[].toolCall",
        "a call of a server's tool, which the answer to the client does not show",
        ("signature__aistudio__gemini-3-flash-preview__pydantic-01",),
    ),
    Lost(
        "contents[].parts[].toolResponse",
        "the result of a server's tool, which the answer to the client does not show",
        ("signature__aistudio__gemini-3-flash-preview__pydantic-01",),
    ),
    Lost(
        "contents[].parts[].executableCode",
        "code that Google ran; the client was given it as text",
        ("signature__aistudio__gemini-3.5-flash__rubyllm-01",),
    ),
    Lost(
        "contents[].parts[].codeExecutionResult",
        "what that code wrote; the client was given it as text",
        ("signature__aistudio__gemini-3.5-flash__rubyllm-01",),
    ),
    Lost(
        "contents[].parts[].fileData",
        "an object in a bucket, which is the operator's: a client cannot name one",
        ("file-data__vertex__gemini-2.0-flash__pydantic-01",),
    ),
    Lost(
        "contents[].parts[].fileData.mimeType",
        "the type of a file that Google holds, where its address does not end in one",
        ("tool-result_tool-history_tools_file-data_signature__aistudio__gemini-2.5-flash__pydantic-01",),
    ),
    Lost(
        "generationConfig.imageConfig",
        "how an image is to be written; chat completions choose modalities only",
        (
            "text__codeassist__gemini-2.5-flash-image__derived-01",
            "text__vertex__gemini-2.5-flash-image__pydantic-01",
        ),
    ),
    Lost(
        "generationConfig.responseLogprobs",
        "logprobs are refused, since AI Studio refuses them for every current model (docs/protocol.md 4.1)",
        ("text__vertex__gemini-2.5-flash__pydantic-03",),
    ),
    Lost(
        "generationConfig.logprobs",
        "as responseLogprobs",
        ("text__vertex__gemini-2.5-flash__pydantic-03",),
    ),
    Lost(
        "modelArmorConfig",
        "a filter of the operator's own Google project",
        ("text__vertex__gemini-2.5-flash__pydantic-01",),
    ),
    Lost(
        "toolConfig.functionCallingConfig.streamFunctionCallArguments",
        "arguments in pieces, on Vertex AI only; OpenAI's streams may bring them whole",
        (
            "tool-result_tool-history_tools_signature__vertex__gemini-3-pro-preview__jsgenai-01",
            "tools__vertex__gemini-3-pro-preview__jsgenai-01",
            "tools__vertex__gemini-3-pro-preview__jsgenai-03",
        ),
    ),
)
OTHER_METHOD = {"generateContentRequest"}


def lost_in(name: str) -> list[str]:
    """Return the fields that a file loses."""
    return [row.field for row in LOST if name in row.files]


# --------------------------------------------------------------------------------------------- there and back again


class Asked(Struct):
    """A recorded request: who was asked, for which model, and the body in camel case without its envelope."""

    upstream: str
    model: str
    body: dict[str, Any]


def recorded(path: Path) -> Asked:
    backend, model = path.stem.split("__")[1:3]
    body = camel(msgspec.json.decode(path.read_bytes()))
    upstream = {"aistudio": "ai_studio", "codeassist": "code_assist"}.get(backend, backend)
    body = body["request"] if upstream == "code_assist" else body
    body.pop("sessionId", None)  # an id of the client's own session: gemproxy keeps none
    return Asked(upstream, model, body)


def dialect(upstream: str) -> Dialect:
    kind = {"ai_studio": AiStudio, "code_assist": CodeAssist, "vertex": Vertex}[upstream]
    return kind("http://127.0.0.1:9", "test")


def sent_for(asked: Asked) -> dict[str, Any]:
    """Return the OpenAI request behind a recorded one."""
    return request(asked.body, asked.model, f"{asked.upstream}/{asked.model}")


def converted(asked: Asked, sent: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the body that gemproxy sends for the OpenAI request behind a recorded one, or for ``sent``."""
    read = decode(msgspec.json.encode(sent or sent_for(asked)))
    images = {image.url: Blob("image/png", PNG) for image in remote_images(read)}
    plan = to_call(read, Catalogue().lookup(asked.model), images, None, Options(), stream=False)
    made = dialect(asked.upstream).ask(plan.call, Token("fake", "sim-project"), 0.0)
    body = msgspec.json.decode(made.body)
    return body["request"] if asked.upstream == "code_assist" else body


def cut(node: Any, path: list[str]) -> int:
    """Take a field out wherever it stands, and the part that has nothing else; return how often it stood there."""
    name, rest = path[0].removesuffix("[]"), path[1:]
    if not isinstance(node, dict) or name not in node:
        return 0
    if not rest:
        if name == "mimeType" and "." in node["fileUri"].rpartition("/")[2]:
            return 0  # the address tells the type
        del node[name]
        return 1
    if not path[0].endswith("[]"):
        return cut(node[name], rest)
    count = sum(cut(item, rest) for item in node[name])
    node[name] = [item for item in node[name] if set(item) - {"thoughtSignature"} or name != "parts"]
    return count


# ------------------------------------------------------------------------------------ what gemproxy adds or changes


def with_fetched_images(wanted: dict[str, Any]) -> None:
    """Images by address are fetched and inlined by the proxy (docs/architecture.md 14.2)."""
    for _, parts in wanted["contents"]:
        for part in parts:
            if part.get("fileData", {}).get("mimeType", "").startswith("image/"):
                del part["fileData"]
                part["media"] = ("image/png", PNG.rstrip("="))


def with_signatures_of(wanted: dict[str, Any], made: dict[str, Any], model: str) -> None:
    """Models before 2.5 get no signatures; skip values are one; 3.x gets it for a missing one (docs/protocol.md 6)."""
    knows = Catalogue().lookup(model)
    for part, ours in paired(wanted, made):
        if (knows.major, knows.minor) < (2, 5):
            part.pop("signature", None)
        elif part.get("signature") in SKIP and ours.get("signature") in SKIP:
            part["signature"] = ours["signature"]
        elif "signature" not in part and knows.modern and ours.get("signature") in SKIP:
            del ours["signature"]


SKIP = (
    "skip_thought_signature_validator",
    "context_engineering_is_the_way_to_go",
    "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
)


def with_ids_of(wanted: dict[str, Any], made: dict[str, Any], model: str) -> None:
    """Models before 3 get no ids; from 3 on both sides have one, and it is the recorded one where there was one."""
    if Catalogue().lookup(model).modern:
        open_ids = {held["id"] for part, _ in paired(wanted, made) if (held := part.get("call")) and "id" in held}
        for part, ours in paired(wanted, made):
            for kind in ("call", "result"):
                if kind in part and part[kind].get("id") not in open_ids:
                    part[kind].pop("id", None)
                    assert ours.get(kind, {}).pop("id"), "from Gemini 3 on every call has an id"
        return
    for part, _ in paired(wanted, made):
        for kind in ("call", "result"):
            part.get(kind, {}).pop("id", None)


def with_thinking_of(wanted: dict[str, Any], made: dict[str, Any], model: str) -> None:
    """Thoughts are asked for unless the request says no; a small limit bounds the budget (docs/protocol.md 4.3.5)."""
    thinking, ours = wanted["config"].get("thinking", {}), made["config"].get("thinking", {})
    if "includeThoughts" not in thinking and Catalogue().lookup(model).thinks:
        asked = ours.pop("includeThoughts", None)
        assert asked or ours.get("thinkingBudget") == 0
    limit = wanted["config"].get("maxOutputTokens")
    if "thinkingBudget" not in thinking and limit is not None and "thinkingBudget" in ours:
        assert ours.pop("thinkingBudget") <= max(128, limit // 2)
    if not ours:
        made["config"].pop("thinking", None)


def paired(wanted: dict[str, Any], made: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the parts of both, place by place; where they differ in number the comparison fails anyway."""
    sides = [[part for _, parts in side["contents"] for part in parts] for side in (wanted, made)]
    return list(zip(*sides, strict=False))


def compared(asked: Asked, sent: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was recorded and what gemproxy makes of it, in one form and with the same liberties taken."""
    wanted, made = normal(asked.body), normal(converted(asked, sent))
    with_fetched_images(wanted)
    with_signatures_of(wanted, made, asked.model)
    with_ids_of(wanted, made, asked.model)
    with_thinking_of(wanted, made, asked.model)
    return wanted, made


# ------------------------------------------------------------------------------------------------------- the tests

CHAT = [path for path in FILES if not OTHER_METHOD & set(lost_in(path.stem))]
WHOLE = [path for path in CHAT if not lost_in(path.stem)]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_recorded_request_comes_through_without_loss(path: Path) -> None:
    wanted, made = compared(recorded(path))
    assert made == wanted


@pytest.mark.parametrize("path", [path for path in CHAT if path not in WHOLE], ids=lambda path: path.stem)
def test_recorded_request_loses_only_what_the_table_says(path: Path) -> None:
    asked = recorded(path)
    for field in lost_in(path.stem):
        assert cut(asked.body, field.split(".")), f"{field} is not in {path.stem}: take it off the table"
    wanted, made = compared(asked)
    assert made == wanted


@pytest.mark.parametrize("path", CHAT, ids=lambda path: path.stem)
def test_recorded_request_is_lawful_again(path: Path) -> None:
    asked = recorded(path)
    for field in lost_in(path.stem):
        cut(asked.body, field.split("."))
    made = converted(asked)
    assert check_body(made) == []
    target = google()
    target.accept_any_signature = True
    target.allow_models = {asked.model}
    assert post(target, made, upstream=asked.upstream, name=asked.model).status == 200


def test_logprobs_are_refused_by_name() -> None:
    with pytest.raises(ClientFault) as refused:
        converted(recorded(path_of("corpus/requests/text__vertex__gemini-2.5-flash__pydantic-03.json")))
    assert (refused.value.param, refused.value.code) == ("logprobs", "unsupported_parameter")


def test_the_table_names_every_file_once_for_each_field_and_no_other() -> None:
    stems = {path.stem for path in FILES}
    for row in LOST:
        assert set(row.files) <= stems, row.field
        assert len(set(row.files)) == len(row.files), row.field


def test_the_table_is_printed() -> None:
    partly = len(CHAT) - len(WHOLE)
    print(f"{len(FILES)} recorded requests: {len(WHOLE)} without loss, {partly} but for the fields below,")
    print(f"{len(FILES) - len(CHAT)} of another method.\n")
    for row in LOST:
        print(f"{row.field:62} {len(row.files)} {'file ' if len(row.files) == 1 else 'files'} {row.why}")
    assert (len(FILES), len(WHOLE), partly) == (116, 100, 15)


SPOILT = "tool-result_tool-history_tools_signature_system__aistudio__gemini-2.5-pro__pydantic-01"


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        pytest.param(b'"temperature":0.0', b'"temperature":0.5', "config", id="another temperature"),
        pytest.param(b"helpful chatbot", b"chatbot", "system", id="a word less in the system text"),
        pytest.param(b'\\"country\\":\\"France', b'\\"country\\":\\"Spain', "contents", id="another argument"),
        pytest.param(b"not supported", b"supported", "contents", id="another result"),
        pytest.param(b'"thought_signature":"CpYE', b'"thought_signature":"CpYF', "contents", id="another signature"),
        pytest.param(b'"thought_signature"', b'"signature"', "contents", id="no signature"),
        pytest.param(b"The country name.", b"", "functions", id="a property without description"),
        pytest.param(b'"required":["country"]', b'"required":[]', "functions", id="a property that may be left out"),
    ],
)
def test_the_comparison_sees_a_change(old: bytes, new: bytes, shown: str) -> None:
    asked = recorded(path_of(f"corpus/requests/{SPOILT}.json"))
    sent = msgspec.json.encode(sent_for(asked))
    assert old in sent
    wanted, made = compared(asked, msgspec.json.decode(sent.replace(old, new)))
    assert [key for key in wanted if made[key] != wanted[key]] == [shown]
