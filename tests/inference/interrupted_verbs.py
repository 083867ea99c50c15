"""Questions of all verbs and engines: short ones to be asked often, long ones to be cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributions import Normal

import pgnn


@dataclass
class Verb:
    """What is asked, of a model that ``build`` makes anew."""

    build: Callable[[], Any]
    ask: Callable[[Any], list[Any]]

    def numbers(self, model: Any) -> list[Any]:
        """The answers as lists."""
        return [x.tolist() for x in self.ask(model)]


# --- models --------------------------------------------------------------------------------------


def asia() -> Any:
    return pgnn.read(Path(pgnn.__file__).parent / "networks" / "asia.bif")


def asia_to_learn() -> Any:
    given = asia()
    edges = [(p.name, n) for n, c in given.conditionals.items() for p in c.parents]
    return pgnn.BayesianNetwork(edges, states=dict.fromkeys(given.variables, 2))


def asia_rows(hidden: int = 0, num: int = 500) -> dict[str, Any]:
    """Rows in which one cell is missing in the first ``hidden``."""
    rows = {n: np.array(x.tolist()) for n, x in asia().sample(num, seed=0).items()}
    rows["either"][:hidden] = -1
    return rows


def grid(side: int = 5) -> Any:
    """A field with random couplings."""
    rng = np.random.default_rng(0)
    at = {(i, j): pgnn.Variable((i, j), 2) for i in range(side) for j in range(side)}
    pairs = [
        pgnn.Factor([v, at[o]], torch.from_numpy(rng.normal(size=(2, 2))))
        for (i, j), v in at.items()
        for o in ((i + 1, j), (i, j + 1))
        if o in at
    ]
    return pgnn.MarkovRandomField(pairs)


def grid_to_learn(side: int = 3) -> Any:
    cells = pgnn.Variable("cells", 2, shape=(side, side))
    return pgnn.MarkovRandomField([pgnn.Ising(cells, None, None)])


def cells(num: int, side: int = 3) -> dict[str, Any]:
    return {"cells": np.random.default_rng(0).integers(0, 2, (num, side, side))}


def hmm(num: int = 3) -> Any:
    rng = np.random.default_rng(0)
    moves, emits = rng.dirichlet(np.ones(num), num), rng.dirichlet(np.ones(3), num)
    return pgnn.HiddenMarkovModel(num, {"x": emits}, np.full(num, 1 / num), moves)


def hmm_to_learn() -> Any:
    return pgnn.HiddenMarkovModel(3, {"x": 3})


def segments() -> Any:
    durations = np.full((3, 4), 0.25)
    emits = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    moves = (1 - np.eye(3)) / 2
    return pgnn.HiddenSemiMarkovModel(3, {"x": emits}, durations, np.full(3, 1 / 3), moves)


def steps(num: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(0).integers(0, 3, num)}


def normal() -> Any:
    mean, y = pgnn.Variable("mean"), pgnn.Variable("y")
    conditionals = {
        "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
        "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
    }
    return pgnn.BayesianNetwork([("mean", "y")], conditionals)


def walk() -> Any:
    """A real state over time."""
    x, before, y = pgnn.Variable("x"), pgnn.Variable(("x", -1)), pgnn.Variable("y")
    conditionals = {
        "x": pgnn.Distributional(x, [before], lambda past: Normal(0.9 * past, 0.5)),
        "y": pgnn.Distributional(y, [x], lambda now: Normal(now, 0.7)),
    }
    first = {"x": pgnn.Gaussian(x, mean=0.0, covariance=1.0)}
    return pgnn.DynamicBayesianNetwork([(("x", -1), "x"), ("x", "y")], conditionals, first)


def reals(num: int) -> dict[str, Any]:
    return {"y": np.random.default_rng(0).normal(size=num)}


# --- short questions -----------------------------------------------------------------------------

QUIET: dict[str, Any] = {"seed": 0, "progress": False}
SEEN = {"smoke": "yes", "xray": "yes"}


def marginals(engine: Any) -> Verb:
    """Of a field."""
    return Verb(grid, lambda m: [m.query([(0, 0)], {}, engine=engine)[0, 0].probs])


def best(engine: Any) -> Verb:
    """The most probable states of a field."""
    return Verb(grid, lambda m: [m.most_probable({}, engine=engine).log_prob])


def mean(engine: Any) -> Verb:
    """Of an unknown real."""
    return Verb(normal, lambda m: [m.query("mean", {"y": 2.0}, engine=engine)["mean"].mean])


def fit(build: Callable[[], Any], data: Any, learner: Any) -> Verb:
    """Parameters fitted to data."""

    def ask(model: Any) -> list[Any]:
        model.fit(data, learner=learner, seed=1, progress=False)
        return list(model.state_dict().values())

    return Verb(build, ask)


def ask_sequences(model: Any) -> list[Any]:
    observed, few = steps(3000), steps(200)
    return [
        model.smooth(observed)["state"].probs,
        model.filter(observed)["state"].probs,
        model.decode(observed)["state"],
        model.decode(few, k=5).log_prob,
        model.sample(3, observed, seed=1).codes,
        model.log_prob(observed),
    ]


def particles(count: int, num: int, model: Any) -> list[Any]:
    engine = pgnn.SequentialMonteCarlo(count, **QUIET)
    return [model.filter(reals(num), engine=engine)["x"].mean]


def short_verbs() -> dict[str, Verb]:
    """By name."""
    rows = asia_rows()
    return {
        "exact marginals": Verb(asia, lambda m: [m.query("lung", SEEN)["lung"].probs]),
        "exact marginals of rows": Verb(
            asia, lambda m: [m.query("lung", {"xray": rows["xray"]})["lung"].probs]
        ),
        "most probable": Verb(asia, lambda m: [m.most_probable(SEEN).log_prob]),
        "k most probable": Verb(asia, lambda m: [b.log_prob for b in m.most_probable(SEEN, k=20)]),
        "draws": Verb(asia, lambda m: [m.sample(2000, seed=1).codes]),
        "draws given": Verb(asia, lambda m: [m.sample(2000, SEEN, seed=1).codes]),
        "probabilities of rows": Verb(asia, lambda m: [m.log_prob(asia_rows())]),
        "probabilities of parts": Verb(asia, lambda m: [m.log_prob(asia_rows(hidden=200))]),
        "propagation": marginals(pgnn.BeliefPropagation(progress=False)),
        "mean field": marginals(pgnn.MeanField(**QUIET)),
        "Gibbs": marginals(pgnn.Gibbs(samples=1000, **QUIET)),
        "annealed importance sampling": marginals(
            pgnn.AnnealedImportanceSampling(temperatures=50, **QUIET)
        ),
        "annealing": best(pgnn.Annealing(**QUIET)),
        "dual decomposition": best(pgnn.DualDecomposition(progress=False)),
        "importance sampling": Verb(
            asia,
            lambda m: [
                m.query(
                    "lung", {"xray": "yes"}, engine=pgnn.ImportanceSampling(samples=20_000, seed=0)
                )["lung"].probs
            ],
        ),
        "sequences": Verb(hmm, ask_sequences),
        "segments": Verb(
            segments, lambda m: [m.decode(steps(100))["state"], m.smooth(steps(100))["state"].probs]
        ),
        "particles": Verb(walk, lambda m: particles(500, 30, m)),
        "EM": fit(asia_to_learn, asia_rows(hidden=200), pgnn.EM(max_iterations=5)),
        "EM from many starts": fit(
            asia_to_learn, asia_rows(hidden=200), pgnn.EM(max_iterations=5, restarts=3)
        ),
        "EM of sequences": fit(hmm_to_learn, steps(1000), pgnn.EM(max_iterations=10)),
        "maximum likelihood": fit(asia_to_learn, rows, pgnn.MaximumLikelihood()),
        "gradient": fit(grid_to_learn, cells(200), pgnn.Gradient(max_iterations=10)),
        "pseudo-likelihood": fit(
            grid_to_learn, cells(200), pgnn.PseudoLikelihood(max_iterations=10)
        ),
        "MCMC": mean(pgnn.MCMC(chains=2, warmup=20, samples=20, **QUIET)),
        "variational": mean(pgnn.Variational(max_iterations=20, **QUIET)),
    }


# --- questions that take much longer than anyone waits -------------------------------------------


@dataclass
class Long:
    """A question, and a small one that loads all that it needs."""

    small: Verb
    build: Callable[[], Any]
    ask: Callable[[Any], Any]


def long_marginals(name: str, less: dict[str, Any], **more: Any) -> Long:
    make = getattr(pgnn, name)
    small, engine = make(progress=False, **less), make(progress=False, **more)
    return Long(marginals(small), lambda: grid(30), lambda m: m.query([(0, 0)], {}, engine=engine))


def long_best(name: str, less: dict[str, Any], **more: Any) -> Long:
    make = getattr(pgnn, name)
    small, engine = make(progress=False, **less), make(progress=False, **more)
    return Long(best(small), lambda: grid(30), lambda m: m.most_probable({}, engine=engine))


def long_chain(ask: Callable[[Any, Any], Any], states: int, num: int) -> Long:
    small = Verb(lambda: hmm(states), lambda m: [ask(m, steps(5)) and torch.zeros(1)])
    return Long(small, lambda: hmm(states), lambda m: ask(m, steps(num)))


def long_mean(name: str, less: dict[str, Any], **more: Any) -> Long:
    make = getattr(pgnn, name)
    small, engine = make(**QUIET, **less), make(**QUIET, **more)
    return Long(mean(small), normal, lambda m: m.query("mean", {"y": 2.0}, engine=engine))


def long_fit(build: Callable[[], Any], data: Callable[[int], Any], less: Any, more: Any) -> Long:
    def ask(model: Any) -> None:
        model.fit(data(5000), learner=more, seed=1, progress=False)

    return Long(fit(build, data(50), less), build, ask)


def long_verbs() -> dict[str, Long]:
    """By name."""
    few = {"max_iterations": 2}
    exact = Verb(lambda: grid(4), lambda m: [m.query([(0, 0)])[0, 0].probs])
    wide = Verb(lambda: grid(4), lambda m: [m.sample(2, seed=0).codes])
    return {
        "exact marginals": Long(
            exact,
            lambda: grid(20),
            lambda m: [m.query([(0, 0)], {(5, 5): np.zeros(100, int)}) for _ in range(100)],
        ),
        "draws": Long(wide, lambda: grid(18), lambda m: m.sample(50_000, seed=0)),
        "Gibbs": long_marginals("Gibbs", {"samples": 20}, samples=10**7, burn_in=10),
        "annealed importance sampling": long_marginals(
            "AnnealedImportanceSampling", {"temperatures": 5}, temperatures=10**5
        ),
        "annealing": long_best("Annealing", {"sweeps": 5}, sweeps=10**6),
        "propagation": long_marginals(
            "BeliefPropagation", few, max_iterations=10**8, tolerance=1e-300
        ),
        "mean field": long_marginals(
            "MeanField", few, restarts=10**5, max_iterations=10**5, tolerance=1e-300
        ),
        "dual decomposition": long_best("DualDecomposition", few, max_iterations=10**6),
        "smoothing": long_chain(lambda m, x: m.smooth(x), 800, 20_000),
        "best path": long_chain(lambda m, x: m.decode(x), 800, 40_000),
        "k best paths": long_chain(lambda m, x: m.decode(x, k=500), 100, 10_000),
        "paths given": long_chain(lambda m, x: m.sample(1000, x, seed=0), 200, 5000),
        "particles": Long(
            Verb(walk, lambda m: particles(50, 5, m)), walk, lambda m: particles(10**5, 1000, m)
        ),
        "EM": long_fit(
            asia_to_learn,
            lambda num: asia_rows(hidden=num // 2, num=num),
            pgnn.EM(**few),
            pgnn.EM(max_iterations=10**5, tolerance=1e-300, restarts=1000),
        ),
        "EM of sequences": long_fit(
            hmm_to_learn, steps, pgnn.EM(**few), pgnn.EM(max_iterations=10**5, tolerance=1e-300)
        ),
        "pseudo-likelihood": Long(
            fit(grid_to_learn, cells(20), pgnn.PseudoLikelihood(**few)),
            lambda: grid_to_learn(30),
            lambda m: m.fit(cells(5000, 30), learner=pgnn.PseudoLikelihood(), progress=False),
        ),
        "MCMC": long_mean("MCMC", {"warmup": 5, "samples": 5}, samples=10**5),
        "variational": long_mean("Variational", few, max_iterations=10**6, tolerance=1e-300),
    }
