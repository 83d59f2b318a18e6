"""The faults of an upstream, on an API that makes one answer of three calls."""

from __future__ import annotations

import pytest

from tests.apis.three_calls import THREE_CALLS
from tests.faults.api_matrix import CORE, UNARY, judge, judge_memory, measured
from tests.faults.matrix import Matrix
from tests.faults.upstream_faults import Fault, Moment


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return measured(THREE_CALLS, UNARY, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize(("fault", "moment"), CORE, ids=[f"{fault.name} {moment}" for fault, moment in CORE])
def test_fault_is_healed_or_told(matrix: Matrix, fault: Fault, moment: Moment) -> None:
    judge(matrix, fault, moment, UNARY, calls=3)


def test_no_answer_stays_in_memory(matrix: Matrix) -> None:
    judge_memory(matrix)
