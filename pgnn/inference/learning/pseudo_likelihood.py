"""Learning without the partition function: each element given all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pgnn.errors import DataError
from pgnn.evidence.evidence import Evidence
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.climb import Objective
from pgnn.inference.learning.pseudo_objective import PseudoObjective


@dataclass(frozen=True)
class PseudoLikelihood(Ascent):
    r"""Maximises the mean log pseudo-likelihood, with penalties if there are any.

    .. math:: \frac{1}{N} \sum_n \sum_i \log p(x_{ni} \mid x_{n, -i})

    No partition function is needed: a model of any size and treewidth is learnt in time linear in
    rows and factors. From many rows that the model itself could have made, the same parameters
    come out as by maximum likelihood, a little less precisely. Every cell must be seen.

    The settings are those of every learner that climbs: ``optimizer``, ``scheduler``,
    ``batch_size``, ``l1``, ``l2``, ``max_norm``, ``max_iterations``, ``tolerance``,
    ``validation``, ``patience``; see :class:`~pgnn.inference.learning.ascent.Ascent`.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        For each row, one look at every place of every factor, times the states there.

    References:
        Besag (1975), Statistical analysis of non-lattice data.
        Koller and Friedman (2009), Probabilistic Graphical Models, section 20.6.1.

    Example:
        >>> import torch
        >>> from pgnn.models import MarkovRandomField
        >>> model = MarkovRandomField.grid((4, 4))
        >>> pictures = torch.tensor([[[0, 0, 1, 1]] * 4, [[1, 1, 1, 0]] * 4])
        >>> _ = model.fit({"x": pictures}, learner=PseudoLikelihood(l2=0.01))
        >>> round(model.potentials[0].coupling.item(), 2)
        2.83
    """

    def objective(self, model: Any, rows: Evidence, seed: int | None) -> Objective:
        """Return the mean log pseudo-likelihood, see :meth:`Ascent.objective`."""
        return PseudoObjective(model)

    def check_rows(self, rows: Evidence, model: Any) -> None:
        """Refuse rows with missing cells.

        Raises:
            DataError: If a cell is missing.
        """
        missing = rows.codes < 0
        if not missing.any():
            return
        row, element = np.argwhere(missing)[0].tolist()
        raise DataError(
            f"{int(missing.any(axis=1).sum())} of {rows.num_rows} rows miss something (first: "
            f"{model.elements.name(element)!r} in row {row}); pseudo-likelihood needs complete "
            "rows, learn with Gradient(), which sums out what was not seen"
        )
