"""Mixtures over time where the evidence excludes a component: against enumeration of all paths."""

import itertools

import numpy as np
import pytest
import torch

import pgnn

WEIGHTS = [0.4, 0.6]
STARTS = [[1.0, 0.0], [0.5, 0.5]]
MOVES = [np.eye(2), np.array([[0.7, 0.3], [0.2, 0.8]])]
SYMBOLS = [np.eye(2), np.array([[0.9, 0.1], [0.3, 0.7]])]
ROWS = [[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1]]  # the first component never moves


def mixture() -> pgnn.SequenceMixture:
    parts = [
        pgnn.HiddenMarkovModel(2, {"x": symbols}, start, moves)
        for symbols, start, moves in zip(SYMBOLS, STARTS, MOVES, strict=True)
    ]
    return pgnn.SequenceMixture(parts, WEIGHTS)


def enumerated(row: list[int], steps: int) -> np.ndarray:
    """``(K, *Z)`` joint probabilities of the evidence, the component and all states."""
    table = np.zeros((2, *[2] * steps))
    for k, path in itertools.product(range(2), itertools.product(range(2), repeat=steps)):
        p = WEIGHTS[k] * STARTS[k][path[0]]
        p *= np.prod([MOVES[k][a, b] for a, b in itertools.pairwise(path)])
        table[k, *path] = p * np.prod(
            [SYMBOLS[k][z, x] for z, x in zip(path, row, strict=False)]  # later ones unobserved
        )
    return table


def marginal(table: np.ndarray, axis: int) -> np.ndarray:
    total = table.sum(axis=tuple(i for i in range(table.ndim) if i != axis))
    return total / total.sum()


@pytest.mark.parametrize("engine", [None, pgnn.JunctionTree()], ids=["default", "tree"])
def test_filtered_answers_before_the_exclusion_include_the_component(engine: object) -> None:
    answer = mixture().filter({"x": ROWS}, engine=engine)
    for i, row in enumerate(ROWS):
        for t in range(len(row)):
            table = enumerated(row[: t + 1], t + 1)
            seen = [answer["component"].probs[i, t].tolist(), answer["state"].probs[i, t].tolist()]
            assert seen[0] == pytest.approx(marginal(table, 0).tolist(), abs=1e-12)
            assert seen[1] == pytest.approx(marginal(table, t + 1).tolist(), abs=1e-12)
    increments = answer.diagnostics["log_increments"]
    total = torch.where(increments.isnan(), 0.0, increments).sum(dim=1)
    expected = [np.log(enumerated(row, len(row)).sum()) for row in ROWS]
    assert total.tolist() == pytest.approx(expected, abs=1e-12)
    alone = mixture().filter({"x": ROWS[1]}, engine=engine)
    torch.testing.assert_close(alone["state"].probs, answer["state"].probs[1])


def test_predictions_of_possible_rows_ignore_the_excluded_component() -> None:
    answer = mixture().predict({"x": ROWS}, 2)
    for i, row in enumerate(ROWS):
        table = enumerated(row, len(row) + 2)
        assert float(answer.log_evidence[i]) == pytest.approx(np.log(table.sum()), abs=1e-12)
        for h in range(2):
            expected = marginal(table, len(row) + 1 + h)
            assert answer["state"].probs[i, h].tolist() == pytest.approx(expected.tolist())
    alone = mixture().predict({"x": ROWS[1]}, 2)
    torch.testing.assert_close(alone["x"].probs, answer["x"].probs[1])
    with pytest.raises(pgnn.errors.ImpossibleEvidence, match="row 1, from step 1 on"):
        mixture().predict({"x": ROWS, "component": [1, 0, 1, 1]}, 2)
