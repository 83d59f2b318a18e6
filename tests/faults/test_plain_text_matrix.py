"""The faults of an upstream, on an API that answers in plain text."""

from __future__ import annotations

import pytest

from tests.apis.plain_text import PLAIN_TEXT
from tests.faults.api_matrix import CORE, judge, judge_memory, measured
from tests.faults.matrix import Matrix
from tests.faults.upstream_faults import KINDS, Fault, Moment


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return measured(PLAIN_TEXT, KINDS, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize(("fault", "moment"), CORE, ids=[f"{fault.name} {moment}" for fault, moment in CORE])
def test_fault_is_healed_or_told(matrix: Matrix, fault: Fault, moment: Moment) -> None:
    judge(matrix, fault, moment, KINDS)


def test_no_answer_stays_in_memory(matrix: Matrix) -> None:
    judge_memory(matrix)
