"""Maximum likelihood through log Z against enumeration, closed forms and finite differences."""

import itertools
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pgnn
from pgnn import (
    BayesianNetwork,
    DataError,
    Ising,
    LogLinear,
    MarkovRandomField,
    ModelError,
    TabularPotential,
    Unsupported,
    Variable,
)
from pgnn.errors import NotConverged
from pgnn.factors.potentials.neural_potential import NeuralPotential
from pgnn.inference.beliefs import Beliefs
from pgnn.inference.engine import Engine
from pgnn.inference.learning.gradient import Gradient
from pgnn.inference.learning.likelihood_objective import LikelihoodObjective, SampledObjective
from pgnn.inference.learning.training_data import read_rows
from pgnn.inference.propagation.implicit_differentiation import (
    differentiable_beliefs,
    differentiable_log_partition,
    observed_field,
)
from pgnn.inference.propagation.torch_propagation import TorchPropagation
from pgnn.inference.question import Question
from pgnn.inference.sampling.gibbs import Gibbs
from tests.zoo import ZOO

A, B, C = Variable("a", 2), Variable("b", 3), Variable("c", 2)
STATES = np.array(list(itertools.product(range(2), range(3), range(2))), dtype=np.int64)


def loop(seed: int = 0) -> MarkovRandomField:
    """A triangle: tables, features and an own table, with numbers away from the optimum."""
    rng = np.random.default_rng(seed)
    model = MarkovRandomField(
        [
            TabularPotential([A, B]),
            LogLinear([B, C], rng.normal(size=(3, 3, 2))),
            TabularPotential([C, A]),
            TabularPotential([B]),
        ]
    )
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape)))
    return model


def score(model: MarkovRandomField) -> np.ndarray:
    """Log scores of all states, by indexing the tables."""
    total = np.zeros(len(STATES))
    place = {"a": 0, "b": 1, "c": 2}
    for f in model.factors():
        table = f.log_values.detach().numpy()
        total += table[tuple(STATES[:, place[n]] for n in f.names)]
    return total


def mean_log_likelihood(model: MarkovRandomField, rows: np.ndarray, weights: np.ndarray) -> float:
    """By enumeration; -1 is missing."""
    joint = score(model)
    log_z = np.logaddexp.reduce(joint)
    logs = []
    for row in rows:
        fits = ((row == STATES) | (row < 0)).all(axis=1)
        logs.append(np.logaddexp.reduce(joint[fits]) - log_z)
    return float(np.dot(weights, logs) / weights.sum())


def some_rows(missing: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    rows = STATES[rng.integers(0, len(STATES), size=40)].copy()
    if missing:
        rows[rng.random(rows.shape) < 0.3] = -1
        rows[0] = -1
    return rows, rng.uniform(0.5, 2.0, size=40)


@pytest.mark.parametrize("missing", [False, True])
def test_value_and_gradient_equal_enumeration(missing):
    model = loop()
    rows, weights = some_rows(missing)
    read = read_rows(model, rows, weights)
    mean = LikelihoodObjective(model, pgnn.JunctionTree())(read)
    value = mean()
    assert float(value.detach()) == pytest.approx(
        mean_log_likelihood(model, rows, weights), abs=1e-12
    )
    value.backward()
    h = 1e-5
    for p in model.parameters():
        for k in np.ndindex(*p.shape):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    p[k] += sign * h
                ends.append(mean_log_likelihood(model, rows, weights))
                with torch.no_grad():
                    p[k] -= sign * h
            # the third derivative of a mean of log sums of bounded features is below one
            assert float(p.grad[k]) == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-9)


def test_gradient_is_data_counts_less_model_expectations():
    model = loop(3)
    rows, weights = some_rows(False)
    mean = LikelihoodObjective(model, pgnn.JunctionTree())(read_rows(model, rows, weights))
    mean().backward()
    features = model.potentials[1].features.numpy()
    joint = np.exp(score(model))
    joint /= joint.sum()
    expected = features[:, STATES[:, 1], STATES[:, 2]] @ joint
    counted = features[:, rows[:, 1], rows[:, 2]] @ weights / weights.sum()
    got = model.potentials[1].weights.grad.numpy()
    np.testing.assert_allclose(got, counted - expected, atol=1e-12)


def test_moments_match_at_the_optimum():
    """Maximum entropy: the model expects what was counted."""
    model = loop(1)
    rows, _ = some_rows(False)
    model.fit(rows, learner=Gradient(tolerance=1e-8), progress=False)
    assert model.history["converged"]
    features = model.potentials[1].features.numpy()
    joint = np.exp(score(model))
    joint /= joint.sum()
    expected = features[:, STATES[:, 1], STATES[:, 2]] @ joint
    counted = features[:, rows[:, 1], rows[:, 2]].mean(axis=1)
    np.testing.assert_allclose(expected, counted, atol=1e-6)
    pair = np.zeros((2, 3))
    np.add.at(pair, (rows[:, 0], rows[:, 1]), 1 / len(rows))
    np.testing.assert_allclose(
        model.query(["a", "b"]).joint("a", "b").values.detach().numpy(), pair, atol=1e-6
    )
    found = model.history["trace"]["mean_log_likelihood"]
    assert found[-1] == pytest.approx(mean_log_likelihood(model, rows, np.ones(40)), abs=1e-12)
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(found))


def test_a_full_table_takes_relative_frequencies():
    rows, weights = some_rows(False)
    model = MarkovRandomField([TabularPotential([A, B, C])])
    # each state was observed, so that the best table is finite
    rows = np.concatenate([rows, STATES])
    weights = np.concatenate([weights, np.ones(len(STATES))])
    Gradient(tolerance=1e-9).fit(model, rows, weights=weights, progress=False)
    want = np.zeros((2, 3, 2))
    np.add.at(want, tuple(rows.T), weights / weights.sum())
    table = model.potentials[0].table.detach().numpy()
    np.testing.assert_allclose(table / table.sum(), want, atol=1e-8)


def test_couplings_are_recovered_from_exact_samples():
    truth = MarkovRandomField.grid((3, 3), coupling=0.4, field=0.2)
    number = 20_000
    drawn = truth.sample(number, seed=1)
    model = MarkovRandomField([Ising(Variable("x", 2, shape=(3, 3)), None, None)])
    model.fit({"x": drawn["x"]}, learner=Gradient(), progress=False)
    # maximum likelihood scatters with the inverse Fisher information: the covariance of the
    # statistics sum of s_i s_j and sum of s_i, here from the draws themselves
    spins = 2.0 * drawn["x"].numpy() - 1
    pairs = (spins[:, 1:] * spins[:, :-1]).sum((1, 2)) + (spins[:, :, 1:] * spins[:, :, :-1]).sum(
        (1, 2)
    )
    fisher = np.cov(np.stack([pairs, spins.sum((1, 2))]))
    spread = np.sqrt(np.diag(np.linalg.inv(fisher)) / number)
    found = np.array([model.potentials[0].coupling.item(), model.potentials[0].field.item()])
    assert (np.abs(found - [0.4, 0.2]) < 4 * spread).all()
    assert (4 * spread < 0.03).all()


def test_missing_cells_are_summed_out():
    rng = np.random.default_rng(0)
    model = loop(2)
    rows = STATES[rng.integers(0, len(STATES), size=60)].copy()
    rows[rng.random(rows.shape) < 0.25] = -1
    before = mean_log_likelihood(model, rows, np.ones(60))
    model.fit(rows, learner=Gradient(l2=1e-3), progress=False)
    after = mean_log_likelihood(model, rows, np.ones(60))
    assert model.history["converged"]
    assert after > before + 0.1
    assert model.history["trace"]["mean_log_likelihood"][0] == pytest.approx(before, abs=1e-12)
    assert model.history["log_likelihood"] == pytest.approx(60 * after, rel=1e-12)


def test_directed_models_need_no_partition_function():
    graph = [("a", "b"), ("a", "c")]
    cards = {"a": 2, "b": 3, "c": 2}
    rows = np.concatenate([some_rows(False)[0], STATES])
    climbed = BayesianNetwork(graph, states=cards)
    counted = BayesianNetwork(graph, states=cards)

    class Never(pgnn.JunctionTree):
        def log_prob(self, *_, **__):
            raise AssertionError("complete rows of a directed model need no engine")

    order = [list("abc").index(n) for n in climbed.variables]
    climbed.fit(rows[:, order], learner=Gradient(Never(), tolerance=1e-9), progress=False)
    counted.fit(rows[:, order], progress=False)
    for name in "abc":
        ours, theirs = climbed.conditionals[name], counted.conditionals[name]
        torch.testing.assert_close(ours.probs, theirs.probs, rtol=0, atol=1e-7)
    # EM's fixed point: with missing cells the likelihood of what was observed has no slope left
    rows[:15, 1] = -1
    climbed.fit(rows[:, order], learner=Gradient(), progress=False)
    assert climbed.history["trace"]["gradient_norm"][-1] <= 1e-6


def test_real_children_tell_of_hidden_parents():
    example = ZOO["neural_real"]
    model = example.make().requires_grad_()
    data = {"image": example.reals["image"], "label": torch.tensor([0, 1, -1, 1, 0, 1])}
    before = float(model.log_prob(data).mean().detach())
    learner = Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.01), max_iterations=20)
    model.fit(data, learner=learner, progress=False)
    after = float(model.log_prob(data).mean().detach())
    figures = model.history["trace"]["mean_log_likelihood"]
    assert figures[0] == pytest.approx(before, abs=1e-6)
    assert after >= figures[-1] > before + 0.01
    # rows in small batches, the reals with them
    learner = Gradient(optimizer=learner.optimizer, max_iterations=5, batch_size=4)
    model.fit(data, learner=learner, progress=False, seed=0)
    assert float(model.log_prob(data).mean().detach()) > after


def test_inputs_make_a_partition_function_for_each_row():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (2, 3))).double()
    model = MarkovRandomField([NeuralPotential([A, B], network, "u"), TabularPotential([B])])
    inputs = {"u": torch.randn(30, 2, dtype=torch.float64)}
    rows = torch.stack([torch.randint(0, 2, (30,)), torch.randint(0, 3, (30,))], 1)
    names = list(model.variables)
    data = {n: rows[:, k] for k, n in enumerate(["a", "b"])}
    assert names == ["a", "b"]
    model.fit(data, inputs=inputs, learner=Gradient(l2=0.01), progress=False)
    table = (network(inputs["u"]) + model.potentials[1].log_table[0]).detach()
    logs = table.flatten(1).log_softmax(1).reshape(30, 2, 3)
    want = float(logs[torch.arange(30), rows[:, 0], rows[:, 1]].mean())
    assert model.history["log_likelihood"] == pytest.approx(30 * want, rel=1e-10)
    assert model.history["converged"]
    mean = float(model.log_prob(data, inputs=inputs).mean().detach())
    assert mean == pytest.approx(want, abs=1e-10)


class Noting(nn.Module):
    """Random tables, another one each time, which are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.made: list[torch.Tensor] = []

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        table = self.scale * torch.randn(len(u), 2, 3, dtype=torch.float64)
        self.made.append(table.detach())
        return table


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("draws", [False, True])
def test_score_and_normaliser_come_from_the_same_tables(missing, draws):
    torch.manual_seed(0)
    network = Noting()
    model = MarkovRandomField([NeuralPotential([A, B], network, "u")])
    inputs = {"u": torch.zeros(5, 1, dtype=torch.float64)}
    a, b = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 1, 2, 1, -1 if missing else 0])
    rows = read_rows(model, {"a": a, "b": b}, inputs=inputs)
    if draws:
        objective = SampledObjective(model, pgnn.JunctionTree(), 4_000, 0)
    else:
        objective = LikelihoodObjective(model, pgnn.JunctionTree())
    value = objective(rows)()
    value.backward()
    # one run of the network for the rows that are complete, one for those that are not
    assert [len(t) for t in network.made] == ([4, 1] if missing else [5])
    table = torch.cat(network.made)
    logs = table.flatten(1).log_softmax(1).reshape(5, 2, 3)
    observed = torch.where(b < 0, logs[range(5), a].logsumexp(1), logs[range(5), a, b.clamp(min=0)])
    # d/ds log p(x) = (E[t | x] - E[t]) / s with tables t = s r, here s = 1
    given = (logs[range(5), a].softmax(1) * table[range(5), a]).sum(1)
    shown = torch.where(b < 0, given, table[range(5), a, b.clamp(min=0)])
    slopes = shown - (logs.exp() * table).sum((1, 2))
    if draws:
        # means over 5 rows of averages of 4,000 draws of a number of variance below 4
        error = 2 / 4_000**0.5
        assert float(network.scale.grad) == pytest.approx(float(slopes.mean()), abs=4 * error)
    else:
        assert value.item() == pytest.approx(float(observed.mean()), abs=1e-12)
        assert float(network.scale.grad) == pytest.approx(float(slopes.mean()), abs=1e-12)


def test_penalty_of_one_variable_has_a_closed_form():
    # maximum of m h - log 2 cosh h - l2 h^2 / 2: m - tanh h = l2 h
    model = MarkovRandomField([Ising(Variable("x", 2, shape=(1,)), 0.0, None)])
    data = {"x": torch.tensor([[1]] * 7 + [[0]] * 3)}
    for l2 in (0.05, 0.5, 3.0):
        model.fit(data, learner=Gradient(l2=l2, tolerance=1e-10), progress=False)
        h = model.potentials[0].field.item()
        assert 0.4 - math.tanh(h) == pytest.approx(l2 * h, abs=1e-9)
    # and of m h - log 2 cosh h - l1 |h|: tanh h = m - l1, or h = 0
    for l1 in (0.1, 0.3, 0.45):
        model.fit(data, learner=Gradient(l1=l1, tolerance=1e-10), progress=False)
        h = model.potentials[0].field.item()
        assert math.tanh(h) == pytest.approx(max(0.4 - l1, 0.0), abs=1e-9)
    assert h == 0.0


def test_a_penalty_for_each_kind_of_parameter():
    model = loop()
    rows, _ = some_rows(False)
    name = "_potentials.1.weights"
    assert name in dict(model.named_parameters())
    model.fit(
        rows, learner=Gradient(l1={name: 10.0}, l2={"_potentials.0.log_table": 0.1}), progress=False
    )
    assert bool((model.potentials[1].weights == 0).all())
    assert bool((model.potentials[0].log_table != 0).all())
    with pytest.raises(ModelError, match="did you mean"):
        model.fit(rows, learner=Gradient(l1={"_potentials.1.weight": 1.0}), progress=False)


def test_impossible_states_stay_impossible():
    table = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    model = MarkovRandomField([TabularPotential([A, B], table), TabularPotential([B])])
    model.requires_grad_()
    rows = np.array([[0, 0], [0, 2], [1, 1], [1, 0], [1, 2], [1, 1]])
    model.fit(rows, learner=Gradient(l2=0.01), progress=False)
    learnt = model.potentials[0].log_table.detach()[0]
    assert bool(learnt.isneginf().nonzero().tolist() == [[0, 1]])
    model.fit(
        rows,
        learner=Gradient(
            l2=0.01, l1=0.001, optimizer=lambda p: torch.optim.Adam(p, lr=0.1), max_iterations=5
        ),
        progress=False,
    )
    assert bool(learnt.isneginf().nonzero().tolist() == [[0, 1]])
    with pytest.raises(DataError, match="impossible"):
        model.fit(np.array([[0, 1]]), learner=Gradient(), progress=False)


# --- engines --------------------------------------------------------------------------------------


def test_draws_take_the_place_of_expectations():
    truth = MarkovRandomField.grid((2, 3), coupling=0.5)
    data = truth.sample(2000, seed=0)["x"]
    exact, drawn = (MarkovRandomField.grid((2, 3)) for _ in range(2))
    exact.fit({"x": data}, learner=Gradient(), progress=False)
    learner = Gradient(
        Gibbs(chains=50, burn_in=10, thin=2, progress=False),
        num_samples=1000,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05),
        scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 1 / (1 + k / 10)),
        max_iterations=60,
    )
    drawn.fit({"x": data}, learner=learner, seed=3, progress=False)
    assert "log_likelihood" not in drawn.history
    # the curvature is the variance of the sum over 7 edges, between 7 and 49 for a coupling above
    # zero. Averages of 1000 draws scatter by sqrt(49 / 1000) at most, and steps of at most 0.05
    # with decreasing rates leave less than one such deviation divided by a curvature of 7.
    found, want = (m.potentials[0].coupling.item() for m in (drawn, exact))
    assert abs(found - want) < 4 * math.sqrt(49 / 1000) / 7
    assert abs(found) > 0.3


def test_gradient_of_draws_is_unbiased():
    model = loop(4)
    rows, weights = some_rows(True)
    read = read_rows(model, rows, weights)
    LikelihoodObjective(model, pgnn.JunctionTree())(read)().backward()
    want = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    number = 40_000
    SampledObjective(model, pgnn.JunctionTree(), number, 0)(read)().backward()
    for p, w in zip(model.parameters(), want, strict=True):
        # a difference of two averages of draws: of counts in [0, 1], or of features below 3
        most = 3.0 if p.shape == (3,) else 1.0
        # rows have unequal weights and n draws each: as good as a half of all
        assert float((p.grad - w).abs().max()) < 4 * math.sqrt(2) * most / math.sqrt(number / 2)


def test_engines_that_draw_need_an_optimizer():
    rows, _ = some_rows(False)
    with pytest.raises(ModelError, match="optimizer"):
        loop().fit(rows, learner=Gradient(Gibbs()), progress=False)


def test_engines_without_derivatives_say_so():
    class Plain(pgnn.JunctionTree):
        def log_prob(self, *args, **more):
            return super().log_prob(*args, **more).detach()

    rows, _ = some_rows(False)
    with pytest.raises(Unsupported, match="differentiable"):
        loop().fit(rows, learner=Gradient(Plain()), progress=False)


@dataclass(frozen=True)
class Propagating(Engine):
    """Belief propagation in torch, tight enough to differentiate."""

    def reason(self) -> str:
        return "a test"

    def infer(self, question: Question) -> Beliefs:
        run = TorchPropagation(question.graph, observed_field(question))
        found = run.run(300, 1e-13, 0.1, progress=False)
        return Beliefs(
            differentiable_beliefs(run, found.messages),
            differentiable_log_partition(run, found.messages),
            diagnostics={"converged": found.converged.numpy()},
        )


def chain() -> MarkovRandomField:
    return MarkovRandomField([TabularPotential([A, B]), TabularPotential([B, C])])


@pytest.mark.parametrize("missing", [False, True])
def test_propagation_on_a_tree_learns_as_the_exact_engine_does(missing):
    rows, _ = some_rows(missing)
    exact, approximate = chain(), chain()
    exact.fit(rows, learner=Gradient(l2=0.05, tolerance=1e-9), progress=False)
    learner = Gradient(Propagating(), l2=0.05, tolerance=1e-9)
    approximate.fit(rows, learner=learner, progress=False)
    assert approximate.history["converged"]
    # both maxima of a function whose curvature is 0.05 at least have slopes below 1e-9 (with
    # missing cells the function need not be concave, but both began at the same place)
    for ours, theirs in zip(approximate.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)


def test_propagation_on_loops_reaches_its_own_fixed_point():
    """At the maximum of the Bethe likelihood the beliefs are the counts (pseudo-moment matching).

    Wainwright, Jaakkola and Willsky (2003), Tree-reweighted belief propagation algorithms and
    approximate ML estimation by pseudo-moment matching.
    """
    rows = MarkovRandomField.grid((3, 3), coupling=0.3).sample(500, seed=0)["x"]
    model = MarkovRandomField.grid((3, 3))
    model.fit({"x": rows}, learner=Gradient(Propagating()), progress=False)
    assert model.history["converged"]
    question = Question.read(model, {}, None)
    run = TorchPropagation(question.graph, observed_field(question).detach())
    messages = run.run(300, 1e-13, 0.1, progress=False).messages
    (joint,) = [j for j in run.factor_beliefs(messages) if j.dim() == 4]
    spins = 2.0 * rows.double() - 1
    pairs = (spins[:, 1:] * spins[:, :-1]).sum((1, 2)) + (spins[:, :, 1:] * spins[:, :, :-1]).sum(
        (1, 2)
    )
    sign = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    expected = (joint.detach().exp() * sign).sum()
    assert float(expected) == pytest.approx(float(pairs.mean()), abs=1e-5)


def test_mean_field_without_couplings_is_exact():
    from pgnn.inference.mean_field.mean_field import MeanField

    rows, _ = some_rows(False)
    rows = rows[:, :2]
    found = []
    for engine in (MeanField(seed=0, progress=False), pgnn.JunctionTree()):
        model = MarkovRandomField([TabularPotential([A]), TabularPotential([B])])
        model.fit(rows, learner=Gradient(engine), progress=False)
        found.append(model.history["log_likelihood"])
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_engines_own_complaints_are_shown_once():
    class Complaining(pgnn.JunctionTree):
        def log_prob(self, *args, **more):
            warnings.warn("not there yet", NotConverged, stacklevel=2)
            return super().log_prob(*args, **more)

    rows, _ = some_rows(False)
    with pytest.warns(NotConverged) as observed:
        loop().fit(rows, learner=Gradient(Complaining(), l2=0.1), progress=False)
    assert [str(w.message) for w in observed] == ["not there yet"]


# --- forms of data --------------------------------------------------------------------------------


def test_data_in_all_forms():
    rows, _ = some_rows(False)
    frame = pd.DataFrame(rows, columns=list("abc"))
    forms = [rows, torch.from_numpy(rows), frame, {n: rows[:, k] for k, n in enumerate("abc")}]
    found = []
    for form in forms:
        model = loop()
        model.fit(form, learner=Gradient(l2=0.1), progress=False)
        found.append(model.history["trace"]["objective"][-1])
    assert max(found) == min(found)


def test_weights_count_rows():
    rows, _ = some_rows(False)
    weights = np.arange(40) % 3
    twice = np.repeat(rows, weights, axis=0)
    frame = pd.DataFrame(rows, columns=list("abc")).assign(often=weights)
    found = []
    for data, given in [(rows, weights), (twice, None), (frame, "often")]:
        model = loop()
        model.fit(data, weights=given, learner=Gradient(l2=0.1), progress=False)
        found.append(model.history["trace"]["objective"][-1])
        assert model.history["weight"] == weights.sum()
    np.testing.assert_allclose(found, found[0], atol=1e-12)
    assert model.history["rows"] == int((weights > 0).sum())


def test_arrays_may_come_bare():
    model = MarkovRandomField.grid((2, 3))
    data = torch.randint(0, 2, (30, 2, 3), generator=torch.Generator().manual_seed(0))
    found = []
    for form in (data, {"x": data}, data.reshape(30, 6), data.numpy()):
        model = MarkovRandomField.grid((2, 3))
        model.fit(form, learner=Gradient(), progress=False)
        found.append(model.potentials[0].coupling.item())
    assert max(found) == min(found)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((0, 3), dtype=int), "no rows"),
        ({"a": [0, 1], "d": [0, 1]}, "'d'"),
        ({"a": [0, 1], "b": [0, 7]}, "7"),
        (np.zeros((4, 2), dtype=int), "columns"),
        ({"a": torch.tensor([[0.5, 0.5]])}, "likelihoods"),
        ([{"a": [0]}], "at once"),
    ],
)
def test_wrong_data_is_refused(data, says):
    model = loop()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(DataError, match=says):
        model.fit(data, learner=Gradient(), progress=False)
    assert all(bool((a == b).all()) for a, b in zip(before, model.parameters(), strict=True))


def test_wrong_weights_are_refused():
    rows, weights = some_rows(False)
    for wrong in (weights[1:], -weights, np.zeros(40)):
        with pytest.raises(DataError, match="weights"):
            Gradient().fit(loop(), rows, weights=wrong, progress=False)


def test_nothing_to_learn_is_said():
    model = MarkovRandomField([TabularPotential([A, B], np.ones((2, 3)))])
    with pytest.raises(ModelError, match="requires_grad_"):
        model.fit(np.zeros((2, 2), dtype=int), learner=Gradient(), progress=False)


def test_reals_that_are_observed_and_have_children_beside_hidden_states() -> None:
    """Nothing can be summed without the reals; each row has them."""
    x, s, t = pgnn.Variable("x"), pgnn.Variable("s", 2), pgnn.Variable("t", 2)
    model = pgnn.BayesianNetwork(
        [("x", "t"), ("s", "t")],
        {"x": pgnn.Gaussian(x, [], 0.0, 1.0), "s": [0.5, 0.5], "t": pgnn.Softmax(t, [x, s])},
        states={"s": 2, "t": 2},
    )
    rows = {"x": [-2.0, -1.0, 1.0, 2.0], "t": [0, 0, 1, 0]}
    before = float(model.log_prob(rows).sum().detach())
    model.fit(rows, learner=pgnn.Gradient(l2=0.1), progress=False, seed=0)
    assert float(model.log_prob(rows).sum().detach()) > before + 0.1
