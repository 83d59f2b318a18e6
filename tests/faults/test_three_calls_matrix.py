"""The faults of an upstream, on an API that makes one answer of three calls."""

from __future__ import annotations

import pytest

from tests.apis.three_calls import THREE_CALLS
from tests.faults.api_matrix import UNARY, cells, judge, judge_memory, measured
from tests.faults.matrix import Matrix
from tests.faults.upstream_faults import Column, Fault, Moment


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return measured(THREE_CALLS, UNARY, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize(("fault", "moment", "column", "often"), cells(UNARY))
def test_fault_is_healed_or_told(matrix: Matrix, fault: Fault, moment: Moment, column: Column, often: str) -> None:
    judge(matrix, fault, moment, column, often, calls=3)


def test_no_answer_stays_in_memory(matrix: Matrix) -> None:
    judge_memory(matrix)
