"""Single rows: by one plan for any evidence, or by a plan for what they observe."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact import row_answer
from pgnn.inference.exact.row_answer import RowAnswer
from pgnn.inference.exact.solver import Solver
from tests.inference.random_graphs import KINDS, RandomGraph, everything, planning

SEEDS = st.integers(0, 2**31)


def answer_of(
    case: RandomGraph, wanted: np.ndarray, observed: np.ndarray | None = None
) -> RowAnswer:
    answer = Solver(case.graph).row_answer(wanted, observed)
    assert answer is not None
    return answer


def check(answer: RowAnswer, case: RandomGraph, wanted: np.ndarray) -> None:
    columns = np.repeat(wanted, case.graph.card)
    for row in range(len(case.codes)):
        codes = case.codes[row : row + 1]
        assert answer.accepts(codes)
        numbers = answer(codes)
        if np.isneginf(case.log_evidence[row]):
            assert numbers is None
            continue
        assert numbers is not None
        np.testing.assert_allclose(numbers[0], case.log_evidence[row], atol=1e-9)
        np.testing.assert_allclose(numbers[1][0], case.marginals()[row, columns], atol=1e-9)


@given(SEEDS, st.sampled_from(KINDS), st.booleans())
def test_every_row_is_answered(seed: int, kind: str, by_pattern: bool) -> None:
    case = RandomGraph(seed, kind, rows=4)
    wanted = np.random.default_rng(seed).random(len(case.names)) < 0.6
    with planning(free=by_pattern):
        answer = answer_of(case, wanted)
        check(answer, case, wanted)
        assert bool(answer._by_pattern) == by_pattern
        check(answer, case, wanted)  # from memory


@given(SEEDS, st.sampled_from(KINDS))
def test_what_every_row_observes_is_known(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind, rows=1)
    observed = case.codes[0] >= 0
    answer = answer_of(case, everything(case.graph), observed)
    check(answer, case, everything(case.graph))
    if observed.any():
        assert not answer.accepts(np.full_like(case.codes, -1))


def test_plans_are_kept_for_a_bounded_number_of_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_answer, "REMEMBERED", 3)
    case = RandomGraph(0, "tree", rows=1)
    with planning(free=True):
        answer = answer_of(case, everything(case.graph))
    for v in range(len(case.names)):
        codes = np.full_like(case.codes, -1)
        codes[0, v] = 0
        answer(codes)
    assert len(answer._by_pattern) == 3


def test_long_work_is_left_to_what_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_answer, "WORTH_WAITING", 1)
    case = RandomGraph(0, "tree", rows=1)
    assert answer_of(case, everything(case.graph))(case.codes) is None
