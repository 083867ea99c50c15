"""Answers go to other processes and back: pickled, they say what they said before."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

import pgnn

MODEL = pgnn.BayesianNetwork(
    [("a", "b"), ("b", "c")],
    {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]], "c": [[0.7, 0.3], [0.4, 0.6]]},
)
EVIDENCE: list[Any] = [{"c": 1}, {"c": [0, 1]}, {"c": torch.tensor([0.3, 0.7])}, {"c": [1, None]}]


def copied(answer: Any) -> Any:
    return pickle.loads(pickle.dumps(answer))


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("engine", [None, pgnn.BeliefPropagation()])
def test_posteriors(evidence: Any, engine: Any) -> None:
    posterior = MODEL.query(None, evidence, engine=engine)
    for looked_at in (False, True):  # what was not looked at has not been made yet
        if looked_at:
            str(posterior)
        copy = copied(posterior)
        for name in MODEL.variables:
            assert torch.equal(copy[name].probs, posterior[name].probs)
        assert str(copy) == str(posterior)
    assert torch.equal(copied(posterior["a"]).probs, posterior["a"].probs)
    if engine is None:
        joint, again = posterior.joint("b", "a"), copied(posterior).joint("b", "a")
        torch.testing.assert_close(again.values, joint.values)
        with pytest.raises(pgnn.errors.EvidenceError, match="unknown variable 'x'"):
            copied(posterior).joint("x")


def test_assignments_and_samples() -> None:
    best, three = MODEL.most_probable({"c": 1}), MODEL.most_probable({"c": 1}, k=3)
    assert dict(copied(best)) == dict(best)
    assert [dict(x) for x in copied(three)] == [dict(x) for x in three]
    samples = MODEL.sample(5, {"c": 1}, seed=0)
    assert torch.equal(copied(samples).codes, samples.codes)


@pytest.mark.parametrize("observed", [None, ["c"]])
def test_compiled_queries(observed: Any) -> None:
    query = MODEL.compile(["b", "a"], observed)
    row = [1] if observed else [-1, -1, 1]
    for asked in (False, True):  # what is prepared for this process is not taken along
        if asked:
            query(row)
        copy = copied(query)
        for codes in (row, [row, row]):
            np.testing.assert_array_equal(copy(codes).marginals, query(codes).marginals)
            np.testing.assert_array_equal(copy(codes).log_evidence, query(codes).log_evidence)
        assert copy.columns == query.columns
