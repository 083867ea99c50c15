"""Errors carry their advice apart from the reason."""

import pickle
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.errors import (
    Advice,
    DataError,
    EvidenceError,
    ImpossibleEvidence,
    Intractable,
    ModelError,
    NotConverged,
    PgnnError,
    Unsupported,
)


def test_the_reason_of_an_answer_is_not_cut_at_punctuation_of_a_name() -> None:
    def program() -> None:
        x = pyro.sample("time; h", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    reason = pgnn.Program(program).query().diagnostics["reason"]
    assert reason.startswith("'time; h' has no states and is not observed, and 'y' depends on it")
    assert reason.endswith("has no table")  # without the advice


KINDS = (Unsupported, Intractable, ModelError, EvidenceError, DataError)


@pytest.mark.parametrize("kind", KINDS)
def test_advice_is_apart(kind: type[PgnnError]) -> None:
    for advice, joint in (("use MCMC()", "; "), ("Use MCMC()", ". ")):
        error = kind("'a; b' is real", advice)
        for same in (error, pickle.loads(pickle.dumps(error))):
            assert str(same) == f"'a; b' is real{joint}{advice}"
            assert same.reason == "'a; b' is real"
            assert same.advice == advice
    assert str(kind("alone")) == kind("alone").reason == "alone"


def test_errors_return_from_other_processes() -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": ["no", "yes"], "b": 2})
    model.fit({"a": ["no", "yes"], "b": [0, 1]}, seed=0, progress=False)
    questions: list[Any] = [{"c": 1}, {"a": ["no", "maybe"]}, {"a": "yes", "b": 0}]
    for evidence in questions:
        with pytest.raises(EvidenceError) as caught:
            model.query("b", evidence)
        same = pickle.loads(pickle.dumps(caught.value))
        assert type(same) is type(caught.value)
        assert str(same) == str(caught.value)
        assert vars(same).keys() == vars(caught.value).keys()
        assert same.advice == caught.value.advice
    assert isinstance(same, ImpossibleEvidence)
    assert same.conflict == {"a": "yes", "b": 0}


def test_advice_about_an_argument_keeps_its_values() -> None:
    advice = Advice("pass ignore=['a']", "ignore", ["a"])
    for same in (advice, pickle.loads(pickle.dumps(DataError("x", advice))).advice):
        assert (same, same.setting, same.values) == ("pass ignore=['a']", "ignore", ("a",))


def test_a_warning_keeps_its_advice_and_method() -> None:
    warning = NotConverged("EM: stopped", "raise max_iterations", "EM")
    for same in (warning, pickle.loads(pickle.dumps(warning))):
        assert str(same) == "EM: stopped; raise max_iterations"
        assert (same.reason, same.advice) == ("EM: stopped", "raise max_iterations")
        assert same.method == "EM"
    assert NotConverged("a text alone").advice == NotConverged("a text alone").method == ""


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
