"""Pseudo-counts: for all tables, or by name."""

import numpy as np
import pytest

from pgnn import EM, BayesianNetwork, BDeu, Dirichlet, Laplace, MaximumLikelihood, ModelError

DATA = {"x": [0, 0, 1], "y": ["a", "b", "b"]}


def fitted(prior):
    model = BayesianNetwork([("x", "y")], states={"x": 2, "y": ["a", "b"]})
    return model.fit(DATA, learner=MaximumLikelihood(prior))


def x_and_y(prior):
    model = fitted(prior)
    return model.conditionals["x"].probs.detach(), model.conditionals["y"].probs.detach()


def test_by_name_and_none_for_the_others():
    for prior, alpha in (
        (BDeu({"x": 10}), 5.0),
        (Laplace({"x": 2}), 2.0),
        (Dirichlet({"x": 2}), 2.0),
    ):
        x, y = x_and_y(prior)
        np.testing.assert_allclose(
            x, [(2 + alpha) / (3 + 2 * alpha), (1 + alpha) / (3 + 2 * alpha)]
        )
        np.testing.assert_allclose(y, [[0.5, 0.5], [0.0, 1.0]])


def test_one_number_for_all():
    for own, other in zip(x_and_y(Dirichlet(2.0)), x_and_y(Laplace(2.0)), strict=True):
        np.testing.assert_allclose(own, other)


@pytest.mark.parametrize("kind", [BDeu, Laplace, Dirichlet])
def test_what_is_wrong_is_told(kind):
    with pytest.raises(ModelError, match=r"did you mean|known"):
        fitted(kind({"xx": 1.0}))
    with pytest.raises(ModelError, match="not negative"):
        fitted(kind({"x": -1.0}))
    with pytest.raises(ModelError, match="must be a number, or a mapping"):
        kind("10")


def test_em_checks_names_too():
    model = BayesianNetwork([("x", "y")], states={"x": 2, "y": ["a", "b"]})
    with pytest.raises(ModelError, match="'zz'"):
        model.fit(DATA, learner=EM(BDeu({"zz": 1.0})), progress=False)
