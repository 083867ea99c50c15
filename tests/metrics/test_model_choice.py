"""Criteria by hand, and the choice that they make."""

from __future__ import annotations

import math
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import stats

import pgnn
from pgnn.errors import DataError, ModelError
from pgnn.metrics import (
    Bic,
    HeldOut,
    aic,
    bic,
    choose,
    credible_intervals,
    num_learnable_parameters,
    num_observations,
)

QUICK = {"learner": pgnn.EM(tolerance=1e-6), "seed": 0, "progress": False}


def chain(states: int, **options: Any) -> pgnn.HiddenMarkovModel:
    return pgnn.HiddenMarkovModel(states, {"x": 4}, **options)


class TestNumLearnable:
    def test_tables(self) -> None:
        assert num_learnable_parameters(chain(3)) == 3 * 3 + 3 * 2 + 2

    def test_constants_do_not_count(self) -> None:
        given = chain(2, transitions=[[0.9, 0.1], [0.2, 0.8]])
        assert num_learnable_parameters(given) == 2 * 3 + 1
        assert num_learnable_parameters(given.requires_grad_()) == 2 * 3 + 1 + 2
        assert num_learnable_parameters(given.requires_grad_(False)) == 0

    def test_structural_zeros_do_not_count(self) -> None:
        assert (
            num_learnable_parameters(chain(3, mask=np.triu(np.ones((3, 3))))) == 9 + (2 + 1 + 0) + 2
        )

    def test_a_fit_does_not_change_the_number(self) -> None:
        unseen = {"x": [0, 1, 1, 0, 2, 1, 0, 0, 1, 2]}  # never 3
        for options in ({}, {"mask": np.triu(np.ones((2, 2)))}):
            model = chain(2, **options)
            before = num_learnable_parameters(model)
            model.fit(unseen, **QUICK)
            assert bool((model.emissions["x"].probs[:, 3] == 0).all())
            assert num_learnable_parameters(model) == before

    def test_zeros_of_a_start_that_the_learner_keeps_are_structural(self) -> None:
        model = chain(2, transitions=[[0.5, 0.5], [0.0, 1.0]]).requires_grad_()
        learner = pgnn.EM(initialize=False, tolerance=1e-6)
        model.emissions["x"].set_probs([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
        model.fit({"x": [0, 1, 1, 0, 2, 3, 3, 2]}, learner=learner, progress=False)
        assert num_learnable_parameters(model) == 2 * 3 + 1 + 1

    def test_of_a_saved_model(self, tmp_path: Path) -> None:
        model = chain(3, mask=np.triu(np.ones((3, 3))))
        model.fit({"x": [0, 1, 1, 0, 2, 1, 0, 0, 1, 2]}, **QUICK)
        model.save(tmp_path / "chain.safetensors")
        loaded = pgnn.load(tmp_path / "chain.safetensors")
        assert num_learnable_parameters(loaded) == num_learnable_parameters(model) == 9 + 3 + 2

    @pytest.mark.parametrize(
        ("form", "numbers"),
        [
            (pgnn.Full(), 2 * 6),
            (pgnn.Tied(), 6),
            (pgnn.Diagonal(), 2 * 3),
            (pgnn.Spherical(), 2 * 1),
        ],
    )
    def test_normals(self, form: Any, numbers: int) -> None:
        emission = pgnn.Gaussian(
            pgnn.Variable("y", shape=(3,)), [pgnn.Variable("state", 2)], form=form
        )
        assert num_learnable_parameters(emission) == 2 * 3 + numbers

    def test_mixtures(self) -> None:
        emission = pgnn.GaussianMixture(pgnn.Variable("y"), [pgnn.Variable("state", 2)], 3)
        assert num_learnable_parameters(emission) == 2 * 2 + 2 * 3 * 2

    def test_shared_numbers_count_once(self) -> None:
        model = chain(2)
        assert num_learnable_parameters(model.unroll(5)) == num_learnable_parameters(model)

    def test_networks(self) -> None:
        state, y = pgnn.Variable("state", 2), pgnn.Variable("y", 3)
        assert num_learnable_parameters(pgnn.Neural(y, [state], torch.nn.Linear(2, 3))) == 9

    def test_a_piece_says_how_many_are_free(self) -> None:
        class Scores(pgnn.Softmax):
            def num_free(self, parameter: torch.Tensor) -> int:
                return parameter.numel()

        state, y = pgnn.Variable("state", 2), pgnn.Variable("y", 3)
        scores = Scores(y, [state])
        assert num_learnable_parameters(pgnn.Softmax(y, [state])) == scores.num_free_parameters == 4
        assert num_learnable_parameters(scores) == 6


class TestNumObservations:
    def test_steps_with_something_observed(self) -> None:
        assert num_observations(chain(2), {"x": [[0, -1, 2], [1]]}) == 3
        assert num_observations(chain(2), {"T": 7}) == 0

    def test_vectors_and_likelihoods(self) -> None:
        model = pgnn.HiddenMarkovModel(2, {"y": pgnn.Gaussian, "x": 2}, shapes={"y": (2,)})
        nan = math.nan
        assert num_observations(model, {"y": [[0.0, nan], [nan, nan], [1.0, 1.0]]}) == 2
        likely = np.array([[0.5, 0.5], [0.3, 0.5], [1.0, 1.0]])
        assert num_observations(model, {"x": likely}) == 1

    def test_rows(self) -> None:
        model = pgnn.BayesianNetwork(nx.DiGraph([("a", "b")]), states={"a": 2, "b": 2})
        assert num_observations(model, {"a": [0, 1, 1], "b": [0, 0, 1]}) == 3
        assert num_observations(model, {"a": [0, None, None], "b": [None, None, 1]}) == 2
        likely = {"a": [[0.5, 0.5], [0.3, 0.5], [1.0, 1.0]], "b": [None, None, None]}
        assert num_observations(model, likely) == 1
        with pytest.raises(DataError, match="at least one observation"):
            pgnn.metrics.bic(model, {"a": [None, None]})

    def test_rows_of_reals(self) -> None:
        nan = math.nan
        model = pgnn.FactorAnalysis(1, features=2)
        assert num_observations(model, np.array([[0.0, nan], [nan, nan], [1.0, 1.0]])) == 2
        x = pgnn.Gaussian(pgnn.Variable("x"), [pgnn.Variable("a", 2)])
        model = pgnn.BayesianNetwork([("a", "x")], {"x": x}, states={"a": 2})
        rows = {"a": [0, None, None], "x": [nan, 1.0, nan]}
        assert num_observations(model, rows) == 2
        assert num_observations(model.do({"a": 0}), {"x": [nan, 1.0, nan]}) == 1


class TestCriteria:
    def test_of_a_chain_by_hand(self) -> None:
        model = chain(2)
        data = {"x": [[0, 1, 2], [3, 0]]}
        log_likelihood = 5 * math.log(0.25)
        assert bic(model, data) == pytest.approx(9 * math.log(5) - 2 * log_likelihood)
        assert aic(model, data) == pytest.approx(2 * 9 - 2 * log_likelihood)
        assert aic(model, data, num_parameters=1) == pytest.approx(2 - 2 * log_likelihood)

    def test_of_a_network(self) -> None:
        model = pgnn.BayesianNetwork(nx.DiGraph([("a", "b")]), states={"a": 2, "b": 3})
        data = {"a": [0, 1], "b": [0, 2]}
        expected = 5 * math.log(2) + 2 * 2 * math.log(6)
        assert bic(model, data) == pytest.approx(expected)

    def test_of_a_fitted_network_is_pgmpys(self) -> None:
        from pgmpy.structure_score import BIC

        asia = pgnn.read(str(resources.files("pgnn") / "networks" / "asia.bif"))
        rows = asia.sample(300, seed=3).frame()
        score = BIC(rows, state_names={n: list(v.states) for n, v in asia.variables.items()})
        parents = {n: [*asia.graph.predecessors(n)] for n in asia.graph}
        expected = -2.0 * sum(score.local_score(n, tuple(p)) for n, p in parents.items())
        learned = pgnn.BayesianNetwork(asia.graph).fit(rows)
        declared = pgnn.BayesianNetwork(asia.graph, states=pgnn.states_of(rows))
        assert bic(learned, rows) == pytest.approx(expected, rel=1e-9)
        for model in (pgnn.BayesianNetwork(asia.graph), declared):
            found = choose({"asia": model}, rows)
            assert found.table["asia"]["figure"] == pytest.approx(expected, rel=1e-9)
            assert found.table["asia"]["parameters"] == num_learnable_parameters(learned)
            assert bic(found.model, rows) == found.table["asia"]["figure"]

    def test_a_row_number_is_no_parent_of_a_coin(self) -> None:
        coin = np.random.default_rng(0).integers(0, 2, 120)
        rows = pd.DataFrame({"id": np.arange(120), "y": coin})
        alone, joined = (
            pgnn.BayesianNetwork(edges, states=pgnn.states_of(rows)).fit(rows)
            for edges in ([], [("id", "y")])
        )
        heads = coin.mean()
        of_coin = 120 * (heads * math.log(heads) + (1 - heads) * math.log(1 - heads))
        expected = (119 + 1) * math.log(120) + 2 * 120 * math.log(120) - 2 * of_coin
        assert bic(alone, rows) == pytest.approx(expected)
        joint = (119 + 120) * math.log(120) + 2 * 120 * math.log(120)
        assert bic(joined, rows) == pytest.approx(joint)

    def test_of_a_fitted_chain_is_hmmlearns(self) -> None:
        from hmmlearn.hmm import CategoricalHMM

        x = np.random.default_rng(0).choice(3, size=200, p=[0.5, 0.3, 0.2])  # 3 does not occur
        model = chain(2).fit({"x": x}, **QUICK)
        other = CategoricalHMM(2, n_features=4)
        other.startprob_ = model.initial["state"].probs.numpy(force=True)
        other.transmat_ = model.transitions.probs.numpy(force=True)
        other.emissionprob_ = model.emissions["x"].probs.numpy(force=True)
        assert num_learnable_parameters(model) == 1 + 2 + 2 * 3
        assert bic(model, {"x": x}) == pytest.approx(other.bic(x[:, None]), rel=1e-9)

    def test_nothing_observed(self) -> None:
        with pytest.raises(pgnn.DataError, match="at least one observation"):
            bic(chain(2), {"T": 3})


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    truth = pgnn.HiddenMarkovModel(
        2,
        {"x": [[0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]]},
        [0.5, 0.5],
        [[0.9, 0.1], [0.2, 0.8]],
    )
    return np.asarray(truth.sample(1, {"T": [60] * 20}, seed=1)["x"][0])


class TestChoose:
    @pytest.mark.parametrize("criterion", [None, Bic(), HeldOut(seed=3)])
    def test_the_number_of_states(self, rows: np.ndarray, criterion: Any) -> None:
        found = choose({k: chain(k) for k in (1, 2)}, {"x": rows}, criterion=criterion, **QUICK)
        assert found.name == 2
        assert found.model is found.models[2]
        assert found.frame()["parameters"].tolist() == [3, 9]
        least = found.frame()["figure"].min()
        assert found.table[2]["figure"] == least

    def test_too_many_states_are_not_worth_it(self, rows: np.ndarray) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pgnn.NotConverged)
            found = choose({k: chain(k) for k in (2, 5)}, {"x": rows}, **QUICK)
        assert found.name == 2
        assert found.table[5]["log_likelihood"] > found.table[2]["log_likelihood"]

    def test_figures_are_those_of_the_fitted_model(self, rows: np.ndarray) -> None:
        found = choose([chain(2)], {"x": rows}, **QUICK)
        assert found.name == 0
        assert found.table[0]["figure"] == pytest.approx(bic(found.model, {"x": rows}))

    def test_held_out_rows_were_not_learnt_from(self, rows: np.ndarray) -> None:
        model, criterion = chain(2), HeldOut(share=0.5, seed=7)
        figure = criterion.figure(model, {"x": rows}, None, **QUICK)
        assert model.history["rows"] == 10
        order = np.random.default_rng(7).permutation(20)
        apart = rows[np.sort(order[10:])]
        assert figure == pytest.approx(-model.log_prob({"x": apart}).mean().item() / 60)

    def test_the_end_of_a_single_sequence_is_set_apart(self, rows: np.ndarray) -> None:
        model, one = chain(2), rows.reshape(-1)
        figure = HeldOut(share=0.25).figure(model, {"x": one}, None, **QUICK)
        gain = model.log_prob({"x": one}) - model.log_prob({"x": one[:900]})
        assert figure == pytest.approx(-gain.item() / 300)
        assert figure < math.log(4)

    def test_refusals(self) -> None:
        with pytest.raises(pgnn.ModelError, match="at least one candidate"):
            choose({}, {"x": [[0]]})
        for share in (0.0, 1.0, math.nan):
            with pytest.raises(pgnn.ModelError, match="share"):
                HeldOut(share)
        with pytest.raises(pgnn.DataError, match="too few"):
            choose([chain(2)], {"x": [0]}, criterion=HeldOut())
        network = pgnn.BayesianNetwork(nx.DiGraph([("a", "b")]), states={"a": 2, "b": 3})
        with pytest.raises(pgnn.DataError, match="too few"):
            choose([network], {"a": [0], "b": [0]}, criterion=HeldOut())
        with pytest.raises(pgnn.DataError, match="got int"):
            choose([network], 3, criterion=HeldOut())

    @pytest.mark.parametrize("kind", ["frame", "mapping", "lists", "rows", "matrix", "polars"])
    def test_rows_set_apart_by_hand(self, kind: str) -> None:
        x = np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 3.0]
        frame = pd.DataFrame(x, columns=["a", "b"])
        data = {
            "frame": frame,
            "mapping": {"a": x[:, 0], "b": torch.from_numpy(x[:, 1])},
            "lists": {n: c.tolist() for n, c in frame.items()},
            "rows": frame.to_dict("records"),
            "matrix": x,
            "polars": pl.DataFrame({"a": x[:, 0], "b": x[:, 1]}),
        }[kind]
        weights = np.arange(40) % 3
        order = np.random.default_rng(5).permutation(40)
        kept, apart = np.sort(order[:28]), np.sort(order[28:])
        share = weights[kept] / weights[kept].sum()
        mean = share @ x[kept]
        matrix = (x[kept] - mean).T @ ((x[kept] - mean) * share[:, None])
        logs = stats.multivariate_normal(mean, matrix).logpdf(x[apart])
        model = pgnn.Density(pgnn.Gaussian)
        figure = HeldOut(0.3, seed=5).figure(model, data, None, weights=weights)
        assert figure == pytest.approx(-np.average(logs, weights=weights[apart]))

    def test_weights_in_a_column(self) -> None:
        x = {"a": [0, 1, 0, 1, 1, 1], "w": [1.0, 2.0, 1.0, 1.0, 0.0, 3.0]}
        model = pgnn.BayesianNetwork([], states={"a": 2})
        figure = HeldOut(0.5).figure(model, x, None, weights="w")
        kept, apart = HeldOut(0.5)._split(6)
        a, w = (np.asarray(x[n]) for n in ("a", "w"))
        ones = np.average(a[kept], weights=w[kept])
        logs = np.log(np.where(a[apart] == 1, ones, 1.0 - ones))
        assert figure == pytest.approx(-np.average(logs, weights=w[apart]))

    def test_a_rotation_of_factors_is_no_parameter(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(300, 6))
        found = choose({k: pgnn.FactorAnalysis(k, 6) for k in (1, 2, 3)}, x)
        assert found.name == 2
        assert [row["parameters"] for row in found.table.values()] == [18, 23, 27]
        assert found.model.num_free_parameters == 23  # type: ignore[comparison-overlap]
        given = pgnn.FactorAnalysis(2, 6, weight=np.ones((6, 2)))
        assert num_learnable_parameters(given) == 12

    def test_shapes_that_only_data_tells_count(self) -> None:
        x = np.random.default_rng(0).normal(size=(200, 2))
        x[100:] += 6.0
        mixtures = {k: pgnn.Mixture(k, {"x": pgnn.Gaussian}) for k in (1, 2, 3)}
        found = choose(mixtures, {"x": x}, **QUICK)
        assert found.name == 2
        assert [row["parameters"] for row in found.table.values()] == [5, 11, 17]


class TestCredibleIntervals:
    def test_a_table_has_the_quantiles_of_its_posterior(self) -> None:
        from scipy.stats import beta

        rows = {"a": [0, 0, 1, 1, 1, 1], "b": [0, 1, 1, 1, 1, 0]}
        net = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
        net.fit(rows, learner=pgnn.MaximumLikelihood(pgnn.Laplace()), progress=False)
        before = net.log_prob(rows)
        found = credible_intervals(net, "b", {"a": [1, 0]}, level=0.8, draws=4000, seed=0)
        exact = beta(4, 2)  # three of four rows, and one each
        assert found.low["b"][0, 1] == pytest.approx(exact.ppf(0.1), abs=0.02)
        assert found.high["b"][0, 1] == pytest.approx(exact.ppf(0.9), abs=0.02)
        assert found.frame().loc[("b", 0, 1), "mean"] == pytest.approx(4 / 6, abs=0.01)
        assert net.log_prob(rows).equal(before)  # the model stays as it is

    def test_without_posteriors_it_says_how_to_have_them(self) -> None:
        with pytest.raises(ModelError, match="fit with a prior"):
            credible_intervals(pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}))


def test_concatenated_sequences_are_those_of_a_list() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 4, n) for n in (30, 50, 20)]
    flat, lengths = {"x": np.concatenate(parts)}, [30, 50, 20]
    model = chain(2).fit({"x": parts}, **QUICK)
    for figure in (aic, bic):
        expected = figure(model, {"x": parts})
        assert figure(model, flat, lengths=lengths) == pytest.approx(expected, rel=1e-12)
        assert figure(model, flat) != pytest.approx(expected, rel=1e-6)
    for criterion in (Bic(), HeldOut()):
        found = [
            choose({2: chain(2)}, data, criterion=criterion, **QUICK, **rest).table[2]
            for data, rest in (({"x": parts}, {}), (flat, {"lengths": lengths}))
        ]
        assert found[0] == pytest.approx(found[1], rel=1e-9)
