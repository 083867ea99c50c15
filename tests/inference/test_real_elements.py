"""Elements of real arrays as targets, and partially observed arrays, by every engine."""

import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError
from pgnn.inference.engine import Engine

NAN = float("nan")
X = torch.arange(5.0)
Y = [0.1, 1.1, 1.9, NAN, NAN]
MEAN, VARIANCE = 14 / 15, 1 / 21  # of b: precision 1 + 4 (1 + 4), mean 4 (1.1 + 2 * 1.9) / 21
CHAINS = pgnn.MCMC(seed=0, warmup=200, samples=500, progress=False)


def regression() -> None:
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 5):
        pyro.sample("y", dist.Normal(b * X, 0.5))


def program() -> pgnn.Program:
    return pgnn.Program(regression)


def network(covariance: torch.Tensor | None = None) -> pgnn.BayesianNetwork:
    b, y = pgnn.Variable("b"), pgnn.Variable("y", shape=(5,))
    noise = 0.25 * torch.eye(5) if covariance is None else covariance
    conditionals = {
        "b": pgnn.Gaussian(b, mean=0.0, covariance=1.0),
        "y": pgnn.LinearGaussian(y, [b], X[:, None], torch.zeros(5), covariance=noise),
    }
    return pgnn.BayesianNetwork([("b", "y")], conditionals)


ENGINES = [
    CHAINS,
    pgnn.ExecutionSampling(seed=0),
    pgnn.Variational(seed=0, progress=False, objective=pgnn.Elbo(num_particles=8)),
]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
def test_partially_observed_arrays_of_programs_and_their_elements(engine: Engine) -> None:
    answer = program().query(["b", "y"], {"y": Y}, engine=engine)
    y = answer["y"]
    deviations = np.sqrt([0.25 + x * x * VARIANCE for x in (3, 4)])
    assert y.mean[:3].tolist() == pytest.approx(Y[:3])  # observed: a point
    assert y.std[:3].tolist() == [0.0, 0.0, 0.0]
    # at least 1,000 effective draws of the standard deviation: 5 standard errors
    error = 5 * deviations / np.sqrt(1000)
    assert (np.abs(y.mean[3:].numpy() - [3 * MEAN, 4 * MEAN]) < error).all()
    assert np.abs(y.std[3:].numpy() - deviations).max() < error.max()
    single = program().query(["b", ("y", 3)], {"y": Y}, engine=engine)
    assert [*single] == ["b", ("y", 3)]
    assert single["y", 3].mean == y.mean[3] == answer["y", 3].mean
    assert ("y", 3) in answer
    assert ("y", 5) not in answer
    assert single.summary().index.tolist() == ["b", "('y', 3)"]
    with pytest.raises(EvidenceError, match=r"\('y', 0\) is real and observed"):
        program().query(("y", 0), {"y": Y}, engine=engine)


def test_elements_have_exact_posteriors() -> None:
    model = network()
    answer = model.query([("y", 3), "b", ("y", 4)], {"y": Y})
    assert [*answer] == [("y", 3), ("y", 4), "b"]
    assert float(answer["y", 3].mean) == pytest.approx(3 * MEAN, rel=1e-9)
    assert float(answer["y", 4].variance) == pytest.approx(0.25 + 16 * VARIANCE, rel=1e-6)
    assert float(pickle.loads(pickle.dumps(answer))["y", 4].mean) == pytest.approx(4 * MEAN)
    batch = model.query(("y", 3), {"y": [Y, [NAN] * 5]})
    assert batch["y", 3].mean.tolist() == pytest.approx([3 * MEAN, 0.0])
    assert batch.frame().shape == (2, 5)


def test_an_element_of_a_vector_in_a_mixture_has_an_exact_posterior() -> None:
    z, y = pgnn.Variable("z", 2), pgnn.Variable("y", shape=(2,))
    mixture = pgnn.Gaussian(y, [z], [[0.0, 1.0], [2.0, 5.0]], torch.eye(2).expand(2, 2, 2))
    model = pgnn.BayesianNetwork([("z", "y")], {"z": [0.25, 0.75], "y": mixture})
    answer = model.query([("y", 1), "z"])
    assert float(answer["y", 1].mean) == pytest.approx(4.0)  # .25 * 1 + .75 * 5
    assert float(answer["y", 1].variance) == pytest.approx(1 + 0.25 * 0.75 * 16)
    assert answer["z"].probs.tolist() == pytest.approx([0.25, 0.75])


def test_the_elements_of_real_units_are_targets() -> None:
    machine = pgnn.RestrictedBoltzmannMachine(pgnn.Variable("v", shape=(3,)), 2)
    name = "v"
    with torch.no_grad():
        whole, answer = machine.query(name), machine.query([(name, 2), (name, 0)])
    assert float(answer[name, 2].mean) == pytest.approx(float(whole[name].mean[2]))
    assert float(answer[name, 0].std) == pytest.approx(float(whole[name].std[0]))


@pytest.mark.parametrize(
    "engine",
    [CHAINS, pgnn.Variational(guide=pgnn.FullRankNormal(), seed=0, progress=False)],
    ids=lambda e: type(e).__name__,
)
def test_missing_numbers_of_a_vector_depend_on_its_observed_ones(engine: Engine) -> None:
    covariance = 0.25 * (0.2 * torch.eye(5) + 0.8)
    model = network(covariance)
    exact = model.query(["b", "y"], {"y": Y})
    estimate = model.query(["b", "y"], {"y": Y}, engine=engine)
    spread = exact["y"].std[3:]
    assert ((estimate["y"].mean - exact["y"].mean)[3:].abs() < 5 * spread / 1000**0.5).all()
    assert ((estimate["y"].std[3:] - spread).abs() < 5 * spread / 1000**0.5).all()


def test_names_that_are_wrong_are_refused() -> None:
    model = network()
    for wrong in (["y", ("y", 1)], [("y", 1), ("y", 1)]):
        with pytest.raises(EvidenceError, match=r"\('y', 1\) is named twice"):
            model.query(wrong)
    with pytest.raises(EvidenceError, match=r"unknown variable \('y', 5\)"):
        model.query(("y", 5))
    with pytest.raises(EvidenceError, match="expected the name of a variable"):
        model.query([["y"]])


def test_one_row_of_evidence_is_a_table_of_one_row() -> None:
    model = program()
    table = model.impute({"y": Y, "b": None}, engine=CHAINS)
    assert len(table) == 1
    assert table["y"][0][:3].tolist() == Y[:3]
    assert abs(table["y"][0][3] - 3 * MEAN) < 5 * 0.83 / np.sqrt(1000)
    assert abs(table["b"][0] - MEAN) < 5 * VARIANCE**0.5 / np.sqrt(1000)
    first, second = model.impute({"y": torch.tensor(Y)}, draws=2, engine=CHAINS, seed=0)
    assert first["y"][0][:3].tolist() == pytest.approx(Y[:3])
    assert first["y"][0][3] != second["y"][0][3]
    assert network().impute({"y": Y})["y"][0][3:].tolist() == pytest.approx([3 * MEAN, 4 * MEAN])


def test_a_leaf_of_another_distribution_beside_hidden_reals() -> None:
    z, r, y, w = pgnn.Variable("z", 2), *map(pgnn.Variable, "ryw")
    conditionals = {
        "z": [0.3, 0.7],
        "r": pgnn.Gaussian(r, mean=0.0, covariance=1.0),
        "w": pgnn.LinearGaussian(w, [r], [1.0], 0.0, covariance=1.0),
        "y": pgnn.Distributional(y, [z], dist.Exponential, rate=[1.0, 3.0]),
    }
    model = pgnn.BayesianNetwork([("z", "y"), ("r", "w")], conditionals)
    answer = model.query(["r", "z"], {"y": 1.0, "w": 2.0}, engine=CHAINS)
    weights = np.array([0.3 * np.exp(-1.0), 0.7 * 3.0 * np.exp(-3.0)])
    assert answer["z"].probs.tolist() == pytest.approx((weights / weights.sum()).tolist())
    assert abs(float(answer["r"].mean) - 1.0) < 5 * 0.5**0.5 / np.sqrt(500)


def test_elements_are_not_maximised_or_joined_without_their_arrays() -> None:
    a, y = pgnn.Variable("a", 2), pgnn.Variable("y", shape=(2,))
    normal = pgnn.Gaussian(
        y, [a], [[0.0, 0.0], [0.0, 5.0]], [np.diag([1e-4, 1.0]), np.diag([1.0, 1.0])]
    )
    model = pgnn.BayesianNetwork([("a", "y")], {"a": [0.3, 0.7], "y": normal})
    with pytest.raises(pgnn.Unsupported, match="name the whole array 'y'"):
        model.most_probable(targets=["a", ("y", 1)])
    assert model.most_probable(targets=["a", "y"])["a"] == 0
    answer = model.query([("y", 0), ("y", 1)])
    with pytest.raises(pgnn.Unsupported, match="query the whole array"):
        answer.joint(("y", 0), ("y", 1))
