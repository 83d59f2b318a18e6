"""Recorded requests that Google answered: the law must let every one of them pass."""

from __future__ import annotations

import csv

import pytest

from tests.corpus import CORPUS, needs_wire
from tests.simulator.asking import google, post, read, request

UPSTREAMS = {"aistudio": "ai_studio", "vertex": "vertex", "codeassist": "code_assist"}


def _accepted() -> list[tuple[str, str, str, str]]:
    """Return (request file, upstream, model, method) of everything that was answered with 200."""
    if not CORPUS.exists():
        return []
    with (CORPUS / "INDEX.tsv").open() as index:
        rows = list(csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE))
    methods = {"unary": "generateContent", "stream": "streamGenerateContent", "countTokens": "countTokens"}
    found = {
        (row["request"], UPSTREAMS[row["request"].split("__")[1]], row["model"], methods[row["kind"]])
        for row in rows
        if row["request"] and row["status"] == "200" and row["kind"] in methods
    }
    return sorted(found)


@needs_wire
@pytest.mark.parametrize(("file", "upstream", "name", "method"), _accepted())
def test_request_that_google_answered_is_lawful(file: str, upstream: str, name: str, method: str) -> None:
    target = google()
    target.accept_any_signature = True
    target.allow_models.add(name)
    body = (CORPUS / file).read_bytes()
    answer = post(target, body, upstream=upstream, name=name, method=method)
    assert answer.status == 200, read(answer)


@needs_wire
def test_corpus_has_the_requests_that_are_meant() -> None:
    assert len(_accepted()) > 100


@needs_wire
@pytest.mark.parametrize("file", sorted(path.name for path in CORPUS.glob("requests/*__codeassist__*")))
def test_derived_envelope_is_readable(file: str) -> None:
    """These are recorded requests put into an envelope by hand; only their outer form is Code Assist's."""
    answer = google().answer(request("POST", "/v1internal:generateContent", (CORPUS / "requests" / file).read_bytes()))
    assert answer.status == 401
