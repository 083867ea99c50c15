"""Kalman filter and smoother beside statsmodels, and chains of hidden reals.

``python -m benchmarks.kalman``: 1,000 sequences of 100 steps, four numbers in a state, two of them
observed, a fifth of these missing at random. statsmodels is asked one sequence after the other. CPU
seconds, one thread.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np

ROWS, STEPS, REALS = 1000, 100, 1500
MOVE = np.array(
    [[1.0, 0.1, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.1], [0.0, 0.0, 0.0, 1.0]]
)
EMIT = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
NOISE, ERROR = 0.01 * np.eye(4), 0.1 * np.eye(2)


def seconds(call: Callable[[], object], rounds: int = 3) -> float:
    """Median CPU seconds of a few calls, after one that is not counted."""
    call()
    found = []
    for _ in range(rounds):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return float(np.median(found))


def peer(y: np.ndarray, verb: str) -> float:
    """Ask statsmodels about each sequence."""
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    total = 0.0
    for row in y:
        own = KalmanSmoother(k_endog=2, k_states=4, k_posdef=4)
        own.bind(np.ascontiguousarray(row))
        own["design"], own["obs_cov"], own["transition"] = EMIT, ERROR, MOVE
        own["selection"], own["state_cov"] = np.eye(4), NOISE
        own.initialize_known(np.zeros(4), np.eye(4))
        if verb == "log_prob":
            total += own.loglike()
        else:
            total += getattr(own, verb)().filtered_state.sum()
    return total


def main() -> int:
    """Print a line for each verb, and one for chains of hidden reals."""
    import torch

    import pgnn

    torch.set_num_threads(1)
    model = pgnn.LinearDynamicalSystem(
        4, 2, MOVE, NOISE, EMIT, ERROR, np.zeros(4), np.eye(4), observation_offset=np.zeros(2)
    )
    y = model.sample(ROWS, {"T": STEPS}, seed=0)["observation"].numpy().copy()
    y[np.random.default_rng(0).random(y.shape) < 0.2] = np.nan
    observed = {"observation": y}
    calls: dict[str, Callable[[], object]] = {
        "smooth": lambda: model.smooth(observed)["state"].mean,
        "filter": lambda: model.filter(observed)["state"].mean,
        "log_prob": lambda: model.log_prob(observed),
    }
    for verb, call in calls.items():
        ours, theirs = seconds(call), seconds(lambda verb=verb: peer(y, verb), 1)
        print(
            f"{verb:<10} statsmodels {theirs:7.3f} s  pgnn {ours:7.3f} s  "
            f"times {theirs / ours:5.1f}"
        )
    reals = [pgnn.Variable(f"x{i}") for i in range(REALS)]
    own = [pgnn.Gaussian(reals[0], mean=0.0, covariance=1.0)]
    own += [pgnn.LinearGaussian(b, [a], [0.9], 0.0, 1.0) for a, b in itertools.pairwise(reals)]
    edges = [(a.name, b.name) for a, b in itertools.pairwise(reals)]
    chain = pgnn.BayesianNetwork(edges, own)
    last = reals[-1].name
    ours = seconds(lambda: chain.query(None, {last: 1.0})[reals[700].name].std)
    print(f"{REALS:,} hidden reals: all marginals {ours:.3f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
