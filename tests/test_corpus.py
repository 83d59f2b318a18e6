"""What ``tests/data/wire`` may hold: files whose source and licence are told, without a secret, none of them large."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.simulator.messages import MESSAGES
from tests.corpus import OWN, WIRE, needs_wire, rows

FOLDERS = ("corpus", "openai-recorded", "surfaces/anthropic")
GOOGLES = "gemini-openapi.v1beta.json"
OPENAIS = ("openapi.chat-models.json", "openapi.responses.json")
BESIDE = {"LICENSES.md", "Apache-2.0.txt", GOOGLES, *OPENAIS}
OURS = ("gemproxy", "MIT")
SHORTENED = "huge"  # the feature that no recording here has

# What belongs to somebody's account, and what takes its place; and long data, of which the beginning will do.
REPLACED = [
    (re.compile(rb"gs://(?!example-)[\w.-]+/"), b"gs://example-bucket/"),
    (re.compile(rb"\bcachedContents/(?!example\b)\w{20,}"), b"cachedContents/example"),
    (re.compile(rb"\bfileSearchStores/(?!example\b)[\w-]+"), b"fileSearchStores/example"),
    (re.compile(rb"\bfiles/(?!example\b)[a-z0-9]{12}\b"), b"files/example"),
    (re.compile(rb'("data": ?"[A-Za-z0-9+/]{400})[A-Za-z0-9+/=]{20000,}'), rb"\1"),
]
SECRETS = {
    "a key of Google's": rb"AIza[\w-]{20}",
    "an access token": rb"ya29\.|\bBearer [\w.-]{20}",
    "a refresh token": rb"\b1//0\w",
    "a key of OpenAI's": rb"\bsk-[\w-]{16}",
    "an organisation or a project of OpenAI's": rb"\b(?:org|proj|user)[-_][A-Za-z0-9]{16}",
    "a private key": rb"PRIVATE KEY",
    "an e-mail address": rb"\w@[\w-]+\.[a-z]{2,}",
    "a project": rb"(?<![\w-])projects?[/:](?!test-|example-|my-|0+\b)[\w-]{4,}",
    "somebody's folder": rb"/(?:home|Users)/(?!user\b)\w",
}


def published(data: bytes) -> bytes:
    """Return a recording as it stands in the repository."""
    for pattern, instead in REPLACED:
        data = pattern.sub(instead, data)
    return data


def names_and_types(described: dict[str, Any]) -> dict[str, Any]:
    """Return what the tests need of Google's description: the names and types of what a request can hold."""
    schemas = described["components"]["schemas"]
    waiting = ["GenerateContentRequest", *sorted(set(MESSAGES) & set(schemas))]
    kept: dict[str, Any] = {}
    for name in waiting:
        if name not in kept:
            kept[name] = _typed(schemas[name])
            waiting += re.findall(r'"#/components/schemas/(\w+)"', msgspec.json.encode(kept[name]).decode())
    return {"components": {"schemas": {name: kept[name] for name in sorted(kept)}}}


def _typed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    made = {key: node[key] for key in ("$ref", "type", "format", "enum") if key in node}
    made |= {key: _typed(node[key]) for key in ("items", "additionalProperties") if key in node}
    if "allOf" in node:
        made["allOf"] = [_typed(branch) for branch in node["allOf"]]
    if "properties" in node:
        made["properties"] = {name: _typed(held) for name, held in node["properties"].items()}
    return made


def own_rows(folder: str) -> list[dict[str, str]]:
    with (OWN / folder / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        return list(csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE))


def own_files() -> list[Path]:
    return [path for path in OWN.rglob("*") if path.is_file()]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_index_names_every_file_and_no_other(folder: str) -> None:
    listed = [row["file"] for row in own_rows(folder)]
    there = {str(path.relative_to(OWN / folder)) for path in own_files() if path.is_relative_to(OWN / folder)}
    assert len(set(listed)) == len(listed)
    assert set(listed) == there - {"INDEX.tsv"}
    assert {path.name for path in OWN.iterdir() if path.is_file()} == BESIDE


def test_every_source_is_named_with_its_licence() -> None:
    told = (OWN / "LICENSES.md").read_text(encoding="utf-8")
    sources = {(row["repo"], row["licence"]) for folder in FOLDERS for row in own_rows(folder)} - {OURS}
    assert len(sources) > 8
    for repository, licence in sources:
        assert re.search(rf"^\| {re.escape(repository)} \| {re.escape(licence)} \| \S.* \|$", told, re.M), repository


def test_what_is_invented_is_ours_and_says_so() -> None:
    for row in own_rows("corpus"):
        ours = (row["repo"], row["licence"]) == OURS
        assert ("__invented-" in row["file"]) == row["provenance"].startswith("invented") == ours, row["file"]


def told_secrets(files: Iterable[Path]) -> list[str]:
    return [
        f"{path.relative_to(OWN)}: {kind}"
        for path in files
        for kind, pattern in SECRETS.items()
        if re.search(pattern, path.read_bytes())
    ]


def test_no_recording_holds_a_secret_or_what_is_somebodys() -> None:
    recordings = [path for path in own_files() if path.name not in BESIDE | {"INDEX.tsv"}]
    assert told_secrets(recordings) == []
    assert [path for path in recordings if published(path.read_bytes()) != path.read_bytes()] == []


def test_recordings_stay_small() -> None:
    assert sum(path.stat().st_size for path in own_files()) < 2_500_000
    assert max(path.stat().st_size for path in own_files() if path.name not in OPENAIS) < 120_000


# ------------------------------------------------------------------------------------------- against what lies beside


@needs_wire
def test_a_file_that_is_beside_too_is_the_same_but_for_what_is_replaced() -> None:
    for folder in FOLDERS:
        for row in own_rows(folder):
            if (row["repo"], row["licence"]) != OURS:
                whole = (WIRE / folder / row["file"]).read_bytes()
                kept = (OWN / folder / row["file"]).read_bytes()
                assert kept == published(whole), row["file"]
                assert bool(row["note"]) == (kept != whole), row["file"]


@needs_wire
def test_every_feature_that_was_recorded_is_here() -> None:
    def features(found: Iterable[dict[str, str]]) -> set[tuple[str, ...]]:
        return {
            (row["kind"], row["backend"], row["framing"], feature)
            for row in found
            if row["kind"] in ("stream", "unary")
            for feature in [row["eol"], *row["features"].split(",")]
        }

    assert {each for each in features(rows()) - features(own_rows("corpus")) if each[-1] != SHORTENED} == set()


@needs_wire
def test_the_published_descriptions_are_those_beside() -> None:
    for name in OPENAIS:
        assert (OWN / name).read_bytes() == (WIRE / name).read_bytes()
    assert msgspec.json.decode((OWN / GOOGLES).read_bytes()) == names_and_types(
        msgspec.json.decode((WIRE / GOOGLES).read_bytes())
    )
