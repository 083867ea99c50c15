"""The expected log-likelihood of a conditional, as a function of its parameters."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.data_start import StartsFromData
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.learning.earlier_batches import EarlierBatches
from pgnn.inference.learning.expected_statistics import WeightedRows


@dataclass(frozen=True, eq=False)
class Term:
    r"""An expected log-likelihood, :math:`\sum_n \sum_j w_{nj} \log p(x_n \mid j)`.

    Attributes:
        conditional: The conditional, with learnable parameters.
        values: Observed values ``(N, ...)`` by name; unobserved variables are axes of the weights.
        inputs: Covariates ``(N, ...)``.
        weights: ``(N, K...)`` posterior weights, with axes in the order of the unobserved
            variables.
        earlier: Log-likelihood of earlier batches, which is added.
    """

    conditional: Conditional
    values: Mapping[Hashable, Tensor]
    inputs: Mapping[Hashable, Tensor]
    weights: Tensor
    earlier: EarlierBatches | None = None

    @classmethod
    def of(cls, conditional: Conditional, rows: WeightedRows) -> Term:
        """Return the term of rows with posterior weights."""
        return cls(bare(conditional), rows.values, rows.inputs, rows.weights, rows.earlier)

    def start(self, alone: bool = True) -> None:
        """Set numbers that were not given, or are far off, if the data tell where to begin.

        Args:
            alone: Whether no other term has the same parameters.
        """
        first = self.earlier is None or self.earlier.are_none
        if first and isinstance(self.conditional, StartsFromData):
            self.conditional.start_from(self.values, self.weights)
            if alone:
                self.conditional.start_nearer(self.values, self.weights)

    def value(self) -> Tensor:
        """Return the scalar value."""
        table = self.conditional.log_table(dict(self.values), dict(self.inputs) or None)
        # configurations of weight zero may be impossible
        weights = self.weights
        terms = torch.where(weights > 0, weights.to(table) * table, torch.zeros_like(table))
        total = terms.sum()
        return total if self.earlier is None else total + self.earlier.value(self.conditional)


@contextmanager
def evaluating(conditionals: Sequence[Conditional]) -> Iterator[None]:
    """Put conditionals into evaluation mode, so that repeated evaluations agree."""
    training = [c.training for c in conditionals]
    for c in conditionals:
        c.eval()
    try:
        yield
    finally:
        for c, was in zip(conditionals, training, strict=True):
            c.train(was)


class MeanOfTerms:
    """The mean of terms over their weights, at the current parameters.

    Args:
        terms: The terms; several if conditionals share parameters.

    Attributes:
        total: The sum of all weights.
        single: The term, if there is only one.
    """

    def __init__(self, terms: Sequence[Term], total: float | None = None) -> None:
        summed = sum(float(t.weights.sum()) for t in terms)
        self.terms, self.total = terms, summed if total is None else total
        self.single = terms[0] if len(terms) == 1 else None

    def __call__(self) -> Tensor:
        """Return the scalar mean."""
        return torch.stack([t.value() for t in self.terms]).sum() / self.total
