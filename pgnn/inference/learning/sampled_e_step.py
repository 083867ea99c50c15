"""Expectations of directed networks as averages over draws of the unobserved variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.inference.engine import Engine
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.learning.table_e_step import NetworkEStep


class SampledEStep(NetworkEStep):
    """Monte Carlo EM: expectations as averages over several completions of each row by an engine.

    The value is that of completed rows, and noisy.

    Args:
        model: A directed network.
        engine: Sampling engine, such as ``Gibbs()``.
        num_samples: Total number of samples, at least one per row.

    References:
        Wei and Tanner (1990), A Monte Carlo implementation of the EM algorithm.
    """

    noisy = True

    def __init__(self, model: Any, engine: Engine, num_samples: int) -> None:
        super().__init__(model)
        self._sampler, self._num_samples = engine, num_samples
        self._random = np.random.default_rng(0)

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the seeds, see :class:`EStep`."""
        return {"random": self._random.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore it, see :class:`EStep`."""
        self._random.bit_generator.state = state["random"]

    def expect(self, observed: RowEvidence) -> ExpectedStatistics:
        """Return averages over samples, see :class:`EStep`."""
        number = -(-self._num_samples // observed.num_rows)
        seed = int(self._random.integers(2**31))
        drawn = self._sampler.sample(
            self.model, number, observed, inputs=observed.inputs or None, seed=seed
        )
        if drawn.log_weights is not None:
            raise Unsupported(
                f"draws of {type(self._sampler).__name__} are weighted",
                "learn with Gibbs() or JunctionTree()",
            )
        codes = drawn.codes.cpu().numpy().astype(np.int32).reshape(-1, observed.codes.shape[1])
        rows = replace(observed.tiled(number), codes=codes)
        weights = np.tile(observed.row_weights, number) / number
        return super().expect(replace(rows, weights=weights))
