"""Batched executions of a program, resampled after each observation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.particles.execution_answers import (
    best_of,
    log_evidence_of,
    posterior_of,
    samples_of,
)
from pgnn.inference.particles.executions import Executions, resampled
from pgnn.inference.particles.particle_weights import ParticleWeights
from pgnn.inference.particles.resampling import Resampling
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples


@dataclass(frozen=True)
class ResampledExecutions(Engine):
    """Sequential Monte Carlo for programs; see :class:`SequentialMonteCarlo` for the settings.

    Args:
        particles: Number of executions per row.
        threshold: Resample if the effective sample size is below this fraction of the particles.
        resampling: The resampling scheme.
        seed: Random seed; the same seed gives the same answer.
        name: Name of the engine in answers.
        why: Reported in the answer's diagnostics as the reason, if any.
    """

    particles: int
    threshold: float
    resampling: Resampling
    seed: int | None
    name: str
    why: str | None = None

    def answer_query(self, question: Question) -> Posterior:
        """See :class:`Engine`; targets may be real."""
        runs = self._executions(question, self.particles, self.seed)
        return posterior_of(question, runs, engine=self.name, diagnostics=self._reasons)

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """See :class:`Engine`; the best particle."""
        if k > 1:
            raise Unsupported(f"{self.name}() finds one best execution, not several", "use k=1")
        runs = self._executions(question, self.particles, self.seed)
        return best_of(question, runs, engine=self.name, diagnostics=self._reasons)

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """See :class:`Engine`; executions resampled to equal weights."""
        seed = self.seed if seed is None else seed
        runs = self._executions(question, max(n, self.particles), seed)
        return samples_of(question, runs, n=n, seed=seed)

    def answer_log_prob(self, question: Question) -> Tensor:
        """See :class:`Engine`; the exponential of the estimate is unbiased."""
        runs = self._executions(question, self.particles, self.seed)
        return log_evidence_of(question, runs, self.name)

    def describe(self, question: Any) -> Explanation:
        """See :class:`Engine`."""
        numbers = question.num_cells
        return Explanation(
            engine=self.name,
            kind="estimate",
            reason=f"{self.particles:,} batched executions, weighted by the likelihood of the "
            "evidence" + ("" if self.why is None else f", because {self.why}"),
            num_variables=numbers,
            memory_bytes=8.0 * self.particles * numbers,
        )

    @property
    def _reasons(self) -> dict[str, Any]:
        return {} if self.why is None else {"reason": self.why}

    def _executions(self, question: Question, n: int, seed: int | None) -> list[Executions]:
        seeds = np.random.SeedSequence(seed).generate_state(2 * max(question.num_rows, 1)).tolist()
        return [
            resampled(
                question, n, seeds[2 * row], engine=self.name, row=row,
                weights=ParticleWeights(
                    1, n, self.threshold, self.resampling, seeds[2 * row + 1]
                ),
            )
            for row in range(question.num_rows)
        ]  # fmt: skip
