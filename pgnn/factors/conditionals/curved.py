"""Conditionals whose log-likelihood has second derivatives in closed form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager

from torch import Tensor


class Curved(ABC):
    """Has the curvature of the log-likelihood, by which Newton's method learns it."""

    @abstractmethod
    def curvature(
        self,
        values: Mapping[Hashable, Tensor],
        inputs: Mapping[Hashable, Tensor],
        weights: Tensor,
    ) -> Tensor | None:
        """Return minus the second derivatives of the log-likelihood of weighted rows.

        Args:
            values: ``(N, ...)`` of the parents.
            inputs: Covariates ``(N, ...)``.
            weights: ``(N,)``.

        Returns:
            ``(P, P)`` by the parameters side by side, in their order; None where a parent was not
            observed.
        """

    @abstractmethod
    def centred(
        self, values: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor]
    ) -> AbstractContextManager[tuple[Mapping[Hashable, Tensor], Mapping[Hashable, Tensor]]]:
        """Give values and inputs about their means, the bias moved with them, and back at the end.

        So digits of rows far from zero are kept.

        Args:
            values: ``(N, ...)`` of child and parents.
            inputs: Covariates ``(N, ...)``.
        """
