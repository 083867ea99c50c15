"""What a program computes as targets; draws of what was not observed; powers."""

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pgnn


def shifted() -> None:
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    pyro.deterministic("twice", 2 * m)
    pyro.deterministic("both", torch.stack([m, -m]))
    pyro.sample("y", dist.Normal(m, 1.0))


def summed() -> None:
    a = pyro.sample("a", dist.Bernoulli(0.3))
    b = pyro.sample("b", dist.Bernoulli(0.4))
    pyro.sample("s", dist.Delta(a + b))
    pyro.sample("y", dist.Normal(a + b, 1.0))


def branching() -> None:
    n = pyro.sample("n", dist.Bernoulli(0.5))
    d = torch.tensor(0.0)
    if n.item() > 0.5:
        d = pyro.sample("d", dist.Delta(torch.tensor(2.0)))
    pyro.deterministic("e", d + 1)
    pyro.sample("y", dist.Normal(d, 1.0))


ENGINES = [
    pgnn.MCMC(warmup=300, samples=600, seed=0, progress=False),
    pgnn.Variational(seed=0, progress=False),
    pgnn.ExecutionSampling(20_000, seed=0, progress=False),
]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
def test_of_real_draws(engine: pgnn.Engine) -> None:
    # m given y = 2 is normal with mean 1 and variance 1/2: twice it has mean 2, deviation 1.414
    found = pgnn.Program(shifted).query(["twice", "both", "m"], {"y": 2.0}, engine=engine)
    assert abs(float(found["twice"].mean) - 2.0) < 0.15
    assert abs(float(found["twice"].std) - 2.0**0.5) < 0.15
    np.testing.assert_allclose(found["both"].mean, [1.0, -1.0], atol=0.1)
    assert abs(float(found["m"].mean) - 1.0) < 0.1


def test_of_discrete_draws_in_rows() -> None:
    rows = torch.tensor([2.0, 0.0])
    found = pgnn.Program(summed).query(["s", "a"], {"y": rows})
    prior = np.array([0.42, 0.46, 0.12])
    likelihood = np.exp(-0.5 * (rows.numpy()[:, None] - np.arange(3)) ** 2)
    joint = prior * likelihood
    right = (joint @ np.arange(3)) / joint.sum(1)
    np.testing.assert_allclose(found["s"].mean, right, atol=0.06)
    exact = pgnn.Program(summed).query("a", {"y": rows})
    np.testing.assert_allclose(found["a"].probs, exact["a"].probs, atol=0.05)


def test_that_are_not_in_every_execution() -> None:
    program = pgnn.Program(branching)
    found = program.query(["d", "e", "n"], {"y": 2.0})
    one = float(program.query("n", {"y": 2.0})["n"].probs[1])
    assert float(found["d"].mean) == pytest.approx(2.0)  # given that there is one
    assert abs(float(found["e"].mean) - (1 + 2 * one)) < 0.1
    assert abs(float(found["n"].probs[1]) - one) < 0.05
    with pytest.raises(pgnn.EvidenceError, match="unknown variable 'f'"):
        program.query(["d", "f"], {"y": 2.0})


def partly(size: int = 4) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", size):
        pyro.sample("y", dist.Normal(mu, 1.0))


def test_cells_that_were_not_observed_are_drawn() -> None:
    engine = pgnn.MCMC(warmup=200, samples=500, seed=0, progress=False)
    drawn = pgnn.Program(partly).sample(2000, {"y": [1.0, None, 3.0, None]}, engine=engine, seed=1)
    y, mu = drawn["y"], drawn["mu"]
    assert not bool(y.isnan().any())
    assert y[:, 0].eq(1.0).all()
    assert y[:, 2].eq(3.0).all()
    rest = y[:, [1, 3]] - mu[:, None]  # standard normal, whatever mu
    assert abs(float(rest.mean())) < 4 / 4000**0.5
    assert abs(float(rest.std()) - 1.0) < 4 / 8000**0.5
    guided = pgnn.Variational(max_iterations=0, seed=0, progress=False)
    one, two = (
        pgnn.Program(partly).sample(5, {"y": [1.0, None, 3.0, None]}, engine=guided, seed=1)["y"]
        for _ in range(2)
    )
    assert not bool(one.isnan().any())
    assert torch.equal(one, two)


def scaled(scale: float) -> Callable[[], None]:
    def program() -> None:
        with poutine.scale(scale=scale):
            z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.8])))
            with pyro.plate("rows", 4):
                pyro.sample("y", dist.Normal(torch.tensor([-1.0, 1.0])[z], 1.0))

    return program


def test_best_states_have_the_power() -> None:
    observed = {"y": torch.tensor([0.3, -1.2, 2.2, 0.9])}
    for scale in (1.0, 0.25):
        program = pgnn.Program(scaled(scale))
        best, two = program.most_probable(observed), program.most_probable(observed, k=2)
        both = [program.log_prob({**observed, "z": z}) for z in (0, 1)]
        torch.testing.assert_close(best.log_prob.float(), max(both))
        torch.testing.assert_close(best.upper_bound.float(), max(both))
        torch.testing.assert_close(two.log_prob.float(), torch.stack(both).sort(descending=True)[0])


def certain() -> None:
    z = pyro.sample("z", dist.Bernoulli(0.3))
    y = pyro.sample("y", dist.Bernoulli(0.9 * z))
    pyro.deterministic("d", 2 * z + y)


def test_impossible_rows_and_exact_answers_beside_computed_values() -> None:
    program = pgnn.Program(certain)
    rows = {"y": [1, 0, 1], "z": [0, None, None]}
    answer = program.query(["z", "d"], rows, errors="nan")
    expected = program.query("z", rows, errors="nan")
    np.testing.assert_array_equal(answer["z"].probs, expected["z"].probs)
    np.testing.assert_array_equal(answer.log_evidence, expected.log_evidence)
    assert answer.kind == "exact"
    share = 0.03 / 0.73
    np.testing.assert_allclose(answer["d"].mean, [np.nan, 2 * share, 3.0], atol=0.02)
    assert answer["d"].quantile(0.5).isnan().tolist() == [True, False, False]
    with pytest.raises(pgnn.errors.ImpossibleEvidence, match="1 of 3 rows are impossible: 0"):
        program.query(["z", "d"], rows)
    alone = program.query("d", {"y": 1, "z": 0}, errors="nan")["d"]
    assert (bool(alone.mean.isnan()), alone.mean.shape) == (True, ())


def test_targets_may_be_any_iterable_and_inputs_are_refused() -> None:
    program = pgnn.Program(certain)
    answer = program.query(iter(["d", "z"]), {"y": 1})
    assert (float(answer["d"].mean), float(answer["z"].probs[1])) == pytest.approx((3.0, 1.0))
    with pytest.raises(pgnn.errors.PgnnError, match="input"):
        program.query("d", {"y": [1, 0]}, inputs={"q": torch.ones(2)})
