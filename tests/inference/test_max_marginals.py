"""The best explanation with each variable in each state, and beliefs of cliques."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EvidenceError, JunctionTree
from tests import oracle


@pytest.mark.parametrize("seed", range(4))
def test_max_marginals_by_enumeration(seed):
    net = oracle.random_network(np.random.default_rng(seed))
    model = pgnn.BayesianNetwork(net.edges, net.probabilities)
    joint = net.joint()
    found = model.max_marginals()
    for axis, name in enumerate(joint.names):
        rest = tuple(k for k in range(len(joint.names)) if k != axis)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(found[name], np.log(joint.table.max(axis=rest)), rtol=1e-9)


def field() -> pgnn.MarkovRandomField:
    return pgnn.MarkovRandomField.grid((2, 2), coupling=0.5, field=[[0.1, -0.2], [0.3, 0.0]])


def test_arrays_evidence_and_other_engines():
    found = field().max_marginals("x", {("x", 0, 1): 1})["x"]
    assert found.shape == (2, 2, 2)
    assert found[0, 1, 0] == -torch.inf
    best = field().most_probable({("x", 0, 1): 1})
    assert float(found.max()) == pytest.approx(float(best.log_prob))
    by_dual = field().max_marginals("x", {("x", 0, 1): 1}, engine=pgnn.DualDecomposition())["x"]
    torch.testing.assert_close(by_dual, found)
    with pytest.raises(EvidenceError, match="one row of evidence, got 2"):
        field().max_marginals(None, {("x", 0, 1): [0, 1]})


def test_beliefs_of_cliques_agree_about_what_they_share():
    model, observed = field(), {("x", 0, 0): 1}
    beliefs = JunctionTree().clique_beliefs(model, observed)
    assert all(len(clique) == 3 for clique in beliefs)
    assert len(beliefs) == 2
    answer = model.query(evidence=observed)
    for clique, belief in beliefs.items():
        for name in clique:
            rest = [n for n in clique if n != name]
            torch.testing.assert_close(belief.marginalize(rest).values, answer[name].probs)
