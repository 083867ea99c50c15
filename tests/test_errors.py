"""Errors carry their advice apart from the reason."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.errors import Intractable, ModelError, Unsupported


def test_the_reason_of_an_answer_is_not_cut_at_punctuation_of_a_name() -> None:
    def program() -> None:
        x = pyro.sample("time; h", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    reason = pgnn.Program(program).query().diagnostics["reason"]
    assert reason.startswith("'time; h' has no states and is not observed, and 'y' depends on it")
    assert reason.endswith("has no table")  # without the advice


@pytest.mark.parametrize("kind", [Unsupported, Intractable])
def test_advice_is_apart(kind: type[Unsupported | Intractable]) -> None:
    for advice, joint in (("use MCMC()", "; "), ("Use MCMC()", ". ")):
        error = kind("'a; b' is real", advice)
        for same in (error, pickle.loads(pickle.dumps(error))):
            assert str(same) == f"'a; b' is real{joint}{advice}"
            assert same.reason == "'a; b' is real"
    assert str(kind("alone")) == kind("alone").reason == "alone"


def test_a_program_without_parameters_says_so() -> None:
    def program() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    for learner in (None, pgnn.Gradient()):
        with pytest.raises(ModelError, match=r"has no parameters.*pyro.param.*call query"):
            pgnn.Program(program).fit(learner=learner, seed=0)


def test_a_program_with_a_latent_real_site_names_a_learner_that_works() -> None:
    def program() -> None:
        p = pyro.param("p", torch.tensor(0.5))
        x = pyro.sample("x", dist.Normal(p, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    with pytest.raises(Unsupported, match=r"learn with Variational\(\), or with LowerBound\(\) if"):
        pgnn.Program(program).fit(seed=0)
    learner = pgnn.Variational(seed=0, progress=False)
    fitted = pgnn.Program(program).fit(learner=learner)
    assert abs(fitted.params["p"].item() - 1.0) < 0.3  # the maximum likelihood is at y
