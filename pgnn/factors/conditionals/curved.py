"""Conditionals with closed-form Hessians of the log-likelihood."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager

from torch import Tensor


class Curved(ABC):
    """A conditional with a closed-form Hessian, learned by Newton's method."""

    @abstractmethod
    def curvature(
        self,
        values: Mapping[Hashable, Tensor],
        inputs: Mapping[Hashable, Tensor],
        weights: Tensor,
    ) -> Tensor | None:
        """Return minus the Hessian of the log-likelihood of weighted rows.

        Args:
            values: ``(N, ...)`` values of the parents.
            inputs: Covariates ``(N, ...)``.
            weights: ``(N,)``.

        Returns:
            ``(P, P)`` for the concatenated parameters, in order; None if a parent was not observed.
        """

    @abstractmethod
    def standardised(
        self,
        values: Mapping[Hashable, Tensor],
        inputs: Mapping[Hashable, Tensor],
        *,
        scaled: bool,
    ) -> AbstractContextManager[tuple[Mapping[Hashable, Tensor], Mapping[Hashable, Tensor]]]:
        """Yield standardised values and inputs, with parameters that have the same meaning.

        Rows far from zero then lose no accuracy, and steps are the same in all units. At the end
        the parameters are transformed back.

        Args:
            values: ``(N, ...)`` values of child and parents.
            inputs: Covariates ``(N, ...)``.
            scaled: Whether features are divided by their standard deviations, besides centred.
        """
