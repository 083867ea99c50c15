"""Several findings about one variable."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EvidenceError, likelihood

MODEL = pgnn.BayesianNetwork(
    [("x", "y")],
    {"x": [0.2, 0.8], "y": [[0.9, 0.1], [0.3, 0.7]]},
    states={"x": 2, "y": ["no", "yes"]},
)


@pytest.mark.parametrize(
    "finding",
    [
        likelihood([0.5, 0.2], [0.4, 0.9], [1.0, 1.0]),
        likelihood({"no": 0.5, "yes": 0.2}, {"yes": 0.9, "no": 0.4}),
        likelihood(torch.tensor([0.5, 0.2]).double(), [0.4, 0.9], [np.nan, np.nan]),
    ],
    ids=["lists", "mappings", "tensors"],
)
def test_likelihoods_are_multiplied(finding):
    found = MODEL.query("x", {"y": finding})
    other = MODEL.query("x", {"y": likelihood([0.5 * 0.4, 0.2 * 0.9])})
    torch.testing.assert_close(found["x"].probs, other["x"].probs)
    torch.testing.assert_close(found.log_evidence, other.log_evidence)


def test_rows_and_gradients():
    rows = likelihood([[0.5, 0.2], [np.nan, np.nan]], [0.4, 0.9])
    found = MODEL.query("x", {"y": rows})["x"].probs
    second = MODEL.query("x", {"y": likelihood([0.4, 0.9])})["x"].probs
    torch.testing.assert_close(found[1], second)
    own = torch.tensor([0.5, 0.2], dtype=torch.float64, requires_grad=True)
    MODEL.query("x", {"y": likelihood(own, [0.4, 0.9])}).log_evidence.backward()
    assert own.grad is not None
    assert bool((own.grad > 0).all())


def test_different_forms_are_refused():
    for other in ([0.4, 0.9], {"no": 0.4}):
        with pytest.raises(EvidenceError, match="several findings about one variable"):
            likelihood({"no": 0.5, "yes": 0.2}, other)
