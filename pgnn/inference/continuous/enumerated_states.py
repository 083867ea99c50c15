"""Enumeration of the discrete variables of a recognition network as rows of evidence."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import AmortisedModel
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.limits import check_size

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EnumeratedStates:
    r"""Rows in which all recognised discrete variables are known; others are repeated per state.

    The bound of a row :math:`x` with unknown :math:`y` is

    .. math:: \sum_y q(y \mid x) \big(L(x, y) - \log q(y \mid x)\big) \le \log p(x)

    Attributes:
        rows: Evidence in ``E`` rows.
        num_rows: Number of original rows.
        source: ``(E,)`` index of the original row; None if no row was incomplete.
        log_q: ``(E,)`` log probabilities of the states under the recognition, differentiable.

    References:
        Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep generative
        models.
    """

    rows: RowEvidence
    num_rows: int
    source: Tensor | None = None
    log_q: Tensor | None = None

    @classmethod
    def of(cls, model: AmortisedModel, rows: RowEvidence) -> EnumeratedStates:
        """Return the enumeration of the unobserved recognised discrete variables."""
        source, log_q = np.arange(rows.num_rows), torch.zeros(rows.num_rows, dtype=torch.float64)
        known = rows
        for name, conditional in model.recognition.items():
            if not model.variables[name].is_discrete:
                continue
            element = int(model.elements.numbers(name))
            hidden = np.flatnonzero(known.codes[:, element] < 0)
            if len(hidden):
                states = model.variables[name].num_states
                index = _index(known.codes[:, element], states)
                table = log_table(conditional, model, known.take(hidden))
                more = torch.zeros(len(index), dtype=torch.float64)
                more[len(index) - table.numel() :] = table.reshape(-1).double()
                known = _with_states(known.take(index), name, element, len(hidden), states)
                source, log_q = source[index], log_q[torch.from_numpy(index)] + more
        if known is rows:
            return cls(rows, rows.num_rows)
        return cls(known, rows.num_rows, torch.from_numpy(source), log_q)

    def reduced(self, values: Tensor) -> Tensor:
        """Return the bounds ``(R,)`` of the rows from those ``(E,)`` of the enumerated rows."""
        if self.source is None or self.log_q is None:
            return values
        weights = self.log_q.exp()
        possible = weights > 0
        gaps = torch.where(possible, values - self.log_q.masked_fill(~possible, 0.0), 0.0)
        return values.new_zeros(self.num_rows).index_add(0, self.source, weights * gaps)


def log_table(conditional: Conditional, model: AmortisedModel, rows: RowEvidence) -> Tensor:
    """Return ``(R, K)`` log probabilities of a discrete variable given its parents."""
    observed = {n: x.nan_to_num() for n, x in rows.reals.items()}
    for v in conditional.parents:
        if v.is_discrete:
            codes = rows.codes[:, model.elements.numbers(v.name).ravel()].astype(np.int64)
            observed[v.name] = torch.from_numpy(codes).reshape(rows.num_rows, *v.shape)
    inputs = {n: torch.as_tensor(x) for n, x in rows.inputs.items()}
    table = conditional.factor(observed, inputs or None).log_values
    return table.expand(rows.num_rows, -1)


def supervision(model: AmortisedModel, rows: RowEvidence) -> Tensor:
    """Return ``(R,)`` log probabilities of the observed states under the recognition."""
    total = torch.zeros(rows.num_rows, dtype=torch.float64)
    for name, conditional in model.recognition.items():
        if not model.variables[name].is_discrete:
            continue
        states = rows.codes[:, int(model.elements.numbers(name))].astype(np.int64)
        known = np.flatnonzero(states >= 0)
        if len(known):
            table = log_table(conditional, model, rows.take(known))
            scores = table.gather(1, torch.from_numpy(states[known]).unsqueeze(1)).squeeze(1)
            total = total.index_add(0, torch.from_numpy(known), scores.double())
    return total


def shares(enumerated: EnumeratedStates, log_evidence: Tensor) -> tuple[Tensor, Tensor]:
    """Return the posterior share ``(E,)`` of each enumerated row, and ``(R,)`` log evidence."""
    source = enumerated.source
    assert source is not None
    best = log_evidence.new_full((enumerated.num_rows,), -torch.inf)
    best = best.scatter_reduce(0, source, log_evidence, "amax")
    best = best.nan_to_num(neginf=0.0)
    weights = (log_evidence - best[source]).exp()
    total = weights.new_zeros(enumerated.num_rows).index_add(0, source, weights)
    return weights / total[source], total.log() + best


def mixed_draws(
    enumerated: EnumeratedStates,
    share: Tensor,
    draws: Mapping[Hashable, Tensor],
    generator: torch.Generator,
) -> dict[Hashable, Tensor]:
    """Return draws ``(n, R, *shape)``, with states drawn by their posterior shares.

    Args:
        enumerated: The enumerated rows.
        share: ``(E,)`` posterior share of each row.
        draws: ``(n, E, *shape)`` draws by name.
        generator: Random generator of the choice.
    """
    source = enumerated.source
    assert source is not None
    if not draws:
        return {}
    n = len(next(iter(draws.values())))
    # Gumbel-max trick: the argmax of the noisy log shares is a draw from the shares
    uniform = torch.rand(n, len(source), generator=generator, dtype=torch.float64)
    noisy = share.log() - (-uniform.log()).log()
    best = torch.full((n, enumerated.num_rows), -torch.inf, dtype=torch.float64)
    best = best.scatter_reduce(1, source.expand(n, -1), noisy, "amax")
    is_best = noisy == best[:, source]
    numbers = torch.arange(len(source)).expand(n, -1).masked_fill(~is_best, -1)
    chosen = torch.full((n, enumerated.num_rows), -1).scatter_reduce(
        1, source.expand(n, -1), numbers, "amax"
    )
    first = torch.arange(n).unsqueeze(1)
    return {name: x[first, chosen] for name, x in draws.items()}


def _index(codes: Any, states: int) -> Ints:
    """Return the indices of rows with known state, then the repeated indices of the others."""
    hidden = np.flatnonzero(codes < 0)
    check_size(f"{states:,} states for each of {len(hidden):,} rows", states * len(hidden),
               advice="Take smaller batches")  # fmt: skip
    return np.concatenate([np.flatnonzero(codes >= 0), np.repeat(hidden, states)])


def _with_states(
    rows: RowEvidence, name: Hashable, element: int, hidden: int, states: int
) -> RowEvidence:
    """Return the rows, with the repeated ones set to each state in turn."""
    codes = rows.codes.copy()
    codes[len(codes) - hidden * states :, element] = np.tile(np.arange(states), hidden)
    names = rows.names if name in rows.names else (name, *rows.names)
    return replace(rows, codes=codes, names=names)
