"""Vertex AI's gate: accounts and models."""

from __future__ import annotations

import pytest

from gemproxy.simulator import Account, AccountState
from tests.simulator.asking import google, post, refused, user

BODY = {"contents": [user()]}
VERTEX: list[tuple[AccountState, int, str]] = [
    (AccountState.RATE_LIMITED, 429, "Resource exhausted. Please try again later."),
    (AccountState.EXHAUSTED, 429, "Resource exhausted."),
    (AccountState.NO_CAPACITY, 503, "The model is overloaded."),
    (AccountState.SERVICE_DISABLED, 403, "Vertex AI API has not been used in project p before"),
    (AccountState.NO_PERMISSION, 403, "Permission 'aiplatform.endpoints.predict' denied on resource"),
]


@pytest.mark.parametrize(("state", "status", "words"), VERTEX)
def test_vertex_refuses_in_its_own_words(state: AccountState, status: int, words: str) -> None:
    target = google()
    target.accounts.add(Account("fake-refresh-1", state=state))
    found, message = refused(post(target, BODY, upstream="vertex"))
    assert found == status
    assert words in message


def test_vertex_names_the_model_it_lacks() -> None:
    status, message = refused(post(google(), BODY, upstream="vertex", name="gemini-9"))
    assert status == 404
    assert "`projects/p/locations/global/publishers/google/models/gemini-9` was not found" in message


def test_any_project_and_place_will_do_for_a_healthy_account() -> None:
    assert post(google(), BODY, upstream="vertex").status == 200
