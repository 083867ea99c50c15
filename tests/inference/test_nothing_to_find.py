"""Models without discrete variables, sequences without steps, evidence without rows."""

import contextlib
import inspect
import math
import warnings

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import Unsupported

V = pgnn.Variable
ENGINES = [
    pgnn.JunctionTree(),
    pgnn.BeliefPropagation(),
    pgnn.MeanField(),
    pgnn.Gibbs(samples=10, progress=False),
    pgnn.ImportanceSampling(100, progress=False),
    pgnn.AnnealedImportanceSampling(temperatures=10, progress=False),
    pgnn.Annealing(sweeps=10, progress=False),
    pgnn.DualDecomposition(),
]


def normal() -> pgnn.BayesianNetwork:
    mean, y = V("mean"), V("y")
    return pgnn.BayesianNetwork(
        [("mean", "y")],
        {
            "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
            "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
        },
    )


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
def test_models_without_discrete_variables(engine: pgnn.Engine) -> None:
    empty = pgnn.BayesianNetwork([])
    real = pgnn.BayesianNetwork([], {"x": pgnn.Gaussian(V("x"), mean=0.0, covariance=1.0)})
    half = 0.5 * math.log(2 * math.pi)
    for model, evidence, right in (
        (empty, pd.DataFrame(index=range(3)), [0.0] * 3),
        (real, {"x": [0.0, 1.0]}, [-half, -half - 0.5]),
    ):
        answered = 0
        for ask in (model.query, model.most_probable):
            try:
                found = ask(evidence=evidence, engine=engine)
            except Unsupported:
                continue
            answered += 1
            value = found.log_evidence if ask == model.query else found.log_prob
            if not bool(value.isnan().any()):  # chains have no estimate
                np.testing.assert_allclose(value, right, atol=1e-9)
        assert answered
        np.testing.assert_allclose(model.log_prob(evidence, engine=engine), right, atol=1e-9)
    try:
        assert real.sample(4, engine=engine, seed=0)["x"].shape == (4,)
        assert len(empty.sample(4, engine=engine, seed=0)) == 0
    except Unsupported:
        pass


def chains() -> list[pgnn.Model]:
    hidden = pgnn.HiddenMarkovModel(
        2, {"r": [[0.5, 0.5], [0.1, 0.9]]}, initial=[0.5, 0.5], transitions=[[0.9, 0.1], [0.1, 0.9]]
    )
    x, before, r = V("x"), V(("x", -1)), V("r")
    real = pgnn.DynamicBayesianNetwork(
        [(("x", -1), "x"), ("x", "r")],
        {
            "x": pgnn.LinearGaussian(x, [before], [1.0], 0.0, covariance=1.0),
            "r": pgnn.LinearGaussian(r, [x], [1.0], 0.0, covariance=1.0),
        },
        initial={"x": pgnn.Gaussian(x, mean=0.0, covariance=1.0)},
    )
    return [hidden, real]


@pytest.mark.parametrize("engine", [None, pgnn.SequentialMonteCarlo(20, seed=0)])
def test_sequences_without_steps(engine: pgnn.Engine | None) -> None:
    for model in chains():
        state = model.hidden[0]
        for rows in ([], np.zeros((2, 0))):
            observed = {"r": rows}
            for ask in (model.smooth, model.filter):
                found = ask(observed, engine=engine)
                assert float(found.log_evidence.sum()) == 0.0
                own = found.marginal(state).mean if state == "x" else found.probs(state)
                assert own.numel() == 0
            assert model.decode(observed, engine=engine) is not None
            assert not model.log_prob(observed, engine=engine).any()
        ahead = model.predict({"r": []}, 2, [state], engine=engine)
        assert (ahead[state].mean if state == "x" else ahead.probs(state)).shape[0] == 2


def test_no_rows_for_a_guide() -> None:
    engine = pgnn.Variational(seed=0, progress=False, max_iterations=10)
    none = pd.DataFrame({"y": np.zeros(0)})
    assert normal().log_prob(none, engine=engine).shape == (0,)
    found = normal().query("mean", none, engine=engine)
    assert found["mean"].mean.shape == (0,)
    assert str(found)
    assert len(found.frame()) == 0
    assert normal().sample(3, none, engine=engine)["mean"].shape == (3, 0)


def test_tensors_of_any_kind_are_numbers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says once that these will go
        halves, two = (
            torch.quantize_per_tensor(torch.tensor(x), 0.25, 0, torch.quint8)
            for x in ([0.5, 0.5], 2.0)
        )
    x, z = V("x", 2), V("z", 2)
    for same in (halves, torch.tensor([0.5, 0.5]).to_sparse(), torch.tensor([0.5, 0.5]).half()):
        assert pgnn.Tabular(x, table=same).probs.tolist() == [0.5, 0.5]
        assert pgnn.BayesianNetwork([], {"x": same}).query("x")["x"].probs.tolist() == [0.5, 0.5]
        learned = pgnn.BayesianNetwork([], states={"x": 2}).fit({"x": [0, 1]}, weights=same)
        assert learned.conditionals["x"].probs.tolist() == [0.5, 0.5]
    assert float(pgnn.Gaussian(V("g"), mean=two, covariance=1.0).mean) == 2.0
    assert pgnn.Ising([x, z], coupling=two) is not None
    assert pgnn.Gibbs(temperature=two).temperature == 2.0
    assert pgnn.Gibbs(chains=2, temperature=np.array([1.0, 2.0])).temperature == (1.0, 2.0)
    betas = torch.tensor([0.0, 0.5, 1.0])
    assert pgnn.AnnealedImportanceSampling(temperatures=betas).temperatures == (0.0, 0.5, 1.0)
    drawn = chains()[0].sample(1, {"T": two}, seed=0)
    assert {len(x[0]) for x in drawn.values()} == {2}
    with pytest.raises(pgnn.EvidenceError, match="'T' must be"):
        chains()[0].sample(1, {"T": 2.5})


_ANSWERS = {"Assignment", "Beliefs", "Best", "KBest", "OnlineFilter", "Posterior", "Question",
            "Resampling", "Samples", "Flooding", "Residual", "Sequential"}  # fmt: skip


def test_wrong_arguments_of_public_classes_are_told() -> None:
    tried = 0
    for name in pgnn.__all__:
        kind = getattr(pgnn, name)
        wanted = isinstance(kind, type) and kind.__init__ is not object.__init__
        if not wanted or issubclass(kind, BaseException) or name in _ANSWERS:
            continue
        if getattr(kind, "__abstractmethods__", None):
            continue
        tried += 1
        with pytest.raises((pgnn.PgnnError, TypeError)) as told:
            kind(no_such_argument=1)
        assert isinstance(told.value, pgnn.PgnnError), (name, told.value)
        with contextlib.suppress(pgnn.PgnnError):
            kind()
        with contextlib.suppress(pgnn.PgnnError):
            kind(*range(30))
    assert tried > 60
    with pytest.raises(TypeError, match=r"'max_iter'; did you mean 'max_iterations'\?"):
        pgnn.MeanField(max_iter=3)  # type: ignore[call-arg]
    assert next(iter(inspect.signature(pgnn.ChowLiuTree).parameters)) == "states"


def test_conditionals_without_arguments_say_what_they_take() -> None:
    kinds = [
        kind
        for kind in (getattr(pgnn, name) for name in pgnn.__all__)
        if isinstance(kind, type) and issubclass(kind, pgnn.Conditional | pgnn.Potential)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        if getattr(kind, "__abstractmethods__", None):
            continue
        with pytest.raises(pgnn.ModelError, match=rf"it takes {kind.__name__}\("):
            kind()
    with pytest.raises(
        pgnn.ModelError, match=r"such as pgnn.Variable\('x', 2\), got 0.5; .*table="
    ):
        pgnn.Tabular(V("x", 2), [0.5, 0.5])
    with pytest.raises(pgnn.ModelError, match=r"list of variables, got 0.0; .*mean="):
        pgnn.Gaussian(V("x"), 0.0, 1.0)


@pytest.mark.parametrize("learner", [pgnn.EM(), pgnn.Gradient()], ids=["em", "gradient"])
@pytest.mark.parametrize("real", [False, True])
def test_columns_that_no_row_has_observed_teach_nothing_and_that_is_said(learner, real) -> None:
    x, y, z = V("x"), V("y"), V("z")
    given = {"x": pgnn.Gaussian(x), "y": pgnn.LinearGaussian(y, [x]), "z": pgnn.Gaussian(z)}
    names = {} if real else {"x": 2, "y": 2, "z": 2}
    rng = np.random.default_rng(0)
    observed = rng.normal(size=30) if real else rng.integers(0, 2, 30)
    hole = np.full(30, np.nan)

    def model() -> pgnn.BayesianNetwork:
        # "y" is a leaf, "z" has nothing to do with the rest
        return pgnn.BayesianNetwork(
            _graph(), given if real else None, states=names or None
        )  # fmt: skip

    with pytest.warns(pgnn.NotConverged, match=r"no values of '[yz]', '[yz]' or of desc"):
        found = model().fit(
            {"x": observed, "y": hole, "z": hole}, learner=learner, progress=False, seed=0
        )
    assert found.conditionals["x"].num_free_parameters > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a parent of what was observed is learnt about
        model().fit(
            {"x": hole, "y": observed, "z": observed}, learner=learner, progress=False, seed=0
        )


def _graph() -> nx.DiGraph:
    graph = nx.DiGraph([("x", "y")])
    graph.add_node("z")
    return graph


def test_an_emission_that_no_step_has_observed_is_named() -> None:
    model = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian, "y": pgnn.Gaussian})
    data = {"x": np.arange(20.0)[None], "y": np.full((1, 20), np.nan)}
    with pytest.raises(pgnn.DataError, match="'y' was not observed in any row"):
        model.fit(data, seed=0, progress=False)
