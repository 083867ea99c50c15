"""Executions side by side: what each draws is of the right distribution, and its own."""

import math

import pyro.distributions as dist
import pytest
import torch

from pgnn.programs.batched_tensor import ExecutionBatch, batched_distribution
from pgnn.programs.tracking import LatentRead

NUMBER = 4000


def kinds(x):
    """Distributions with a parameter that differs, or none; ``x`` is zero everywhere."""
    return {
        "normal": dist.Normal(x, 0.5),
        "plain": dist.Normal(torch.tensor(1.0).double(), 0.5),
        "gamma": dist.Gamma(x + 2.0, 1.0),
        "poisson": dist.Poisson(x + 3.0),
        "bernoulli": dist.Bernoulli(x + 0.3),
        "exponential": dist.Exponential(x + 2.0),
        "uniform": dist.Uniform(x, 1.0),
        "log-normal": dist.LogNormal(x, 0.5),
        "beta": dist.Beta(x + 2.0, 1.0),
        "student": dist.StudentT(x + 9.0),
        "binomial": dist.Binomial(5, x + 0.4),
        "independent": dist.Normal(torch.stack([x, x + 1.0]), 0.5).to_event(1),
        "multivariate": dist.MultivariateNormal(torch.stack([x, x]), torch.eye(2).double()),
        "expanded": dist.Normal(x, 0.5).expand([3]),
    }


ZERO = torch.tensor(0.0, dtype=torch.float64)


@pytest.mark.parametrize("name", kinds(ZERO))
def test_draws_of_each_execution_are_its_own(name):
    batch = ExecutionBatch(NUMBER)
    x = batch.tensor(torch.zeros(NUMBER, dtype=torch.float64))
    alone, whole = kinds(ZERO)[name], batched_distribution(kinds(x)[name], batch)
    torch.manual_seed(0)
    drawn = whole.sample()
    assert drawn.shape == (NUMBER, *alone.batch_shape, *alone.event_shape)
    error = alone.stddev / math.sqrt(NUMBER)
    assert ((drawn.double().mean(0) - alone.mean).abs() < 5 * error).all()
    assert torch.allclose(drawn.double().std(0), alone.stddev.double(), rtol=0.15)
    assert torch.allclose(whole.log_prob(drawn)[7], alone.log_prob(drawn[7]))


def test_executions_are_replaced_late():
    batch = ExecutionBatch(3)
    x = batch.tensor(torch.tensor([0.0, 1.0, 2.0]))
    y = x * 10
    batch.replace(torch.tensor([2, 2, 0]))
    z = x + y
    batch.replace(torch.tensor([1, 2, 2]))
    assert batch.per_execution(z).tolist() == [22.0, 0.0, 0.0]
    assert batch.per_execution(y).tolist() == [20.0, 0.0, 0.0]
    table = torch.tensor([5.0, 6.0, 7.0])
    assert batch.per_execution(table[x.long()]).tolist() == [7.0, 5.0, 5.0]
    assert (x.shape, x.dim()) == ((), 0)
    assert batch.per_execution(torch.stack([x, y]).sum(-1)).tolist() == [22.0, 0.0, 0.0]
    for look in (bool, float, lambda v: v.item()):
        with pytest.raises(LatentRead):
            look(x)
