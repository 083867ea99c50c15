"""Whether observed values are inside of the supports of their distributions."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from torch.distributions import constraints

from pgnn.errors import DataError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.finite import has_nan
from pgnn.factors.support import inside_of, is_fixed, support_of
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.enumerated_states import EnumeratedStates
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, by_row, make_generator
from pgnn.inference.continuous.objective import Elbo
from pgnn.inference.continuous.recognition_draws import observed_values
from pgnn.inference.learning.training_data import check_range

_ROWS = 512
"""Rows whose values are compared at once; they stay in the cache."""


def are_inside(model: Any, rows: RowEvidence) -> bool:
    """Whether no row can be outside of the supports at any parameters.

    Raises:
        DataError: If a value is outside of the support of its distribution.
    """
    _check_range(model, rows)
    supports = _Supports(model, rows)
    refused = supports.refused()
    if refused is not None:
        raise DataError(refused)
    return supports.settle_it


def _check_range(model: Any, rows: RowEvidence) -> None:
    """Refuse values that a network cannot square in the type of its numbers."""
    types = [p.dtype for p in model.parameters() if p.is_floating_point()]
    for name, x in rows.reals.items():
        check_range(name, x, types)


class _Supports:
    """Where the observed real variables can be, at a draw of the latent ones.

    Args:
        model: With a recognition model.
        rows: What was observed.
    """

    def __init__(self, model: Any, rows: RowEvidence) -> None:
        self.rows = rows
        recognised = [n for n in model.recognition if model.variables[n].is_discrete]
        codes = np.delete(rows.codes, [int(model.elements.numbers(n)) for n in recognised], axis=1)
        self._states_known = not codes.size or codes.min() >= 0
        one = EnumeratedStates.of(model, rows.take(np.zeros(1, np.int64))).rows
        density = SummedDensity(model, one, one.inputs)
        problem = ModelAndGuide.of(density, None, ())
        self.by_name: dict[Hashable, Any] = {}
        # one row has no spread, by which batch normalisation would divide while it learns
        with torch.no_grad(), evaluated(model):
            drawn = problem.weighted(Elbo(), make_generator(0), draws=1).local
            values = observed_values(density) | ({} if drawn is None else by_row(drawn.values))
            for name in density.observed.reals:
                conditional = model.conditionals[name]
                names = [v.name for v in conditional.parents]
                if name not in density.latents and all(n in values for n in names):
                    parents = {n: values[n] for n in names}
                    distribution = conditional.distribution(parents, density.inputs or None)
                    self.by_name[name] = support_of(distribution)

    def refused(self) -> str | None:
        """Say which variable has values outside of its support; None if there is none."""
        for name, support in self.by_name.items():
            x = self.rows.reals[name]
            known = x[~x.isnan().flatten(start_dim=1).any(1)] if has_nan(x) else x
            parts = (inside_of(support, part) for part in torch.split(known, _ROWS))
            if any(inside is not None and not bool(inside.all()) for inside in parts):
                low, high = float(known.min()), float(known.max())
                grey = _bare(support) is constraints.boolean and low >= 0.0 and high <= 1.0
                return (
                    f"{name!r} has values from {low:g} to {high:g}, some of which are outside of "
                    f"the support of its distribution ({_bare(support)}); "
                    + (_GREYS if grey else "rescale them, or take another likelihood")
                )
        return None

    @property
    def settle_it(self) -> bool:
        """Whether no row can be outside at any parameters: supports are fixed, nothing missing."""
        rows = self.rows
        return (
            self._states_known
            and rows.soft is None
            and set(self.by_name) == set(rows.reals)
            and all(is_fixed(s) for s in self.by_name.values())
            and not any(has_nan(x) for x in rows.reals.values())
        )


_GREYS = (
    "BernoulliHead takes zeros and ones, and these are greys: take (x > 0.5) of them, or draw each "
    "with torch.bernoulli(x), or take another likelihood, such as pgnn.NormalHead"
)


def _bare(support: Any) -> Any:
    """The constraint of each number, as messages show it."""
    base = getattr(support, "base_constraint", None)
    return support if base is None else _bare(base)
