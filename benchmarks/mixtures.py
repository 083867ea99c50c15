"""Naive Bayes and Gaussian mixtures beside scikit-learn, and mixtures of trees on density sets.

``python -m benchmarks.mixtures`` times fits: of naive Bayes on rows like those of digits, and on
sparse ones like those of texts, and an iteration of a Gaussian mixture. With ``--sets nltcs dna``
it learns mixtures of Chow-Liu trees from the binary sets of the sum-product literature instead, and
prints mean test log-likelihoods beside published ones. Times are CPU time, on one thread.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import medians

ITERATIONS = (2, 7)
SETS = {
    # components, pseudo-count, iterations; a single tree, and mixtures of trees of others
    "nltcs": (40, 3.0, 40, -6.759, -6.01),
    "dna": (3, 1.0, 20, -87.7, -85.9),
    "plants": (20, 0.1, 40, -16.524, -13.1),
    "jester": (10, 1.0, 40, -58.23, -53.1),
    "baudio": (20, 1.0, 40, -44.375, -40.1),
    "mushrooms": (20, 0.1, 40, -20.957, -11.1),
}


def show(name: str, theirs: float, ours: float) -> None:
    print(f"{name:<44} sklearn {theirs:8.3f} s  pgnn {ours:8.3f} s  times {theirs / ours:5.2f}")


def naive_bayes() -> None:
    """Dense rows of 784 numbers, and sparse ones of 130,107."""
    import scipy.sparse as sp
    from sklearn import naive_bayes

    import pgnn

    def diagonal(child: pgnn.Variable, parents: Any) -> pgnn.Gaussian:
        return pgnn.Gaussian(child, parents, form=pgnn.Diagonal())

    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 60_000)
    digits = np.where(rng.random((60_000, 784)) < 0.2, rng.integers(1, 256, (60_000, 784)), 0.0)
    shape, stored = (11_314, 130_107), 1_700_000
    places = [rng.integers(0, n, stored) for n in shape]
    texts = sp.csr_matrix((rng.integers(1, 5, stored).astype(float), places), shape=shape)
    labels = rng.integers(0, 20, shape[0])
    cases = [
        ("Bernoulli, 60,000 x 784", naive_bayes.BernoulliNB(), pgnn.Bernoulli, digits > 127, y),
        ("Gaussian, 60,000 x 784", naive_bayes.GaussianNB(), diagonal, digits, y),
        ("multinomial, 60,000 x 784", naive_bayes.MultinomialNB(), pgnn.Multinomial, digits, y),
        ("Bernoulli, sparse", naive_bayes.BernoulliNB(), pgnn.Bernoulli, texts > 0, labels),
        ("multinomial, sparse", naive_bayes.MultinomialNB(), pgnn.Multinomial, texts, labels),
    ]
    for name, other, kind, given, classes in cases:
        rows = given.astype(float)
        shapes = {"x": (rows.shape[1],)}
        model = pgnn.NaiveBayes(int(classes.max()) + 1, {"x": kind}, shapes=shapes)
        data = {"class": classes, "x": rows}
        _, times = medians(partial(other.fit, rows, classes), partial(model.fit, data))
        show(f"naive Bayes, {name}", *times)


def gaussian_mixture() -> None:
    """An iteration, as the difference of a long and a short fit."""
    from sklearn.mixture import GaussianMixture

    import pgnn

    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, 32)) + 2.0 * rng.integers(0, 4, (100_000, 1))
    start = pgnn.EM(max_iterations=2)
    model = pgnn.Mixture(16, {"x": pgnn.Gaussian}).fit({"x": x}, learner=start, seed=0)

    def ours(number: int) -> object:
        learner = pgnn.EM(max_iterations=number, tolerance=0.0, initialize=False, accelerate=False)
        return model.fit({"x": x}, learner=learner, progress=False)

    def theirs(number: int) -> object:
        return GaussianMixture(
            16, max_iter=number, tol=0.0, init_params="random", random_state=0
        ).fit(x)

    calls = [partial(fit, number) for fit in (theirs, ours) for number in ITERATIONS]
    _, times = medians(*calls, rounds=3)
    short, long = ITERATIONS
    figures = [(times[k + 1] - times[k]) / (long - short) for k in (0, 2)]
    show("Gaussian mixture, 100,000 x 32, 16 full", *figures)


def density(name: str, folder: Path) -> None:
    """A tree, and a mixture of trees."""
    import torch

    import pgnn

    with np.load(folder / f"{name}.npz") as arrays:
        parts = {k: arrays[k].astype(np.int64) for k in ("train", "test")}
    rows = {k: {i: x[:, i] for i in range(x.shape[1])} for k, x in parts.items()}
    components, pseudo, iterations, published_tree, published = SETS[name]
    states = dict.fromkeys(rows["train"], 2)
    tree = pgnn.ChowLiuTree(states, pseudo_count=0.01).fit(rows["train"], progress=False)
    trees = [pgnn.ChowLiuTree(states, pseudo_count=pseudo) for _ in range(components)]
    model, begin = pgnn.ModelMixture(trees), time.process_time()
    model.fit(rows["train"], learner=pgnn.EM(max_iterations=iterations), seed=0, progress=False)
    taken = time.process_time() - begin
    with torch.no_grad():
        single, mixed = (float(m.log_prob(rows["test"]).mean()) for m in (tree, model))
    print(
        f"{name:<10} tree {single:9.3f} (published {published_tree:8.3f})   {components:>2} trees "
        f"{mixed:8.3f} (others {published:6.2f})   {taken:6.1f} s"
    )


def main(argv: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", choices=SETS, help="density sets to learn instead")
    default = os.environ.get("PGNN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in args.sets or ():
        density(name, args.data / "binary_density")
    if args.sets is None:
        naive_bayes()
        gaussian_mixture()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
