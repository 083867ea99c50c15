"""Models that are made, read, loaded, asked and fitted inside of ``torch.inference_mode()``."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pgnn
from pgnn.factors.inference_mode import make_ordinary, ordinary, outside_inference_mode

MEAN, Y = pgnn.Variable("mean"), pgnn.Variable("y")
ENGINES = {
    "Variational": pgnn.Variational(
        seed=0, progress=False, optimizer=lambda p: torch.optim.Adam(p, lr=0.05)
    ),
    "MCMC": pgnn.MCMC(seed=0, progress=False, warmup=200, samples=300),
}


def normal():
    return pgnn.BayesianNetwork([("mean", "y")], {
        "mean": pgnn.Gaussian(MEAN, mean=0.0, covariance=1.0),
        "y": pgnn.LinearGaussian(Y, [MEAN], [1.0], 0.0, covariance=1.0),
    })  # fmt: skip


def table():
    return pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})


def program():
    mean = pyro.sample("mean", dist.Normal(torch.tensor(0.0).double(), 1.0))
    pyro.sample("y", dist.Normal(mean, 1.0))


@pytest.mark.parametrize("make", [normal, lambda: pgnn.Program(program)], ids=["graph", "program"])
@pytest.mark.parametrize("name", ENGINES)
def test_engines_with_gradients_answer_inside(name, make):
    with torch.inference_mode():
        model = make()
        inside = model.query("mean", {"y": torch.tensor(2.0)}, engine=ENGINES[name])
    assert float(inside["mean"].mean) == pytest.approx(1.0, abs=0.15)
    again = model.query("mean", {"y": 2.0}, engine=ENGINES[name])
    torch.testing.assert_close(again["mean"].mean, inside["mean"].mean)


ROWS = {"a": [0, 0, 1, 1, 1], "b": [0, 1, 1, 1, 0]}


@pytest.mark.parametrize(
    "learner",
    [pgnn.Gradient(), pgnn.MaximumLikelihood(), pgnn.EM()],
    ids=lambda x: type(x).__name__,
)
def test_learners_learn_inside(learner):
    with torch.inference_mode():
        inside = table().fit(ROWS, learner=learner, seed=0, progress=False)
        value = inside.log_prob(ROWS)
    outside = table().fit(ROWS, learner=learner, seed=0, progress=False)
    torch.testing.assert_close(inside.log_prob(ROWS), outside.log_prob(ROWS))
    torch.testing.assert_close(value, inside.log_prob(ROWS))
    inside.requires_grad_()
    inside.log_prob(ROWS).sum().backward()
    assert all(p.grad is not None for p in inside.parameters())


def test_models_read_and_loaded_inside(tmp_path):
    model = table().fit(ROWS, progress=False)
    model.save(tmp_path / "model.pgnn")
    pgnn.write(model, tmp_path / "model.bif")
    for get in (
        lambda: pgnn.load(tmp_path / "model.pgnn"),
        lambda: pgnn.read(tmp_path / "model.bif"),
    ):
        with torch.inference_mode():
            found = get()
            inside = found.query("a", {"b": 1})["a"].probs
        torch.testing.assert_close(found.query("a", {"b": 1})["a"].probs, inside)
        assert not any(p.is_inference() for p in found.parameters())


def test_gradients_are_off_inside_and_as_they_were_outside():
    def modes():
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    assert outside_inference_mode(modes) is modes
    with torch.inference_mode():
        assert outside_inference_mode(modes)() == (False, False)
        assert torch.is_inference_mode_enabled()


def test_modules_that_share_a_parameter_share_it_afterwards():
    with torch.inference_mode():
        one, two = nn.Linear(2, 2), nn.Linear(2, 2)
        two.weight = one.weight
        both = nn.ModuleList([one, two])
        values = one.weight.clone()
    assert make_ordinary(both)
    assert one.weight is two.weight
    assert torch.equal(one.weight, values)
    assert not make_ordinary(both)
    assert ordinary("text") == "text"


def test_verbs_of_engines_of_users_are_decorated_too():
    class Zero(pgnn.JunctionTree):
        def log_prob(self, model, data, *, inputs=None):
            torch.set_grad_enabled(False)
            if data is None:
                raise KeyboardInterrupt
            return torch.zeros(len(data["a"]))

    with torch.inference_mode():
        assert not table().log_prob(ROWS, engine=Zero()).is_inference()
    with pytest.raises(KeyboardInterrupt):
        table().log_prob(None, engine=Zero())
    assert torch.is_grad_enabled()


def test_a_mixture_of_models_over_time_answers_inside():
    def chain(stays):
        return pgnn.HiddenMarkovModel(
            2, {"x": [[0.9, 0.1], [0.2, 0.8]]}, [0.5, 0.5], [[stays, 1 - stays], [0.5, 0.5]]
        )

    model = pgnn.SequenceMixture([chain(0.9), chain(0.1)], [0.4, 0.6])
    rows = {"x": [[0, 0, 1], [1, 0, 1]]}
    with torch.inference_mode():
        answers = model.query("component", rows)["component"].probs, model.log_prob(rows)
        answers += model.decode(rows).log_prob, model.sample(2, {"T": 3}, seed=0).codes
    assert [x.is_inference() for x in answers] == [False] * 4
    torch.testing.assert_close(answers[1], model.log_prob(rows))
