"""What holds of every family: broken numbers, no rows, no draws, far too many answers."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, Intractable, ModelError, Unsupported

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3)) @ RNG.normal(size=(3, 3))
BITS = {"a": X[:, 0] > 0, "b": X[:, 1] > 0, "c": X[:, 2] > 0}
ROWS = {n: x.astype(int) for n, x in BITS.items()}


def trees(count: int) -> list[pgnn.ChowLiuTree]:
    return [pgnn.ChowLiuTree(pgnn.states_of(ROWS)).fit(ROWS, progress=False) for _ in range(count)]


MAKE: dict[str, Any] = {
    "tree": lambda: (trees(1)[0], {"a": 1}),
    "mixture of models": lambda: (pgnn.ModelMixture(trees(2), [0.4, 0.6]), {"a": 1}),
    "mixture": lambda: (
        pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit({"x": X[:, 0]}, seed=0, progress=False),
        {"x": 0.3},
    ),
    "factors": lambda: (pgnn.FactorAnalysis(1).fit(X), {"x": X[0]}),
    "discriminant": lambda: (
        pgnn.GaussianDiscriminant().fit({"class": ROWS["a"], "x": X}, progress=False),
        {"x": X[0]},
    ),
    "chain": lambda: (
        pgnn.HiddenMarkovModel(2, {"r": [[0.9, 0.1], [0.3, 0.7]]}, [0.5, 0.5], [[0.9, 0.1]] * 2),
        {"r": [0, 1, 1]},
    ),
    "linear system": lambda: (
        pgnn.LinearDynamicalSystem(
            1, 1, [[1.0]], [[1.0]], [[1.0]], [[1.0]], [0.0], [[1.0]], observation_offset=[0.0]
        ),
        {"observation": [[1.0], [2.0]]},
    ),
}
OVER_TIME = {"chain", "linear system"}
VERBS = {
    "query": lambda m, e, over_time: m.smooth(e) if over_time else m.query(None, e),
    "sample": lambda m, e, over_time: m.sample(3, {"T": 3} if over_time else None),
    "log_prob": lambda m, e, over_time: m.log_prob(e if over_time else [e, e]),
    "most_probable": lambda m, e, over_time: m.decode(e) if over_time else m.most_probable(e),
}


@pytest.fixture(scope="module", params=MAKE)
def family(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    return (request.param, *MAKE[request.param]())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused_by_every_verb(family, bad, tmp_path) -> None:
    name, model, observed = family
    for k, parameter in enumerate(model.parameters()):
        if not parameter.numel():
            continue
        broken = copy.deepcopy(model)
        with torch.no_grad():
            [*broken.parameters()][k].view(-1)[0] = bad
        for verb in VERBS.values():
            with pytest.raises(ModelError, match=r"among its numbers|not NaN"):
                verb(broken, observed, name in OVER_TIME)
        with pytest.raises(ModelError, match=r"among its numbers"):
            broken.save(tmp_path / "broken.pgnn")


def test_no_draws_and_no_rows(family) -> None:
    name, model, observed = family
    if name in OVER_TIME:
        return
    drawn = model.sample(0)
    assert all(len(drawn[v.name]) == 0 for v in drawn.variables)
    none = {n: np.zeros((0, *np.shape(x))) for n, x in observed.items()}
    assert model.query(None, none).log_evidence.shape == (0,)


def test_more_answers_than_fit_are_refused_at_once(family) -> None:
    name, model, observed = family
    if name not in OVER_TIME:
        with pytest.raises((Intractable, Unsupported)):
            model.most_probable(observed, k=10**10)


@pytest.mark.parametrize("name", ["tree", "mixture of models"])
def test_whatever_has_tables_is_written(name, tmp_path) -> None:
    model, _ = MAKE[name]()
    pgnn.write(model, tmp_path / "model.uai")
    other = pgnn.read(tmp_path / "model.uai")
    first = int(name != "tree")  # the component has the number 0 or the last
    assert float(other.query(None).log_evidence) == pytest.approx(0.0, abs=1e-6)
    assert len(other.variables) == 3 + first


def test_numbers_whose_squares_are_infinite_are_told() -> None:
    with pytest.raises(DataError, match="take other units"):
        pgnn.FactorAnalysis(1).fit(1e300 * X)


@pytest.mark.parametrize("kind", [pgnn.FactorAnalysis, pgnn.PrincipalComponents])
def test_too_many_factors_are_refused_at_once(kind) -> None:
    with pytest.raises(Intractable, match="1,000,000,000 factors"):
        kind(10**9)
