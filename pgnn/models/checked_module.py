"""Modules whose parameters are checked before queries."""

from __future__ import annotations

import logging
from typing import Any

import torch

from pgnn.errors import ModelError
from pgnn.factors.piece import Piece
from pgnn.models.caching import CachingModule


class CheckedModule(CachingModule):
    """A module of conditionals and potentials whose parameters are checked in each query.

    Attributes:
        history: Record of the last fit; empty before.
    """

    history: Any
    _was_queried = False
    _fitting = False

    def check(self) -> None:
        """Check the parameters of all conditionals and potentials, and those of the model itself.

        Raises:
            ModelError: If a parameter is ``NaN``, or infinite where that is not allowed.
        """
        for part in self.modules():
            if isinstance(part, Piece):
                part.check()
            elif isinstance(part, CheckedModule):
                part._check_own()

    def _check_own(self) -> None:
        """Check the parameters of the model itself; logs may be minus infinity."""
        for name, numbers in self.named_parameters(recurse=False):
            if bool(numbers.isfinite().all()):
                continue
            log = name.startswith("log_")
            bad = numbers.isnan() | (numbers.isposinf() if log else numbers.isinf())
            if bool(bad.any()):
                raise ModelError(
                    f"{name!r} of {type(self).__name__} has {numbers[bad].flatten()[0].item()} "
                    "among its numbers",
                    "set it, or fit the model again",
                )

    def _check_learnable(self) -> None:
        """Check parameters that require gradients; others are checked when tables are computed."""
        if self._wants_gradients():
            self._check_numbers()

    def _check_numbers(self) -> None:
        """Check all parameters, unless they are unchanged since the last check."""
        if not self._fitting:
            with torch.no_grad():
                self.cached_numbers("checked", self.check)

    def _warn_unset(self) -> None:
        """Warn in the first query about parameters that were neither given nor fitted."""
        if self._was_queried:
            return
        self._was_queried = True
        if self.history:
            return
        pieces = [m for m in self.modules() if isinstance(m, Piece)]
        unset = list(dict.fromkeys(piece.key for piece in pieces if piece.is_unset))
        if unset:
            shown = ", ".join(map(repr, unset[:5])) + (", ..." if len(unset) > 5 else "")
            logging.getLogger("pgnn").warning(
                "the parameters of %s were neither given nor fitted: answers use initial values, "
                "uniform ones for tables",
                shown,
            )
