"""Gaussian Markov random fields: smooth real values on the nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from pgnn.abilities import GaussianFieldModel, Inputs
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import FINITE, NOT_NEGATIVE, POSITIVE, check_real
from pgnn.models.field_profile import FieldProfile, log_determinant
from pgnn.models.model import Model

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner


class GaussianMarkovField(Model, GaussianFieldModel):
    r"""Gaussian Markov random field: real values at the nodes of a graph, smooth along its edges.

    .. math:: p(x) \propto \exp\Big(-\frac{\tau}{2} \sum_{(i, j)} w_{ij} (x_i - x_j)^2
        - \frac{\kappa}{2} \sum_i (x_i - m)^2\Big)

    ``model.query(evidence={node: value})`` gives the posterior of all nodes: its mean is the result
    of label propagation, with variances on demand. For several classes use one row of evidence with
    ones and zeros per class. Without an anchor the mean level of each connected component is
    undetermined until one of its nodes is observed.

    Evidence is given by node; or as an array ``(B, n)`` in the order of :attr:`columns`,
    ``NaN`` where not observed.

    Args:
        graph: An undirected ``nx.Graph``, whose edges may have a positive ``weight``; or a
            symmetric SciPy sparse matrix of weights, with integer nodes.
        smoothness: :math:`\tau`; learnable if None.
        anchor: :math:`\kappa`, the attraction to the mean; learnable if None.
        mean: :math:`m`; learnable if None.
        weight: The edge attribute with the weight, which is one by default.
        name: Name of the array of all nodes.

    Raises:
        ModelError: If the graph is directed, a weight is not positive, or a parameter is out of
            range.

    References:
        Zhu, Ghahramani and Lafferty (2003), Semi-supervised learning using Gaussian fields and
        harmonic functions. Rue and Held (2005), Gaussian Markov Random Fields.

    Example:
        >>> model = GaussianMarkovField(nx.path_graph(5))
        >>> answer = model.query(evidence={0: 0.0, 4: 1.0})
        >>> answer["x"].mean
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000], dtype=torch.float64)
        >>> round(float(answer[2].variance), 4)
        1.0
    """

    is_normalized = True

    def __init__(
        self,
        graph: Any,
        smoothness: float | None = 1.0,
        anchor: float | None = 0.0,
        mean: float | None = 0.0,
        *,
        weight: str = "weight",
        name: Hashable = "x",
    ) -> None:
        super().__init__()
        for what, value, span in (
            ("smoothness", smoothness, POSITIVE),
            ("anchor", anchor, NOT_NEGATIVE),
            ("mean", mean, FINITE),
        ):
            if value is not None:
                check_real(what, value, span)
        nodes, adjacency = _read(graph, weight)
        if name in nodes:
            raise ModelError(f"{name!r} is a node", "name the array of all nodes otherwise")
        self._nodes, self._adjacency = nodes, adjacency
        self._number = {n: k for k, n in enumerate(nodes)}
        self._variables = {name: Variable(name, None, (len(nodes),))}
        self._name = name
        if isinstance(graph, nx.Graph):
            self.graph = graph
        for what, value, start in (
            ("smoothness", smoothness, 1.0),
            ("anchor", anchor, 0.1),
            ("mean", mean, 0.0),
        ):
            number = torch.tensor(start if value is None else float(value), dtype=torch.float64)
            self.register_parameter(what, nn.Parameter(number, requires_grad=value is None))

    smoothness: nn.Parameter
    anchor: nn.Parameter
    mean: nn.Parameter

    def settings(self) -> Settings:
        """Return nodes and edges."""
        upper = _upper(self._adjacency)
        return {
            "nodes": tuple(self._nodes),
            "edges": np.stack([upper.row, upper.col]).astype(np.int64),
            "weights": upper.data,
            "name": self._name,
        }

    @classmethod
    def from_settings(
        cls, settings: Settings, numbers: Mapping[str, Tensor]
    ) -> GaussianMarkovField:
        """Create a field from its nodes and edges."""
        from scipy.sparse import coo_array

        size = len(settings["nodes"])
        first, second = settings["edges"]
        half = coo_array((settings["weights"], (first, second)), shape=(size, size))
        made = cls((half + half.T).tocsr(), name=settings["name"])
        made._nodes = tuple(settings["nodes"])
        made._number = {n: k for k, n in enumerate(made._nodes)}
        return made

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The array of all nodes, by its name."""
        return MappingProxyType(self._variables)

    @property
    def vector(self) -> Hashable:
        """Name of the array of all nodes."""
        return self._name

    @property
    def columns(self) -> Sequence[Hashable]:
        """The nodes, in the order of the array."""
        return self._nodes

    @property
    def numbers(self) -> Mapping[Hashable, int]:
        """The index of each node in the array."""
        return self._number

    @property
    def adjacency(self) -> Any:
        """``(n, n)`` weights of the edges, a SciPy sparse matrix."""
        return self._adjacency

    @property
    def location(self) -> float:
        """The mean :math:`m`."""
        return float(self.mean.detach())

    @property
    def is_proper(self) -> bool:
        """Whether the field is a proper distribution, that is, has an anchor."""
        return float(self.anchor.detach()) > 0

    def precision(self) -> Any:
        r"""Return :math:`\tau (D - W) + \kappa I`, a SciPy sparse matrix."""
        return self.precision_at(float(self.smoothness.detach()), float(self.anchor.detach()))

    def precision_at(self, smoothness: float, anchor: float) -> Any:
        """Return the precision for given parameters."""
        from scipy.sparse import diags_array

        degree = np.asarray(self._adjacency.sum(axis=1)).reshape(-1)
        return (diags_array(smoothness * degree + anchor) - smoothness * self._adjacency).tocsc()

    @property
    def anchor_root(self) -> float:
        """Square root of the anchor."""
        return math.sqrt(float(self.anchor.detach()))

    def log_determinant(self) -> float:
        """Return the log of the product of the non-zero eigenvalues."""
        return log_determinant(self, self.precision(), float(self.anchor.detach()))

    def edges(self) -> tuple[Any, Any, Any]:
        """Return indices of first and second nodes, and square roots of the precisions of edges."""
        upper: Any = self.cached("edges", lambda: _upper(self._adjacency))
        return upper.row, upper.col, np.sqrt(float(self.smoothness.detach()) * upper.data)

    def parts(self) -> np.ndarray:
        """Return ``(n,)`` indices of the connected components of the nodes."""
        from scipy.sparse.csgraph import connected_components

        result: np.ndarray = self.cached(
            "parts", lambda: connected_components(self._adjacency, directed=False)[1]
        )
        return result

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Not supported: real variables have no tables.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported("a Gaussian field has no tables", "query it without engine=")

    def default_engine(self) -> Engine:
        """Return ``SparseNormal()``."""
        from pgnn.inference.exact.sparse_normal import SparseNormal

        return SparseNormal()

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood()``."""
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        return MaximumLikelihood()

    # --- learning -----------------------------------------------------------------------------

    @property
    def observable(self) -> Collection[Hashable]:
        """The array of all nodes."""
        return [self._name]

    takes_holes = True

    def solve(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, seed: int | None = None
    ) -> None:
        """Set learnable parameters to their estimates, unobserved nodes integrated out.

        Smoothness and mean have closed forms given the ratio of anchor to smoothness, which is
        found by a line search.
        """
        free = [n for n in ("smoothness", "anchor", "mean") if getattr(self, n).requires_grad]
        if not free:
            raise ModelError("smoothness, anchor and mean were given: there is nothing to learn")
        x, w = values[self._name].double().numpy(force=True), weights.numpy(force=True)
        if np.isnan(x).all():
            raise DataError("no node was observed in any row")
        problem = FieldProfile(self, x, w)
        if "anchor" in free:
            _, smoothness, anchor, mean = problem.best()
        else:
            _, smoothness, anchor, mean = problem.at(None)
        with torch.no_grad():
            self.smoothness.fill_(smoothness)
            self.anchor.fill_(anchor)
            self.mean.fill_(mean)

    def __repr__(self) -> str:
        edges = self._adjacency.nnz // 2
        return f"GaussianMarkovField({len(self._nodes):,} nodes, {edges:,} edges)"


def _read(graph: Any, weight: str) -> tuple[tuple[Hashable, ...], Any]:
    """Return the nodes, and the weights of edges as a symmetric sparse matrix.

    Raises:
        ModelError: If the graph has an unsupported kind, or a weight is not positive and finite.
    """
    from scipy import sparse

    if isinstance(graph, nx.Graph):
        if graph.is_directed() or graph.is_multigraph():
            raise ModelError("a Gaussian field needs an undirected nx.Graph without multiple edges")
        nodes = tuple(graph)
        try:
            matrix = nx.to_scipy_sparse_array(graph, weight=weight, dtype=np.float64, format="csr")
        except (nx.NetworkXError, TypeError, ValueError) as error:
            raise ModelError(
                f"the graph has no nodes, or weights are not numbers: {error}"
            ) from None
    elif sparse.issparse(graph):
        matrix = sparse.csr_array(graph).astype(np.float64)
        nodes = tuple(range(matrix.shape[0]))
        if matrix.shape[0] != matrix.shape[1] or not len(nodes):
            raise ModelError(f"weights must be a square matrix, got shape {matrix.shape}")
        if abs(matrix - matrix.T).max() > 1e-12 * abs(matrix).max():
            raise ModelError("weights must be a symmetric matrix, such as w + w.T")
    else:
        raise ModelError(f"expected an nx.Graph or a SciPy sparse matrix of weights, got {graph!r}")
    matrix = sparse.csr_array(matrix)
    if matrix.diagonal().any():
        matrix = sparse.csr_array(matrix - sparse.diags_array(matrix.diagonal()))
    matrix.eliminate_zeros()
    if not (np.isfinite(matrix.data) & (matrix.data > 0)).all():
        raise ModelError("weights of edges must be positive and finite")
    return nodes, matrix


def _upper(matrix: Any) -> Any:
    from scipy.sparse import coo_array, triu

    return coo_array(triu(matrix, 1))
