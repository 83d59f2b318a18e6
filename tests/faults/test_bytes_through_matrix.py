"""The faults of an upstream, on an API that passes Gemini's bytes through."""

from __future__ import annotations

import pytest

from tests.apis.bytes_through import BYTES_THROUGH
from tests.faults.api_matrix import CORE, judge, judge_memory, measured
from tests.faults.matrix import Matrix
from tests.faults.upstream_faults import KINDS, Fault, Moment


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return measured(BYTES_THROUGH, KINDS, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize(("fault", "moment"), CORE, ids=[f"{fault.name} {moment}" for fault, moment in CORE])
def test_fault_is_healed_or_told(matrix: Matrix, fault: Fault, moment: Moment) -> None:
    judge(matrix, fault, moment, KINDS)


def test_no_answer_stays_in_memory(matrix: Matrix) -> None:
    judge_memory(matrix)
