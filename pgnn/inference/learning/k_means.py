"""K-means clustering, as learning of Gaussian mixtures."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import ClassModel, Inputs
from pgnn.errors import DataError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.lloyd import Clusters, lloyd, spread_centres
from pgnn.inference.convergence import Convergence
from pgnn.inference.learner import Learner
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import check_squares, read_rows
from pgnn.inference.loop import progress_bar
from pgnn.limits import check_settings


@dataclass(frozen=True)
class KMeans(Learner):
    r"""K-means: the limit of EM for a Gaussian mixture as the variances go to zero.

    .. math:: \min_m \sum_n \min_k \|x_n - m_k\|^2

    With a common variance :math:`\sigma^2`, responsibilities become zeros and ones as :math:`\sigma
    \to 0`: each row belongs to the nearest mean. The means of the model are set to the cluster
    centres; its weights and covariances, of any form, to the estimates given the clusters, so that
    :class:`EM` can continue from there.

    ``model.history`` has ``inertia`` (the sum of squares), ``occupancy`` (rows of each cluster),
    ``iterations`` and ``converged``.

    Args:
        restarts: Number of initialisations by k-means++; the best result is kept.
        initialize: Whether to initialise by k-means++; otherwise by the means of the model.
        max_iterations: Largest number of iterations per start.

    Raises:
        ModelError: If a setting is out of range.

    References:
        MacQueen (1967); Lloyd (1982), Least squares quantization in PCM. Bishop (2006), Pattern
        Recognition and Machine Learning, section 9.3.2.

    Example:
        >>> from pgnn import Gaussian, Mixture
        >>> rows = {"x": [0.0, 0.2, 5.0, 5.2]}
        >>> model = Mixture(2, {"x": Gaussian}).fit(rows, learner=KMeans(), seed=0)
        >>> sorted(round(m, 6) for m in model.conditionals["x"].mean.tolist())
        [0.1, 5.1]
        >>> round(model.history["inertia"], 6)
        0.04
    """

    restarts: int = 10
    initialize: bool = True
    max_iterations: int = 300

    def __post_init__(self) -> None:
        check_settings(self, restarts=1, max_iterations=1)

    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Fit a mixture of Gaussians; the record is in ``model.history``.

        Args:
            model: A :class:`~pgnn.models.mixture.Mixture` or another class model with Gaussian
                features.
            data: Complete rows.
            weights: ``(N,)`` weight of each row.
            inputs: None: inputs are not supported.
            seed: Random seed of the initial values.
            progress: Show a progress bar over the starts.

        Raises:
            DataError: If values are missing, or the class was observed.
            Unsupported: If the model is not a class model with Gaussian features.

        Warns:
            NotConverged: If the best start had not converged at the limit.
        """
        features = _features(model)
        with fitting(model, self) as history, torch.no_grad():
            observed = read_rows(model, data, weights, inputs)
            check_squares(observed, features)
            rows, counts = _rows(model, features, observed), torch.from_numpy(observed.row_weights)
            best, inertia = self._best(model, features, rows, counts, seed, progress)
            share = one_hot(best.labels, len(best.centres)) * counts.unsqueeze(1)
            for name, values in features.items():
                x = {name: observed.reals[name]}
                values.prepare(x)
                values.maximize(values.statistics(x, share))
            prior = model.conditionals[model.class_name]
            if isinstance(prior, ExponentialFamily):
                prior.maximize((share.sum(dim=0),))
            history.update(
                observed.extent,
                inertia=inertia,
                occupancy=share.sum(dim=0).tolist(),
                iterations=best.iterations,
                converged=best.converged,
            )
        verdict = Convergence("KMeans")
        if not best.converged:
            verdict.stopped(
                best.iterations, "raise max_iterations", "while assignments still changed"
            )
        verdict.warn()

    def _best(
        self,
        model: ClassModel,
        features: dict[Hashable, Gaussian],
        rows: Tensor,
        counts: Tensor,
        seed: int | None,
        progress: bool,
    ) -> tuple[Clusters, float]:
        """Return the clusters with the smallest sum of squares, and the sum."""
        size = model.variables[model.class_name].num_states
        origin = rows.mean(dim=0)  # accuracy for rows far from zero
        rows = rows - origin
        means = [c.mean.detach().double().reshape(size, -1) for c in features.values()]
        seeds = np.random.default_rng(seed).integers(2**31, size=self.restarts).tolist()
        best: tuple[Clusters, float] | None = None
        with progress_bar(self.restarts, "k-means", progress) as bar:
            for start_seed in seeds if self.initialize else seeds[:1]:
                if self.initialize:
                    first = spread_centres(rows, size, torch.Generator().manual_seed(start_seed))
                else:
                    first = torch.cat(means, dim=1) - origin
                clusters = lloyd(rows, first, self.max_iterations, counts)
                inertia = clusters.sum_of_squares(rows, counts)
                if best is None or inertia < best[1]:
                    best = clusters, inertia
                bar.update()
        if best is None:
            raise DataError("there was no start")
        return best


def _features(model: Any) -> dict[Hashable, Gaussian]:
    """Return the features by name.

    Raises:
        Unsupported: If the model is not a class model, or a feature is not Gaussian.
    """
    if not isinstance(model, ClassModel):
        raise Unsupported(
            f"KMeans learns mixtures of normal distributions, not a {type(model).__name__}"
        )
    features = {}
    for name, conditional in model.conditionals.items():
        if name == model.class_name:
            continue
        if not isinstance(conditional, Gaussian):
            raise Unsupported(
                f"KMeans needs Gaussian features, not {type(conditional).__name__} {name!r}",
                "use EM()",
            )
        features[name] = conditional
    return features


def _rows(model: ClassModel, features: dict[Hashable, Gaussian], observed: RowEvidence) -> Tensor:
    """``(N, D)`` concatenated features."""
    has_labels = (observed.codes[:, model.elements.numbers(model.class_name)] >= 0).any()
    missing = [n for n in features if not observed.fully_observes(n)]
    if has_labels or missing:
        what = f"{missing[0]!r} is missing in some" if missing else "the class was observed in some"
        raise DataError(f"KMeans needs complete rows of features only; {what}", "use EM()")
    return torch.cat(
        [observed.reals[n].double().reshape(observed.num_rows, -1) for n in features], dim=1
    )
