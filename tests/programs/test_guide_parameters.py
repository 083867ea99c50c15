"""Parameters of Pyro's automatic guides are parameters of the program."""

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
