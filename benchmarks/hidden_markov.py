"""Iterations of expectation maximisation for hidden Markov models, beside hmmlearn and dynamax.

Categorical and Gaussian emissions, the latter with diagonal and with full covariances. An iteration
is an E-step, the likelihoods of the states included, and an M-step. hmmlearn runs in this process,
dynamax in one of its own, on the same core; as every call of its ``fit_em`` compiles anew, its
figure is the difference of a long and a short call, over the iterations between. Times are CPU
time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.chain import SYMBOLS, Case, times
from benchmarks.timing import clock

FEATURES = 4
KINDS = ["categorical", "Gaussian", "full Gaussian"]
SIZES = [(1, 100_000), (1_000, 100)]
Run = tuple[str, str, Callable[[], object]]


class Points:
    """Real vectors that the same states emit, and where learning begins."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(len(case.initial))
        centres = 3.0 * rng.normal(size=(SYMBOLS, FEATURES))
        self.observed = centres[case.observed] + rng.normal(size=(*case.observed.shape, FEATURES))
        self.mean = centres[rng.integers(SYMBOLS, size=len(case.initial))]
        self.mean += rng.normal(size=self.mean.shape)
        self.variance = np.full(self.mean.shape, 4.0)
        self.covariance = 4.0 * np.broadcast_to(np.eye(FEATURES), (*self.mean.shape, FEATURES))


def pgnn(case: Case, points: Points) -> Iterator[Run]:
    import pgnn
    from pgnn.inference.learning.chain_e_step import ChainEStep
    from pgnn.inference.learning.m_step import maximize
    from pgnn.inference.learning.training_data import read_sequences

    x = pgnn.Variable("x", shape=(FEATURES,))
    state = pgnn.Variable("state", len(case.initial))
    normal = pgnn.Gaussian(x, [state], points.mean, points.variance, pgnn.Diagonal())
    full = pgnn.Gaussian(x, [state], points.mean, points.covariance)
    data = case.observed, points.observed, points.observed
    cases = zip(KINDS, (case.emission, normal, full), data, strict=True)
    for kind, emission, data in cases:
        model = pgnn.HiddenMarkovModel(
            state.num_states, {"x": emission}, case.initial, case.transition
        ).requires_grad_()
        step, task = ChainEStep(model), read_sequences(model, {"x": data}, None, None)

        def learn(step: Any = step, task: Any = task) -> None:
            maximize(step.pieces, step.expect(task), {})

        yield "pgnn", kind, learn


def hmmlearn(case: Case, points: Points) -> Iterator[Run]:
    from hmmlearn.hmm import CategoricalHMM, GaussianHMM

    lengths = [case.observed.shape[1]] * len(case.observed)
    tables = {"startprob_": case.initial, "transmat_": case.transition}
    choices: list[tuple[Any, dict[str, np.ndarray], np.ndarray]] = [
        (CategoricalHMM, {"emissionprob_": case.emission}, case.observed.reshape(-1, 1)),
        (
            GaussianHMM,
            {"means_": points.mean, "covars_": points.variance},
            points.observed.reshape(-1, FEATURES),
        ),
        (
            partial(GaussianHMM, covariance_type="full"),
            {"means_": points.mean, "covars_": points.covariance},
            points.observed.reshape(-1, FEATURES),
        ),
    ]
    for kind, (make, numbers, data) in zip(KINDS, choices, strict=True):

        def learn(make: Any = make, numbers: Any = numbers, data: Any = data) -> object:
            model = make(
                len(case.initial),
                n_iter=1,
                tol=-np.inf,
                init_params="",
                implementation="scaling",  # the faster one
            )
            for name, values in {**tables, **numbers}.items():
                setattr(model, name, values.copy())
            return model.fit(data, lengths)

        yield "hmmlearn", kind, learn


def dynamax(case: Case, points: Points, seconds: float) -> dict[str, float]:
    """Marginal times of an iteration, in milliseconds."""
    import jax
    from dynamax.hidden_markov_model import CategoricalHMM, DiagonalGaussianHMM, GaussianHMM

    K, key = len(case.initial), jax.random.PRNGKey(0)
    shared = {"initial_probs": case.initial, "transition_matrix": case.transition}
    shared = {n: jax.numpy.array(x) for n, x in shared.items()}
    symbols = CategoricalHMM(K, 1, SYMBOLS)
    normal, full = DiagonalGaussianHMM(K, FEATURES), GaussianHMM(K, FEATURES)
    scales = jax.numpy.array(np.sqrt(points.variance))
    starts = [
        symbols.initialize(key, emission_probs=jax.numpy.array(case.emission[:, None]), **shared),
        normal.initialize(
            key,
            emission_means=jax.numpy.array(points.mean),
            emission_scale_diags=scales,
            **shared,
        ),
        full.initialize(
            key,
            emission_means=jax.numpy.array(points.mean),
            emission_covariances=jax.numpy.array(points.covariance),
            **shared,
        ),
    ]
    observed = jax.numpy.array(points.observed)
    data = [jax.numpy.array(case.observed[..., None]), observed, observed]
    found, more = {}, max(10, 160 // K)
    for kind, model, (numbers, props), x in zip(
        KINDS, (symbols, normal, full), starts, data, strict=True
    ):

        def run(n: int, model: Any = model, numbers: Any = numbers, props: Any = props, x: Any = x):  # type: ignore[no-untyped-def]
            start = clock()
            done = model.fit_em(numbers, props, x, num_iters=n, verbose=False)
            jax.block_until_ready(done)
            return clock() - start

        run(1)
        shorts, longs, begun = list[float](), list[float](), clock()
        while len(longs) < 2 or (clock() - begun < seconds and len(longs) < 5):
            shorts.append(run(2))
            longs.append(run(2 + more))
        found[f"{kind}|dynamax f32"] = 1e3 * float(np.median(longs) - np.median(shorts)) / more
    return found


def measure(case: Case, libraries: Sequence[str], seconds: float) -> dict[str, float]:
    """Times of all libraries of this process, by emission and library."""
    points = Points(case)
    if "dynamax" in libraries:
        return dynamax(case, points, seconds)
    runs: list[Run] = []
    for name, make in (("pgnn", pgnn), ("hmmlearn", hmmlearn)):
        if name in libraries:
            with contextlib.suppress(ImportError):
                runs += make(case, points)
    return times(runs, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print milliseconds for each iteration, and pgnn's share of the best peer's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hidden_markov", description=__doc__)
    parser.add_argument("--states", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--seconds", type=float, default=6.0, help="a case, in all")
    parser.add_argument("--core", type=int, help="core to run on; by default the last one allowed")
    parser.add_argument("--other-python", help="interpreter that has dynamax")
    parser.add_argument("--libraries", nargs="+", default=["pgnn", "hmmlearn"])
    parser.add_argument("--json", action="store_true", help="print one line of numbers a case")
    options = parser.parse_args(arguments)
    core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    os.sched_setaffinity(0, {core})
    warnings.simplefilter("ignore")
    if "pgnn" in options.libraries:
        import torch

        torch.set_num_threads(1)
    cases = [(K, *size) for size in SIZES for K in options.states]
    others: list[dict[str, float]] = [{} for _ in cases]
    if options.other_python:
        command = [options.other_python, "-m", "benchmarks.hidden_markov", "--json", "--libraries",
                   "dynamax", "--core", str(core), "--seconds", str(options.seconds),
                   "--states", *map(str, options.states)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        others = [json.loads(line) for line in done.stdout.splitlines()]
    for (K, rows, steps), other in zip(cases, others, strict=True):
        found = measure(Case.make(K, rows, steps), options.libraries, options.seconds) | other
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        for kind in KINDS:
            mine = {k.split("|")[1]: v for k, v in found.items() if k.split("|")[0] == kind}
            cells = ", ".join(f"{who} {ms:.1f}" for who, ms in mine.items())
            peers = [ms for who, ms in mine.items() if who != "pgnn"]
            share = f" ({mine['pgnn'] / min(peers):.2f} of the best peer)" if peers else ""
            print(f"K={K} {rows}x{steps} {kind} (ms): {cells}{share}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
