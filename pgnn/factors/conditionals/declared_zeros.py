"""Zeros that a caller declared: structural, for every learner."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT

_RARE = -80.0
"""Log probability, before normalisation, that stands for one which tends to zero."""


class DeclaredZeros(Conditional):
    r"""A conditional with rows of logits, of which some are ``-inf`` because they were given so.

    Zeros that the caller declared are structural: they are no free parameters, and no learner
    replaces them. Zeros that a fit has estimated are free. The two look alike among the logits, so
    that the first ones are kept in a buffer, which is part of ``state_dict()`` if there are any.

    Attributes:
        declared_zeros: Where logits were declared, in the shape of :meth:`logit_rows`, or None.
    """

    declared_zeros: Tensor | None

    @abstractmethod
    def logit_rows(self) -> Tensor:
        """Return the logits, ``(..., K)``."""

    def structural_zeros(self) -> Tensor | None:
        """Return where entries are zero because they were declared so; None if nowhere."""
        if self.declared_zeros is None:
            return None
        zeros = self.declared_zeros & self.logit_rows().detach().isneginf()
        return zeros if bool(zeros.any()) else None

    def check_counts(self, counts: Tensor) -> None:
        """Check that no structural zero was observed.

        Args:
            counts: In the shape of :meth:`logit_rows`.

        Raises:
            DataError: If one was; the message names the entry.
        """
        zeros = self.structural_zeros()
        if zeros is None:
            return
        wrong = zeros & (counts.to(zeros.device) > LEAST_COUNT)
        if bool(wrong.any()):
            place = tuple(wrong.nonzero()[0].tolist())
            error = self.needed_zero(place)
            weight = f"(weight in the data: {float(counts[place]):g})"
            raise DataError(f"{error.reason} {weight}", error.advice)

    def needed_zero(self, place: tuple[int, ...]) -> DataError:
        """Return the error of rows that need an entry that was declared to be zero."""
        return DataError(
            f"{self._entry(place)} was declared to be zero, and rows need it",
            "correct them, or declare the model without this table (a chain without mask=, too), "
            "so that all entries are learned",
        )

    def _declare_zeros(self) -> None:
        """Take the present zeros for structural ones."""
        zeros = self.logit_rows().detach().isneginf()
        self.register_buffer("declared_zeros", zeros if bool(zeros.any()) else None)

    def possible(self) -> Tensor:
        """Return which entries may become positive: all but structural zeros."""
        zeros = self.structural_zeros()
        logits = self.logit_rows()
        return torch.ones_like(logits, dtype=torch.bool) if zeros is None else ~zeros

    @torch.no_grad()
    def admit_all(self) -> None:
        """Make learnable zeros that were estimated positive, but negligible, in place."""
        for logits, possible in self.logit_parts():
            if logits.requires_grad:
                logits.masked_fill_(possible & logits.isneginf(), _RARE)

    def logit_parts(self) -> list[tuple[Tensor, Tensor]]:
        """Return the parameters that make up :meth:`logit_rows`, and their possible entries."""
        return [(self.logit_rows(), self.possible())]

    def _free(self) -> Tensor:
        """Number of free entries of each row."""
        return (self.possible().sum(dim=-1) - 1).clamp(min=0)

    def _entry(self, place: tuple[int, ...]) -> str:
        """Return an entry of the rows in words."""
        axes = zip(self.scope, place, strict=True)
        *given, (child, k) = [(v, (v.states or ())[k]) for v, k in axes]
        said = f"the probability of {child.name!r} = {k!r}"
        parents = ", ".join(f"{v.name!r} = {state!r}" for v, state in given)
        return f"{said} given {parents}" if parents else said

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Load the mask, too; without one, as of earlier versions, the present one stays."""
        saved, before = state_dict.get(f"{prefix}declared_zeros"), self.declared_zeros
        self.declared_zeros = None
        if saved is not None:
            self.declared_zeros = torch.zeros_like(
                self.logit_rows(), dtype=torch.bool, requires_grad=False
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if saved is None:
            self.declared_zeros = before
