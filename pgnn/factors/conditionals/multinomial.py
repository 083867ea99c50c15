"""Multinomial counts given discrete variables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions import Multinomial as TorchMultinomial

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.conditionals.declared_zeros import DeclaredZeros
from pgnn.factors.conditionals.emission import Emission
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT, Statistics
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.conditionals.tabular import Prior
from pgnn.factors.conditionals.whole_numbers import RowSums, WholeNumberFamily
from pgnn.factors.finite import all_finite
from pgnn.factors.piece import Settings, learnable_zeros
from pgnn.factors.sparse_rows import is_sparse, mapped, row_sums, stored, weighted_totals
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number

_NUMBERS = 2**17
"""Numbers of some rows that are worked on together."""
FACTORIALS = 2**12
"""Whole numbers whose factorials are looked up."""
_EXACT = 2.0**24
"""Whole numbers up to this are float32 numbers."""


class Multinomial(DeclaredZeros, Emission, WholeNumberFamily):
    r"""Counts of ``D`` kinds of outcomes, such as the words of a text.

    .. math:: p(x \mid j) = \frac{(\sum_d x_d)!}{\prod_d x_d!} \prod_d \theta_{jd}^{x_d}

    The total number of outcomes of a row is not modelled. Rows may be a SciPy sparse matrix. A row
    is observed as a whole or not at all.

    Args:
        child: Real variable of shape ``(D,)`` with integer values.
        parents: Discrete variables.
        probs: ``(K1, ..., Kn, D)`` probabilities of the outcomes, constants; zero is legal, and
            structural if they are made learnable. By default learnable and initially uniform.
        draws: Number of outcomes of a sample.

    Attributes:
        logits: Log probabilities up to a constant, a parameter.

    Raises:
        ModelError: If a shape is wrong, or probabilities are negative or do not sum to one.

    References:
        McCallum and Nigam (1998), A comparison of event models for naive Bayes text classification.

    Example:
        >>> kind, words = Variable("kind", ["news", "spam"]), Variable("words", shape=(3,))
        >>> p_words = Multinomial(words, [kind], probs=[[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
        >>> p_words.factor({"words": torch.tensor([[1.0, 1.0, 0.0]])}).values
        tensor([[0.5000, 0.1250]], dtype=torch.float64)
    """

    integrates_missing = False
    takes_sparse = True
    log_numbers = ("logits",)

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        probs: Any = None,
        draws: int = 1,
    ) -> None:
        super().__init__(child, parents)
        self.register_buffer("declared_zeros", None)
        if len(child.shape) != 1:
            raise ModelError(
                f"Multinomial needs a child of shape (D,), {child.name!r} has {child.shape}"
            )
        self.draws = whole_number("draws of Multinomial", draws, error=ModelError)
        shape = (*self.configurations, *child.shape)
        if probs is None:
            self.logits = learnable_zeros(f"the outcomes of {child.name!r}", shape)
            return
        numbers = read_numbers(f"probs of {child.name!r}", probs)
        if numbers.shape != shape or not ((numbers >= 0) & np.isfinite(numbers)).all():
            raise ModelError(
                f"probs of {child.name!r} must be probabilities of shape {shape}, states of the "
                f"parents first, got shape {numbers.shape}"
            )
        if not np.allclose(numbers.sum(axis=-1), 1.0, atol=1e-4):
            raise ModelError(f"probs of {child.name!r} must sum to one for each parent's state")
        self.logits = nn.Parameter(torch.from_numpy(numbers).log(), requires_grad=False)
        self._declare_zeros()

    def settings(self) -> Settings:
        """Return the variables and the number of outcomes of a sample."""
        return super().settings() | {"draws": self.draws}

    @property
    def probs(self) -> Tensor:
        """Probabilities of the outcomes, ``(K1, ..., Kn, D)``; differentiable."""
        return self.logits.softmax(dim=-1)

    def parameter_table(self) -> ParameterTable:
        """Return the probabilities of the outcomes; see the base class."""
        return ParameterTable(self.parents, {"probs": self.probs})

    @property
    def num_free_parameters(self) -> int:
        """Number of outcomes minus one for each configuration."""
        return self.num_configurations * (self.size - 1)

    def num_free(self, parameter: Tensor) -> int:
        """Number of outcomes that were not declared to be impossible, minus one for each row."""
        return int(self._free().sum())

    def logit_rows(self) -> Tensor:
        """The logits; see the base class."""
        return self.logits

    def _entry(self, place: tuple[int, ...]) -> str:
        """Return an entry of the rows in words."""
        given = zip(self.parents, place[:-1], strict=True)
        parents = ", ".join(f"{v.name!r} = {(v.states or ())[k]!r}" for v, k in given)
        said = f"the probability of outcome {place[-1]} of {self.child.name!r}"
        return f"{said} given {parents}" if parents else said

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return distributions at the parents' states, with ``draws`` outcomes."""
        index = self._index(parents)
        logits = self.logits[index] if index else self.logits
        return TorchMultinomial(self.draws, logits=logits, validate_args=False)

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return sums of counts, ``(K, D)``; see the base class."""
        x = self._read(values)[self.child.name]
        w = self._weights(weights, len(x), self.configurations)
        if is_sparse(x):
            return (weighted_totals(self._counts(x), w),)
        total = w.new_zeros(w.shape[1], self.size)
        for part, w_part in zip(self._blocks(x), self._blocks(w), strict=True):
            _add_weighted(total, w_part, *self._checked(part))
        return (total,)

    def of_row_sums(self, sums: RowSums) -> Statistics:
        """See :class:`WholeNumberFamily`."""
        orders = torch.lgamma(sums.row_sums + 1.0) - sums.row_logs
        return sums.totals, orders @ sums.weights

    def _blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return blocks of rows that fit in the cache."""
        return torch.split(x, max(64, _NUMBERS // self.size))

    @torch.no_grad()
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set probabilities to relative frequencies; see the base class.

        Args:
            statistics: The result of :meth:`statistics`.
            prior: Pseudo-counts, the same for all outcomes, such as ``Laplace``.
        """
        if not self.logits.requires_grad:
            return
        counts = statistics[0]
        self.check_counts(counts.reshape(self.logits.shape))
        if more := self._pseudo_count(prior):
            counts = counts + more * self.possible().reshape(counts.shape)
        total = counts.sum(dim=-1, keepdim=True)
        known = total > LEAST_COUNT
        new = counts.div(total.masked_fill(~known, 1.0)).log_()
        if not bool(known.all()):
            new = torch.where(known, new, self.logits.double().reshape(new.shape))
        self.logits.copy_(new.reshape(self.logits.shape))

    def accepts(self, prior: Any) -> bool:
        """Return whether a prior gives each outcome the same pseudo-count."""
        return isinstance(prior, Prior) and prior.of_each(self.child.name) is not None

    def log_prior(self, prior: Any) -> Tensor:
        """Return pseudo-counts times log probabilities; zero without a prior."""
        count = self._pseudo_count(prior)
        logs = self.logits.log_softmax(-1).masked_fill(~self.possible(), 0.0)
        return count * logs.sum() if count else self.logits.new_zeros(())

    def _pseudo_count(self, prior: Any) -> float:
        count = prior.of_each(self.child.name) if isinstance(prior, Prior) else None
        if prior is not None and count is None:
            raise ModelError(
                f"the prior of the outcomes of {self.child.name!r} must give each the same "
                f"pseudo-count, such as pgnn.Laplace, got {prior!r}"
            )
        return count or 0.0

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        x = self._counts(x)
        logs = self.logits.log_softmax(dim=-1).reshape(-1, self.size)
        never = logs.detach().isneginf()
        table = x @ logs.masked_fill(never, 0.0).t()
        if bool(never.any()):
            table = table.masked_fill(x @ never.to(x.dtype).t() > 0, -torch.inf)
        return table + self._log_coefficient(x).unsqueeze(1)

    def log_likelihood(
        self, statistics: Statistics, values: Mapping[Hashable, Tensor], weights: Tensor
    ) -> Tensor | None:
        """Return the log-likelihood of rows without missing values; see the base class."""
        logs = self.logits.detach().double().log_softmax(dim=-1).reshape(-1, self.size)
        if not all_finite(logs):
            return None
        if len(statistics) > 1:
            base = statistics[1]
        else:
            orders = self._log_coefficient(self._read(values)[self.child.name])
            base = (orders * weights.to(orders)).sum()
        return (statistics[0] * logs).sum() + base

    def _log_coefficient(self, x: Tensor) -> Tensor:
        """Return ``(N,)`` log multinomial coefficients of rows."""
        if is_sparse(x):
            return torch.lgamma(row_sums(x) + 1.0) - row_sums(mapped(x, log_factorials))
        return torch.cat([_log_orders(part) for part in self._blocks(x)])

    def _counts(self, x: Tensor) -> Tensor:
        """Return checked counts; zeros, whose probability is one, for unobserved rows."""
        return self._checked(x)[0]

    def _checked(self, x: Tensor) -> tuple[Tensor, float]:
        """Return checked counts and the largest of them."""
        largest = _largest_count(x)
        if math.isnan(largest) and not is_sparse(x):
            x = x.masked_fill(x.isnan().all(dim=1, keepdim=True), 0.0)
            largest = _largest_count(x)
        if math.isnan(largest):
            known = stored(x)
            good = (known >= 0) & (known == known.floor()) & (known < torch.inf)
            raise EvidenceError(
                f"Multinomial variable {self.child.name!r} must hold counts, nonnegative "
                f"integers, for whole rows or not at all; got {known[~good][0].item():g}"
            )
        return x, largest

    def _clustered(self, rows: Tensor) -> Tensor:
        return (rows / row_sums(rows).clamp(min=1.0).unsqueeze(1)).sqrt()

    def _filled(self, flat: Tensor, mean: Tensor) -> Tensor:
        return torch.where(flat.isnan(), mean.round(), flat)


def _add_weighted(total: Tensor, weights: Tensor, counts: Tensor, largest: float) -> None:
    """Add sums of counts ``(N, D)`` with weights ``(N, K)`` to a total ``(K, D)``, in place.

    Sums of integers that are exact in float32 use float32, which is twice as fast, and NumPy, whose
    precision does not depend on settings of torch.
    """
    whole = counts.device.type == "cpu" and not float(weights.frac().sum())
    if whole and largest * float(weights.sum()) < _EXACT:
        total += torch.from_numpy(weights.float().numpy().T @ counts.float().numpy())
    else:
        total.addmm_(weights.t(), counts)


def _log_orders(counts: Tensor) -> Tensor:
    """Return log multinomial coefficients of each row."""
    return torch.lgamma(counts.sum(dim=1) + 1.0) - log_factorials(counts).sum(dim=1)


def _largest_count(x: Tensor) -> float:
    """Return the largest value; ``NaN`` unless all are finite nonnegative integers."""
    known = stored(x)
    if not known.numel():
        return 0.0
    least, most = known.aminmax()
    are_counts = float(least) >= 0 and not float(known.frac().sum())
    return float(most) if are_counts else math.nan


def log_factorials(x: Tensor) -> Tensor:
    """Return log factorials of integers."""
    if x.numel() >= FACTORIALS and x.device.type == "cpu" and not x.requires_grad:
        with suppress(IndexError):  # one is larger
            return _table(x.dtype).index_select(0, x.reshape(-1).int()).reshape(x.shape)
    return torch.lgamma(x + 1.0)


@cache
def _table(dtype: torch.dtype) -> Tensor:
    """Return the first log factorials."""
    return torch.lgamma(torch.arange(FACTORIALS, dtype=dtype) + 1.0)
