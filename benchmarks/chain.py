"""Chains: pgnn beside hmmlearn in this process, and dynamax in a process of its own.

Forward-backward (log-likelihoods and posteriors), Viterbi and the E-step of Baum-Welch on the
same log-likelihoods of categorical observations. hmmlearn computes them itself, from the
observations; ``pgnn, gather`` does so, too. All run on one core; times are CPU time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import clock

SYMBOLS = 32
TASKS = ["forward-backward", "Viterbi", "E-step"]
Run = Callable[[], object]


class Case(NamedTuple):
    """Parameters and observations."""

    initial: np.ndarray
    transition: np.ndarray
    emission: np.ndarray
    observed: np.ndarray

    @staticmethod
    def make(K: int, rows: int, steps: int) -> Case:
        rng = np.random.default_rng(100 * K)
        initial = rng.dirichlet(np.ones(K))
        transition = rng.dirichlet(np.ones(K), K) * 0.5 + 0.5 * np.eye(K)
        emission = rng.dirichlet(np.ones(SYMBOLS) * 0.5, K) + 1e-4
        emission /= emission.sum(1, keepdims=True)
        totals, cuts = transition.cumsum(1), emission.cumsum(1)
        state = rng.integers(K, size=rows)
        observed = np.zeros((rows, steps), dtype=np.int64)
        for t in range(steps):
            draw = rng.random((rows, 2, 1))
            observed[:, t] = np.minimum((cuts[state] < draw[:, 0]).sum(1), SYMBOLS - 1)
            state = np.minimum((totals[state] < draw[:, 1]).sum(1), K - 1)
        return Case(initial, transition, emission, observed)

    @property
    def field(self) -> np.ndarray:
        return np.ascontiguousarray(np.log(self.emission.T)[self.observed])


def pgnn(case: Case, double: bool) -> Iterator[tuple[str, str, Run]]:
    import torch

    from pgnn.inference.chains.chain import Chain

    kind = torch.float64 if double else torch.float32
    parts = [torch.from_numpy(x).to(kind) for x in (case.initial, case.transition)]
    logs = [x.log() for x in parts]
    emission = torch.from_numpy(case.emission).to(kind).log().T.contiguous()
    observed, field = torch.from_numpy(case.observed), torch.from_numpy(case.field).to(kind)
    name = f"pgnn f{64 if double else 32}"

    def gathered() -> torch.Tensor:
        rows = emission.index_select(0, observed.flatten())
        return rows.view(*observed.shape, -1)

    for suffix, given in (("", lambda: field), (", gather", gathered)):
        yield name + suffix, TASKS[0], lambda given=given: Chain(*logs, given()).smoothed()
        yield name + suffix, TASKS[1], lambda given=given: Chain(*logs, given()).best()
        yield name + suffix, TASKS[2], lambda given=given: Chain(*logs, given()).expectations()


def hmmlearn(case: Case) -> Iterator[tuple[str, str, Run]]:
    from hmmlearn.hmm import CategoricalHMM

    model = CategoricalHMM(len(case.initial), n_iter=1, init_params="", implementation="scaling")
    model.n_features = SYMBOLS
    model.startprob_, model.transmat_ = case.initial, case.transition
    model.emissionprob_ = case.emission
    observed, lengths = case.observed.reshape(-1, 1), [case.observed.shape[1]] * len(case.observed)

    def learn() -> object:
        fresh = CategoricalHMM(
            len(case.initial), n_iter=1, tol=-np.inf, init_params="", implementation="scaling"
        )
        fresh.startprob_, fresh.transmat_ = case.initial.copy(), case.transition.copy()
        fresh.emissionprob_ = case.emission.copy()
        return fresh.fit(observed, lengths)

    yield "hmmlearn", TASKS[0], lambda: model.score_samples(observed, lengths)
    yield "hmmlearn", TASKS[1], lambda: model.decode(observed, lengths)
    yield "hmmlearn", TASKS[2], learn


def dynamax(case: Case) -> Iterator[tuple[str, str, Run]]:
    import jax
    import jax.numpy as jnp
    from dynamax.hidden_markov_model.inference import hmm_posterior_mode, hmm_smoother

    initial, transition = jnp.array(case.initial), jnp.array(case.transition)
    field = jnp.array(case.field)

    def smooth(row: Any) -> Any:
        found = hmm_smoother(initial, transition, row)
        return found.marginal_loglik, found.smoothed_probs

    def expect(row: Any) -> Any:
        found = hmm_smoother(initial, transition, row)
        return found.marginal_loglik, found.smoothed_probs, found.trans_probs

    def mode(row: Any) -> Any:
        return hmm_posterior_mode(initial, transition, row)

    for task, one in zip(TASKS, (smooth, mode, expect), strict=True):
        if len(field) == 1:
            compiled, given = jax.jit(one), field[0]
        else:
            compiled, given = jax.jit(jax.vmap(one)), field
        yield (
            "dynamax f32",
            task,
            lambda c=compiled, g=given: jax.block_until_ready(c(g)),
        )


def times(runs: Sequence[tuple[str, str, Run]], seconds: float) -> dict[str, float]:
    """Median CPU time of each run, which take turns, in milliseconds."""
    found: dict[str, list[float]] = {}
    for who, task, run in runs:
        run()
        found[f"{task}|{who}"] = []
    begun = clock()
    for turn in range(50):
        for who, task, run in runs:
            start = clock()
            run()
            found[f"{task}|{who}"].append(1e3 * (clock() - start))
        if turn >= 2 and clock() - begun > seconds:
            break
    return {key: float(np.median(values)) for key, values in found.items()}


def measure(case: Case, libraries: Sequence[str], seconds: float) -> dict[str, float]:
    """Times of all libraries of this process."""
    runs: list[tuple[str, str, Run]] = []
    if "pgnn" in libraries:
        runs += [*pgnn(case, True), *pgnn(case, False)]
    for name, make in (("hmmlearn", hmmlearn), ("dynamax", dynamax)):
        if name in libraries:
            with contextlib.suppress(ImportError):
                runs += make(case)
    return times(runs, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print milliseconds, and times as long as the best peer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chain", description=__doc__)
    parser.add_argument("--states", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--seconds", type=float, default=4.0, help="a case, in all")
    parser.add_argument("--core", type=int, help="core to run on; by default the last one allowed")
    parser.add_argument("--other-python", help="interpreter that has dynamax")
    parser.add_argument("--libraries", nargs="+", default=["pgnn", "hmmlearn"])
    parser.add_argument("--json", action="store_true", help="print one line of numbers a case")
    options = parser.parse_args(arguments)
    core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    os.sched_setaffinity(0, {core})
    if "pgnn" in options.libraries:
        import torch

        torch.set_num_threads(1)
    others: list[dict[str, float]] = []
    if options.other_python:
        command = [options.other_python, "-m", "benchmarks.chain", "--json", "--libraries",
                   "dynamax", "--core", str(core), "--seconds", str(options.seconds),
                   "--states", *map(str, options.states)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        others = [json.loads(line) for line in done.stdout.splitlines()]
    for number, (K, rows, steps) in enumerate(
        (K, *size) for size in ((1, 100_000), (1_000, 100)) for K in options.states
    ):
        found = measure(Case.make(K, rows, steps), options.libraries, options.seconds)
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        found |= others[number] if others else {}
        for task in TASKS:
            mine = {k.split("|")[1]: v for k, v in found.items() if k.startswith(task)}
            cells = ", ".join(f"{who} {ms:.2f}" for who, ms in mine.items())
            print(f"K={K} {rows}x{steps} {task} (ms): {cells}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
