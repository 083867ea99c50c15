"""Learning by counting: against loops, against pgmpy, batch by batch, and when it must fail."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pgnn.errors import DataError, ModelError, NotConverged, Unsupported
from pgnn.evidence.coded_columns import CodedColumns
from pgnn.factors import Conditional, Neural, NoisyOr, Sigmoid, Softmax, Tabular, Variable
from pgnn.factors.conditionals.renamed import Renamed
from pgnn.factors.conditionals.tabular import Prior
from pgnn.inference.learning import training_data
from pgnn.inference.learning.maximum_likelihood import (
    K2,
    BDeu,
    Dirichlet,
    Laplace,
    MaximumLikelihood,
)
from pgnn.inference.lookup_tables import LookupTables
from pgnn.inference.loop import progress_bar
from pgnn.io.bif import read_bif
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.dynamic_bayesian_network import DynamicBayesianNetwork
from pgnn.models.hidden_markov_model import HiddenMarkovModel
from pgnn.models.markov_random_field import MarkovRandomField

STATES = {"a": ["x", "y"], "b": ["lo", "mid", "hi"], "c": ["no", "yes"], "d": 2}
EDGES = [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]


def network(conditionals: dict[str, Any] | None = None) -> BayesianNetwork:
    return BayesianNetwork(nx.DiGraph(EDGES), conditionals, states=STATES)


def frame(rows: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, rows), rng.integers(0, 3, rows)
    c = (rng.random(rows) < 0.2 + 0.5 * (a == b)).astype(int)
    return pd.DataFrame(
        {
            "d": rng.integers(0, 2, rows),
            "a": pd.Categorical.from_codes(a, ["x", "y"]),
            "b": np.array(STATES["b"], dtype=object)[b],
            "c": np.array(["no", "yes"], dtype=object)[c],
        }
    )


def counts_by_definition(
    model: BayesianNetwork, data: pd.DataFrame, weights: Any = None
) -> dict[Any, np.ndarray]:
    out = {}
    for name, conditional in model.conditionals.items():
        out[name] = table = np.zeros(conditional.shape)
        for r, row in enumerate(data.to_dict("records")):
            index = tuple(v.index(row[v.name]) for v in conditional.scope)
            table[index] += 1 if weights is None else weights[r]
    return out


def tables(model: BayesianNetwork) -> dict[Any, np.ndarray]:
    return {n: c.probs.detach().numpy() for n, c in model.conditionals.items()}  # type: ignore[operator]


def same_tables(first: BayesianNetwork, second: BayesianNetwork, **tolerance: float) -> None:
    for name, table in tables(first).items():
        np.testing.assert_allclose(tables(second)[name], table, **tolerance)


PRIORS: dict[str, tuple[Prior | None, Callable[[tuple[int, ...]], float]]] = {
    "none": (None, lambda shape: 0.0),
    "laplace": (Laplace(0.5), lambda shape: 0.5),
    "k2": (K2(), lambda shape: 1.0),
    "bdeu": (BDeu(6.0), lambda shape: 6.0 / np.prod(shape)),
    "dirichlet": (Dirichlet(dict.fromkeys("abcd", 2.0)), lambda shape: 2.0),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("prior", "alpha"), PRIORS.values(), ids=PRIORS)
def test_estimates_are_smoothed_frequencies(
    prior: Prior | None, alpha: Callable[[tuple[int, ...]], float], weighted: bool
) -> None:
    data = frame(200)
    weights = np.random.default_rng(1).random(200) if weighted else None
    model = network()
    MaximumLikelihood(prior).fit(model, data, weights=weights)
    for name, counts in counts_by_definition(model, data, weights).items():
        expected = counts + alpha(counts.shape)
        expected /= expected.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(tables(model)[name], expected, rtol=1e-12)
        assert model.conditionals[name].logits.requires_grad


@pytest.mark.parametrize("prior_type", ["none", "bdeu", "k2", "dirichlet"])
def test_tables_are_those_of_pgmpy(prior_type: str) -> None:
    from pgmpy.estimators import BayesianEstimator, MaximumLikelihoodEstimator
    from pgmpy.models import DiscreteBayesianNetwork

    data = frame(300, seed=2)
    model = network()
    prior = {
        "none": None,
        "bdeu": BDeu(7.0),
        "k2": K2(),
        "dirichlet": Dirichlet({n: np.full(c.shape, 3.0) for n, c in model.conditionals.items()}),
    }[prior_type]
    model.fit(data, learner=MaximumLikelihood(prior))
    other = DiscreteBayesianNetwork(EDGES)
    states = {n: list(v.states or ()) for n, v in model.variables.items()}
    if prior is None:
        estimator = MaximumLikelihoodEstimator(other, data, state_names=states)
        found = {n: estimator.estimate_cpd(n) for n in "abcd"}
    else:
        estimator = BayesianEstimator(other, data, state_names=states)
        kind = {"bdeu": "BDeu", "k2": "K2", "dirichlet": "dirichlet"}[prior_type]
        found = {}
        for name, conditional in model.conditionals.items():
            cells = int(np.prod(conditional.shape[:-1], dtype=int))
            pseudo = np.full((conditional.shape[-1], cells), 3.0)
            found[name] = estimator.estimate_cpd(
                name, prior_type=kind, pseudo_counts=pseudo, equivalent_sample_size=7
            )
    for name, conditional in model.conditionals.items():
        cpd = found[name]
        axes = [cpd.variables.index(v.name) for v in conditional.scope]
        np.testing.assert_allclose(
            tables(model)[name], cpd.values.transpose(axes), rtol=1e-12, err_msg=name
        )


def test_history_and_log_likelihood() -> None:
    data = frame(100)
    model = network({"d": [[0.25, 0.75], [0.5, 0.5]]})
    before = tables(model)["d"].copy()
    assert model.fit(data) is model
    np.testing.assert_array_equal(tables(model)["d"], before)  # given, so constant
    expected = sum(
        (n[n > 0] * np.log(tables(model)[name][n > 0])).sum()
        for name, n in counts_by_definition(model, data).items()
    )
    assert model.history["log_likelihood"] == pytest.approx(expected, rel=1e-12)
    assert model.history["rows"] == 100
    assert model.history["weight"] == 100.0
    assert model.history["unseen"] == {}
    assert model.history["seconds"] > 0
    impossible = network({"d": [[1.0, 0.0], [1.0, 0.0]]})
    impossible.fit(data)
    assert impossible.history["log_likelihood"] == -np.inf


def test_the_maximum_is_one() -> None:
    data = frame(80)
    model = network()
    model.fit(data)
    best = model.history["log_likelihood"]
    nudged = {
        n: (t + 0.02) / (t + 0.02).sum(axis=-1, keepdims=True) for n, t in tables(model).items()
    }
    for name, table in nudged.items():
        other = network({**tables(model), name: table})
        other.conditionals["a" if name != "a" else "d"].requires_grad_()
        other.fit(data)
        assert other.history["log_likelihood"] < best


def test_unobserved_parent_configurations_are_uniform_and_counted() -> None:
    data = pd.DataFrame({"a": ["x"], "b": ["lo"], "c": ["no"], "d": [1]})
    model = network()
    model.fit(data)
    np.testing.assert_array_equal(tables(model)["b"][1], np.full(3, 1 / 3))
    np.testing.assert_array_equal(tables(model)["b"][0], [1.0, 0.0, 0.0])
    assert model.history["unseen"] == {"b": 1, "c": 5, "d": 1}
    assert model.history["log_likelihood"] == 0.0


def test_zeros_are_structural_and_unobserved_rows_are_uniform_on_the_rest() -> None:
    given = [[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]
    edges = [("s", "x")]
    rows = {"s": [0, 0, 0], "x": [0, 0, 1]}
    alone = BayesianNetwork(edges, {"x": given}, states={"s": 2, "x": 3}).requires_grad_()
    slices = DynamicBayesianNetwork(edges, {"x": given}, states={"s": 2, "x": 3})
    slices.requires_grad_()
    for prior, table in [(None, [2 / 3, 1 / 3, 0.0]), (Laplace(), [0.6, 0.4, 0.0])]:
        alone.fit(rows, learner=MaximumLikelihood(prior))
        slices.fit({n: [x] for n, x in rows.items()}, learner=MaximumLikelihood(prior))
        np.testing.assert_allclose(tables_of(alone, "x"), [table, [1 / 3] * 3])
        np.testing.assert_allclose(tables_of(slices, "x"), [table, [1 / 3] * 3])
    with pytest.raises(DataError, match="'x' = 2 given 's' = 0 was declared to be zero"):
        alone.fit({"s": [0], "x": [2]})
    np.testing.assert_allclose(tables_of(alone, "x")[0], [0.6, 0.4, 0.0])


def stream(data: pd.DataFrame, sizes: list[int]) -> Iterator[pd.DataFrame]:
    start = 0
    for size in sizes:
        yield data.iloc[start : start + size]
        start += size


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6), weighted=st.booleans())
def test_streams_give_the_same_as_all_at_once(cuts: list[int], weighted: bool) -> None:
    data = frame(sum(cuts))
    data["n"] = np.random.default_rng(0).integers(0, 4, len(data)) + 0.5
    column = "n" if weighted else None
    data = data if weighted else data.drop(columns="n")
    once, streamed = network(), network()
    MaximumLikelihood(Laplace()).fit(once, data, weights=column)
    learner = MaximumLikelihood(Laplace())
    learner.fit(streamed, stream(data, cuts), weights=column, progress=False)
    same_tables(once, streamed, rtol=1e-12)
    for key in ("rows", "weight", "log_likelihood"):
        assert streamed.history[key] == pytest.approx(once.history[key], rel=1e-12)


def test_large_data_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame(500)
    whole, pieces = network(), network()
    whole.fit(data)
    blocks = CodedColumns.blocks
    monkeypatch.setattr(CodedColumns, "blocks", lambda self: blocks(self, 37))
    pieces.fit(data)
    same_tables(whole, pieces, rtol=0)


def test_matrices_and_mappings() -> None:
    data = frame(60)
    model, second, third = network(), network(), network()
    model.fit(data)
    matrix = torch.tensor(
        np.stack([v.encode(list(data[n])) for n, v in model.variables.items()], axis=1)
    )
    before = matrix.clone()
    second.fit(matrix)
    third.fit(iter([matrix[:20], {n: list(c[20:]) for n, c in data.items()}]), progress=False)
    same_tables(model, second, rtol=0)
    same_tables(model, third, rtol=0)
    assert torch.equal(matrix, before)


def test_progress_is_counted_for_streams_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []

    def recorded(total, label, progress, unit="it"):
        wanted.append(progress)
        return progress_bar(total, label, progress, unit)

    monkeypatch.setattr(training_data, "progress_bar", recorded)
    network().fit(frame(10))
    assert wanted == []
    network().fit([frame(10), frame(10)])
    network().fit([frame(10)], progress=False)
    assert wanted == [True, False]


def with_missing() -> pd.DataFrame:
    data = frame(30).astype(object)
    data.loc[[7, 9], "c"] = None
    data.loc[3, "b"] = np.nan
    return data


def broken_stream() -> Iterator[pd.DataFrame]:
    yield frame(5)
    raise RuntimeError("disk is gone")


WRONG: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "missing cells": (
        with_missing(),
        {},
        DataError,
        r"'c' in 2 of 30 rows \(first row 7\), 'b' in 1 of 30 rows \(first row 3\).*Gradient",
    ),
    "missing in a stream": (
        [frame(5), with_missing()],
        {},
        DataError,
        "batch 1: cells are missing",
    ),
    "latent": (frame(5).drop(columns="c"), {}, DataError, "no column 'c'.*EM"),
    "unknown column": (frame(5).assign(e=1), {}, DataError, "unknown column 'e'"),
    "unknown label": (frame(5).assign(c="nope"), {}, DataError, "column 'c', row 0"),
    "second batch": ([frame(5), frame(5).assign(c="?")], {}, DataError, "batch 1: column 'c'"),
    "broken stream": (broken_stream(), {}, RuntimeError, "disk is gone"),
    "no rows": (frame(0), {}, DataError, "no rows"),
    "no batches": ([], {}, DataError, "no rows.*consumed"),
    "no data": (3, {}, DataError, "expected a DataFrame.*got int"),
    "no batch": ([[1, 2]], {}, DataError, "batch 0 must be a DataFrame.*got list"),
    "weights too short": (
        frame(5),
        {"weights": [1.0]},
        DataError,
        r"weights must have shape \(5,\)",
    ),
    "negative": (frame(2), {"weights": [1.0, -1.0]}, DataError, "not negative, row 1 has -1.0"),
    "zero": (frame(2), {"weights": np.zeros(2)}, DataError, "weights of all rows are zero"),
    "words": (frame(1), {"weights": ["many"]}, DataError, "weights must be numbers"),
    "no such column": (frame(2), {"weights": "dd"}, DataError, "'dd' of weights.*'d'"),
    "array for a stream": ([frame(2)], {"weights": np.ones(2)}, DataError, "name of a column"),
    "name for a matrix": (
        np.zeros((1, 4), dtype=int),
        {"weights": "n"},
        DataError,
        "matrix of indices has no column of weights",
    ),
}


@pytest.mark.parametrize(("data", "options", "kind", "message"), WRONG.values(), ids=WRONG)
def test_a_failed_fit_leaves_the_model_as_it_was(
    data: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    model = network()
    model.fit(frame(50))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    history = model.history
    with pytest.raises(kind, match=message):
        MaximumLikelihood().fit(model, data, progress=False, **options)
    assert model.history is history
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_priors_that_do_not_fit() -> None:
    model = network()
    for prior, message in [
        (Dirichlet({"c": np.ones((2, 2))}), r"pseudo-counts of 'c' must have shape \(2, 3, 2\)"),
        (Dirichlet({"b": -np.ones((2, 3))}), "'b' must be finite and not negative"),
        (Dirichlet({"e": 1.0}), "given for 'e', which has no table to learn"),
    ]:
        with pytest.raises(ModelError, match=message):
            MaximumLikelihood(prior).fit(model, frame(5))
    with pytest.raises(ModelError, match="count of Laplace must be finite"):
        Laplace(-1.0)
    with pytest.raises(ModelError, match="equivalent_sample_size of BDeu"):
        BDeu(float("nan"))
    with pytest.raises(ModelError, match=r"prior must be Laplace.*got 'K2'"):
        MaximumLikelihood("K2")  # type: ignore[arg-type]
    assert MaximumLikelihood(BDeu(2.0)) == MaximumLikelihood(BDeu(2.0))


def test_given_tables_are_learnt_on_request() -> None:
    model = network()
    model.fit(frame(50), learner=MaximumLikelihood(Laplace()))  # no table has a zero
    given_all = network(tables(model))
    with pytest.raises(ModelError, match=r"nothing to learn.*requires_grad_\(\)"):
        given_all.fit(frame(70, seed=1))
    given_all.requires_grad_()
    given_all.fit(frame(70, seed=1))
    model.fit(frame(70, seed=1))
    same_tables(model, given_all, rtol=0)


def binary(conditional: Callable[[Variable, list[Variable]], Conditional]) -> BayesianNetwork:
    graph = nx.DiGraph()
    graph.add_nodes_from("pqy")
    graph.add_edges_from([("p", "y"), ("q", "y")])
    return BayesianNetwork(graph, {"y": conditional}, states=dict.fromkeys("pqy", 2))


def binary_rows(rows: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    p, q = rng.integers(0, 2, (2, rows))
    y = rng.random(rows) < 1 - 0.9 * 0.5**p * 0.3**q  # a noisy-or
    return np.stack([p, q, y], axis=1).astype(int)


def test_a_saturated_logistic_conditional_gives_the_frequencies() -> None:
    # One parent and a bias: as many parameters as a table, so the maxima are equal.
    rows = torch.from_numpy(binary_rows()[:, [0, 2]])
    states = {"p": 2, "y": 2}
    graph = nx.DiGraph([("p", "y")])
    table, found = BayesianNetwork(graph, states=states), {}
    table.fit(rows)
    for kind in (Sigmoid, Softmax):
        model = BayesianNetwork(graph, {"y": kind}, states=states)
        model.fit(rows)
        found[kind] = model.conditionals["y"].factor().values.detach().numpy()
        np.testing.assert_allclose(found[kind], tables(table)["y"], atol=1e-5)
        expected = table.history["log_likelihood"]
        assert model.history["log_likelihood"] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    "kind",
    [
        Sigmoid,
        Softmax,
        lambda y, parents: NoisyOr(y, parents, leak=None),
        lambda y, parents: Neural(y, parents, nn.Linear(4, 2).double()),
    ],
)
def test_other_conditionals_climb_to_the_top(kind: Any) -> None:
    torch.manual_seed(0)
    rows = binary_rows()
    model = binary(kind)
    streamed = binary(kind)
    streamed.load_state_dict(model.state_dict())
    model.fit(rows)
    streamed.fit([rows[:100], rows[100:]], progress=False)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(streamed.state_dict()[key], value, atol=1e-4, rtol=1e-4)
    conditional = model.conditionals["y"]
    columns = dict(zip("pqy", torch.from_numpy(rows).T, strict=True))
    loss = -conditional.distribution(columns).log_prob(columns["y"]).mean()
    for gradient in torch.autograd.grad(loss, list(conditional.parameters())):
        assert gradient.abs().max() < 2e-5
    total = -loss.item() * len(rows) + sum(
        (n * np.log(n / n.sum())).sum() for n in (np.bincount(rows[:, k]) for k in (0, 1))
    )
    assert model.history["log_likelihood"] == pytest.approx(total, rel=1e-9)


def test_noisy_or_is_recovered() -> None:
    # 40,000 rows: standard errors of the four probabilities are below sqrt(0.25 / 10,000) = 0.005.
    model = binary(lambda y, parents: NoisyOr(y, parents, leak=None))
    model.fit(binary_rows(40_000))
    found = model.conditionals["y"].factor().values.detach().numpy()[..., 0]
    np.testing.assert_allclose(found, [[0.9, 0.27], [0.45, 0.135]], atol=0.02)


def test_weights_of_other_conditionals() -> None:
    rows = binary_rows(300)
    weights = np.random.default_rng(1).integers(0, 3, 300)
    weighted, repeated = binary(Sigmoid), binary(Sigmoid)
    MaximumLikelihood().fit(weighted, rows, weights=weights)
    repeated.fit(np.repeat(rows, weights, axis=0))
    for key, value in weighted.state_dict().items():
        torch.testing.assert_close(repeated.state_dict()[key], value)


def test_not_converged_is_said_and_impossible_starts_are_refused() -> None:
    model = binary(Sigmoid)
    with pytest.warns(NotConverged, match="stopped after 1 iterations, .* for 'y'"):
        MaximumLikelihood(max_iterations=1).fit(model, binary_rows())
    model = binary(lambda y, parents: NoisyOr(y, parents))  # no leak, but y occurs without causes
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(DataError, match=r"probability zero under the initial parameters.*'y'"):
        model.fit(binary_rows())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_fit_that_fails_late_changes_nothing() -> None:
    # The logistic one and the tables could be fitted; the noisy-or after them cannot start.
    graph = nx.DiGraph([("p", "y"), ("p", "z")])
    kinds = {"y": Sigmoid, "z": NoisyOr}
    model = BayesianNetwork(graph, kinds, states=dict.fromkeys("pyz", 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(DataError, match="initial parameters of the conditional of 'z'"):
        model.fit({"p": [0, 0, 1], "y": [0, 1, 1], "z": [0, 1, 1]})
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert model.history == {}


def test_constant_conditionals_of_other_kinds_are_scored() -> None:
    y, p, q = (Variable(n, 2) for n in "ypq")
    fixed = Sigmoid(y, [p, q], weight=[1.0, -1.0], bias=0.5)
    model = binary(lambda *_: fixed)
    rows = torch.from_numpy(binary_rows(100))
    model.fit(rows)
    columns = dict(zip("pqy", rows.T, strict=True))
    expected = float(fixed.distribution(columns).log_prob(columns["y"]).sum())
    expected += sum(np.log(tables_of(model, n)[columns[n]]).sum() for n in "pq")
    assert model.history["log_likelihood"] == pytest.approx(expected, rel=1e-12)


def test_real_variables_that_are_constants_stay_and_fields_are_refused() -> None:
    graph = nx.DiGraph([("k", "x"), ("k", "y")])
    real = Neural(Variable("x"), [Variable("k", 2)], nn.Linear(2, 2))
    model = BayesianNetwork(graph, {"x": real}, states={"k": 2, "y": 2})
    data = {"k": [0, 1, 1], "y": [0, 0, 1], "x": [0.1, 0.2, 0.3]}
    real.requires_grad_(False)
    model.fit(data)
    np.testing.assert_allclose(tables_of(model, "y"), [[1.0, 0.0], [0.5, 0.5]])
    with pytest.raises(Unsupported, match="MarkovRandomField has none"):
        MaximumLikelihood().fit(MarkovRandomField([Tabular(Variable("k", 2)).factor()]), data)


def test_shared_parameters_are_refused_and_stay() -> None:
    arrows = [(("s", -1), "s"), ("s", "x")]
    slices = DynamicBayesianNetwork(arrows, states={"s": 2, "x": 2})
    model = slices.unroll(3)
    data = {(n, t): [0, 1, 1] for n in ("s", "x") for t in range(3)}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(Unsupported, match=r"share parameters.*Gradient"):
        model.fit(data, learner=MaximumLikelihood())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    emission = Tabular(Variable("x", 2), [Variable("s", 2)])
    emissions = {"x": emission, "y": Renamed(emission, {"x": "y"})}
    chain = HiddenMarkovModel(2, emissions, name="s")
    with pytest.raises(Unsupported, match="'x' and 'y' share parameters"):
        chain.fit({n: [[0, 1, 1]] for n in "sxy"}, learner=MaximumLikelihood())


def tables_of(model: BayesianNetwork | DynamicBayesianNetwork, name: str) -> np.ndarray:
    conditional = model.conditionals[name]
    assert isinstance(conditional, Tabular)
    return conditional.probs.detach().numpy()


def test_alarm_is_learnt_from_its_own_samples(data_dir: Path) -> None:
    alarm = read_bif(data_dir / "bn" / "alarm.bif")
    lookup = LookupTables.of(tuple(alarm.variables.values()), alarm.conditionals.values())
    truth = tables(alarm)
    rows = lookup.sample(200_000, np.concatenate([t.ravel() for t in truth.values()]), seed=0)
    alarm.requires_grad_()
    alarm.fit(rows)
    scores = []
    for name, counts in zip(truth, lookup.split(lookup.count(rows)), strict=True):
        number = counts.sum(axis=-1, keepdims=True)
        variance = truth[name] * (1 - truth[name]) / np.maximum(number, 1)
        usual = (number * truth[name] > 25) & (number * (1 - truth[name]) > 25)
        scores.append((tables_of(alarm, name) - truth[name])[usual] / np.sqrt(variance[usual]))
    z = np.concatenate(scores)
    # Nearly normal scores of some 600 entries: none is beyond 5 by chance (p < 1e-3), and their
    # mean square is 1 give or take 4 sqrt(2 / 300) (the entries of a row depend on each other).
    assert len(z) > 400
    assert np.abs(z).max() < 5
    assert abs((z**2).mean() - 1) < 0.33


def test_an_interrupt_after_the_first_tables_restores_them(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    model = BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    before = {n: x.clone() for n, x in model.state_dict().items()}
    monkeypatch.setattr("pgnn.inference.learning.maximum_likelihood._log_likelihood", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit({"a": [0, 0, 1], "b": [0, 1, 1]}, progress=False)
    assert all(x.equal(before[n]) for n, x in model.state_dict().items())


def test_a_dirichlet_prior_says_that_it_takes_arrays_by_name() -> None:
    with pytest.raises(ModelError, match="or arrays of the shape of their tables"):
        Dirichlet([[2, 3], [5, 1]])  # type: ignore[arg-type]
