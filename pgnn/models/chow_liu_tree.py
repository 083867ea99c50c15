"""Chow-Liu trees, whose edges are learned."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgnn.abilities import ClosedFormModel, Inputs
from pgnn.errors import ModelError
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.graphs.spanning_tree import maximum_spanning_tree
from pgnn.limits import NOT_NEGATIVE, check_real
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.directed_declaration import by_name, variable_of
from pgnn.models.model import Model
from pgnn.models.pairwise_layout import PairwiseLayout
from pgnn.models.tree_expectations import TreeExpectations

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner

_NUMBERS = 2**21
"""Number of values of a chunk of rows that are counted at once."""


class ChowLiuTree(Model, ClosedFormModel):
    r"""A tree over discrete variables whose edges :meth:`fit` learns.

    .. math:: p(x) = \prod_v p(x_v \mid x_{\mathrm{pa}(v)}), \qquad
        \text{edges} = \arg\max_{\text{trees}} \sum_{(u, v)} I(x_u; x_v)

    This is the tree of maximum likelihood. With a class, ``given="class"``, every variable also
    depends on the class, and edges maximise the conditional mutual information: tree-augmented
    naive Bayes, a classifier. For mixtures of trees see
    :class:`~pgnn.models.model_mixture.ModelMixture`.

    Args:
        states: Numbers or labels of states by name, or whole variables such as
            :func:`pgnn.states_of` returns.
        given: Name of a class that is a parent of all other variables.
        pseudo_count: Number of imaginary rows, spread uniformly over all states.
        parents: ``(V,)`` indices of the variables' parents, -1 for none, without the class; no
            edges before a fit if not given.

    Raises:
        ModelError: If a variable is not discrete, or the parents do not form a forest.

    References:
        Chow and Liu (1968), Approximating discrete probability distributions with dependence
        trees. Friedman, Geiger and Goldszmidt (1997), Bayesian network classifiers.

    Example:
        >>> import pgnn
        >>> rows = {"a": [0, 0, 1, 1], "b": [0, 0, 1, 1], "c": [0, 1, 1, 0]}
        >>> tree = ChowLiuTree(pgnn.states_of(rows)).fit(rows, progress=False)
        >>> sorted(tree.graph.edges)
        [('a', 'b'), ('a', 'c')]
        >>> tree.query("a", {"b": 1})["a"].probs
        tensor([0.1000, 0.9000], dtype=torch.float64)
    """

    is_normalized = True
    takes_holes = True
    parents: Tensor

    def __init__(
        self,
        states: Mapping[Hashable, int | Iterable[Hashable] | Variable],
        *,
        given: Hashable | None = None,
        pseudo_count: float = 1.0,
        parents: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_real("pseudo_count", pseudo_count, NOT_NEGATIVE)
        declared = by_name(states, "states")
        variables = {n: variable_of(n, s) for n, s in declared.items()}
        bad = [n for n, v in variables.items() if not v.is_discrete or v.shape]
        if bad or not variables or (given is not None and given not in variables):
            what = f"{bad[0]!r} is none" if bad else f"got {[*variables]}, given={given!r}"
            raise ModelError(f"a tree is over single discrete variables by name: {what}")
        if given is not None:  # the class comes first
            variables = {given: variables[given], **variables}
        self._variables, self._given, self.pseudo_count = variables, given, pseudo_count
        self._layout = PairwiseLayout([v.num_states for v in self._in_tree])
        size = len(self._in_tree)
        edges = np.full(size, -1) if parents is None else np.asarray(parents, dtype=np.int64)
        _check_forest(edges, size)
        self.register_buffer("parents", torch.from_numpy(edges.astype(np.int64)))
        classes = 1 if given is None else variables[given].num_states
        tables = self._layout.uniform(classes)
        self.log_tables = nn.Parameter(torch.from_numpy(tables))
        self.log_class = nn.Parameter(torch.full((classes,), -np.log(classes)).double())

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables by name, the class first."""
        return MappingProxyType(self._variables)

    @property
    def graph(self) -> nx.DiGraph:
        """The edges, from parents to children, and those from the class."""
        graph: nx.DiGraph = self.cached("graph", self._graph)
        return graph

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters, without the edges."""
        return self.num_free(self.log_tables) + self.num_free(self.log_class)

    def num_free(self, parameter: Tensor) -> int:
        """Number of states minus one for each row; tables are padded to one shape."""
        classes = len(self.log_class)
        if parameter is self.log_class:
            return classes - 1
        sizes, parents = self._layout.sizes, self.parents.tolist()
        rows = [sizes[p] if p >= 0 else 1 for p in parents]
        return classes * sum((k - 1) * r for k, r in zip(sizes, rows, strict=True))

    def settings(self) -> Settings:
        """Return states, edges and the pseudo-count."""
        return {
            "states": {n: v.states for n, v in self._variables.items()},
            "given": self._given,
            "pseudo_count": self.pseudo_count,
            "parents": tuple(self.parents.tolist()),
        }

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """One log table for each variable, over it, its parent and the class."""
        nodes, sizes = self._in_tree, self._layout.sizes
        first = [] if self._given is None else [self._variables[self._given]]
        factors = [Factor(first, self.log_class.log_softmax(0), self._given)] if first else []
        for v, p in enumerate(self.parents.tolist()):
            table = self.log_tables[v][..., : sizes[v]].log_softmax(-1)
            table = table[:, : sizes[p]] if p >= 0 else table[:, 0]
            scope = [*first, *([nodes[p]] if p >= 0 else []), nodes[v]]
            factors.append(Factor(scope, table if first else table[0], nodes[v].name))
        known = {n: x for n, x in (observed or {}).items() if n in self._variables}
        if known:
            factors = [f.condition({n: known[n] for n in f.names if n in known}) for f in factors]
        return tuple(factors)

    def network(self) -> BayesianNetwork:
        """Return the same distribution as a network of constant tables.

        After ``requires_grad_()`` :class:`EM` learns its tables, with the edges fixed.
        """
        with torch.no_grad():
            tables = {f.child: f.values for f in self.factors()}
        states: dict[Hashable, Any] = dict(self._variables)
        return BayesianNetwork(self.graph, tables, states)

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood``, which has a closed form; ``EM`` if cells are missing."""
        from pgnn.inference.learning.maximum_likelihood_or_em import MaximumLikelihoodOrEM

        return MaximumLikelihoodOrEM()

    # --- learning -----------------------------------------------------------------------------

    def statistics(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Return weighted counts of pairs of states, ``(C, d, d)`` for each class.

        Indices are a constant and all states but the first of each variable.

        Args:
            codes: ``(N, E)`` states; for missing ones (-1) expected counts.
            weights: ``(N,)`` weight of each row.

        Cost:
            ``O(N d^2)``, one matrix product; and a pass over the tree for each missing state.
        """
        if bool((codes < 0).any()):
            return (self._expected(codes.numpy(force=True), weights.numpy(force=True)),)
        total = torch.zeros(len(self.log_class), *[self._layout.reduced] * 2, dtype=torch.float64)
        step = max(1, _NUMBERS // self._layout.reduced)
        batches = zip(torch.split(codes, step), torch.split(weights.double(), step), strict=True)
        for rows, w in batches:
            indicators = self._layout.indicators(rows[:, self._skipped :])
            for c, counts in enumerate(total):
                in_class = w if self._given is None else w * (rows[:, 0] == c)
                counts.addmm_((indicators * in_class.unsqueeze(1)).t(), indicators)
        return (total,)

    @torch.no_grad()
    def maximize(self, statistics: tuple[Tensor, ...]) -> None:
        """Set edges and tables to those of maximum likelihood, in place."""
        counts = self._layout.smoothed(statistics[0].numpy(force=True), self.pseudo_count)
        parents = maximum_spanning_tree(self._layout.information(counts))
        self.parents.copy_(torch.from_numpy(parents))
        self.log_tables.copy_(torch.from_numpy(self._layout.tables(counts, parents)))
        class_counts = counts[:, : self._layout.sizes[0], : self._layout.sizes[0]].sum((1, 2))
        if class_counts.sum() > 0:
            with np.errstate(divide="ignore"):
                self.log_class.copy_(torch.from_numpy(np.log(class_counts / class_counts.sum())))
        self._cache.clear()  # the factors depend on the edges

    def log_density(self, codes: Tensor) -> Tensor:
        """Return ``(N,)`` log probabilities of rows of states ``(N, E)``, -1 where missing."""
        if bool((codes < 0).any()):
            return torch.from_numpy(
                np.logaddexp.reduce(self._joint(codes.numpy(force=True)), axis=1)
            )
        states = np.ascontiguousarray(codes.numpy(force=True).T).astype(np.int64)
        tables = self.log_tables.detach().numpy(force=True)
        most = self._layout.most
        begin = np.zeros(states.shape[1], dtype=np.int64)
        total = np.zeros(states.shape[1])
        if self._given is not None:
            total += self.log_class.detach().numpy(force=True)[states[0]]
            begin, states = states[0] * most**2, states[1:]
        for v, p in enumerate(self.parents.tolist()):
            index = begin + states[v] + (most * states[p] if p >= 0 else 0)
            total += tables[v].reshape(-1).take(index)
        return torch.from_numpy(total)

    def log_prior(self) -> Tensor:
        """Return the log prior of the pseudo-count."""
        if not self.pseudo_count:
            return torch.zeros((), dtype=torch.float64)
        total = self.log_class.detach().mean()
        for v, p in enumerate(self.parents.tolist()):
            parent_states = self._layout.sizes[p] if p >= 0 else 1
            table = self.log_tables.detach()[v, :, :parent_states, : self._layout.sizes[v]]
            total = total + table.mean()
        return self.pseudo_count * total

    # --- helpers ------------------------------------------------------------------------------

    def _trees(self) -> list[TreeExpectations]:
        """Return the tree of each class."""
        parents = self.parents.numpy(force=True)
        sizes, tables = np.asarray(self._layout.sizes), self.log_tables.detach().exp()
        return [
            TreeExpectations(parents, tables[:, k].numpy(force=True), sizes)
            for k in range(tables.shape[1])
        ]

    def _joint(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """``(N, C)`` log probabilities of the observed states of rows, jointly with each class."""
        states = codes[:, self._skipped :]
        joint = np.stack([t.log_evidence(states) for t in self._trees()], axis=1)
        if self._given is not None:
            joint = joint + self.log_class.detach().log_softmax(0).numpy(force=True)
            differs = np.arange(joint.shape[1]) != codes[:, :1]
            joint[differs & (codes[:, :1] >= 0)] = -np.inf
        return joint

    def _expected(self, codes: NDArray[Any], weights: NDArray[np.float64]) -> Tensor:
        """Return expected :meth:`statistics` of rows with missing states."""
        joint, states = self._joint(codes), codes[:, self._skipped :]
        top = joint.max(axis=1, keepdims=True)
        share = np.exp(joint - np.where(np.isfinite(top), top, 0.0))
        share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300) * weights[:, None]
        total = torch.zeros(len(self.log_class), *[self._layout.reduced] * 2, dtype=torch.float64)
        kept = self._layout.kept
        for k, tree in enumerate(self._trees()):
            rows = np.flatnonzero(share[:, k] > 0)
            observed, w = states[rows], share[rows, k]
            marginals = tree.marginals(observed)
            means = np.concatenate(
                [np.ones((len(rows), 1)), marginals[:, kept[0], kept[1]]], axis=1
            )
            counts = (means * w[:, None]).T @ means
            pairs = tree.covariances(observed, w, marginals)[kept[0], kept[1]][:, kept[0], kept[1]]
            counts[1:, 1:] += pairs
            total[k] = torch.from_numpy(counts)
        return total

    @property
    def _in_tree(self) -> list[Variable]:
        return [v for n, v in self._variables.items() if n != self._given]

    @property
    def _skipped(self) -> int:
        """Number of columns before those of the tree."""
        return int(self._given is not None)

    def _graph(self) -> nx.DiGraph:
        names = [v.name for v in self._in_tree]
        graph = nx.DiGraph()
        graph.add_nodes_from(self._variables)
        if self._given is not None:
            graph.add_edges_from((self._given, n) for n in names)
        pairs = zip(names, self.parents.tolist(), strict=True)
        graph.add_edges_from((names[p], n) for n, p in pairs if p >= 0)
        return nx.freeze(graph)

    def extra_repr(self) -> str:
        """Return the arguments shown by ``repr``."""
        return f"{len(self._variables)} variables"

    def __repr__(self) -> str:
        return f"ChowLiuTree({self.extra_repr()})"


def _check_forest(parents: NDArray[np.int64], size: int) -> None:
    """Check that each variable has at most one parent, without cycles."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(size))
    if parents.shape == (size,) and ((parents >= -1) & (parents < size)).all():
        graph.add_edges_from((int(p), v) for v, p in enumerate(parents) if p >= 0)
        if nx.is_directed_acyclic_graph(graph):
            return
    raise ModelError(f"parents must be {size} numbers of variables or -1, without a cycle")
