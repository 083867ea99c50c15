"""Mixtures of distributions, whose component is a hidden class."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pgnn.models.naive_bayes import NaiveBayes

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class Mixture(NaiveBayes):
    r"""A mixture of distributions of any kind over one or several variables.

    .. math:: p(x) = \sum_k \pi_k \prod_i p_i(x_i \mid k)

    The component of a row is not observed: ``model.query("component", rows)`` returns the
    responsibilities :math:`p(k \mid x)`, ``model.log_prob(rows)`` the log density. A Gaussian
    mixture is ``Mixture(3, {"x": pgnn.Gaussian})``; the form of its covariances is that of the
    ``Gaussian``, as in ``functools.partial(pgnn.Gaussian, form=pgnn.Diagonal())``. Elements of
    ``x`` may be missing. :class:`KMeans` learns it as well.

    Args:
        components: Number or labels of the components.
        features: Distributions of each variable given the component, as in :class:`NaiveBayes`.
        weights: ``(K,)`` probabilities of the components; learnable by default.
        shapes: Event shapes of real variables, see :class:`NaiveBayes`.
        name: Name of the component.
        smoothing: Pseudo-count of each state of a discrete variable.
        normalise: Whether rows of the tables are weights to be divided by their sum.

    Raises:
        ModelError: See :class:`NaiveBayes`.

    References:
        McLachlan and Peel (2000), Finite Mixture Models. Dempster, Laird and Rubin (1977), Maximum
        likelihood from incomplete data via the EM algorithm, section 4.3.

    Example:
        >>> from pgnn import EM, Gaussian
        >>> rows = {"x": [0.0, 0.2, 0.1, 5.0, 5.2, 5.1]}
        >>> model = Mixture(2, {"x": Gaussian}).fit(rows, learner=EM(), seed=0, progress=False)
        >>> sorted(round(x, 3) for x in model.conditionals["x"].mean.tolist())
        [0.1, 5.1]
        >>> model.query("component", {"x": 5.0})["component"].probs.amax().item()
        1.0
    """

    def __init__(
        self,
        components: int | Iterable[Hashable],
        features: Mapping[Hashable, Any],
        weights: Any = None,
        *,
        shapes: Mapping[Hashable, tuple[int, ...]] | None = None,
        name: Hashable = "component",
        smoothing: float = 0.0,
        normalise: bool = False,
    ) -> None:
        super().__init__(
            components,
            features,
            weights,
            shapes=shapes,
            name=name,
            smoothing=smoothing,
            normalise=normalise,
        )

    def settings(self) -> dict[str, Any]:
        """Return the components and the conditionals."""
        kept = super().settings()
        return {"components": kept.pop("states"), "weights": kept.pop("prior"), **kept}

    def default_learner(self, data: Any) -> Learner:
        """Return ``EM``, since the component is hidden."""
        from pgnn.inference.learning.em import EM

        return EM(self.smoothing_prior())
