"""Log likelihoods of the states, by a way that is obviously right."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.time.emission_chain import log_field

STATE, BEFORE = pgnn.Variable("state", 2), pgnn.Variable(("x", -1), 3)
X = pgnn.Variable("x", 3)
ROWS = [[0, 1, -1, 2, 2], [], [2, 0]]


def field(emission: pgnn.Conditional, rows: list[list[int]]) -> np.ndarray:
    model = pgnn.HiddenMarkovModel(2, {"x": emission})
    observed = SequenceEvidence.read([*model.variables.values()], {"x": rows})
    found = log_field(model, observed, {})
    assert found.shape == (len(rows), 5, 2)
    assert found.dtype == torch.float64
    return found.detach().numpy()


def test_a_table_is_looked_up() -> None:
    table = np.random.default_rng(0).dirichlet(np.ones(3), 2)
    found = field(pgnn.Tabular(X, [STATE], table), ROWS)
    expected = np.zeros((3, 5, 2))
    for row, values in enumerate(ROWS):
        for step, value in enumerate(values):
            if value >= 0:
                expected[row, step] = np.log(table[:, value])
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_impossible_symbols_are_minus_infinity() -> None:
    found = field(pgnn.Tabular(X, [STATE], [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), [[0, 1, 2, 0, 0]])
    assert found[0, 1].tolist() == [pytest.approx(np.log(0.5)), -np.inf]
    assert found[0, 2].tolist() == [-np.inf, -np.inf]


def test_a_table_given_its_own_past_alone() -> None:
    table = np.random.default_rng(1).dirichlet(np.ones(3), 3)
    found = field(pgnn.Tabular(X, [BEFORE], table), [[2, 0, 1, 1, 2]])
    expected = [0.0, *np.log([table[2, 0], table[0, 1], table[1, 1], table[1, 2]])]
    np.testing.assert_allclose(found[0], np.stack([expected, expected], axis=1), atol=1e-14)


def test_a_table_without_parents() -> None:
    found = field(pgnn.Tabular(X, [], [0.2, 0.3, 0.5]), ROWS)
    assert found[0, 0] == pytest.approx(np.log(0.2))
    assert (found[1] == 0).all()
    assert (found[0, 2] == 0).all()


def test_nothing_observed() -> None:
    model = pgnn.HiddenMarkovModel(2, {"x": 3})
    observed = SequenceEvidence.read([*model.variables.values()], {"T": [5, 2]})
    assert torch.equal(log_field(model, observed, {}), torch.zeros(2, 5, 2, dtype=torch.float64))


def test_a_likelihood_that_is_not_a_number_is_named() -> None:
    def head(mean: torch.Tensor) -> torch.distributions.Distribution:
        normal = torch.distributions.Normal(mean, 1.0, validate_args=False)
        return torch.distributions.Independent(normal, 1, validate_args=False)

    y = pgnn.Variable("y", shape=(2,))
    emission = pgnn.Neural(y, [STATE], torch.nn.Linear(2, 2), head=head)
    model = pgnn.HiddenMarkovModel(2, {"y": emission})
    with pytest.raises(pgnn.EvidenceError, match="NaN at row 1, step 2"):
        model.log_prob({"y": [[[0.0, 0.0]], [[0.0, 1.0], [np.nan, np.nan], [0.0, np.nan]]]})
