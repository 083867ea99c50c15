"""Likelihood weighting by repeated execution of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
from pgnn.inference.particles.executions import MANY, Executions, executable, independent
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.limits import check_settings, check_size, check_work

_EXECUTION = 10_000
"""Elementary steps of one execution."""


@dataclass(frozen=True)
class ExecutionSampling(Engine):
    r"""Executes a program many times and weights each execution by the likelihood of the evidence.

    .. math:: \hat E[f \mid e] = \frac{\sum_s w_s f(x_s)}{\sum_s w_s}, \qquad
              \hat p(e) = \tfrac{1}{n} \sum_s w_s, \qquad w_s = \prod_{i \in e} p(e_i \mid x_s)

    Works for any program: control flow may depend on latent values, and counts may be unbounded.
    Targets may be real: ``posterior["x"]`` has ``mean``, ``std``, ``quantile`` and
    ``standard_error``. The posterior of a site that is not in every execution is conditional on its
    presence. Executions are batched if the program has the same sites in all of them and its torch
    operations can be vectorised, otherwise they run one by one.

    :math:`\hat p(e)` is unbiased. ``diagnostics`` hold ``"effective_sample_size"``
    :math:`(\sum w)^2 / \sum w^2` of each row, ``"standard_error"`` (of the marginals, by name) and
    ``"log_evidence_standard_error"``; there is a warning if an effective sample size is below a
    hundred. :meth:`Model.sample` returns weighted samples with their ``log_weights``;
    :meth:`Model.most_probable` the execution of the largest density, or the target states of the
    largest weight.

    Args:
        samples: Number of executions per row of evidence; if not given, 10,000 if they are batched,
            1,000 otherwise.
        seed: Random seed; the same seed gives the same answer.
        progress: Whether to show a progress bar if it takes longer than a second.
        why: Reported in the answer's diagnostics as the reason, if any.

    Raises:
        ModelError: If ``samples`` is not positive.
        Unsupported: If the model is not a program.

    Cost:
        ``samples`` executions per row.

    References:
        Fung and Chang (1990), Weighing and integrating evidence for stochastic simulation in
        Bayesian networks. Wood, van de Meent and Mansinghka (2014), A new approach to
        probabilistic programming inference. Owen (2013), Monte Carlo theory, methods and
        examples, section 9.2 (standard errors).

    Example:
        >>> import pgnn, pyro, torch
        >>> from pyro.distributions import Normal, Poisson
        >>> def counted():
        ...     n = pyro.sample("n", Poisson(torch.tensor(4.0)))
        ...     pyro.sample("y", Normal(n, 1.0))
        >>> posterior = pgnn.Program(counted).query(
        ...     "n", {"y": 5.0}, engine=ExecutionSampling(100_000, seed=0)
        ... )
        >>> posterior.kind, round(float(posterior["n"].mean), 1)  # 4.7435
        ('estimate', 4.7)
    """

    samples: int | None = None
    seed: int | None = None
    progress: bool = True
    why: str | None = None

    def __post_init__(self) -> None:
        check_settings(self, samples=1)

    def answer_query(self, question: Question) -> Posterior:
        """See :class:`Engine`; targets may be real, all variables if not given."""
        runs = self._drawn(question, self.samples, self.seed)
        return posterior_of(
            question, runs, engine=type(self).__name__, diagnostics=self._diagnostics
        )

    def answer_with_draws(self, question: Question) -> tuple[Posterior, Samples]:
        """See :class:`Engine`; samples have ``log_weights``."""
        runs = self._drawn(question, self.samples, self.seed)
        engine = type(self).__name__
        posterior = posterior_of(question, runs, engine=engine, diagnostics=self._diagnostics)
        return posterior, samples_of(question, runs)

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """See :class:`Engine`; the best execution, or the states with the largest weight."""
        if k > 1:
            raise self._cannot("finds one best execution, not several", "k=1")
        runs = self._drawn(question, self.samples, self.seed)
        return best_of(question, runs, engine=type(self).__name__, diagnostics=self._diagnostics)

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """See :class:`Engine`; samples have ``log_weights``."""
        return samples_of(question, self._drawn(question, n, self.seed if seed is None else seed))

    def answer_log_prob(self, question: Question) -> Tensor:
        """See :class:`Engine`; the exponential of the estimate is unbiased."""
        runs = self._drawn(question, self.samples, self.seed)
        return log_evidence_of(question, runs, type(self).__name__)

    def describe(self, question: Question) -> Explanation:
        """See :class:`Engine`."""
        executable(question, type(self).__name__)
        size = len(question.model.elements)
        return Explanation(
            engine=type(self).__name__,
            kind="estimate",
            reason="executions of the program are weighted by the likelihood of the evidence"
            + ("" if self.why is None else f", because {self.why}"),
            num_variables=size,
            memory_bytes=8.0 * (self.samples or MANY) * (size + 1),
        )

    @property
    def _diagnostics(self) -> dict[str, Any]:
        return {} if self.why is None else {"reason": self.why}

    def _cannot(self, what: str, instead: str) -> Unsupported:
        because = "" if self.why is None else f", because {self.why}"
        return Unsupported(f"{type(self).__name__}() {what}", f"use {instead}{because}")

    def _drawn(self, question: Question, n: int | None, seed: int | None) -> list[Executions]:
        """Return executions for each row of evidence."""
        number = MANY if n is None else n
        numbers = sum(v.num_elements for v in question.model.variables.values())
        what = f"{number:,} executions of {question.num_rows:,} rows"
        check_size(what, number * question.num_rows * (numbers + 2), self.max_answer_bytes,
                   "Draw fewer at a time")  # fmt: skip
        check_work(what, number * question.num_rows * _EXECUTION, "Take fewer samples")
        engine = type(self).__name__
        return independent(question, n, seed, engine=engine, progress=self.progress)
