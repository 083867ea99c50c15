"""Classification EM, and engines in the E-step, of mixtures and of models over time."""

import itertools

import numpy as np
import pytest

import pgnn
from pgnn import EM, BeliefPropagation, Gaussian, HiddenMarkovModel, Mixture, ModelMixture
from pgnn.errors import Unsupported

HARD = EM(hard=True, accelerate=False)


def test_segmental_k_means_of_a_chain() -> None:
    random = np.random.default_rng(0)
    model = HiddenMarkovModel(
        2, {"x": random.dirichlet(np.ones(3), 2)}, [0.5, 0.5], random.dirichlet(np.ones(2), 2)
    ).requires_grad_()
    data = [[0, 2, 1, 1], [2, 2, -1]]
    before = [p.probs.detach().numpy() for p in (model.transitions, model.emissions["x"])]
    best = []
    for row in data:
        paths = itertools.product(range(2), repeat=len(row))
        best.append(max(paths, key=lambda z, r=row: _score(z, r, *before)))
    with pytest.warns(pgnn.NotConverged):
        model.fit({"x": data}, learner=EM(hard=True, max_iterations=1), progress=False)
    counts = np.zeros((2, 3))
    for path, row in zip(best, data, strict=True):
        for z, x in zip(path, row, strict=True):
            if x >= 0:
                counts[z, x] += 1
    observed = counts.sum(1) > 0
    expected = counts[observed] / counts[observed].sum(1, keepdims=True)
    np.testing.assert_allclose(model.emissions["x"].probs.detach()[observed], expected, atol=1e-12)


def _score(path, row, moves, emits) -> float:
    value = np.prod([moves[a, b] for a, b in itertools.pairwise(path)])
    return float(value * np.prod([emits[z, x] for z, x in zip(path, row, strict=True) if x >= 0]))


@pytest.mark.parametrize("kind", ["mixture", "trees", "slices"])
def test_completed_rows_never_become_less_probable(kind: str) -> None:
    random = np.random.default_rng(0)
    if kind == "mixture":
        model: pgnn.Model = Mixture(2, {"x": Gaussian})
        data = {"x": random.normal(size=(60, 2)) + 4.0 * random.integers(0, 2, (60, 1))}
    elif kind == "trees":
        states = dict.fromkeys("abc", 2)
        model = ModelMixture([pgnn.ChowLiuTree(states) for _ in range(2)])
        data = pgnn.codes({n: random.integers(0, 2, 50) for n in states})
    else:
        model = pgnn.DynamicBayesianNetwork(
            [(("h", -1), "h"), ("h", "x"), ("h", "y")], states={"h": 2, "x": 2, "y": 3}
        )
        data = {"x": random.integers(0, 2, (4, 8)), "y": random.integers(0, 3, (4, 8))}
    model.fit(data, learner=HARD, seed=0, progress=False)
    assert (np.diff(model.history["trace"]["objective"]) > -1e-8).all()
    if kind == "mixture":
        assert sorted(round(x) for x in model.history["occupancy"]) != [0, 60]


def test_engines_that_are_exact_on_trees_take_the_same_steps() -> None:
    random = np.random.default_rng(0)
    chain = HiddenMarkovModel(
        2, {"x": random.dirichlet(np.ones(3), 2)}, [0.4, 0.6], random.dirichlet(np.ones(2), 2)
    ).requires_grad_()
    data = {"x": random.integers(0, 3, (3, 5))}
    values = []
    for engine in (None, BeliefPropagation(tolerance=1e-12)):
        own = HiddenMarkovModel(2, {"x": 3})
        own.load_state_dict(chain.state_dict())
        with pytest.warns(pgnn.NotConverged):
            own.fit(data, learner=EM(engine=engine, max_iterations=4, accelerate=False,
                                     initialize=False), progress=False)  # fmt: skip
        values.append(own.history["trace"]["log_likelihood"])
    np.testing.assert_allclose(*values, rtol=1e-7)
    with pytest.raises(Unsupported, match="exact"):
        pgnn.LinearDynamicalSystem(1, 1).fit(
            {"observation": [[0.0], [1.0]]}, learner=EM(engine=BeliefPropagation()), progress=False
        )
