"""The importance-sampling engine: likelihood weighting on directed models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.inference.beliefs import Beliefs, by_name
from pgnn.inference.convergence import TRUSTED_DRAWS, Convergence
from pgnn.inference.diagnostics import weighted_sample_size
from pgnn.inference.engine import Engine
from pgnn.inference.loop import iterate
from pgnn.inference.question import Question
from pgnn.inference.sampling.likelihood_weighting import LikelihoodWeighting, Sums
from pgnn.inference.sampling.possibility import proven_impossible
from pgnn.limits import check_settings, check_work

_ADVICE = "draw more samples, or use JunctionTree() or Gibbs()"


@dataclass(frozen=True)
class ImportanceSampling(Engine):
    r"""Likelihood weighting: ancestral sampling weighted by the likelihood of the evidence.

    Variables are drawn in topological order from :math:`p(x_i \mid x_{\mathrm{pa}(i)})`; observed
    variables are fixed, and a sample has the weight

    .. math:: w = \prod_{i \in e} p(e_i \mid x_{\mathrm{pa}(i)}), \qquad
              \hat p(x_i = k \mid e) = \frac{\sum_s w_s [x_{si} = k]}{\sum_s w_s}, \qquad
              \hat p(e) = \tfrac{1}{n} \sum_s w_s.

    :math:`\hat p(e)` is unbiased. ``diagnostics`` hold ``"effective_sample_size"``
    :math:`(\sum w)^2 / \sum w^2` of each row, ``"standard_error"`` (name to the standard errors
    of its marginal) and ``"log_evidence_standard_error"``; both by the delta method, and as
    unreliable as the estimates if the effective sample size is small.

    :meth:`Model.sample` returns the samples with their ``log_weights``, without resampling.

    Args:
        samples: Number of draws for each row of evidence.
        seed: Random seed; the same seed gives the same answer.
        progress: Whether to show a progress bar if it takes longer than a second.

    Raises:
        ModelError: If ``samples`` is not positive.
        Unsupported: If the model is not directed.

    Cost:
        One random number and at most ``K`` comparisons per row, element and sample.

    References:
        Fung and Chang (1990), Weighing and integrating evidence for stochastic simulation in
        Bayesian networks. Shachter and Peot (1990), Simulation approaches to general
        probabilistic inference on belief networks. Owen (2013), Monte Carlo theory, methods and
        examples, section 9.2 (standard errors).

    Example:
        >>> import pgnn
        >>> model = pgnn.BayesianNetwork(
        ...     [("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]}
        ... )
        >>> posterior = model.query("a", {"b": 1}, engine=ImportanceSampling(100_000, seed=0))
        >>> round(float(posterior["a"].probs[1]), 2)
        0.89
        >>> float(posterior.diagnostics["standard_error"]["a"][1]) < 0.002
        True
    """

    samples: int = 10_000
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, samples=1)

    def infer(self, question: Question) -> Beliefs:
        """See :class:`Engine`."""
        self._check_cost(question, self.samples)
        weighting = LikelihoodWeighting(question, self.samples, self.seed)
        pieces = len(weighting.rounds)
        state = weighting.init()
        if pieces:
            state = iterate(
                weighting, pieces, state=state, progress=self.progress, label="importance sampling"
            ).state
        return _beliefs(question, state, self.samples)

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, Tensor | None]:
        """See :class:`Engine`."""
        self._check_cost(question, n)
        weighting = LikelihoodWeighting(question, n, self.seed if seed is None else seed)
        rows = question.num_rows
        states = np.empty((n, rows, len(question.graph.elements)), dtype=np.int64)
        log_weights = np.empty((n, rows))
        for row, first, count in chain.from_iterable(weighting.rounds):
            part = slice(first, first + count)
            columns, log_weights[part, row] = weighting.drawn(row, first, count)
            states[part, row] = columns.T
        none = np.asarray(np.isneginf(log_weights).all(axis=0) & (n > 0))
        self.refuse(question, proven_impossible(question, none))
        return torch.from_numpy(states), torch.from_numpy(log_weights)

    def _check_cost(self, question: Question, samples: int) -> None:
        """Check the time of sampling."""
        rows, elements = question.num_rows, len(question.graph.elements)
        check_work(f"{samples:,} draws of {rows:,} rows", samples * rows * elements, "Draw fewer")

    def reason(self) -> str:
        """See :class:`Engine`."""
        return "ancestral samples are weighted by the likelihood of the evidence"

    def check_rows(
        self, question: Question, log_values: Tensor, diagnostics: Mapping[str, Any], advice: str
    ) -> None:
        """See :meth:`Engine.check_rows`."""
        impossible = diagnostics["impossible"].to(log_values.device)
        super().check_rows(question, torch.where(impossible, -torch.inf, 0.0), diagnostics, advice)

    def judge(self, diagnostics: Mapping[str, Any], advice: str) -> Convergence:
        """See :meth:`Engine.judge`; also concerns about small effective sample sizes."""
        verdict, size = super().judge(diagnostics, advice), diagnostics["effective_sample_size"]
        nothing = int(((size == 0) & ~diagnostics["impossible"]).sum())
        if nothing:
            verdict.add(
                f"none of {self.samples} draws agreed with the evidence in {nothing} of "
                f"{len(size)} rows, which have no answer (NaN); the evidence may still be possible",
                _ADVICE,
            )
        return verdict.few_draws(size, self.samples, _ADVICE, TRUSTED_DRAWS)


def _beliefs(question: Question, sums: Sums, samples: int) -> Beliefs:
    """Return estimates with their standard errors."""
    one, two = sums.weights.T
    with np.errstate(divide="ignore", invalid="ignore"):
        p = sums.states[:, 0] / one[:, None]
        squares = sums.states[:, 1]
        spread = squares * (1 - p) ** 2 + np.maximum(two[:, None] - squares, 0.0) * p**2
        error = np.sqrt(spread) / one[:, None]
        log_evidence = np.where(one > 0, sums.log_top + np.log(one / samples), -np.inf)
        size = weighted_sample_size(one, two)
        surplus = np.maximum(samples / np.where(one > 0, size, np.nan) - 1.0, 0.0)
        log_error = np.sqrt(surplus / (samples - 1)) if samples > 1 else np.full(len(one), np.inf)
    impossible = proven_impossible(question, np.asarray(one == 0))
    graph = question.graph

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(graph.device, graph.dtype)

    return Beliefs(
        tensor(p),
        tensor(log_evidence),
        "estimate",
        {
            "num_samples": samples,
            "effective_sample_size": torch.from_numpy(size),
            "standard_error": by_name(question, tensor(error)),
            "log_evidence_standard_error": tensor(log_error),
            "impossible": torch.from_numpy(impossible),
        },
    )
