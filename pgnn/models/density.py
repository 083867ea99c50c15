"""Density estimates of scalars and vectors."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import networkx as nx

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.kernel_density import KernelDensity
from pgnn.factors.piece import Settings
from pgnn.models.vector_network import Features, VectorNetwork


class Density(VectorNetwork):
    r"""A density of one scalar or vector variable, parametric or non-parametric.

    ``Density(pgnn.KernelDensity)``, ``Density(pgnn.Histogram)``, ``Density(pgnn.Gaussian)``;
    settings by ``functools.partial(pgnn.KernelDensity, bandwidth=pgnn.LeaveOneOut())``. Given a
    class, such densities are features of :class:`NaiveBayes`.

    Args:
        kind: Function ``(child, parents) -> Conditional``; ``KernelDensity`` if not given.
        features: Number or names of the components of a vector; from the data if not given.
        name: Name of the variable.

    Raises:
        ModelError: If a name is repeated.

    Example:
        >>> import numpy as np
        >>> model = Density(KernelDensity).fit(np.random.default_rng(0).normal(size=200))
        >>> round(float(model.log_prob({"x": 0.0}).exp()), 1), model.sample(3, seed=0)["x"].shape
        (0.4, torch.Size([3]))
    """

    allows_numbers = True

    def __init__(
        self,
        kind: Callable[..., Conditional] | Conditional | None = None,
        features: Features = None,
        *,
        name: Hashable = "x",
    ) -> None:
        conditional: Any = KernelDensity if kind is None else kind
        if not callable(conditional):
            raise ModelError(f"kind must be a class such as KernelDensity, got {kind!r}")
        known: dict[Hashable, Any] = dict(self.declare_vector(name, features))
        graph = nx.DiGraph()
        graph.add_node(name)
        super().__init__(graph, {name: conditional}, known)

    def settings(self) -> Settings:
        """Return the conditional and the names of its components."""
        conditional = self.conditionals[self.vector]
        return {"kind": conditional, "features": self.columns or None, "name": self.vector}

    @property
    def conditional(self) -> Conditional:
        """The conditional with the density."""
        return self.conditionals[self.vector]

    def __repr__(self) -> str:
        return f"Density({self._layout!r})"
