"""Computed values come from the very draws that the engine was asked for."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn


def doubled() -> None:
    a = pyro.sample("a", dist.Gamma(2.0, 1.0))
    pyro.deterministic("b", 2 * a)
    pyro.sample("y", dist.Poisson(a))


def switched() -> None:
    z = pyro.sample("z", dist.Bernoulli(0.4))
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    pyro.deterministic("sum", m + 10 * z)
    pyro.sample("y", dist.Normal(m + z, 1.0))


def sometimes() -> None:
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    if float(z.detach()) > 0.0:
        pyro.deterministic("d", m + 5.0)
    pyro.sample("y", dist.Normal(m, 1.0))


def line(x: torch.Tensor) -> None:
    a = pyro.sample("a", dist.Normal(0.0, 10.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("n", len(x)):
        pyro.sample("y", dist.Normal(a + b * x, 0.1))


CHAIN = pgnn.MCMC(seed=0, samples=100, warmup=100, chains=2, progress=False)
GUIDE = pgnn.Variational(max_iterations=200, num_samples=50, seed=0, progress=False)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_the_chain_that_was_asked_for_answers() -> None:
    program = pgnn.Program(doubled)
    found = program.query(["a", "b"], {"y": 3}, engine=CHAIN)
    plain = program.query("a", {"y": 3}, engine=CHAIN)
    a, b = found["a"].samples, found["b"].samples
    assert a.shape == (2, 100)
    assert torch.equal(a, plain["a"].samples)
    torch.testing.assert_close(b, 2 * a.double())
    size = found["a"].effective_sample_size
    assert float(size) == float(plain["a"].effective_sample_size) < 200
    assert found["b"].r_hat == pytest.approx(float(found["a"].r_hat))
    assert found.diagnostics["r_hat"]["b"] == pytest.approx(found.diagnostics["r_hat"]["a"])
    assert found.diagnostics["effective_sample_size"]["b"] == pytest.approx(float(size))
    torch.testing.assert_close(found.samples["b"], 2 * found.samples["a"].double())


def logistic() -> None:
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.deterministic("p", torch.sigmoid(x))
    pyro.sample("y", dist.Bernoulli(torch.sigmoid(x)), obs=torch.tensor(1.0))


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_the_chain_that_is_chosen_where_none_was_asked_for() -> None:
    found = pgnn.Program(logistic).query("p")
    assert found.engine == "MCMC"
    assert float(found["p"].r_hat) < 1.05
    assert float(found["p"].effective_sample_size) < 0.9 * len(found["p"].draws)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_the_guide_that_was_asked_for_answers() -> None:
    found = pgnn.Program(doubled).query(["a", "b"], {"y": 3}, engine=GUIDE)
    assert found["a"].samples.shape == (1, 50)
    torch.testing.assert_close(found["b"].samples, 2 * found["a"].samples.double())
    assert found.kind == "lower bound"
    assert found.diagnostics["iterations"] <= 200


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize("rows", [None, [2.0, 0.0]])
def test_the_guide_with_states_and_rows(rows: list[float] | None) -> None:
    y = 2.0 if rows is None else torch.tensor(rows)
    found = pgnn.Program(switched).query(["sum", "m", "z"], {"y": y}, engine=GUIDE)
    shifts = (found["sum"].draws - found["m"].draws).round(decimals=3)
    assert set(shifts.flatten().tolist()) == {0.0, 10.0}
    share = (shifts / 10).mean(0)
    np.testing.assert_allclose(share, found["z"].probs[..., 1].float(), atol=0.25)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_the_chain_with_states() -> None:
    found = pgnn.Program(switched).query(["sum", "z"], {"y": 2.0}, engine=CHAIN)
    assert [*found.reals] == ["sum"]
    shifts = (found["sum"].draws - found.samples["m"]).round(decimals=3)
    assert set(shifts.tolist()) == {0.0, 10.0}
    assert float((shifts / 10).mean()) == pytest.approx(float(found["z"].probs[1]), abs=0.15)


def test_executions_that_were_asked_for_answer() -> None:
    engine = pgnn.ExecutionSampling(500, seed=0)
    found = pgnn.Program(doubled).query(["a", "b"], {"y": 3}, engine=engine)
    assert len(found["b"].draws) == 500
    assert float(found["b"].effective_sample_size) < 500
    torch.testing.assert_close(found["b"].draws, 2 * found["a"].draws.double())


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_a_value_that_some_executions_lack_is_averaged_over_the_others() -> None:
    found = pgnn.Program(sometimes).query(["d", "m"], {"y": 1.0}, engine=CHAIN)
    d, m = found["d"].draws, found["m"].draws
    present = ~d.isnan()
    assert 0 < int(present.sum()) < len(d)
    assert float(found["d"].mean) == pytest.approx(float(m[present].mean()) + 5.0, abs=1e-5)
    assert float(found["d"].std) == pytest.approx(float(m[present].std()), abs=1e-5)
    expected = float(torch.quantile(m[present].double(), 0.5)) + 5.0
    assert float(found["d"].quantile(0.5)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize("engine", [CHAIN, GUIDE])
def test_targets_are_in_the_order_of_the_question(engine: pgnn.Engine) -> None:
    program = pgnn.Program(doubled)
    for names in (["a", "b"], ["b", "a"]):
        assert [*program.query(names, {"y": 3}, engine=engine).reals] == names


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize("engine", [CHAIN, GUIDE])
def test_samples_hold_all_latent_sites_and_the_answer_the_targets(engine: pgnn.Engine) -> None:
    program = pgnn.Program(line, args=(torch.arange(10.0),))
    seen = {"y": (5 + 0.5 * torch.arange(10.0)).tolist()}
    one = program.query("b", seen, engine=engine)
    assert [*one] == ["b"]
    assert "a" not in one
    assert [*one.summary().index] == ["b"]
    both = program.query(["b", "a"], seen, engine=engine)
    assert [*both] == ["b", "a"]
    assert [*one.samples] == ["a", "b"]
    torch.testing.assert_close(one.samples["a"], both.samples["a"])
    if engine is CHAIN:
        new = program.with_arguments(torch.tensor([20.0])).sample(1, one.samples, seed=0)["y"]
        assert abs(float(new.mean()) - 15.0) < 0.1  # its standard deviation is below 0.3
        assert float(new.std()) < 0.4


def geometric() -> None:
    k = 0
    while float(pyro.sample(f"x{k}", dist.Normal(0.0, 1.0))) < 0.0:
        k += 1


def test_the_effective_sample_size_is_that_of_the_executions_with_the_site() -> None:
    program = pgnn.Program(geometric)
    engine = pgnn.ExecutionSampling(400, seed=0, progress=False)
    with pytest.warns(pgnn.NotConverged, match="400 draws are equivalent to"):
        found = program.query("x3", engine=engine)
    present = int((~found["x3"].draws.isnan()).sum())
    assert 20 < present < 80
    assert float(found["x3"].effective_sample_size) == pytest.approx(present)
    assert float(found.diagnostics["effective_sample_size"]) == pytest.approx(present)
    assert f"smallest effective sample size {present}" in str(found)
    both = program.query(["x0", "x1"], engine=engine)
    some = int((~both["x1"].draws.isnan()).sum())
    assert float(both.diagnostics["effective_sample_size"]) == pytest.approx(some)
    whole = program.query(engine=engine)  # nobody asked for sites that exist rarely
    assert float(whole.diagnostics["effective_sample_size"]) == pytest.approx(400)


def test_names_of_reals_are_known_to_the_answer() -> None:
    found = pgnn.Program(geometric).query("x0", engine=pgnn.ExecutionSampling(200, seed=0))
    with pytest.raises(pgnn.EvidenceError, match="variable of this posterior 'y'; known: 'x0'"):
        found["y"]


def test_samples_with_computed_values_predict_under_other_arguments() -> None:
    def line(x: torch.Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.deterministic("sum", a + b)
        with pyro.plate("n", len(x)):
            pyro.sample("y", dist.Normal(a + b * x, 0.1))

    x = torch.arange(10.0)
    model = pgnn.Program(line, args=(x,))
    chain = pgnn.MCMC(samples=300, warmup=300, chains=2, seed=0, progress=False)
    drawn = model.query(["b", "sum"], {"y": 5.0 + 0.5 * x}, engine=chain).samples
    assert "sum" in drawn
    y = model.with_arguments(torch.tensor([20.0])).sample(1, drawn, seed=0)["y"]
    assert float(y.mean()) == pytest.approx(15.0, abs=0.1)
    assert float(y.std()) < 0.4
