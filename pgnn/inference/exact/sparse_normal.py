"""Exact inference in Gaussian Markov fields by sparse factorisations."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import FactorModel, GaussianFieldModel
from pgnn.errors import EvidenceError, Unsupported, closest
from pgnn.factors.gaussians.sparse_precision import SparseFactor, iterated
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.gaussian_marginals import NormalMarginal
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question, listed
from pgnn.inference.samples import Samples
from pgnn.inference.with_reals import WithReals
from pgnn.limits import POSITIVE, check_settings

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SUMMED = 5_000
"""Largest number of nodes for which a table shows standard deviations."""


@dataclass(frozen=True)
class SparseNormal(Engine):
    r"""Posteriors of a Gaussian Markov field by a sparse factorisation of its precision matrix.

    .. math:: E[x_u \mid x_o] = m - Q_{uu}^{-1} Q_{uo} (x_o - m), \qquad
        \mathrm{Cov}[x_u \mid x_o] = Q_{uu}^{-1}

    Rows that observe the same nodes share a factorisation. Variances are computed on demand, each
    by the solution of a linear system. Samples solve for noise on edges and nodes.

    Args:
        iterative: Whether to compute means by conjugate gradients, for graphs whose factors do not
            fit into memory; variances, samples and log evidence are then not available.
        tolerance: Relative residual of conjugate gradients.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Rue and Held (2005), Gaussian Markov Random Fields, chapter 2. Papandreou and Yuille (2010),
        Gaussian sampling by local perturbations.

    Example:
        >>> import networkx as nx
        >>> from pgnn import GaussianMarkovField
        >>> model = GaussianMarkovField(nx.path_graph(3), anchor=1.0)
        >>> model.query(evidence={0: 3.0}, engine=SparseNormal())["x"].mean
        tensor([3.0000, 1.2000, 0.6000], dtype=torch.float64)
    """

    iterative: bool = False
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        check_settings(self, tolerance=POSITIVE)

    def answer_query(self, question: Question) -> FieldPosterior:
        """Answer ``query``; variances are computed when they are accessed."""
        field = _field(question.model)
        names = None if question.names is None else listed(question.names)
        if isinstance(question.names, tuple) and question.names in field.numbers:
            names = [question.names]
        for name in names or ():
            if name != field.vector and name not in field.numbers:
                raise EvidenceError(f"the field has no node {name!r}{closest(name, field.numbers)}")
        x = _rows(question, field)
        mean = np.empty_like(x)
        log_evidence = np.full(len(x), np.nan)
        factors: list[tuple[Mask, NDArray[np.intp], SparseFactor | None]] = []
        for observed, rows in patterns(~np.isnan(x)):
            _check_levels(field, observed)
            factor = self._condition(field, x, observed, rows, mean, log_evidence)
            factors.append((observed, rows, factor))
        return FieldPosterior(
            field,
            mean,
            log_evidence,
            factors,
            question.observed.batched,
            question.observed.index,
            names,
        )

    def _condition(
        self,
        field: GaussianFieldModel,
        x: Floats,
        observed: Mask,
        rows: NDArray[np.intp],
        mean: Floats,
        log_evidence: Floats,
    ) -> SparseFactor | None:
        """Fill in means and log evidence of the rows that observe some nodes."""
        precision, level = field.precision(), field.location
        hidden = ~observed
        error = np.where(observed, np.nan_to_num(x[rows]) - level, 0.0)
        target = -(precision[hidden][:, observed] @ error[:, observed].T)
        hidden_precision = precision[hidden][:, hidden]
        factor = None if self.iterative else SparseFactor(hidden_precision)
        solution = (
            iterated(hidden_precision, target, self.tolerance)
            if factor is None
            else factor.solve(target)
        )
        error[:, hidden] = solution.T
        mean[rows] = level + error
        if factor is not None:
            whole = self._log_determinant(field, precision)
            # the value of the quadratic form with hidden nodes at their means
            square = (error * (precision @ error.T).T).sum(axis=1)
            parts = 0 if field.is_proper else int(field.parts().max()) + 1
            rank = int(observed.sum()) - parts
            value = 0.5 * (whole - factor.log_determinant - rank * math.log(2 * math.pi) - square)
            log_evidence[rows] = value if observed.any() else 0.0
        return factor

    @staticmethod
    def _log_determinant(field: GaussianFieldModel, precision: Any) -> float:
        log_determinant: float = field.cached_numbers("log determinant", field.log_determinant)
        return log_determinant

    def answer_log_prob(self, question: Question) -> Tensor:
        """Answer ``log_prob``."""
        if self.iterative:
            raise Unsupported(
                "conjugate gradients cannot compute the log evidence", "use iterative=False"
            )
        return torch.from_numpy(self.answer_query(question).log_numbers)

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """Answer ``sample``: samples from the posterior."""
        field = _field(question.model)
        if self.iterative:
            raise Unsupported("conjugate gradients cannot draw samples", "use iterative=False")
        x = _rows(question, field)
        rng = np.random.default_rng(seed)
        posterior = self.answer_query(question)
        drawn = np.repeat(posterior.means[None], n, axis=0)
        first, second, root = field.edges()
        for observed, rows, factor in posterior.factors:
            hidden = ~observed
            if factor is None or not hidden.any():
                continue
            for row in rows.tolist():
                noise = np.zeros((n, x.shape[1]))
                along = root * rng.standard_normal((n, len(root)))
                np.add.at(noise.T, first, along.T)
                np.subtract.at(noise.T, second, along.T)
                noise += field.anchor_root * rng.standard_normal(noise.shape)
                drawn[:, row, hidden] += factor.solve(noise[:, hidden].T).T
        reals = torch.from_numpy(drawn)
        batched = question.observed.batched
        codes = torch.zeros((n, len(x), 0) if batched else (n, 0), dtype=torch.int64)
        return Samples(
            tuple(field.variables.values()),
            codes,
            {field.vector: reals if batched else reals[:, 0]},
            batched=batched,
            index=question.observed.index,
        )

    def describe(self, question: Question) -> Explanation:
        """Answer ``explain``: the fill of the factors."""
        field = _field(question.model)
        unobserved: Any = np.isnan(_rows(question, field)).all(axis=0)
        observed = np.asarray(~unobserved)
        hidden = int((~observed).sum())
        return Explanation(
            engine="SparseNormal",
            kind="exact",
            reason="the nodes are jointly normal with a sparse precision matrix",
            num_variables=len(observed),
            num_eliminated=hidden,
            num_sliced=int(observed.sum()),
            num_factors=int(field.precision().nnz),
            memory_bytes=16 * int(field.precision().nnz),
        )

    def maximize(self, question: Any, maximized: Any) -> Any:
        """Not supported: the most probable values are the means.

        Raises:
            Unsupported: Always.
        """
        raise self._cannot(
            "has no discrete states; the most probable values are the posterior means", "query()"
        )

    def prepare(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> Any:
        """Not supported: nothing can be prepared beyond what the model caches."""
        raise self._cannot("has no compiled queries", "query()")


class FieldMarginal:
    """The marginal posteriors of all nodes of a field.

    Attributes:
        mean: ``(*batch, n)`` means.
    """

    def __init__(self, posterior: FieldPosterior) -> None:
        self._posterior = posterior
        mean = torch.from_numpy(posterior.means)
        self.mean: Tensor = mean if posterior.batched else mean[0]

    @cached_property
    def variance(self) -> Tensor:
        """``(*batch, n)`` variances, zero for observed nodes; one linear solve each."""
        posterior = self._posterior
        columns = np.arange(posterior.means.shape[1])
        rows = [posterior.variances(row, columns) for row in range(len(posterior.means))]
        variances = torch.from_numpy(np.stack(rows))
        return variances if posterior.batched else variances[0]

    @property
    def std(self) -> Tensor:
        """``(*batch, n)`` standard deviations."""
        return self.variance.sqrt()

    stddev = std

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Return quantiles of each node, ``(*batch, n)``, or ``(Q, *batch, n)``."""
        return NormalMarginal(self.mean, self.std).quantile(q)


class FieldPosterior(WithReals):
    """The posterior of a Gaussian field, for each row of evidence.

    ``posterior[node]`` is a normal distribution with ``mean``, ``std`` and ``quantile``;
    ``posterior["x"]``, by the name of the array, has the ``mean`` of all nodes, and their ``std``,
    computed on demand.

    Args:
        field: The model.
        means: ``(B, n)`` posterior means.
        log_evidence: ``(B,)``.
        factors: Factorised precisions, one per set of observed nodes, with their rows.
        batched: Whether the evidence came in rows.
        index: The data frame's index, if the evidence was one.
        names: The targets; all nodes if None.
    """

    def __init__(
        self,
        field: GaussianFieldModel,
        means: Floats,
        log_evidence: Floats,
        factors: Sequence[tuple[Mask, NDArray[np.intp], SparseFactor | None]],
        batched: bool,
        index: Any,
        names: Sequence[Hashable] | None,
    ) -> None:
        logs = torch.from_numpy(log_evidence)
        super().__init__(
            (),
            torch.zeros(len(means), 0, dtype=torch.float64),
            logs,
            batched=batched,
            kind="exact",
            engine="SparseNormal",
            index=index,
        )
        self.reals = dict(field.variables)
        self.means, self.log_numbers, self.factors = means, log_evidence, tuple(factors)
        self._places, self._array = field.numbers, field.vector
        queried = [n for n in names or () if n != field.vector]
        self._queried = queried if names is not None and len(queried) == len(names) else None

    def variances(self, row: int, places: NDArray[np.intp]) -> Floats:
        """Return variances of some nodes in one row.

        Args:
            row: Index of a row of the evidence.
            places: ``(m,)`` indices of nodes.

        Raises:
            Unsupported: If means were found by conjugate gradients.
        """
        observed, _, factor = next(f for f in self.factors if row in f[1])
        if factor is None:
            raise Unsupported("conjugate gradients cannot compute variances", "use iterative=False")
        variances = np.zeros(len(places))
        hidden = ~observed[places]
        number = np.cumsum(~observed) - 1
        variances[hidden] = factor.variances(number[places[hidden]])
        return variances

    def marginal(self, name: Hashable) -> Any:
        """See :class:`WithReals`."""
        return FieldMarginal(self)

    def _node(self, name: Hashable) -> NormalMarginal:
        place = self._places[name]
        rows = range(len(self.means))
        spread = np.sqrt([self.variances(r, np.array([place]))[0] for r in rows])
        mean, std = torch.from_numpy(self.means[:, place].copy()), torch.from_numpy(spread)
        return NormalMarginal(mean, std) if self.batched else NormalMarginal(mean[0], std[0])

    def summary(self, row: int = 0) -> Any:
        """Return a data frame of the means, and for few nodes the standard deviations.

        Args:
            row: Index of a row of the evidence.
        """
        import pandas as pd

        names = [*self._places] if self._queried is None else self._queried
        places = np.array([self._places[n] for n in names], dtype=np.intp)
        index = pd.Index(names, dtype=object, name="node", tupleize_cols=False)
        frame = pd.DataFrame({"mean": self.means[row, places]}, index=index)
        if len(names) <= _SUMMED and all(f[2] is not None for f in self.factors):
            frame["std"] = np.sqrt(self.variances(row, places))
        return frame

    def __getitem__(self, name: Hashable) -> Any:
        if isinstance(name, Hashable) and name in self._places:
            return self._node(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, Hashable) and name in self._places)

    def __iter__(self) -> Iterator[Hashable]:
        return iter([self._array] if self._queried is None else self._queried)

    def __len__(self) -> int:
        return 1 if self._queried is None else len(self._queried)

    def __str__(self) -> str:
        if not self.num_rows:
            return Posterior.__str__(self)
        return super().__str__()


def patterns(observed: Mask) -> list[tuple[Mask, NDArray[np.intp]]]:
    """Return the sets of observed nodes, each with the rows that observe exactly these.

    Args:
        observed: ``(B, n)`` values, ``NaN`` where not observed.
    """
    keys: dict[bytes, list[int]] = {}
    for row, pattern in enumerate(observed):
        keys.setdefault(np.packbits(pattern).tobytes(), []).append(row)
    return [(observed[rows[0]], np.array(rows, dtype=np.intp)) for rows in keys.values()]


def _field(model: Any) -> GaussianFieldModel:
    if not isinstance(model, GaussianFieldModel):
        raise Unsupported(
            f"SparseNormal() supports Gaussian Markov fields, not {type(model).__name__}"
        )
    return model


def _rows(question: Question, field: GaussianFieldModel) -> Floats:
    """``(B, n)`` observed values, ``NaN`` elsewhere."""
    size = len(field.numbers)
    x = question.observed.reals.get(field.vector)
    if x is None:
        return np.full((question.num_rows, size), np.nan)
    return np.array(x.detach().double().numpy(force=True))


def _check_levels(field: GaussianFieldModel, observed: Mask) -> None:
    """Check that the posterior is proper.

    Raises:
        EvidenceError: If the mean level of a connected component is undetermined.
    """
    if field.is_proper:
        return
    parts = field.parts()
    known = np.zeros(int(parts.max()) + 1, dtype=bool)
    known[parts[observed]] = True
    lost = np.flatnonzero(~known[parts])
    if len(lost):
        node = next(n for n, k in field.numbers.items() if k == lost[0])
        raise EvidenceError(
            f"no node was observed in the connected component of the node {node!r}, so that its "
            "mean level is undetermined",
            "observe one of its nodes, or give the field an anchor=",
        )
