"""Vectors, regressions, densities and Gaussian fields beside scikit-learn and SciPy.

``python -m benchmarks.vectors`` times natural calls: of both sides the same model on the same rows,
CPU time on one thread, medians of seven calls that take turns (fewer of the long ones). The last
column says how far the two sides' answers are apart.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import medians


def show(name: str, theirs: float, ours: float, apart: float) -> None:
    print(
        f"{name:<52} theirs {theirs:8.4f} s  pgnn {ours:8.4f} s  times {theirs / ours:6.2f}  "
        f"apart {apart:.1e}"
    )


def factors(data: Path) -> None:
    """Factor analysis and principal components of 1,965 pictures of 560 pixels."""
    from sklearn.decomposition import PCA
    from sklearn.decomposition import FactorAnalysis as Theirs

    import pgnn

    x = np.load(data / "images" / "frey_faces.npz")["x"].astype(float)
    (other, model), times = medians(
        lambda: Theirs(20, svd_method="lapack").fit(x),
        lambda: pgnn.FactorAnalysis(20).fit(x),
        rounds=1,
    )
    apart = float(model.log_prob(x).mean()) - other.score(x)
    show("factor analysis, 1,965 x 560, 20 (mean log-likelihood)", *times, apart)
    (other, model), times = medians(
        lambda: PCA(20, svd_solver="full").fit(x), lambda: pgnn.PrincipalComponents(20).fit(x)
    )
    ratio = other.explained_variance_ratio_ - model.explained_variance_ratio.numpy()
    show("principal components, 1,965 x 560, 20", *times, float(np.abs(ratio).max()))
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    learner = pgnn.EM(max_iterations=10, tolerance=0.0)
    _, (ours,) = medians(lambda: pgnn.FactorAnalysis(20).fit(x, learner=learner), rounds=1)
    print(f"the same with 10 % of the pixels missing: EM {ours / 10:.2f} s an iteration")


def regressions() -> None:
    """Linear, lasso and logistic regression."""
    from sklearn import linear_model

    import pgnn

    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 50))
    y = x @ (rng.normal(size=50) * (rng.random(50) < 0.3)) + rng.normal(size=20_000)
    rows = {"x": x, "y": y}
    cases: list[tuple[str, Any, Any]] = [
        ("ridge, 20,000 x 50", linear_model.Ridge(2.0), pgnn.NormalPrior(2.0**-0.5)),
        ("lasso, 20,000 x 50", linear_model.Lasso(0.05, tol=1e-10), pgnn.LaplacePrior(1 / 1000.0)),
    ]
    for name, other, prior in cases:
        (_, model), times = medians(
            lambda other=other: other.fit(x, y),
            lambda prior=prior: pgnn.LinearRegression("y", "x", prior, noise=1.0).fit(rows),
        )
        weights = model.coefficients()["weight"].to_numpy()[:-1]
        show(name, *times, float(np.abs(weights - other.coef_).max()))
    labels = np.digitize(y, [-1.0, 1.0])
    classes: dict[str, Any] = {"two": (labels > 0) * 1, "three": labels}
    for name, k in classes.items():
        other = linear_model.LogisticRegression(C=1.0, tol=1e-8, max_iter=1000)
        prior = pgnn.NormalPrior(1.0)
        (_, model), times = medians(
            lambda other=other, k=k: other.fit(x, k),
            lambda prior=prior, k=k: pgnn.LogisticRegression("k", "x", prior).fit({"x": x, "k": k}),
        )
        probs = model.query("k", {"x": x})["k"].probs.numpy()
        apart = float(np.abs(probs - other.predict_proba(x)).max())
        show(f"logistic regression, 20,000 x 50, {name} classes", *times, apart)


def densities() -> None:
    """Discriminants, kernels and neighbours."""
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    from sklearn.neighbors import KernelDensity, KNeighborsClassifier

    import pgnn

    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 20_000)
    x = rng.normal(size=(20_000, 30)) + rng.normal(size=(10, 30))[y]
    form = pgnn.Full()
    (other, probs), times = medians(
        lambda: QuadraticDiscriminantAnalysis().fit(x, y).predict_proba(x),
        lambda: (
            pgnn.GaussianDiscriminant(10, 30, form)
            .fit({"class": y, "x": x})
            .query("class", x)["class"]
            .probs.numpy()
        ),
    )
    apart = np.abs(probs - other).max()
    show("quadratic discriminants, 20,000 x 30, fit and ask", *times, apart)
    few, asked = x[:4000, :3], x[4000:6000, :3]
    kind = lambda v, p: pgnn.KernelDensity(v, p, bandwidth=0.5)  # noqa: E731
    (other, logs), times = medians(
        lambda: KernelDensity(bandwidth=0.5).fit(few).score_samples(asked),
        lambda: pgnn.Density(kind, 3).fit(few).log_prob(asked).detach().numpy(),
        rounds=3,
    )
    show("kernel density, 4,000 rows, 2,000 asked, 3-d", *times, np.abs(logs - other).max())
    knn = KNeighborsClassifier(5)
    model = pgnn.NaiveBayes(10, {"x": pgnn.NearestNeighbours}, shapes={"x": (3,)})
    (other, probs), times = medians(
        lambda: knn.fit(few, y[:4000]).predict_proba(asked),
        lambda: (
            model.fit({"class": y[:4000], "x": few})
            .query("class", {"x": asked})["class"]
            .probs.numpy()
        ),
    )
    show("nearest neighbours, 4,000 rows, 2,000 asked, 3-d", *times, np.abs(probs - other).max())


def fields() -> None:
    """A grid of 99,856 nodes of which three were observed, beside SciPy's own solver."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import spsolve

    import pgnn

    side = 316
    line = sp.diags_array(np.ones(side - 1), offsets=1, shape=(side, side))
    line = line + line.T
    grid = (sp.kron(line, sp.eye_array(side)) + sp.kron(sp.eye_array(side), line)).tocsr()
    observed = {0: 0.0, side**2 - 1: 1.0, side * side // 2: 0.3}
    (model,), (making,) = medians(lambda: pgnn.GaussianMarkovField(grid), rounds=1)
    laplacian = model.precision()
    rest = np.setdiff1d(np.arange(side**2), [*observed])
    target = -laplacian[rest][:, [*observed]] @ [*observed.values()]
    (other, answer), times = medians(
        lambda: spsolve(laplacian[rest][:, rest], target),
        lambda: model.query(evidence=observed),
        rounds=1,
    )
    apart = float(np.abs(answer["x"].mean.numpy()[rest] - other).max())
    show("Gaussian field, 99,856 nodes (spsolve: means alone)", *times, apart)
    _, (one, draw) = medians(
        lambda: answer[side].std, lambda: model.sample(1, observed, seed=0), rounds=1
    )
    print(f"making it {making:.2f} s, a variance {one:.3f} s, a draw {draw:.2f} s")


def main() -> int:
    """Run all."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = os.environ.get("PGNN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    factors(Path(folder))
    regressions()
    densities()
    fields()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
