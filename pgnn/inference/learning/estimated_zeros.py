"""Expectations of rows that are impossible because of zeros that earlier batches estimated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pgnn.errors import DataError
from pgnn.factors.conditionals.declared_zeros import DeclaredZeros
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.learning.restored_on_failure import restored


def expected_of(e_step: EStep[Any], observed: Any) -> ExpectedStatistics:
    r"""Return expected statistics of rows of which some may need zeros that were estimated.

    A state that earlier batches did not have was estimated as impossible, by which no later row can
    be explained. Rows that need such zeros are evaluated with all of these equally small,

    .. math:: p_\epsilon(h \mid x_n), \qquad \theta_{jk} \propto \epsilon = e^{-80}
        \text{ where it was estimated as } 0,

    and other rows under the current parameters. Densities whose ratios exceed
    :math:`1/\epsilon` may outweigh a zero. If all variables are observed, the result is the counts
    of the rows. Zeros that were declared stay zero.

    Args:
        e_step: The E-step; the parameters of its model are as before afterwards.
        observed: Rows, or sequences.

    Raises:
        DataError: If rows are impossible for other reasons.
    """
    try:
        return e_step.expect(observed)
    except DataError:
        if e_step.shared:  # over processes, which must take the same steps
            raise
        with torch.no_grad():
            lost = e_step.log_partition(observed).isneginf().numpy(force=True)
        if not (lost & (observed.row_weights > 0)).any():
            raise
        with restored(e_step.model):
            for conditional in map(bare, e_step.pieces.values()):
                if isinstance(conditional, DeclaredZeros):
                    conditional.admit_all()
            expected = e_step.expect(_weighted(observed, lost))
    if (~lost & (observed.row_weights > 0)).any():
        expected = e_step.expect(_weighted(observed, ~lost)) + expected
    return replace(expected, log_likelihood=-math.inf)


def _weighted(observed: Any, chosen: np.ndarray) -> Any:
    """Return the rows with weights of zero for those that are not chosen."""
    return replace(observed, weights=np.where(chosen, observed.row_weights, 0.0))
