"""What a program is called with is checked before it runs."""

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli

from pgnn import ModelError, Program


def coin(bias):
    pyro.sample("coin", Bernoulli(bias))


def test_arguments_that_fit():
    for program in (
        Program(coin, args=(torch.tensor(0.25),)),
        Program(coin, kwargs={"bias": torch.tensor(0.25)}),
    ):
        assert float(program.query("coin")["coin"].probs[1]) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "given", [{}, {"args": (0.5, 0.5)}, {"kwargs": {"weight": 0.5}}, {"guide": torch.tensor(0.5)}]
)
def test_arguments_that_do_not_fit_name_args(given):
    with pytest.raises(ModelError, match=r"Program\(model, args="):
        Program(coin, **given)


def test_a_guide_takes_the_same_arguments():
    with pytest.raises(ModelError, match="the guide cannot be called"):
        Program(coin, lambda: None, args=(torch.tensor(0.25),))
