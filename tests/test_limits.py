"""Every number that a caller can give is checked before memory or time is spent."""

import dataclasses
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, Intractable, ModelError, PgnnError
from pgnn.factors.piece import learnable_zeros
from pgnn.inference.search.neighbourhood_search import NeighbourhoodSearch
from pgnn.limits import (
    POSITIVE,
    Interval,
    check_real,
    check_seed,
    check_settings,
    check_size,
    check_work,
    entries_of,
    human_bytes,
    human_count,
    whole_number,
)
from pgnn.metrics import HeldOut

HUGE = (10**9, 10**12, 10**18)
NO_WHOLE_NUMBERS = ("3", 2.5, True, 1j, float("nan"), [1], 10**30, -(10**30))
NO_REAL_NUMBERS = ("0.5", True, 1j, float("nan"), [0.5], None)
NO_TRUTH_VALUES = ("no", 2, None, [True])

# What constructors need besides their defaults.
NEEDED: dict[type, dict[str, Any]] = {
    pgnn.LowRankNormal: {"rank": 1},
    pgnn.Amortised: {"encoder": torch.nn.Linear(1, 2)},
    pgnn.Checkpoints: {"path": "fit"},
    pgnn.Dirichlet: {"pseudo_counts": {"a": 1.0}},
    pgnn.Slices: {"name": "x"},
}
# Dataclasses that hold what was found or asked, and no settings.
NO_SETTINGS = {pgnn.Beliefs, pgnn.Best}


def _settings() -> Iterator[type]:
    exported = [getattr(pgnn, name) for name in pgnn.__all__]
    for kind in [*exported, NeighbourhoodSearch, HeldOut]:
        abstract = inspect.isabstract(kind) or kind in NO_SETTINGS
        if dataclasses.is_dataclass(kind) and not abstract:
            yield kind


def _fields(*words: str) -> list[Any]:
    return [
        pytest.param(kind, field, id=f"{kind.__name__}.{field.name}")
        for kind in _settings()
        for field in dataclasses.fields(kind)
        if field.init and {w.strip() for w in str(field.type).split("|")} - {"None"} == set(words)
    ]


def _make(kind: type, **settings: Any) -> Any:
    return kind(**{**NEEDED.get(kind, {}), **settings})


def _optional(field: Any) -> bool:
    return "None" in str(field.type)


def test_the_walk_finds_settings() -> None:
    assert len(list(_settings())) > 35
    assert len(_fields("int")) > 30
    assert len(_fields("float")) > 15


# --- wrong settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "field"), _fields("int"))
def test_whole_numbers(kind: type, field: Any) -> None:
    for value in NO_WHOLE_NUMBERS:
        with pytest.raises(ModelError, match=f"{field.name} must") as caught:
            _make(kind, **{field.name: value})
        assert "got" in str(caught.value)
    if not _optional(field):
        with pytest.raises(ModelError, match=f"{field.name} must be a whole number, got None"):
            _make(kind, **{field.name: None})
    if field.name != "axis":
        with pytest.raises(ModelError, match=f"{field.name} must (not be negative|be at least)"):
            _make(kind, **{field.name: -1})


@pytest.mark.parametrize(("kind", "field"), _fields("float"))
def test_real_numbers(kind: type, field: Any) -> None:
    for value in NO_REAL_NUMBERS:
        if value is None and _optional(field):
            continue
        with pytest.raises(ModelError, match=f"{field.name}.* must be"):
            _make(kind, **{field.name: value})


@pytest.mark.parametrize(("kind", "field"), _fields("bool"))
def test_truth_values(kind: type, field: Any) -> None:
    for value in NO_TRUTH_VALUES:
        if value is None and _optional(field):
            continue
        with pytest.raises(ModelError, match=f"{field.name} must be True or False"):
            _make(kind, **{field.name: value})


def test_settings_of_other_kinds() -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: pgnn.Gibbs(temperature="hot"),
        lambda: pgnn.Gibbs(temperature=[1.0, "hot", 1.0, 1.0]),
        lambda: pgnn.Gibbs(temperature=[1.0, 2.0]),
        lambda: pgnn.Gibbs(temperature=float("nan")),
        lambda: pgnn.AnnealedImportanceSampling(temperatures="many"),
        lambda: pgnn.AnnealedImportanceSampling(temperatures=[0.0, "half", 1.0]),
        lambda: pgnn.AnnealedImportanceSampling(temperatures=2.5),
        lambda: pgnn.AnnealedImportanceSampling(temperatures=0),
        lambda: pgnn.Annealing(schedule="slow"),
        lambda: pgnn.MeanField(blocks="rows"),
        lambda: pgnn.MeanField(blocks=3),
        lambda: pgnn.BeliefPropagation(schedule="flooding"),
        lambda: pgnn.BeliefPropagation(start="here"),
        lambda: pgnn.DualDecomposition(search=True),
        lambda: pgnn.Variational(guide="normal"),
        lambda: pgnn.Variational(objective=3),
        lambda: pgnn.Variational(optimizer="adam"),
        lambda: pgnn.Variational(scheduler=3),
        lambda: pgnn.Amortised("encoder"),
        lambda: pgnn.BoyenKoller(3),
        lambda: pgnn.BoyenKoller([3]),
        lambda: pgnn.EM(prior="flat"),
        lambda: pgnn.Gradient(optimizer="adam"),
        lambda: pgnn.Gradient(engine="gibbs"),
        lambda: pgnn.Gradient(l1="much"),
        lambda: pgnn.Gradient(l2=-1.0),
        lambda: pgnn.PseudoLikelihood(l2=float("nan")),
        lambda: pgnn.MaximumLikelihood(prior=1.0),
        lambda: pgnn.Dirichlet("1"),
        lambda: pgnn.Gamma("1", 1.0),
        lambda: pgnn.Beta(1.0, -1.0),
        lambda: pgnn.Lattice(periodic="yes"),
    ]
    for make in wrong:
        with pytest.raises(ModelError):
            make()


def test_whole_numbers_of_numpy_become_those_of_python() -> None:
    engine = pgnn.Gibbs(chains=np.int64(3), seed=np.uint8(7))
    assert (type(engine.chains), engine.chains, type(engine.seed)) == (int, 3, int)
    assert engine == pgnn.Gibbs(chains=3, seed=7)


def test_settings_of_any_dataclass() -> None:
    @dataclasses.dataclass(frozen=True)
    class Own:
        number: int = 1
        share: float = 0.5
        maybe: int | None = None
        flag: bool = False
        text: str = "x"

        def __post_init__(self) -> None:
            check_settings(self, number=1, share=Interval(0.0, 1.0, open_high=True))

    assert Own(2, 0, None, True).number == 2
    for wrong in ({"number": 0}, {"share": 1.0}, {"maybe": "1"}, {"flag": 1}):
        with pytest.raises(ModelError):
            Own(**wrong)


# --- arguments of verbs -------------------------------------------------------------------------


def _network() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork(
        [("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]}, states={"a": 2, "b": 2}
    )


def _chain() -> pgnn.HiddenMarkovModel:
    return pgnn.HiddenMarkovModel(
        2, {"x": [[0.9, 0.1], [0.2, 0.8]]}, [0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]]
    )


def _normal() -> pgnn.BayesianNetwork:
    mean, y = pgnn.Variable("mean"), pgnn.Variable("y")
    return pgnn.BayesianNetwork(
        [("mean", "y")],
        {
            "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
            "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
        },
    )


def _more(n: int) -> int:
    return min(1000 * n, 2**62)


LARGE: dict[str, Callable[[int], Any]] = {
    "sample": lambda n: _network().sample(n),
    "sample rows": lambda n: _network().sample(n // 1000, {"a": [0] * 1000}),
    "sample by chains": lambda n: _network().sample(n, engine=pgnn.Gibbs(seed=0)),
    "sample by weights": lambda n: _network().sample(n, engine=pgnn.ImportanceSampling(seed=0)),
    "sample by annealing": lambda n: _network().sample(
        n, engine=pgnn.AnnealedImportanceSampling(seed=0)
    ),
    "sample reals": lambda n: _normal().sample(n, {"y": 1.0}, engine=pgnn.MCMC(seed=0)),
    "sample a guide": lambda n: _normal().sample(
        n, {"y": 1.0}, engine=pgnn.Variational(max_iterations=1, progress=False)
    ),
    "k best": lambda n: _network().most_probable(k=n),
    "k best paths": lambda n: _chain().decode({"x": [0, 1]}, k=n),
    "predict": lambda n: _chain().predict({"x": [0, 1]}, n),
    "unroll": lambda n: _chain().unroll(n),
    "length": lambda n: _chain().sample(1, {"T": n}),
    "length of a query": lambda n: _chain().query(None, {"T": n}),
    "length of a score": lambda n: _chain().log_prob({"T": n}),
    "sequences": lambda n: _chain().sample(n, {"T": 10}),
    "states": lambda n: pgnn.Variable("a", n),
    "states of a model": lambda n: pgnn.BayesianNetwork([("a", "b")], states={"a": n, "b": 2}),
    "a table": lambda n: pgnn.BayesianNetwork(
        [("a", "b")], states={"a": 30_000, "b": min(n // 10**5, 10**5)}
    ),
    "a table of a field": lambda n: pgnn.MarkovRandomField(
        [("a", "b")], states={"a": 30_000, "b": min(n // 10**5, 10**5)}
    ),
    "hidden states": lambda n: pgnn.HiddenMarkovModel(n, {"x": 2}),
    "transitions": lambda n: pgnn.HiddenMarkovModel(n // 10**4, {"x": 2}),
    "symbols": lambda n: pgnn.HiddenMarkovModel(2, {"x": n}),
    "durations": lambda n: pgnn.HiddenSemiMarkovModel(2, {"x": 2}, durations=n),
    "components": lambda n: pgnn.GaussianMixture(pgnn.Variable("x"), [], n),
    "dimensions": lambda n: pgnn.Gaussian(pgnn.Variable("x", shape=(n,)), []),
    "a grid": lambda n: pgnn.MarkovRandomField.grid((n, n)),
    "an array": lambda n: pgnn.MarkovRandomField(
        [pgnn.Ising(pgnn.Variable("x", 2, (n,)), 0.5, edges=[(0, 1)])]
    ).query(),
    "gibbs chains": lambda n: _network().query(engine=pgnn.Gibbs(chains=n)),
    "gibbs samples": lambda n: _network().query(engine=pgnn.Gibbs(samples=_more(n))),
    "gibbs thin": lambda n: _network().query(engine=pgnn.Gibbs(thin=n)),
    "gibbs burn in": lambda n: _network().query(engine=pgnn.Gibbs(burn_in=_more(n))),
    "weighted draws": lambda n: _network().query(engine=pgnn.ImportanceSampling(_more(n))),
    "inverse temperatures": lambda n: _network().query(
        engine=pgnn.AnnealedImportanceSampling(temperatures=n)
    ),
    "annealed chains": lambda n: _network().query(
        engine=pgnn.AnnealedImportanceSampling(chains=n)
    ),
    "annealed sweeps": lambda n: _network().query(
        engine=pgnn.AnnealedImportanceSampling(sweeps=n)
    ),
    "cooled sweeps": lambda n: _network().most_probable(engine=pgnn.Annealing(sweeps=n)),
    "cooled chains": lambda n: _network().most_probable(engine=pgnn.Annealing(chains=n)),
    "starts": lambda n: _network().query(engine=pgnn.MeanField(restarts=_more(n))),
    "forests": lambda n: pgnn.MarkovRandomField.grid((3, 3), coupling=0.1).query(
        engine=pgnn.BeliefPropagation(tree_reweighted=True, num_forests=n)
    ),
    "nuts chains": lambda n: _normal().query("mean", {"y": 1.0}, engine=pgnn.MCMC(chains=n)),
    "nuts samples": lambda n: _normal().query("mean", {"y": 1.0}, engine=pgnn.MCMC(samples=n)),
    "nuts warmup": lambda n: _normal().query("mean", {"y": 1.0}, engine=pgnn.MCMC(warmup=n)),
    "nuts depth": lambda n: _normal().query(
        "mean", {"y": 1.0}, engine=pgnn.MCMC(max_tree_depth=n)
    ),
    "leapfrog steps": lambda n: _normal().query("mean", {"y": 1.0}, engine=pgnn.MCMC(num_steps=n)),
    "particles": lambda n: _normal().query(
        "mean", {"y": 1.0}, engine=pgnn.Variational(objective=pgnn.Elbo(n))
    ),
    "draws of a guide": lambda n: _normal().query(
        "mean", {"y": 1.0}, engine=pgnn.Variational(num_samples=n, max_iterations=1)
    ),
    "columns of a guide": lambda n: _normal().query(
        "mean", {"y": 1.0}, engine=pgnn.Variational(guide=pgnn.LowRankNormal(n))
    ),
    "layers of a guide": lambda n: _normal().query(
        "mean", {"y": 1.0}, engine=pgnn.Variational(guide=pgnn.Flow(layers=n))
    ),
    "units of a guide": lambda n: _normal().query(
        "mean", {"y": 1.0}, engine=pgnn.Variational(guide=pgnn.Flow(hidden=n))
    ),
    "restarts": lambda n: pgnn.HiddenMarkovModel(2, {"x": 2}).fit(
        {"x": [0, 1, 0]}, learner=pgnn.EM(restarts=n), progress=False
    ),
    "draws of a gradient": lambda n: pgnn.MarkovRandomField.grid((1, 2), name="a").fit(
        {"a": [[[0, 1]], [[1, 1]]]},
        learner=pgnn.Gradient(
            engine=pgnn.Gibbs(),
            num_samples=n,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
            max_iterations=1,
        ),
        progress=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LARGE)
def test_what_would_not_fit_is_refused_at_once(what: str) -> None:
    for n in HUGE:
        begin = time.process_time()
        with pytest.raises(Intractable) as caught:
            LARGE[what](n)
        assert any(unit in str(caught.value) for unit in ("iB", " B", "steps", "entries"))
        assert time.process_time() - begin < 10.0


@pytest.mark.parametrize("n", [10**30, "3", 2.5, True, -1, None, [1]])
def test_wrong_numbers_of_verbs(n: Any) -> None:
    network, chain = _network(), _chain()
    calls: list[Callable[[], Any]] = [
        lambda: network.sample(n),
        lambda: network.most_probable(k=n),
        lambda: chain.predict({"x": [0]}, n),
        lambda: chain.unroll(n),
        lambda: chain.decode({"x": [0]}, k=n),
    ]
    if n is not None:
        calls += [
            lambda: network.sample(1, seed=n),
            lambda: chain.sample(1, {"T": 2}, seed=n),
            lambda: network.fit({"a": [0], "b": [1]}, seed=n),
        ]
    for call in calls:
        with pytest.raises(PgnnError):
            call()


# --- the checks themselves ----------------------------------------------------------------------


def test_sizes() -> None:
    check_size("it", 2**29)
    with pytest.raises(Intractable, match=r"it would need 4\.0 GiB; the budget is 4\.0 GiB\. Less"):
        check_size("it", 2**29 + 1, advice="Less")
    with pytest.raises(Intractable, match="30 B; the budget is 20 B"):
        check_size("it", 10, 20, each=3)
    check_work("it", 2**40)
    with pytest.raises(Intractable, match=r"it would take 1\.1e\+12 elementary steps"):
        check_work("it", 2**40 + 1)


def test_entries_of_more_axes_than_can_be_multiplied() -> None:
    assert entries_of([]) == 1
    assert entries_of([3, 4, 5]) == 60
    assert entries_of([2] * 1_000_000, most=2**20) == 2**21


def test_learnable_zeros_are_not_made_if_they_do_not_fit() -> None:
    assert learnable_zeros("it", (2, 3)).shape == (2, 3)
    with pytest.raises(Intractable, match="learnable numbers of it"):
        learnable_zeros("it", (10**6, 10**6))


def test_numbers() -> None:
    assert whole_number("k", np.int8(3)) == 3
    assert check_seed(None) is None
    with pytest.raises(EvidenceError, match="seed must be at most"):
        check_seed(2**64)
    check_real("x", 0.5, POSITIVE)
    for wrong in (0.0, float("inf"), float("nan"), "1"):
        with pytest.raises(ModelError, match="x must be"):
            check_real("x", wrong, POSITIVE)


def test_intervals() -> None:
    half_open = Interval(0.0, 1.0, open_low=True)
    assert [x in half_open for x in (0.0, 0.5, 1.0, float("nan"))] == [False, True, True, False]
    assert str(half_open) == "in (0, 1]"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0 thousand"),
        (999_949, "999.9 thousand"),
        (999_950, "1.0 million"),
        (2_500_000_000, "2.5 billion"),
        (7 * 10**12, "7.0 trillion"),
        (999_999_999_999_999, "1.0e+15"),
        (10**15, "1.0e+15"),
        (10**400, "1.0e+400"),
        (150.0, "150"),
        (1.5e300, "1.5e+300"),
        (float("inf"), "more than 1.8e+308"),
    ],
)
def test_counts(count: float, text: str) -> None:
    assert human_count(count) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**60, "1.2e+18 B"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert human_bytes(size) == text
