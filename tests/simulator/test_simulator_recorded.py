"""Recorded requests that Google answered: the law must let every one of them pass."""

from __future__ import annotations

import pytest

from tests.corpus import listed, path_of, rows
from tests.simulator.asking import google, post, read, request

UPSTREAMS = {"aistudio": "ai_studio", "vertex": "vertex", "codeassist": "code_assist"}


def _accepted() -> list[tuple[str, str, str, str]]:
    """Return (request file, upstream, model, method) of everything that was answered with 200."""
    methods = {"unary": "generateContent", "stream": "streamGenerateContent", "countTokens": "countTokens"}
    found = {
        (row["request"], row["model"], methods[row["kind"]])
        for row in rows()
        if row["request"] and row["status"] == "200" and row["kind"] in methods
    }
    for row in rows():
        for asked in row.get("answered", "").split():  # the answers themselves need not be there
            method, _, model = asked.partition(":")
            found.add((row["file"], model, method))
    return sorted((file, UPSTREAMS[file.split("__")[1]], model, method) for file, model, method in found)


@pytest.mark.parametrize(("file", "upstream", "name", "method"), _accepted())
def test_request_that_google_answered_is_lawful(file: str, upstream: str, name: str, method: str) -> None:
    target = google()
    target.accept_any_signature = True
    target.allow_models.add(name)
    body = path_of(f"corpus/{file}").read_bytes()
    answer = post(target, body, upstream=upstream, name=name, method=method)
    assert answer.status == 200, read(answer)


def test_corpus_has_the_requests_that_are_meant() -> None:
    assert len(_accepted()) > 100


@pytest.mark.parametrize("file", [path.name for path in listed("corpus/requests/*__codeassist__*")])
def test_derived_envelope_is_readable(file: str) -> None:
    """These are recorded requests put into an envelope by hand; only their outer form is Code Assist's."""
    answer = google().answer(
        request("POST", "/v1internal:generateContent", path_of(f"corpus/requests/{file}").read_bytes())
    )
    assert answer.status == 401
