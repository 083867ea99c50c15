"""Parameters of Pyro's automatic guides are parameters of the program."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide

import pgnn


def line() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    s = pyro.sample("s", dist.Gamma(2.0, 1.0))
    pyro.sample("y", dist.Normal(a, s), obs=torch.tensor(1.0))


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (autoguide.AutoNormal, {"locs.a", "locs.s", "scales.a", "scales.s"}),
        (autoguide.AutoDelta, {"a", "s"}),
        (autoguide.AutoMultivariateNormal, {"loc", "scale", "scale_tril"}),
    ],
)
def test_constrained_values_of_a_guide(kind: type, names: set[str]) -> None:
    guide = kind(line)
    program = pgnn.Program(line, guide=guide)
    before = {n: x.detach().clone() for n, x in program.params.items()}
    assert set(before) == {f"{kind.__name__}.{n}" for n in names}
    learner = pgnn.Variational(max_iterations=20, seed=0, progress=False)
    program.fit({}, learner=learner)
    for name, value in program.params.items():
        part = guide
        for attribute in name.split(".")[1:]:
            part = getattr(part, attribute)
        torch.testing.assert_close(value, part)
    assert any(not torch.equal(before[n], x) for n, x in program.params.items())
    assert not {*pyro.get_param_store().keys()} & {*program.params}


def two_means() -> None:
    with pyro.plate("parts", 2):
        m = pyro.sample("m", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", 2):
        pyro.sample("x", dist.Normal(m, 1.0), obs=torch.zeros(2))


def drawn_start() -> None:
    at = pyro.param("at", lambda: torch.randn(2))
    with pyro.plate("parts", 2):
        pyro.sample("m", dist.Normal(at, 0.1))


def sampled(kind: Any) -> Any:
    """A guide that starts at a draw from the prior."""
    return kind(two_means, init_loc_fn=autoguide.init_to_sample)


def started(guide: Any, seed: int) -> torch.Tensor:
    """The parameters after one step of a small learning rate."""
    learner = pgnn.Variational(
        max_iterations=1, seed=seed, progress=False, optimizer=lambda p: torch.optim.SGD(p, lr=1e-9)
    )
    program = pgnn.Program(two_means, guide=guide)
    with pytest.warns(pgnn.NotConverged):
        program.fit({}, learner=learner)
    return torch.cat([x.detach().flatten() for x in program.params.values()])


@pytest.mark.parametrize(
    "kind",
    [autoguide.AutoDelta, autoguide.AutoNormal, autoguide.AutoMultivariateNormal, None],
)
def test_a_seed_chooses_where_a_guide_starts(kind: Any) -> None:
    def make() -> Any:
        return drawn_start if kind is None else sampled(kind)

    first, again, other = (started(make(), seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 0.1


def test_the_start_of_a_guide_that_was_set_or_fitted_stays() -> None:
    guide = sampled(autoguide.AutoDelta)
    guide()  # by the user
    before = guide.m.detach().clone()
    torch.testing.assert_close(started(guide, 1), before)
    pyro.clear_param_store()
    program = pgnn.Program(two_means, guide=sampled(autoguide.AutoDelta))
    learner = pgnn.Variational(max_iterations=50, seed=0, progress=False)
    with pytest.warns(pgnn.NotConverged):
        program.fit({}, learner=learner)
    fitted = program.params["AutoDelta.m"].detach().clone()
    slow = pgnn.Variational(
        max_iterations=1, seed=5, progress=False, optimizer=lambda p: torch.optim.SGD(p, lr=1e-9)
    )
    with pytest.warns(pgnn.NotConverged):
        program.fit({}, learner=slow)
    torch.testing.assert_close(program.params["AutoDelta.m"], fitted)


def test_a_query_starts_by_its_seed_and_restores_the_guide() -> None:
    guide = sampled(autoguide.AutoDelta)
    program = pgnn.Program(two_means, guide=guide)
    before = {n: x.detach().clone() for n, x in program.params.items()}
    means = []
    for shared in (program, program.with_arguments()):
        for seed in (0, 1):
            engine = pgnn.Variational(
                max_iterations=1, seed=seed, progress=False,
                optimizer=lambda p: torch.optim.SGD(p, lr=1e-9),
            )  # fmt: skip
            with pytest.warns(pgnn.NotConverged):
                means.append(shared.query("m", engine=engine)["m"].mean.detach())
    assert torch.equal(means[0], means[2])
    assert float((means[0] - means[1]).abs().max()) > 0.1
    assert all(torch.equal(before[n], x) for n, x in program.params.items())
